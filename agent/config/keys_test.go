package config

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	seen, flags := map[string]bool{}, map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Path] {
			t.Errorf("%s is there twice", k.Path)
		}
		seen[k.Path] = true
		if k.Path != strings.ToLower(k.Path) {
			t.Errorf("%s is not in lower case, so nobody finds it", k.Path)
		}
		if dot := strings.LastIndexByte(k.Path, '.'); dot >= 0 {
			if parent := table.paths[k.Path[:dot]]; parent == nil || parent.shape == nil {
				t.Errorf("%s has no object around it", k.Path)
			}
		}
		if k.New != "" {
			if n := table.paths[k.New]; n == nil || n.key.New != "" || k.Support != Removed && n.key.Type != k.Type {
				t.Errorf("%s: the key %s that took its place is not there, old too, or of another type", k.Path, k.New)
			}
		}
		if k.Of != "" && table.paths[k.Of] == nil {
			t.Errorf("%s: no key %s", k.Path, k.Of)
		}
		if (k.Type == 0) != (k.Support == Removed) {
			t.Errorf("%s has no type, or was removed and has one", k.Path)
		}
		if k.Support == Refused && k.Note == "" {
			t.Errorf("%s is refused without a reason", k.Path)
		}
		if (k.Flag == "") != (k.Usage == "") {
			t.Errorf("%s: flag %q with the usage %q", k.Path, k.Flag, k.Usage)
		}
		if k.Flag != "" && flags[k.Flag] {
			t.Errorf("two keys have the flag %s", k.Flag)
		}
		flags[k.Flag] = true
		if k.Inert != nil && !(setting{value: k.Inert}).inert(&k) {
			t.Errorf("%s: %v is not inert", k.Path, k.Inert)
		}
	}
}

// Every key that users' files may have.
const documented = `
datacenter primary_datacenter node_name node_id disable_host_node_id node_meta tagged_addresses locality.region locality.zone
server bootstrap bootstrap_expect data_dir pid_file protocol raft_protocol experiments partition segment segments read_replica
non_voting_server license_path audit reporting.license.enabled
bind_addr client_addr advertise_addr advertise_addr_ipv4 advertise_addr_ipv6 advertise_addr_wan advertise_addr_wan_ipv4 advertise_addr_wan_ipv6
addresses.dns addresses.http addresses.https addresses.grpc addresses.grpc_tls
ports.dns ports.http ports.https ports.grpc ports.grpc_tls ports.server ports.serf_lan ports.serf_wan
ports.sidecar_min_port ports.sidecar_max_port ports.proxy_min_port ports.proxy_max_port ports.expose_min_port ports.expose_max_port
serf_lan serf_wan serf_lan_allowed_cidrs serf_wan_allowed_cidrs unix_sockets.user unix_sockets.group unix_sockets.mode translate_wan_addrs
retry_join retry_interval retry_max retry_join_wan retry_interval_wan retry_max_wan start_join start_join_wan rejoin_after_leave
leave_on_terminate skip_leave_on_interrupt reconnect_timeout reconnect_timeout_wan advertise_reconnect_timeout server_rejoin_age_max
primary_gateways primary_gateways_interval
auto_config.enabled auto_config.intro_token auto_config.intro_token_file auto_config.server_addresses auto_config.dns_sans auto_config.ip_sans auto_config.authorization
auto_encrypt.tls auto_encrypt.allow_tls auto_encrypt.dns_san auto_encrypt.ip_san
domain alt_domain recursors dns_config.allow_stale dns_config.max_stale dns_config.node_ttl dns_config.service_ttl dns_config.enable_truncate
dns_config.only_passing dns_config.udp_answer_limit dns_config.a_record_limit dns_config.disable_compression dns_config.recursor_timeout
dns_config.recursor_strategy dns_config.enable_additional_node_meta_txt dns_config.use_cache dns_config.cache_max_age
dns_config.soa.refresh dns_config.soa.retry dns_config.soa.expire dns_config.soa.min_ttl dns_config.prefer_namespace
http_config.block_endpoints http_config.allow_write_http_from http_config.response_headers http_config.use_cache http_config.max_header_bytes
ui_config.enabled ui_config.dir ui_config.content_path ui_config.metrics_provider ui_config.metrics_provider_files
ui_config.metrics_provider_options_json ui_config.metrics_proxy.base_url ui_config.metrics_proxy.add_headers
ui_config.metrics_proxy.path_allowlist ui_config.dashboard_url_templates ui ui_dir ui_content_path
default_query_time max_query_time discovery_max_stale disable_http_unprintable_char_filter
service services check checks enable_script_checks enable_local_script_checks check_update_interval check_output_max_size discard_check_output
enable_agent_tls_for_checks enable_central_service_config session_ttl_min watches
disable_remote_exec disable_update_check disable_anonymous_signature disable_coordinates enable_debug auto_reload_config
cache.entry_fetch_rate cache.entry_fetch_max_burst use_streaming_backend rpc.enable_streaming config_entries.bootstrap
connect peering.enabled xds.update_max_per_second default_intention_policy cloud snapshot_agent raft_boltdb
encrypt encrypt_verify_incoming encrypt_verify_outgoing disable_keyring_file
gossip_lan.gossip_interval gossip_lan.gossip_nodes gossip_lan.probe_interval gossip_lan.probe_timeout gossip_lan.suspicion_mult gossip_lan.retransmit_mult
gossip_wan.gossip_interval gossip_wan.gossip_nodes gossip_wan.probe_interval gossip_wan.probe_timeout gossip_wan.suspicion_mult gossip_wan.retransmit_mult
raft_snapshot_threshold raft_snapshot_interval raft_trailing_logs raft_prevote_disabled
raft_logstore.backend raft_logstore.disable_log_cache raft_logstore.verification.enabled raft_logstore.verification.interval
raft_logstore.boltdb.no_freelist_sync raft_logstore.wal.segment_size_mb
autopilot.cleanup_dead_servers autopilot.last_contact_threshold autopilot.max_trailing_logs autopilot.min_quorum autopilot.server_stabilization_time
autopilot.redundancy_zone_tag autopilot.disable_upgrade_migration autopilot.upgrade_version_tag
performance.raft_multiplier performance.leave_drain_time performance.rpc_hold_timeout performance.grpc_keepalive_interval
performance.grpc_keepalive_timeout performance.enable_xds_load_balancing
limits.http_max_conns_per_client limits.https_handshake_timeout limits.rpc_handshake_timeout limits.rpc_client_timeout limits.rpc_rate
limits.rpc_max_burst limits.rpc_max_conns_per_client limits.kv_max_value_size limits.txn_max_req_len
limits.request_limits.mode limits.request_limits.read_rate limits.request_limits.write_rate
acl.enabled acl.default_policy acl.down_policy acl.token_ttl acl.policy_ttl acl.role_ttl acl.enable_key_list_policy acl.enable_token_replication
acl.enable_token_persistence acl.tokens.initial_management acl.tokens.default acl.tokens.agent acl.tokens.agent_recovery acl.tokens.replication
acl.tokens.config_file_service_registration acl.tokens.dns acl.msp_disable_bootstrap acl.tokens.managed_service_provider
acl.tokens.master acl.tokens.agent_master acl_datacenter acl_default_policy acl_down_policy acl_ttl acl_enable_key_list_policy
acl_master_token acl_agent_master_token acl_agent_token acl_token acl_replication_token enable_acl_replication acl_enforce_version_8
server_name ca_file ca_path cert_file key_file tls_cipher_suites verify_outgoing tls_min_version verify_incoming verify_incoming_rpc
verify_incoming_https verify_server_hostname tls_prefer_server_cipher_suites tls.defaults.verify_server_hostname
tls.internal_rpc.verify_server_hostname tls.grpc.use_auto_cert
log_level log_json log_file log_rotate_duration log_rotate_bytes log_rotate_max_files enable_syslog syslog_facility
telemetry.metrics_prefix telemetry.statsd_address telemetry.statsite_address telemetry.dogstatsd_addr telemetry.dogstatsd_tags
telemetry.prometheus_retention_time telemetry.disable_hostname telemetry.filter_default telemetry.prefix_filter telemetry.enable_host_metrics
telemetry.retry_failed_connection telemetry.disable_per_tenancy_usage_metrics telemetry.circonus_api_token
ae_interval check_reap_interval check_deregister_interval_min sync_coordinate_rate_target sync_coordinate_interval_min consul
segment_limit segment_name_limit version version_prerelease version_metadata revision build_date
`

func TestDocumentedKeys(t *testing.T) {
	paths := strings.Fields(documented)
	for _, section := range []string{"defaults", "internal_rpc", "https", "grpc"} {
		for _, field := range []string{"ca_file", "ca_path", "cert_file", "key_file", "verify_incoming", "tls_min_version", "tls_cipher_suites"} {
			paths = append(paths, "tls."+section+"."+field)
		}
		if section != "grpc" {
			paths = append(paths, "tls."+section+".verify_outgoing")
		}
	}
	for _, path := range paths {
		if f := table.paths[path]; f == nil || f.key.Support == Removed {
			t.Errorf("%s is not known", path)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"datacentre":      "datacenter",
		"data-dir":        "data_dir",
		"DataDir":         "data_dir",
		"bindaddr":        "bind_addr",
		"retry_jion":      "retry_join",
		"raft_multiplier": "performance.raft_multiplier",
		"completely else": "",
		"x":               "",
	} {
		if got := table.nearest(table.root, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
