package config

import "math"

// Type is what a key's value must be. Nothing is bent: a number in quotes is a
// text.
type Type int

// The types of keys.
const (
	String      Type = iota + 1
	Bool             // true or false
	Int              // a whole number
	Float            // a number
	Duration         // a text as in "90s"
	Strings          // a list of texts
	StringMap        // texts by name
	StringsMap       // lists of texts by name
	DurationMap      // durations by name
	Object           // one object whose keys are known
	Objects          // a list of such objects, or one of them
	ObjectMap        // such objects by name
	Any              // whatever it is, unread
)

// Support is what Muster does with a key.
type Support int

// The kinds of support.
const (
	// Works means that the key has its effect.
	Works Support = iota
	// Ignored keys have no effect and nobody misses it.
	Ignored
	// Later keys have no effect yet, which a warning says.
	Later
	// Mesh keys belong to the service mesh, which Muster does not have.
	Mesh
	// Enterprise keys belong to a product that Muster is not.
	Enterprise
	// Refused keys stop the agent unless they ask for nothing: it would start
	// without a protection, or otherwise than asked.
	Refused
	// Removed keys are unknown, but it is known what took their place.
	Removed
)

// Key is a row of the table of keys, which drives decoding, flags, warnings,
// validation and reload.
type Key struct {
	// Path is the key's name with those of the objects around it. The paths of
	// all keys of a service begin with "service.", of a check with "check.",
	// wherever these are written.
	Path string
	Type Type
	// Of is the path of the key whose objects have the same keys, if it is
	// another one.
	Of string
	// Flag is the name of the command-line flag, if there is one, and Usage what
	// the help says of it.
	Flag  string
	Usage string
	// Support is what Muster does with the key.
	Support Support
	// Inert is the value that asks for nothing; nil means the zero value. Keys
	// with it cause no warning and are not refused.
	Inert any
	// Note ends the warning or the refusal.
	Note string
	// OneOf are the texts that are allowed beside none, if not all are.
	OneOf []string
	// Range bounds a number, if anything but its type does.
	Range *Range
	// New is the path of the key that took this one's place.
	New string
	// Alias is whether this is just another spelling of New.
	Alias bool
	// Derived is whether leaving the key out is something else than its zero
	// value, though no default says so.
	Derived bool
	// Secret is whether the value must not be shown.
	Secret bool
	// Reloadable is whether a change takes effect without a restart.
	Reloadable bool
}

// Range is the least and the largest value of a whole number.
type Range struct{ Min, Max int }

// Keys returns the table of keys.
func Keys() []Key {
	return append([]Key(nil), keys...)
}

const (
	noTLS         = "TLS is not supported yet, and the agent would start without it"
	noACL         = "access control is not supported yet, and the agent would start open to all"
	oneDatacenter = "other datacenters are not supported yet"
)

// Ranges that several keys have. They never change.
var (
	natural   = &Range{0, math.MaxInt}
	positive  = &Range{1, math.MaxInt}
	portRange = &Range{math.MinInt, MaxPort}
	seconds   = &Range{0, math.MaxUint32}
	fullPort  = &Range{0, MaxPort}
)

// tlsVersions are the values of tls_min_version.
var tlsVersions = []string{"TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"}

// keys is the table. It is in the order of the documents: identity, addresses,
// joining, DNS, HTTP, checks, misc, gossip, Raft, limits, access control, TLS,
// logging, and the keys of services and checks in keys_definitions.go.
var keys = append(append(append([]Key{}, agentKeys...), laterKeys...), definitionKeys...)

// agentKeys are the keys that have an effect, and those beside them that people
// look for in the same place.
var agentKeys = []Key{
	// Identity and mode.
	{Path: "datacenter", Type: String, Flag: "datacenter", Usage: "name of the datacenter"},
	{Path: "primary_datacenter", Type: String},
	{Path: "node_name", Type: String, Flag: "node", Usage: "name of this node; the host's name if unset"},
	{Path: "node_id", Type: String, Flag: "node-id", Usage: "UUID of this node; one is kept in the data directory if unset"},
	{Path: "disable_host_node_id", Type: Bool, Flag: "disable-host-node-id", Usage: "do not derive the node's ID from the host"},
	{Path: "node_meta", Type: StringMap, Flag: "node-meta", Usage: "metadata of this node as `key:value`; may be repeated", Reloadable: true},
	{Path: "tagged_addresses", Type: StringMap},
	{Path: "locality", Type: Object},
	{Path: "locality.region", Type: String},
	{Path: "locality.zone", Type: String},
	{Path: "server", Type: Bool, Flag: "server", Usage: "be a server"},
	{Path: "bootstrap", Type: Bool, Flag: "bootstrap", Usage: "be a server that may elect itself"},
	{Path: "bootstrap_expect", Type: Int, Range: natural, Flag: "bootstrap-expect", Usage: "number of servers to wait for before the first election"},
	{Path: "data_dir", Type: String, Flag: "data-dir", Usage: "directory of the agent's state"},
	{Path: "pid_file", Type: String, Flag: "pid-file", Usage: "file that gets the process ID"},
	{Path: "protocol", Type: Int, Range: &Range{2, 3}, Flag: "protocol", Usage: "version of the protocol between agents", Support: Ignored},
	{Path: "raft_protocol", Type: Int, Range: &Range{3, 3}, Flag: "raft-protocol", Usage: "version of the Raft protocol; only 3", Support: Ignored},

	// Addresses and ports.
	{Path: "bind_addr", Type: String, Flag: "bind", Usage: "address of the listeners for other agents"},
	{Path: "client_addr", Type: String, Flag: "client", Usage: "addresses of the HTTP and DNS listeners"},
	{Path: "advertise_addr", Type: String, Flag: "advertise", Usage: "address that others reach this agent at"},
	{Path: "advertise_addr_ipv4", Type: String},
	{Path: "advertise_addr_ipv6", Type: String},
	{Path: "advertise_addr_wan", Type: String, Flag: "advertise-wan", Usage: "address that other datacenters reach this agent at"},
	{Path: "advertise_addr_wan_ipv4", Type: String},
	{Path: "advertise_addr_wan_ipv6", Type: String},
	{Path: "addresses", Type: Object},
	{Path: "addresses.dns", Type: String},
	{Path: "addresses.http", Type: String},
	{Path: "addresses.https", Type: String, Support: Later},
	{Path: "addresses.grpc", Type: String, Support: Mesh},
	{Path: "addresses.grpc_tls", Type: String, Support: Mesh},
	{Path: "ports", Type: Object},
	{Path: "ports.dns", Type: Int, Range: portRange, Flag: "dns-port", Usage: "port of DNS; -1 is off"},
	{Path: "ports.http", Type: Int, Range: portRange, Flag: "http-port", Usage: "port of HTTP; -1 is off"},
	{Path: "ports.https", Type: Int, Range: portRange, Flag: "https-port", Usage: "port of HTTPS; -1 is off"},
	{Path: "ports.grpc", Type: Int, Range: portRange, Flag: "grpc-port", Usage: "port of the mesh's API"},
	{Path: "ports.grpc_tls", Type: Int, Range: portRange, Flag: "grpc-tls-port", Usage: "port of the mesh's API over TLS"},
	{Path: "ports.server", Type: Int, Range: portRange, Flag: "server-port", Usage: "port of Raft and of calls between agents"},
	{Path: "ports.serf_lan", Type: Int, Range: portRange, Flag: "serf-lan-port", Usage: "port of gossip in the datacenter"},
	{Path: "ports.serf_wan", Type: Int, Range: portRange, Flag: "serf-wan-port", Usage: "port of gossip between datacenters; -1 is off"},
	{Path: "ports.sidecar_min_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "ports.sidecar_max_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "ports.proxy_min_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "ports.proxy_max_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "ports.expose_min_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "ports.expose_max_port", Type: Int, Range: portRange, Support: Mesh},
	{Path: "unix_sockets", Type: Object},
	{Path: "unix_sockets.user", Type: String},
	{Path: "unix_sockets.group", Type: String},
	{Path: "unix_sockets.mode", Type: String},

	// Joining.
	{Path: "retry_join", Type: Strings, Flag: "retry-join", Usage: "address of an agent to join; may be repeated"},
	{Path: "retry_interval", Type: Duration, Flag: "retry-interval", Usage: "time between attempts to join"},
	{Path: "retry_max", Type: Int, Range: natural, Flag: "retry-max", Usage: "number of attempts to join; 0 is no limit"},
	{Path: "start_join", Type: Strings, Flag: "join", Usage: "old name of -retry-join", New: "retry_join"},
	{Path: "start_join_wan", Type: Strings, Flag: "join-wan", Usage: "old name of -retry-join-wan", New: "retry_join_wan"},
	{Path: "rejoin_after_leave", Type: Bool, Flag: "rejoin", Usage: "join known agents again even after leaving"},
	{Path: "reconnect_timeout", Type: Duration},
	{Path: "advertise_reconnect_timeout", Type: Duration},
	{Path: "server_rejoin_age_max", Type: Duration},

	// Gossip.
	{Path: "serf_lan", Type: String, Flag: "serf-lan-bind", Usage: "address of gossip in the datacenter"},
	{Path: "serf_lan_allowed_cidrs", Type: Strings, Flag: "serf-lan-allowed-cidrs", Usage: "network that gossip is accepted from; may be repeated"},
	{Path: "encrypt", Type: String, Flag: "encrypt", Usage: "gossip key of 16, 24 or 32 bytes in base64", Secret: true},
	{Path: "encrypt_verify_incoming", Type: Bool},
	{Path: "encrypt_verify_outgoing", Type: Bool},
	// Keys are kept nowhere but in the configuration.
	{Path: "disable_keyring_file", Type: Bool, Flag: "disable-keyring-file", Usage: "keep the gossip keys in memory only", Support: Ignored},
	{Path: "gossip_lan", Type: Object},
	{Path: "gossip_lan.gossip_interval", Type: Duration},
	{Path: "gossip_lan.gossip_nodes", Type: Int, Range: positive},
	{Path: "gossip_lan.probe_interval", Type: Duration},
	{Path: "gossip_lan.probe_timeout", Type: Duration},
	{Path: "gossip_lan.suspicion_mult", Type: Int, Range: positive},
	{Path: "gossip_lan.retransmit_mult", Type: Int, Range: positive},

	// Leaving.
	{Path: "leave_on_terminate", Type: Bool, Derived: true},
	{Path: "skip_leave_on_interrupt", Type: Bool, Derived: true},

	// DNS.
	{Path: "domain", Type: String, Flag: "domain", Usage: "DNS domain that is answered for"},
	{Path: "alt_domain", Type: String, Flag: "alt-domain", Usage: "second DNS domain that is answered for"},
	{Path: "dns_config", Type: Object},
	{Path: "dns_config.allow_stale", Type: Bool, Reloadable: true},
	{Path: "dns_config.max_stale", Type: Duration, Reloadable: true},
	{Path: "dns_config.node_ttl", Type: Duration, Reloadable: true},
	{Path: "dns_config.service_ttl", Type: DurationMap, Reloadable: true},
	{Path: "dns_config.enable_truncate", Type: Bool, Reloadable: true},
	{Path: "dns_config.only_passing", Type: Bool, Reloadable: true},
	{Path: "dns_config.udp_answer_limit", Type: Int, Range: natural, Reloadable: true},
	{Path: "dns_config.a_record_limit", Type: Int, Range: natural, Reloadable: true},
	{Path: "dns_config.disable_compression", Type: Bool, Reloadable: true},
	{Path: "dns_config.enable_additional_node_meta_txt", Type: Bool, Reloadable: true},
	{Path: "dns_config.soa", Type: Object},
	{Path: "dns_config.soa.refresh", Type: Int, Range: seconds, Reloadable: true},
	{Path: "dns_config.soa.retry", Type: Int, Range: seconds, Reloadable: true},
	{Path: "dns_config.soa.expire", Type: Int, Range: seconds, Reloadable: true},
	{Path: "dns_config.soa.min_ttl", Type: Int, Range: seconds, Reloadable: true},

	// HTTP.
	{Path: "http_config", Type: Object},
	{Path: "http_config.block_endpoints", Type: Strings},
	{Path: "http_config.allow_write_http_from", Type: Strings, Flag: "allow-write-http-from", Usage: "network that may write over HTTP; may be repeated"},
	{Path: "http_config.response_headers", Type: StringMap},
	{Path: "http_config.max_header_bytes", Type: Int, Range: natural},
	{Path: "http_config.use_cache", Type: Bool},
	{Path: "default_query_time", Type: Duration, Flag: "default-query-time", Usage: "how long a blocking query waits if it does not say"},
	{Path: "max_query_time", Type: Duration, Flag: "max-query-time", Usage: "how long a blocking query may wait"},
	{Path: "discovery_max_stale", Type: Duration},
	{Path: "disable_http_unprintable_char_filter", Type: Bool},
	{Path: "enable_debug", Type: Bool, Reloadable: true},

	// Checks.
	{Path: "enable_script_checks", Type: Bool, Flag: "enable-script-checks", Usage: "allow script checks from files and from the API"},
	{Path: "enable_local_script_checks", Type: Bool, Flag: "enable-local-script-checks", Usage: "allow script checks from files"},
	{Path: "check_update_interval", Type: Duration},
	{Path: "check_output_max_size", Type: Int, Range: positive, Flag: "check_output_max_size", Usage: "limit of a check's output in bytes"},
	{Path: "discard_check_output", Type: Bool, Reloadable: true},

	// Raft and performance.
	{Path: "raft_snapshot_threshold", Type: Int, Range: natural, Reloadable: true},
	{Path: "raft_snapshot_interval", Type: Duration, Reloadable: true},
	{Path: "raft_trailing_logs", Type: Int, Range: natural, Reloadable: true},
	{Path: "raft_prevote_disabled", Type: Bool},
	{Path: "raft_logstore", Type: Object},
	{Path: "raft_logstore.backend", Type: String, OneOf: []string{"default", "wal", "boltdb"}, Support: Ignored},
	{Path: "raft_logstore.disable_log_cache", Type: Bool, Support: Ignored},
	{Path: "raft_logstore.verification", Type: Object},
	{Path: "raft_logstore.verification.enabled", Type: Bool, Support: Ignored},
	{Path: "raft_logstore.verification.interval", Type: Duration, Support: Ignored},
	{Path: "raft_logstore.boltdb", Type: Object},
	{Path: "raft_logstore.boltdb.no_freelist_sync", Type: Bool, Support: Ignored},
	{Path: "raft_logstore.wal", Type: Object},
	{Path: "raft_logstore.wal.segment_size_mb", Type: Int, Range: &Range{1, MaxSegmentSize}, Support: Ignored},
	{Path: "raft_boltdb", Type: Object},
	{Path: "raft_boltdb.nofreelistsync", Type: Bool, Support: Ignored, New: "raft_logstore.boltdb.no_freelist_sync"},
	{Path: "autopilot", Type: Object},
	{Path: "autopilot.cleanup_dead_servers", Type: Bool},
	{Path: "autopilot.last_contact_threshold", Type: Duration},
	{Path: "autopilot.max_trailing_logs", Type: Int, Range: natural},
	{Path: "autopilot.min_quorum", Type: Int, Range: natural},
	{Path: "autopilot.server_stabilization_time", Type: Duration},
	{Path: "performance", Type: Object},
	// The leases of leaders rest on it: see consensus.Tuning.
	{Path: "performance.raft_multiplier", Type: Int, Range: &Range{0, MaxRaftMultiplier}},
	{Path: "performance.leave_drain_time", Type: Duration},
	{Path: "performance.rpc_hold_timeout", Type: Duration},
	{Path: "performance.grpc_keepalive_interval", Type: Duration, Support: Mesh},
	{Path: "performance.grpc_keepalive_timeout", Type: Duration, Support: Mesh},
	{Path: "performance.enable_xds_load_balancing", Type: Bool, Support: Mesh},

	// Limits.
	{Path: "limits", Type: Object},
	{Path: "limits.http_max_conns_per_client", Type: Int, Range: natural, Reloadable: true},
	{Path: "limits.https_handshake_timeout", Type: Duration, Support: Later},
	{Path: "limits.rpc_handshake_timeout", Type: Duration},
	{Path: "limits.rpc_client_timeout", Type: Duration, Reloadable: true},
	{Path: "limits.rpc_rate", Type: Float, Reloadable: true},
	{Path: "limits.rpc_max_burst", Type: Int, Range: positive, Reloadable: true},
	{Path: "limits.rpc_max_conns_per_client", Type: Int, Range: positive, Reloadable: true},
	{Path: "limits.kv_max_value_size", Type: Int, Range: positive},
	{Path: "limits.txn_max_req_len", Type: Int, Range: positive},
	{Path: "limits.request_limits", Type: Object},
	{Path: "limits.request_limits.mode", Type: String, OneOf: []string{"disabled", "permissive", "enforcing"}, Reloadable: true},
	{Path: "limits.request_limits.read_rate", Type: Float, Reloadable: true},
	{Path: "limits.request_limits.write_rate", Type: Float, Reloadable: true},

	// Logging.
	{Path: "log_level", Type: String, Flag: "log-level", Usage: "trace, debug, info, warn or error", Reloadable: true},
	{Path: "log_json", Type: Bool, Flag: "log-json", Usage: "write the log as JSON"},

	// Definitions, which keys_definitions.go describes.
	{Path: "service", Type: Object, Of: "service", Reloadable: true},
	{Path: "services", Type: Objects, Of: "service", Reloadable: true},
	{Path: "check", Type: Object, Of: "check", Reloadable: true},
	{Path: "checks", Type: Objects, Of: "check", Reloadable: true},
}
