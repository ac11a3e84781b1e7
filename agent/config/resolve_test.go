package config

import (
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
)

// server is a configuration that is right.
const server = `
server = true
bootstrap_expect = 1
data_dir = "/nowhere/muster"
bind_addr = "127.0.0.1"
`

// resolved returns what a fragment over others resolves to.
func resolved(h host, texts ...string) (*Config, error) {
	return load(Sources{HCL: texts}, h)
}

func TestServer(t *testing.T) {
	c, err := resolved(testHost(), server, `
datacenter = "DC9"
node_name = " n1 "
node_id = "5A2D3C1E-8B47-4F60-9E15-C0FFEE00A001"
node_meta { a = "b" }
tagged_addresses { x = "y" }
locality { region = "r", zone = "z" }
domain = "Example.Com"
alt_domain = "other."
client_addr = "127.0.0.2 [::1]"
addresses { http = "unix:///run/m.sock 127.0.0.3" }
ports { dns = -1, serf_wan = 0 }
unix_sockets { user = "u", group = "7", mode = "0660" }
log_level = "Trace"
dns_config { service_ttl { "*" = "5s", "web*" = "11s" }, node_ttl = "1s", soa { min_ttl = 7 } }
http_config { response_headers { X = "y" }, block_endpoints = ["/v1/a"], max_header_bytes = 99,
  allow_write_http_from = ["10.1.2.3/8", " fd00::/8 "], use_cache = false }
discovery_max_stale = "7s"
performance { raft_multiplier = 0 }
enable_local_script_checks = true
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]any{
		"Datacenter":          {c.Datacenter, "dc9"},
		"PrimaryDatacenter":   {c.PrimaryDatacenter, "dc9"},
		"NodeName":            {c.NodeName, "n1"},
		"NodeID":              {c.NodeID, "5a2d3c1e-8b47-4f60-9e15-c0ffee00a001"},
		"NodeMeta":            {c.NodeMeta, map[string]string{"a": "b"}},
		"TaggedAddresses":     {c.TaggedAddresses, map[string]string{"x": "y"}},
		"Locality":            {c.Locality, &catalog.Locality{Region: "r", Zone: "z"}},
		"Domain":              {c.Domain, "example.com."},
		"AltDomain":           {c.AltDomain, "other."},
		"ClientAddrs":         {c.ClientAddrs, []string{"127.0.0.2", "::1"}},
		"HTTPAddrs":           {c.HTTPAddrs, []string{"127.0.0.3:8500", "unix:///run/m.sock"}},
		"DNSAddrs":            {c.DNSAddrs, []string(nil)},
		"Ports":               {c.Ports, Ports{DNS: -1, HTTP: 8500, HTTPS: -1, GRPC: -1, GRPCTLS: -1, Server: 8300, SerfLAN: 8301}},
		"UnixSocketMode":      {c.UnixSocketMode, "0660"},
		"LogLevel":            {c.LogLevel, LevelTrace},
		"ServiceTTL":          {c.DNS.ServiceTTL, map[string]time.Duration{"*": 5 * time.Second, "web*": 11 * time.Second}},
		"SOA":                 {c.DNS.SOA, SOA{3600, 600, 86400, 7}},
		"HTTPResponseHeaders": {c.HTTPResponseHeaders, map[string]string{"X": "y"}},
		"HTTPBlockEndpoints":  {c.HTTPBlockEndpoints, []string{"/v1/a"}},
		"HTTPMaxHeaderBytes":  {c.HTTPMaxHeaderBytes, 99},
		"HTTPAllowWriteFrom":  {c.HTTPAllowWriteFrom, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}},
		"HTTPUseCache":        {c.HTTPUseCache, false},
		"DiscoveryMaxStale":   {c.DiscoveryMaxStale, 7 * time.Second},
		"RaftMultiplier":      {c.RaftMultiplier, 2},
		"Bootstrap":           {c.Bootstrap, true},
		"BootstrapExpect":     {c.BootstrapExpect, 1},
		"LeaveOnTerminate":    {c.LeaveOnTerminate, false},
		"SkipLeave":           {c.SkipLeaveOnInterrupt, true},
		"EnableLocalScripts":  {c.EnableLocalScripts, true},
		"EnableScriptChecks":  {c.EnableScriptChecks, false},
		"DataDir":             {c.DataDir, "/nowhere/muster"},
		"AdvertiseAddr":       {c.AdvertiseAddr.String(), "127.0.0.1"},
	}
	for name, pair := range want {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

// A client agent, and what is set of its place in a cluster.
func TestClient(t *testing.T) {
	c, err := resolved(testHost("10.0.0.9"), `
data_dir = "/nowhere/muster"
advertise_reconnect_timeout = "12h"
retry_join = ["10.0.0.1", "{{ two }}", "servers.example.com:9301 [::1] ::1 [::1]:7 host"]
start_join = ["[2001:db8::1]:8301"]
retry_interval = "5s"
retry_max = 7
rejoin_after_leave = true
reconnect_timeout = "24h"
server_rejoin_age_max = "6h"
encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
encrypt_verify_incoming = false
serf_lan = "{{ one }}"
serf_lan_allowed_cidrs = ["10.0.0.0/8"]
gossip_lan { probe_interval = "2s", gossip_nodes = 5, suspicion_mult = 6 }
autopilot { cleanup_dead_servers = false, min_quorum = 3 }
raft_prevote_disabled = true
limits { rpc_max_conns_per_client = 7, rpc_rate = 2.5, rpc_client_timeout = "9s", request_limits { mode = "enforcing", read_rate = 5.5 } }
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]any{
		"Server":                    {c.Server, false},
		"Bootstrap":                 {c.Bootstrap, false},
		"LeaveOnTerminate":          {c.LeaveOnTerminate, true},
		"SkipLeave":                 {c.SkipLeaveOnInterrupt, false},
		"AdvertiseAddr":             {c.AdvertiseAddr.String(), "10.0.0.9"},
		"RetryJoin":                 {c.RetryJoin, []string{"10.0.0.1", "10.0.0.1", "10.0.0.2", "servers.example.com:9301", "[::1]", "::1", "[::1]:7", "host", "[2001:db8::1]:8301"}},
		"RetryInterval":             {c.RetryInterval, 5 * time.Second},
		"RetryMax":                  {c.RetryMax, 7},
		"RejoinAfterLeave":          {c.RejoinAfterLeave, true},
		"ReconnectTimeout":          {c.ReconnectTimeout, 24 * time.Hour},
		"AdvertiseReconnectTimeout": {c.AdvertiseReconnectTimeout, 12 * time.Hour},
		"ServerRejoinAgeMax":        {c.ServerRejoinAgeMax, 6 * time.Hour},
		"Encrypt":                   {len(c.Encrypt), 32},
		"EncryptVerifyIncoming":     {c.EncryptVerifyIncoming, false},
		"EncryptVerifyOutgoing":     {c.EncryptVerifyOutgoing, true},
		"SerfLANAddr":               {c.SerfLANAddr.String(), "10.0.0.1"},
		"SerfLANAllowed":            {c.SerfLANAllowed, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"GossipLAN":                 {c.GossipLAN, GossipTiming{200 * time.Millisecond, 2 * time.Second, 500 * time.Millisecond, 5, 6, 4}},
		"Autopilot":                 {c.Autopilot, Autopilot{false, 200 * time.Millisecond, 250, 3, 10 * time.Second}},
		"RaftPreVoteDisabled":       {c.RaftPreVoteDisabled, true},
		"RPCMaxConnsPerClient":      {c.RPCMaxConnsPerClient, 7},
		"RPCRate":                   {c.RPCRate, 2.5},
		"RPCMaxBurst":               {c.RPCMaxBurst, 1000},
		"RPCClientTimeout":          {c.RPCClientTimeout, 9 * time.Second},
		"RPCHandshakeTimeout":       {c.RPCHandshakeTimeout, 5 * time.Second},
		"RequestLimitsMode":         {c.RequestLimitsMode, "enforcing"},
		"RequestReadRate":           {c.RequestReadRate, 5.5},
		"RequestWriteRate":          {c.RequestWriteRate, -1.0},
	}
	for name, pair := range want {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
		}
	}
}

// A server that waits for others does not elect itself, and listens with
// gossip where it listens with the rest.
func TestExpect(t *testing.T) {
	c, err := resolved(testHost(), server, `bootstrap_expect = 3`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Bootstrap || c.BootstrapExpect != 3 || len(c.Warnings) > 0 {
		t.Errorf("bootstrap %v, expect %d, warnings %q", c.Bootstrap, c.BootstrapExpect, c.Warnings)
	}
	if c.SerfLANAddr != c.BindAddr || c.Encrypt != nil || !c.EncryptVerifyIncoming || c.RPCMaxConnsPerClient != 100 || c.ReconnectTimeout != 72*time.Hour {
		t.Errorf("got %+v", c)
	}
	// An agent of development that is told not to be a server is none.
	if c, err = load(Sources{Dev: true, HCL: []string{`server = false`}}, testHost()); err != nil || c.Server || c.Bootstrap {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestDevelopment(t *testing.T) {
	c, err := load(Sources{Dev: true}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if len(c.HTTPAllowWriteFrom) != 0 || !c.HTTPUseCache || c.DiscoveryMaxStale != 0 {
		t.Errorf("defaults of HTTP are %v %t %v", c.HTTPAllowWriteFrom, c.HTTPUseCache, c.DiscoveryMaxStale)
	}
	if !c.Server || !c.Bootstrap || c.DataDir != "" || c.RaftMultiplier != 1 || !c.EnableDebug ||
		c.LogLevel != slog.LevelDebug || c.BindAddr.String() != "127.0.0.1" || c.NodeName != "host1" {
		t.Errorf("got %+v", c)
	}
}

func TestClientForDevelopment(t *testing.T) {
	for text, warned := range map[string]bool{`server = false`: true, `server = false, retry_join = ["192.0.2.1"]`: false, `server = true`: false} {
		c, err := load(Sources{Dev: true, HCL: []string{text}}, testHost())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(c.Warnings, "\n"), "server = false with -dev, and no retry_join: this is a client agent"); got != warned {
			t.Errorf("%s: warnings %q", text, c.Warnings)
		}
	}
}

// Who has set nothing at all is told the first thing to set, and nothing else.
func TestFirstStart(t *testing.T) {
	for _, addresses := range [][]string{{"192.0.2.1"}, {"10.0.0.1", "10.0.0.2"}} {
		_, err := resolved(testHost(addresses...))
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "data_dir must be set") ||
			!strings.Contains(err.Error(), "-data-dir=") || !strings.Contains(err.Error(), "muster agent -dev") {
			t.Errorf("with the addresses %q: %v", addresses, err)
		}
		for _, text := range []string{`data_dir = "/nowhere/muster"`, `bind_addr = "0.0.0.0"`} {
			if _, err := resolved(testHost(addresses...), text); err == nil || !strings.Contains(err.Error(), "advertise_addr must be set") {
				t.Errorf("with the addresses %q and %s: %v", addresses, text, err)
			}
		}
	}
}

func TestPlace(t *testing.T) {
	s := flags(t, "-dev", "-data-dir=/nowhere/muster")
	s.HCL = []string{"log_level = \"warn\""}
	c, err := load(s, testHost())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"data_dir": "flag -data-dir", "log_level": "-hcl fragment 1:1:13", "datacenter": "", "pid_file": ""} {
		if got := c.Place(path); got != want {
			t.Errorf("%s is from %q, want %q", path, got, want)
		}
	}
}

func TestAdvertise(t *testing.T) {
	tests := []struct {
		name      string
		addresses []string
		text      string
		want      string // lan, wan, and those by family
	}{
		{"the only private one", []string{"203.0.113.1", "10.1.1.1", "fd00::1"}, `bind_addr = "0.0.0.0"`, "10.1.1.1 10.1.1.1 10.1.1.1 - 10.1.1.1 -"},
		{"of a carrier", []string{"100.64.0.1"}, `bind_addr = "0.0.0.0"`, "100.64.0.1 100.64.0.1 100.64.0.1 - 100.64.0.1 -"},
		{"the only public IPv6 one", []string{"10.1.1.1", "fd00::1", "fe80::1", "2001:db8::1"}, `bind_addr = "[::]"`, "2001:db8::1 2001:db8::1 - 2001:db8::1 - 2001:db8::1"},
		{"what is bound", []string{"10.1.1.1", "10.1.1.2"}, `bind_addr = "10.1.1.2"`, "10.1.1.2 10.1.1.2 10.1.1.2 - 10.1.1.2 -"},
		{"what is said", []string{"10.1.1.1", "10.1.1.2"}, `bind_addr = "0.0.0.0", advertise_addr = "192.0.2.1"`, "192.0.2.1 192.0.2.1 192.0.2.1 - 192.0.2.1 -"},
		{"what is said of the family", nil, `bind_addr = "0.0.0.0", advertise_addr_ipv4 = "192.0.2.1"`, "192.0.2.1 192.0.2.1 192.0.2.1 - 192.0.2.1 -"},
		{"all apart", nil, `advertise_addr = "192.0.2.1", advertise_addr_wan = "192.0.2.2", advertise_addr_ipv6 = "2001:db8::1", advertise_addr_wan_ipv6 = "2001:db8::2"`,
			"192.0.2.1 192.0.2.2 192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2"},
		{"template", nil, `bind_addr = "{{ one }}"`, "10.0.0.1 10.0.0.1 10.0.0.1 - 10.0.0.1 -"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := resolved(testHost(test.addresses...), server, test.text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ip := range []interface {
				IsValid() bool
				String() string
			}{c.AdvertiseAddr, c.AdvertiseAddrWAN, c.AdvertiseIPv4, c.AdvertiseIPv6, c.AdvertiseWANIPv4, c.AdvertiseWANIPv6} {
				if ip.IsValid() {
					got = append(got, ip.String())
				} else {
					got = append(got, "-")
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), test.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	at := "-hcl fragment 2:1:"
	tests := []struct {
		name, text, want string
	}{
		{"no folder for the state", `data_dir = ""`, at + `12: data_dir must be set`},
		{"state in a file", `data_dir = "/dev/null"`, at + `12: data_dir: /dev/null is not a folder`},
		{"both ways of bootstrapping", `bootstrap = true`, `bootstrap_expect = 1 and bootstrap = true exclude each other`},
		{"bootstrapping no server", `server = false`, `bootstrap_expect = 1 needs server = true`},
		{"electing no server", `server = false, bootstrap_expect = 0, bootstrap = true`, `bootstrap = true needs server = true`},
		{"negative expectation", `bootstrap_expect = -1`, at + `20: bootstrap_expect must be at least 0, but is -1`},

		{"address in place of a network", `http_config { allow_write_http_from = ["10.0.0.0/8", "10.0.0.1"] }`, `http_config.allow_write_http_from must be networks as in "10.0.0.0/8", but one is "10.0.0.1"`},
		{"network in another form", `http_config { allow_write_http_from = ["::ffff:10.0.0.0/104"] }`, `http_config.allow_write_http_from must have IPv4 networks in their own form, but one is "::ffff:10.0.0.0/104"`},
		{"negative staleness", `discovery_max_stale = "-1s"`, at + `23: discovery_max_stale must not be negative, but is -1s`},

		{"key that is no base64", `encrypt = "this is no key"`, at + `11: encrypt must be a key of 16, 24 or 32 bytes in base64, which it is not`},
		{"key of another size", `encrypt = "c2hvcnQ="`, at + `11: encrypt must be a key of 16, 24 or 32 bytes in base64, but has 5 bytes`},
		{"gossip from an address", `serf_lan_allowed_cidrs = ["10.0.0.1"]`, `serf_lan_allowed_cidrs must be networks as in "10.0.0.0/8", but one is "10.0.0.1"`},
		{"gossip at a name", `serf_lan = "localhost"`, at + `12: serf_lan must be an IP address, but is "localhost"`},
		{"gossip all the time", `gossip_lan { gossip_interval = "0s" }`, `gossip_lan.gossip_interval must be more than 0s`},
		{"gossip with nobody", `gossip_lan { gossip_nodes = 0 }`, `gossip_lan.gossip_nodes must be at least 1, but is 0`},
		{"joining all the time", `retry_interval = "0s"`, at + `18: retry_interval must be more than 0s`},
		{"joining nobody", `retry_join = [""]`, `retry_join must not have an empty address`},
		{"joining a URL", `retry_join = ["10.0.0.1", "http://10.0.0.2:8301"]`, at + `27: retry_join must be addresses as in "10.0.0.1", "host:8301" or "[::1]:8301", but one is "http://10.0.0.2:8301"`},
		{"joining a port that is none", `retry_join = ["host:65536"]`, `but one is "host:65536"`},
		{"joining a port without a host", `retry_join = [":8301"]`, `but one is ":8301"`},
		{"joining a wrong template", `retry_join = ["{{ what }}"]`, `retry_join: cannot fill in the template "{{ what }}": no such function`},
		{"too young to rejoin", `server_rejoin_age_max = "5h"`, at + `25: server_rejoin_age_max must be at least 6h0m0s, but is 5h0m0s`},
		{"no time to reconnect", `reconnect_timeout = "0s"`, `reconnect_timeout must be more than 0s`},
		{"no calls", `limits { rpc_max_conns_per_client = 0 }`, `limits.rpc_max_conns_per_client must be at least 1, but is 0`},
		{"no burst", `limits { rpc_max_burst = 0 }`, `limits.rpc_max_burst must be at least 1, but is 0`},
		{"no reads", `limits { request_limits { read_rate = 0.0 } }`, `limits.request_limits.read_rate must not be 0: nothing would ever be asked for`},
		{"no handshakes", `limits { rpc_handshake_timeout = "0s" }`, `limits.rpc_handshake_timeout must be more than 0s`},
		{"no time for calls", `limits { rpc_client_timeout = "0s" }`, `limits.rpc_client_timeout must be more than 0s`},
		{"no contact", `autopilot { last_contact_threshold = "0s" }`, `autopilot.last_contact_threshold must be more than 0s`},

		{"datacenter", `datacenter = "a b"`, at + `14: datacenter may have letters, digits, - and _ only, but is "a b"`},
		{"no datacenter", `datacenter = ""`, `datacenter must not be empty`},
		{"no name", `node_name = " "`, at + `13: node_name must not be empty`},
		{"node ID", `node_id = "x"`, at + `11: node_id must be a UUID as in "01234567-89ab-cdef-0123-456789abcdef", but is "x"`},
		{"metadata", `node_meta { "a b" = "c" }`, at + `13: node_meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters`},
		{"reserved metadata", `node_meta { consul-x = "c" }`, `Key prefix 'consul-' is reserved`},
		{"zone without region", `locality { zone = "z" }`, `locality.zone = "z" needs locality.region`},
		{"domain", `domain = "a..b"`, at + `10: domain must be a DNS name, but is "a..b"`},
		{"no domain", `domain = "."`, `domain must not be empty`},

		{"port that cannot be off", `ports { server = -1 }`, at + `18: ports.server must be from 1 to 65535, but is -1: it cannot be off`},
		{"range of ports", `ports { sidecar_min_port = 2, sidecar_max_port = 1 }`, `ports.sidecar_max_port = 1 is less than ports.sidecar_min_port = 2`},
		{"host name", `bind_addr = "localhost"`, at + `13: bind_addr must be an IP address, but is "localhost"`},
		{"no address to bind", `bind_addr = ""`, `bind_addr must not be empty`},
		{"several addresses", `bind_addr = "10.0.0.1 10.0.0.2"`, `bind_addr must be one address, but there are 2: 10.0.0.1, 10.0.0.2`},
		{"template with several addresses", `bind_addr = "{{ two }}"`, `bind_addr must be one address, but there are 2: 10.0.0.1, 10.0.0.2`},
		{"template without an address", `bind_addr = "{{ none }}"`, `bind_addr: the template "{{ none }}" gives no address`},
		{"template that is wrong", `bind_addr = "{{ what }}"`, `bind_addr: cannot fill in the template "{{ what }}": no such function`},
		{"advertising anything", `advertise_addr = "0.0.0.0"`, at + `18: advertise_addr = 0.0.0.0 cannot be reached by others`},
		{"advertising the other family", `advertise_addr_ipv4 = "::1"`, `advertise_addr_ipv4 = ::1 is of the other family`},
		{"nothing to advertise", `bind_addr = "0.0.0.0"`, `advertise_addr must be set: with bind_addr = "0.0.0.0" others are told the private IPv4 address of this host, but it has none (its addresses: 192.0.2.1, 2001:db8::1, 2001:db8::2)`},
		{"too much to advertise", `bind_addr = "::"`, `advertise_addr must be set: with bind_addr = "::" others are told the public IPv6 address of this host, but it has 2: 2001:db8::1, 2001:db8::2`},
		{"HTTP and DNS", `ports { http = 1, dns = 1 }`, `ports.http: HTTP at 127.0.0.1:1 clashes with DNS at 127.0.0.1:1`},
		{"gossip and RPC", `ports { server = 8301 }`, `ports.server: server RPC at 127.0.0.1:8301 clashes with LAN gossip at 127.0.0.1:8301`},
		{"all addresses and one", `client_addr = "0.0.0.0", ports { http = 8300 }`, `ports.http: HTTP at 0.0.0.0:8300 clashes with server RPC at 127.0.0.1:8300`},
		{"socket for DNS", `addresses { dns = "unix:///x" }`, `addresses.dns must be an IP address, but is "unix:///x"`},
		{"socket without a whole path", `addresses { http = "unix://x" }`, `addresses.http must have the whole path of a socket`},
		{"owner of sockets", `addresses { http = "unix:///x" }, unix_sockets { user = "nobody-at-all" }`, `unix_sockets.user = "nobody-at-all": there is no such user on this machine`},
		{"group of sockets", `addresses { http = "unix:///x" }, unix_sockets { group = "none" }`, `unix_sockets.group = "none": there is no such group on this machine`},
		{"mode of sockets", `unix_sockets { mode = "888" }`, `unix_sockets.mode must be an octal number as in "0660", but is "888"`},

		{"recursor by name", `recursors = ["192.0.2.1:53", "dns.example.com"]`, at + `30: recursors must be IP addresses with or without a port, but one is "dns.example.com"`},
		{"HTTPS at a name", `addresses { https = "localhost" }`, `addresses.https must be an IP address, but is "localhost"`},
		{"two web pages", `ui_config { enabled = true, dir = "/x" }`, `ui_config.dir and ui_config.enabled = true exclude each other`},
		{"path of the web page", `ui_config { content_path = "ui" }`, `ui_config.content_path must begin and end with a slash, but is "ui"`},
		{"no fetching", `cache { entry_fetch_rate = 0 }`, `cache.entry_fetch_rate must not be 0`},
		{"no burst", `cache { entry_fetch_max_burst = 0 }`, `cache.entry_fetch_max_burst must be at least 1, but is 0`},
		{"WAN gossip at a name", `serf_wan = "x"`, at + `12: serf_wan must be an IP address, but is "x"`},
		{"WAN gossip from an address", `serf_wan_allowed_cidrs = ["10.0.0.1"]`, at + `27: serf_wan_allowed_cidrs must be networks`},
		{"watch without a type", `watches { args = ["x"] }`, at + `9: watch without type`},
		{"watch of another type", `watches { type = "connect_roots", args = ["x"] }`, at + `18: watches.type must be one of key, keyprefix`},
		{"watch without a key", `watches { type = "key", args = ["x"] }`, at + `9: watch of type key: key must be set`},
		{"watch with a parameter of another", `watches { type = "nodes", tag = "x", args = ["x"] }`, at + `33: watch of type nodes: it has no tag`},
		{"watch with an unknown parameter", `watches { type = "nodes", tagg = "x", args = ["x"] }`, at + `27: invalid config key watches.tagg (did you mean "watches.tag"?)`},
		{"watch of both", `watches { type = "checks", service = "a", state = "critical", args = ["x"] }`, `service and state exclude each other`},
		{"watch without a command", `watches { type = "nodes" }`, `it has no args, so nothing would be run`},
		{"watch with a number", `watches { type = "nodes", args = ["x", 1] }`, at + `34: watch of type nodes: args must be a list of texts, not of a number`},
		{"watch with an empty command", `watches { type = "nodes", args = [] }`, at + `34: watch of type nodes: args must not be empty`},
		{"watch with two commands", `watches { type = "nodes", args = ["x"], handler = "x" }`, `args and handler exclude each other`},
		{"watch without a URL", `watches { type = "nodes", handler_type = "http" }`, `handler_type = "http" needs http_handler_config.path`},
		{"watch with both handlers", `watches { type = "nodes", handler_type = "http", args = ["x"], http_handler_config { path = "http://x" } }`, `handler_type = "http" excludes args and handler`},

		{"log level", `log_level = "loud"`, at + `13: log_level must be one of trace, debug, info, warn, error, but is "loud"`},
		{"facility", `syslog_facility = "local9"`, at + `19: syslog_facility must be one of KERN, `},
		{"log file without a folder", `log_file = "/none/at/all/x.log"`, at + `12: log_file needs the folder /none/at/all, which is not there`},
		{"log file that is a folder", `log_file = "/tmp"`, at + `12: log_file: /tmp is a folder: end it with a slash for a file in it`},
		{"log level with a slip", `log_level = "INOF"`, `but is "INOF" (did you mean "info"?)`},
		{"policy with a slip", `acl { down_policy = "extend_cache" }`, `but is "extend_cache" (did you mean "extend-cache"?)`},
		{"no waiting", `default_query_time = "0s"`, `default_query_time must be more than 0s`},
		{"snapshots all the time", `raft_snapshot_interval = "1ms"`, `raft_snapshot_interval must be at least 5ms, but is 1ms`},
		{"open files", `limits { http_max_conns_per_client = 1005 }`, `limits.http_max_conns_per_client = 1005 and 20 more files for the agent itself are more than the 1024`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := resolved(testHost("192.0.2.1", "2001:db8::1", "2001:db8::2"), server, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// A configuration that asks for protection never starts without it.
func TestRefused(t *testing.T) {
	for _, text := range []string{
		`acl { enabled = true }`,
		`acl { default_policy = "deny" }`,
		`acl_datacenter = "dc1"`,
		`acl_default_policy = "deny"`,
		`verify_incoming = true`,
		`verify_incoming_rpc = true`,
		`verify_incoming_https = true`,
		`verify_outgoing = true`,
		`verify_server_hostname = true`,
		`tls { defaults { verify_incoming = true } }`,
		`tls { defaults { verify_outgoing = true } }`,
		`tls { internal_rpc { verify_server_hostname = true } }`,
		`tls { https { verify_incoming = true } }`,
		`tls { grpc { verify_incoming = true } }`,
		`cert_file = "a", key_file = "b", ports { https = 8501 }`,
		`tls { https { cert_file = "a" } }, ports { https = 8501 }`,
		`auto_encrypt { allow_tls = true }`,
		`auto_config { enabled = true }`,
		`segment = "x"`,
		`segments = [{ name = "x" }]`,
	} {
		_, err := resolved(testHost(), server, text)
		if err == nil || !strings.Contains(err.Error(), "refused: ") || !strings.HasPrefix(err.Error(), "-hcl fragment 2:1:") {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, err := resolved(testHost(), server, `verify_incoming = true`)
	want := "-hcl fragment 2:1:19: verify_incoming (an old name of tls.defaults.verify_incoming) = true is refused: TLS is not supported yet, and the agent would start without it"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestLogFiles(t *testing.T) {
	folder := t.TempDir()
	for text, want := range map[string]string{
		"": "", `log_file = ""`: "",
		`log_file = "` + folder + `/x"`: folder + "/x", `log_file = "` + folder + `/"`: folder + "/consul.log",
	} {
		c, err := resolved(testHost(), server, text)
		if err != nil || c.LogFile != want {
			t.Errorf("%s: %q, %v", text, c.LogFile, err)
		}
	}
	c, err := resolved(testHost(), server, `log_rotate_bytes = 7, log_rotate_max_files = -1, enable_syslog = true, syslog_facility = "Daemon"`)
	if err != nil || c.LogRotateBytes != 7 || c.LogRotateMaxFiles != -1 || c.LogRotateDuration != 24*time.Hour || !c.Syslog || c.SyslogFacility != "DAEMON" {
		t.Errorf("%+v, %v", c, err)
	}
}

// What asks for nothing is neither refused nor warned about.
func TestInert(t *testing.T) {
	for _, text := range []string{
		`acl { enabled = false, default_policy = "allow", tokens {} }`,
		`encrypt = ""`,
		`tls { defaults { verify_incoming = false }, https {} }`,
		`http_config { allow_write_http_from = [] }`,
		`segments = []`,
		`watches = []`,
		`connect { enabled = false }`,
		`peering { enabled = false }`,
		`retry_join = []`,
		`disable_host_node_id = true`,
		`ports { https = -1, grpc = -1, grpc_tls = 0 }`,
		`disable_update_check = true`,
		`version = "1.21.4"`,
		`experiments = ["x"]`,
		`raft_protocol = 3`,
		`primary_datacenter = "DC1"`,
	} {
		c, err := resolved(testHost(), server, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, w := range c.Warnings {
			if strings.HasPrefix(w, "-hcl fragment 2") {
				t.Errorf("%s: %s", text, w)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		text, want string
	}{
		{`retry_join_wan = ["10.0.0.1"]`, `1:18: retry_join_wan has no effect: other datacenters are not supported yet`},
		{`start_join_wan = ["10.0.0.1"]`, `1:18: start_join_wan (an old name of retry_join_wan) has no effect: other datacenters are not supported yet`},
		{`start_join = ["10.0.0.1"]`, `1:14: start_join is an old name: use retry_join`},
		{`retry_join = ["provider=aws tag_key=x"]`, `1:15: retry_join: nothing is found with "provider=aws"`},
		{`bootstrap_expect = 2`, `1:20: bootstrap_expect = 2 bears the failure of no server`},
		{`bootstrap_expect = 4`, `1:20: bootstrap_expect = 4 bears no more failures than 3 servers do`},
		{`bootstrap_expect = 0, bootstrap = true`, `1:35: bootstrap = true lets this server elect itself`},
		{`reconnect_timeout = "1h"`, `1:21: reconnect_timeout = 1h0m0s is less than 8h0m0s`},
		{`advertise_reconnect_timeout = "1h"`, `1:31: advertise_reconnect_timeout has no effect: it is for agents that are no servers`},
		{`performance { leave_drain_time = "9s" }`, `1:34: performance.leave_drain_time = 9s is cut to 5s, beyond which a stop does not wait`},
		{`limits { rpc_rate = 5.0 }`, `1:21: limits.rpc_rate has no effect: it is for agents that are no servers`},
		{`connect { enabled = true }`, `1:9: connect has no effect: the service mesh is not supported`},
		{`partition = "x"`, `1:13: partition has no effect: it belongs to Consul Enterprise`},
		{`ca_file = "x"`, `1:11: ca_file (an old name of tls.defaults.ca_file) has no effect: it is not supported yet`},
		{`verify_incoming = false`, `1:19: verify_incoming is an old name: use tls.defaults.verify_incoming`},
		{`raft_boltdb { NoFreelistSync = true }`, `1:32: raft_boltdb.NoFreelistSync is an old name: use raft_logstore.boltdb.no_freelist_sync`},
		{`ui = true, ui_config { enabled = true }`, `1:6: ui is an old name of ui_config.enabled and is ignored, because that is set too`},
		{`acl_enforce_version_8 = true`, `1:25: acl_enforce_version_8 has no effect: it was removed long ago`},
		{`ports { https = 8501 }`, `1:17: ports.https = 8501 has no effect: there is no certificate, and nothing listens there`},
		{`ports { grpc = 8502 }`, `1:16: ports.grpc = 8502 has no effect: the service mesh is not supported, and nothing listens there`},
		{`enable_script_checks = true`, `1:24: enable_script_checks = true without http_config.allow_write_http_from lets everybody`},
		{`check { id = "c", http = "http://x", tcp = "x:1", interval = "1s" }`, `1:44: check "c": check.tcp has no effect, because this is a check of kind http`},
		{`check { id = "c", tcp = "x:1", interval = "200ms" }`, `1:43: check "c": check.interval = 200ms is less than 1s, so it runs every 1s`},
		{`check { id = "c", ttl = "1s", deregister_critical_service_after = "2h" }`, `1:67: check "c": check.deregister_critical_service_after has no effect, because the check belongs to no service`},
		{`check { id = "c", ttl = "1s", service_id = "x" }`, `1:44: check "c": no service of this configuration has the ID "x"`},
		{`services = [{ name = "a", check { id = "c", ttl = "1s" } }, { name = "b", check { id = "c", ttl = "1s" } }]`, `1:81: check "c" replaces the one with the same ID at -hcl fragment 2:1:33`},
		{`service { name = "a", check { id = "c", ttl = "1s" } }, check { id = "c", ttl = "1s" }`, `1:63: check "c" replaces the one with the same ID at -hcl fragment 2:1:29`},
		{`datacenter = "a_b"`, `1:14: datacenter = "a_b" is no label of a DNS name, so it cannot be used in DNS`},
		{`node_name = "a b"`, `1:13: node_name = "a b" is no label of a DNS name (at most 63 letters, digits and -), so the node cannot be found in DNS`},
		{`client_addr = ""`, `1:15: client_addr is empty: HTTP and DNS listen nowhere, unless addresses say where`},
		{`primary_datacenter = "other"`, `1:22: primary_datacenter = "other" has no effect: other datacenters are not supported yet`},
		{`bootstrap_expect = 0`, `server = true without bootstrap_expect and retry_join: unless`},
		{`telemetry { statsd_address = "x" }`, `1:30: telemetry.statsd_address has no effect: it is not supported yet`},
		{`acl_replication_token = "x"`, `1:25: acl_replication_token (an old name of acl.tokens.replication) has no effect`},
		{`tls_min_version = "tls12"`, `1:19: tls_min_version = "tls12" is an old spelling of "TLSv1_2"`},
		{`recursors = ["192.0.2.1"]`, `1:13: recursors has no effect: it is not supported yet`},
		{`watches { type = "nodes", handler = "x" }`, `1:37: watches.handler is an old name: use watches.args`},
		{`watches { type = "nodes", args = ["x"] }`, `1:9: watches has no effect: it is not supported yet`},
		{`service { name = "a_b" }`, `1:9: service "a_b": the name is no label of a DNS name`},
		{`service { name = "a", connect { native = true } }`, `1:42: service.connect.native has no effect: the mesh is not supported`},
		{"services = [{ name = \"a\" }, { name = \"b\", id = \"a\" }]", `1:29: service "a" replaces the one with the same ID at -hcl fragment 2:1:13`},
		{"checks = [{ id = \"a\", ttl = \"1s\" }, { id = \"a\", ttl = \"2s\" }]", `1:37: check "a" replaces the one with the same ID at -hcl fragment 2:1:11`},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			c, err := resolved(testHost(), server, test.text)
			if err != nil {
				t.Fatal(err)
			}
			count := 0
			for _, w := range c.Warnings {
				if strings.Contains(w, test.want) {
					count++
				}
			}
			if count != 1 {
				t.Errorf("%d times %q in\n%s", count, test.want, strings.Join(c.Warnings, "\n"))
			}
		})
	}
}

// All faults of a configuration are reported together.
func TestAllFaults(t *testing.T) {
	_, err := load(Sources{HCL: []string{`log_level = "loud", node_id = "x"`}}, testHost("10.0.0.1"))
	for _, want := range []string{"log_level", "node_id", "data_dir"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
}

// The machine that the tests run on answers, whatever it says.
func TestThisHost(t *testing.T) {
	h := thisHost()
	if name, err := h.name(); err != nil || name == "" {
		t.Errorf("name %q, %v", name, err)
	}
	if _, err := h.addresses(); err != nil {
		t.Error(err)
	}
	if text, err := h.expand("{{ GetInterfaceIP \"lo\" }}"); err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if !h.hasUser("0") || h.hasUser("nobody with such a name") || !h.hasGroup("0") || h.hasGroup("no such group") {
		t.Error("users or groups of this machine are not found")
	}
	if _, err := os.Stat("/proc/self/limits"); err == nil {
		if files, ok := h.openFiles(); !ok || files == 0 {
			t.Errorf("open files %d, %v", files, ok)
		}
	}
}
