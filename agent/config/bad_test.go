package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// Every rule about files, in both formats: the place of the fault and what is
// said of it. Nothing else is said, and a good file beside the bad one changes
// nothing.
func TestBadFiles(t *testing.T) {
	tests := []struct {
		rule string
		// Lines are parted by "|"; the place of the fault is behind the text.
		hcl, hclAt   string
		json, jsonAt string
		want         string
	}{
		// Keys, types and values.
		{"unknown key", `# one|  datacentre = "x"`, "2:3", `{|  "datacentre": "x"|}`, "2:3", `invalid config key datacentre (did you mean "datacenter"?)`},
		{"unknown key of an object", `ports {|  htpp = 1|}`, "2:3", `{"ports": {|  "htpp": 1}}`, "2:3", `invalid config key ports.htpp (did you mean "ports.http"?)`},
		{"unknown key of a check", `check { id = "c"|intervl = "1s" }`, "2:1", `{"check": {"id": "c",|"intervl": "1s"}}`, "2:1", `invalid config key check.intervl (did you mean "check.interval"?)`},
		{"unknown key of a service's check", `service { name = "a", check {| intervl = "1s" } }`, "2:2", `{"service": {"name": "a", "check": {|"intervl": "1s"}}}`, "2:1", `invalid config key service.check.intervl (did you mean "service.check.interval"?)`},
		{"long name of a node", `node_name = "` + strings.Repeat("n", 256) + `"`, "1:13", `{"node_name": "` + strings.Repeat("n", 256) + `"}`, "1:15", `node_name has 256 bytes, 255 are possible: "` + strings.Repeat("n", 40) + `…"`},
		{"long name of a datacenter", `datacenter = "` + strings.Repeat("d", 129) + `"`, "1:14", `{"datacenter": "` + strings.Repeat("d", 129) + `"}`, "1:16", `datacenter has 129 bytes, 128 are possible: `},
		{"own address is in no network", `serf_lan_allowed_cidrs = ["10.0.0.0/8"]`, "1:26", `{"serf_lan_allowed_cidrs": ["10.0.0.0/8"]}`, "1:28",
			`serf_lan_allowed_cidrs has no network that this agent's own address is in, which is 127.0.0.1 (see advertise_addr)`},
		{"long path of a socket", `addresses { http = "unix:///` + strings.Repeat("s", 107) + `" }`, "1:20", `{"addresses": {"http": "unix:///` + strings.Repeat("s", 107) + `"}}`, "1:24",
			`addresses.http: the path of a socket has 108 bytes, 107 are possible: `},
		{"domain", `domain = "a b"`, "1:10", `{"domain": "a b"}`, "1:12", `domain must be a DNS name, but is "a b"`},
		{"addresses with a comma between", `retry_join = ["a,b"]`, "1:15", `{"retry_join": ["a,b"]}`, "1:17", `retry_join must be addresses as in`},
		{"type", `ports {|  http = "80"|}`, "2:10", `{"ports":|{"http": "80"}}`, "2:10", `ports.http must be a number, not a text ("80")`},
		{"duration", `max_query_time = "9 s"`, "1:18", `{"max_query_time": "9 s"}`, "1:20", `max_query_time must be a duration as in "90s" or "1h30m", not "9 s"`},
		{"duration without a unit", `dns_config { node_ttl = 5 }`, "1:25", `{"dns_config": {"node_ttl": 5}}`, "1:29", `dns_config.node_ttl must be a duration in quotes as in "90s", not a number`},
		{"port", `ports { dns = 70000 }`, "1:15", `{"ports": {"dns": 70000}}`, "1:19", `ports.dns must be at most 65535, but is 70000`},
		{"port that cannot be off", `ports { serf_lan = -1 }`, "1:20", `{"ports": {"serf_lan": -1}}`, "1:24", `ports.serf_lan must be from 1 to 65535, but is -1: it cannot be off`},
		{"network", `serf_lan_allowed_cidrs = ["10.0.0.0/8",|  "10.0.0.0/33"]`, "2:3", `{"serf_lan_allowed_cidrs": ["10.0.0.0/8",|"10.0.0.0/33"]}`, "2:1", `serf_lan_allowed_cidrs must be networks as in "10.0.0.0/8", but one is "10.0.0.0/33"`},
		{"template", `bind_addr = "{{ NoSuchFunction }}"`, "1:13", `{"bind_addr": "{{ NoSuchFunction }}"}`, "1:15", `bind_addr: cannot fill in the template "{{ NoSuchFunction }}"`},
		{"address that clashes with a default", `ports {| http = 8300|}`, "2:9", `{"ports":|{"http": 8300}}`, "2:10", `ports.http: HTTP at 127.0.0.1:8300 clashes with server RPC at 127.0.0.1:8300`},
		{"addresses that clash", `ports {| http = 8600|}`, "2:9", `{"ports":|{"http": 8600}}`, "2:10", `ports.http: HTTP at 127.0.0.1:8600 clashes with DNS at 127.0.0.1:8600`},

		// The agent.
		{"no data_dir", `data_dir = ""`, "1:12", `{"data_dir": ""}`, "1:14", `data_dir must be set: the folder where the agent keeps its state`},
		{"both ways of bootstrapping", `bootstrap = true`, "10-good.hcl:3:20", `{"bootstrap": true}`, "10-good.hcl:3:20", `bootstrap_expect = 1 and bootstrap = true exclude each other`},
		{"bootstrapping a client", `server = false`, "10-good.hcl:3:20", `{"server": false}`, "10-good.hcl:3:20", `bootstrap_expect = 1 needs server = true`},
		{"raft_multiplier", `performance { raft_multiplier = 11 }`, "1:33", `{"performance": {"raft_multiplier": 11}}`, "1:37", `performance.raft_multiplier must be from 0 to 10, but is 11`},
		{"limits of DNS", `dns_config { udp_answer_limit = -1 }`, "1:33", `{"dns_config": {"udp_answer_limit": -1}}`, "1:37", `dns_config.udp_answer_limit must be at least 0, but is -1`},
		{"limits of addresses in DNS", `dns_config { a_record_limit = -1 }`, "1:31", `{"dns_config": {"a_record_limit": -1}}`, "1:35", `dns_config.a_record_limit must be at least 0, but is -1`},
		{"strategy", `dns_config { recursor_strategy = "best" }`, "1:34", `{"dns_config": {"recursor_strategy": "best"}}`, "1:38", `dns_config.recursor_strategy must be one of sequential, random, but is "best"`},
		{"metadata of the node", `node_meta {|  fine = "x"|  "a b" = "c"|}`, "3:3", `{"node_meta": {"fine": "x",|"a b": "c"}}`, "2:1", `node_meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters`},
		{"base64 of a key", `encrypt = "not base64!"`, "1:11", `{"encrypt": "not base64!"}`, "1:13", `encrypt must be a key of 16, 24 or 32 bytes in base64, which it is not`},
		{"size of a key", `encrypt = "MTIzNDU="`, "1:11", `{"encrypt": "MTIzNDU="}`, "1:13", `encrypt must be a key of 16, 24 or 32 bytes in base64, but has 5 bytes`},
		{"node_id", `node_id = "x"`, "1:11", `{"node_id": "x"}`, "1:13", `node_id must be a UUID as in "01234567-89ab-cdef-0123-456789abcdef", but is "x"`},
		{"log_level", `log_level = "loud"`, "1:13", `{"log_level": "loud"}`, "1:15", `log_level must be one of trace, debug, info, warn, error, but is "loud"`},
		{"policy", `acl { default_policy = "maybe" }`, "1:24", `{"acl": {"default_policy": "maybe"}}`, "1:28", `acl.default_policy must be one of allow, deny, but is "maybe"`},
		{"policy of the last resort", `acl { down_policy = "maybe" }`, "1:21", `{"acl": {"down_policy": "maybe"}}`, "1:25", `acl.down_policy must be one of allow, deny, extend-cache, async-cache, but is "maybe"`},
		{"watch", `watches { type = "key", args = ["x"] }`, "1:9", `{"watches": [{"type": "key", "args": ["x"]}]}`, "1:14", `watch of type key: key must be set`},

		// Services.
		{"service without a name", `service {|  port = 1|}`, "1:9", `{"service":|{"port": 1}}`, "2:1", `service "": Missing service name`},
		{"metadata of a service", `service {|  name = "x"|  meta { "a b" = "c" }|}`, "3:10", `{"service": {"name": "x", "meta":|{"a b": "c"}}}`, "2:2", `service "x": Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters`},
		{"weight while passing", `service {|  name = "x"|  weights { passing = 0 }|}`, "3:23", `{"service": {"name": "x", "weights":|{"passing": 0}}}`, "2:13", `service "x": weights: Passing must be greater than 0`},
		{"weight while warning", `service {|  name = "x"|  weights { warning = -1 }|}`, "3:23", `{"service": {"name": "x", "weights":|{"warning": -1}}}`, "2:13", `service "x": weights: DNS Weight must be between 0 and 65535`},
		{"weight too large", `service {|  name = "x"|  weights { passing = 65536 }|}`, "3:23", `{"service": {"name": "x", "weights":|{"passing": 65536}}}`, "2:13", `service "x": weights: DNS Weight must be between 0 and 65535`},
		{"family of a tagged address", `service {|  name = "x"|  tagged_addresses { lan_ipv4 { address = "::1" } }|}`, "3:20", `{"service": {"name": "x",|"tagged_addresses": {"lan_ipv4": {"address": "::1"}}}}`, "2:21",
			`service "x": Service tagged address "lan_ipv4" must be a valid IPv4 address, not "::1"`},
		{"socket beside a port", `service {|  name = "x"|  port = 1|  socket_path = "/s"|}`, "4:17", `{"service": {"name": "x", "port": 1, "socket_path": "/s"}}`, "1:53",
			`service "x": Invalid service: a socket path ("/s") excludes an address and a port`},
		{"reserved service", `service {|  name = "consul"|}`, "2:10", `{"service": {"name": "consul"}}`, "1:22", `service ID "consul" is reserved for the servers of the cluster`},

		// Checks.
		{"interval and TTL", `check { id = "c", ttl = "1s", interval = "1s" }`, "1:25", `{"check": {"id": "c", "ttl": "1s", "interval": "1s"}}`, "1:30", `check "c": Invalid check: Interval and TTL cannot both be specified`},
		{"HTTP without interval", `check { id = "c", http = "http://x" }`, "1:7", `{"check": {"id": "c", "http": "http://x"}}`, "1:11", noInterval},
		{"HTTP with TTL", `check { id = "c", http = "http://x", ttl = "1s" }`, "1:7", `{"check": {"id": "c", "http": "http://x", "ttl": "1s"}}`, "1:11", noInterval + " (ttl has no place beside http: "},
		{"TCP without interval", `check { id = "c", tcp = "x:1" }`, "1:7", `{"check": {"id": "c", "tcp": "x:1"}}`, "1:11", noInterval},
		{"UDP without interval", `check { id = "c", udp = "x:1" }`, "1:7", `{"check": {"id": "c", "udp": "x:1"}}`, "1:11", noInterval},
		{"gRPC without interval", `check { id = "c", grpc = "x:1" }`, "1:7", `{"check": {"id": "c", "grpc": "x:1"}}`, "1:11", noInterval},
		{"HTTP/2 without interval", `check { id = "c", h2ping = "x:1" }`, "1:7", `{"check": {"id": "c", "h2ping": "x:1"}}`, "1:11", noInterval},
		{"service of the system without interval", `check { id = "c", os_service = "x" }`, "1:7", `{"check": {"id": "c", "os_service": "x"}}`, "1:11", noInterval},
		{"script without interval", `check { id = "c", args = ["x"] }`, "1:7", `{"check": {"id": "c", "args": ["x"]}}`, "1:11", noInterval},
		{"script in a container without interval", `check { id = "c", docker_container_id = "d", args = ["x"] }`, "1:7", `{"check": {"id": "c", "docker_container_id": "d", "args": ["x"]}}`, "1:11", noInterval},
		{"alias beside a polled kind", `check { id = "c", alias_node = "n", tcp = "x:1", interval = "1s" }`, "1:32", `{"check": {"id": "c", "alias_node": "n", "tcp": "x:1", "interval": "1s"}}`, "1:37",
			`check "c": Invalid check: Interval cannot be set for Alias checks`},
		{"alias with TTL", `check { id = "c", alias_node = "n", ttl = "1s" }`, "1:43", `{"check": {"id": "c", "alias_node": "n", "ttl": "1s"}}`, "1:49", `check "c": Invalid check: TTL must be not be set for Alias checks`},
		{"no kind", `check { id = "c" }`, "1:7", `{"check": {"id": "c"}}`, "1:11", `check "c": Invalid check: TTL must be > 0 for TTL checks (a check needs one of http, tcp, `},
		{"container without a command", `check { id = "c", docker_container_id = "x", interval = "1s" }`, "1:7", `{"check": {"id": "c", "docker_container_id": "x", "interval": "1s"}}`, "1:11",
			`check "c": Invalid check: TTL must be > 0 for TTL checks (docker_container_id needs args: the command to run in the container)`},
		{"two checks of one ID", `service {| name = "x", checks = [{ id = "c", ttl = "1s" },|{ id = "c", ttl = "2s" }] }`, "3:8", `{"service": {"name": "x", "checks": [{"id": "c", "ttl": "1s"},|{"id": "c", "ttl": "2s"}]}}`, "2:8", `service "x": two checks have the ID "c"`},
		{"negative size of output", `check { id = "c", ttl = "1s", output_max_size = -1 }`, "1:49", `{"check": {"id": "c", "ttl": "1s", "output_max_size": -1}}`, "1:55", `check.output_max_size must be at least 0, but is -1`},
		{"thresholds", `check { id = "c", ttl = "1s", failures_before_warning = 2 }`, "1:57", `{"check": {"id": "c", "ttl": "1s", "failures_before_warning": 2}}`, "1:63",
			`check "c": Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical`},
		{"scripts are disabled", `check { id = "c", args = ["x"], interval = "1s" }`, "1:26", `{"check": {"id": "c", "args": ["x"], "interval": "1s"}}`, "1:31",
			`check "c": script checks are disabled: set enable_local_script_checks = true to allow those of files`},
		{"status", `check { id = "c", ttl = "1s", status = "up" }`, "1:40", `{"check": {"id": "c", "ttl": "1s", "status": "up"}}`, "1:46", `check "c": status must be passing, warning or critical, but is "up"`},
		{"neither ID nor name", `check { ttl = "1s" }`, "1:7", `{"check": {"ttl": "1s"}}`, "1:11", `check without id and name`},
		{"reserved check", `check { id = "serfHealth", ttl = "1s" }`, "1:14", `{"check": {"id": "serfHealth", "ttl": "1s"}}`, "1:18", `check ID "serfHealth" is reserved`},
		{"check of long ago", `check { id = "c", script = "x", interval = "1s" }`, "1:19", `{"check": {"id": "c", "script": "x", "interval": "1s"}}`, "1:23", `invalid config key check.script (it was removed; use "check.args")`},
		{"check of a service", `services = [{ name = "a" },|{ name = "x", checks = [{ ttl = "1s" },|{ tcp = "x:1" }] }]`, "3:1", `{"services": [{"name": "a"},|{"name": "x", "checks": [{"ttl": "1s"},|{"tcp": "x:1"}]}]}`, "3:1",
			`check 2 of service "x": Invalid check: Interval must be > 0`},

		// What must not be lost without a word.
		{"missing comma", `retry_join = ["a"|"b"]`, "2:1", `{"retry_join": ["a"|"b"]}`, "2:1", ``},
		{"block left open", `service {|  name = "x"|`, "3:1", `{"service": {|  "name": "x"|`, "3:1", ``},
		{"value left out", `datacenter =|`, "2:1", `{"datacenter":|}`, "2:1", ``},
		{"key given twice", `datacenter = "a"|datacenter = "b"`, "2:1", `{"datacenter": "a",|"datacenter": "b"}`, "2:1", `datacenter is given twice, first in line 1`},
		{"block given twice", `check { id = "a", ttl = "1s" }|check { id = "b", ttl = "1s" }`, "2:1", `{"check": {"id": "a", "ttl": "1s"},|"check": {"id": "b", "ttl": "1s"}}`, "2:1", `check is given twice, first in line 1; for several use checks`},
	}
	const good = "server = true\ndata_dir = \"/nowhere/muster\"\nbootstrap_expect = 1\nbind_addr = \"127.0.0.1\"\nservice { name = \"good\" }\n"
	for _, test := range tests {
		for _, file := range []struct{ extension, text, at string }{{"hcl", test.hcl, test.hclAt}, {"json", test.json, test.jsonAt}} {
			t.Run(test.rule+" in "+file.extension, func(t *testing.T) {
				name := "20-bad." + file.extension
				dir := folder(t, map[string]string{"10-good.hcl": good, name: strings.ReplaceAll(file.text, "|", "\n")})
				_, err := Validate([]string{dir}, "")
				place := name + ":" + file.at
				if strings.Contains(file.at, ".hcl") {
					place = file.at
				}
				want := filepath.Join(dir, place) + ": " + test.want
				if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			})
		}
	}
}

const noInterval = `check "c": Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks`
