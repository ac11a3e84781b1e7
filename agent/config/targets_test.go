package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is accepted, but cannot have been meant, is warned of: where it stands, what
// is wrong with it, and what would be right.
func TestHopelessDefinitions(t *testing.T) {
	tests := []struct {
		what string
		text string // "|" parts lines
		want string // of the warning, with the place; nothing if there is none
	}{
		{"TCP without a port", `check { id = "c", tcp = "10.0.0.1", interval = "1s" }`, `1:25: check "c": check.tcp = "10.0.0.1" has no port: write a host and a port, as in "10.0.0.1:8080": every run will fail`},
		{"TCP without a port, IPv6", `check { id = "c", tcp = "::1", interval = "1s" }`, `1:25: check "c": check.tcp = "::1" has no port: write a host and a port, as in "[::1]:8080"`},
		{"TCP with an open bracket", `check { id = "c", tcp = "[::1:80", interval = "1s" }`, `must be a host and a port, as in "127.0.0.1:8080" or "[::1]:8080"`},
		{"TCP with a port out of range", `check { id = "c", tcp = "h:65536", interval = "1s" }`, `1:25: check "c": check.tcp = "h:65536" has the port "65536", which is not from 1 to 65535`},
		{"TCP with an empty port", `check { id = "c", tcp = "h:", interval = "1s" }`, `has the port "", which is not from 1 to 65535`},
		{"TCP with a scheme", `check { id = "c", tcp = "tcp://h:80", interval = "1s" }`, `must be a host and a port without a scheme, as in "h:80"`},
		{"TCP at two hosts", `check { id = "c", tcp = "h, i:80", interval = "1s" }`, `has the host "h, i", which is neither an IP address nor a name`},
		{"TCP on this machine", `check { id = "c", tcp = ":80", interval = "1s" }`, ``},
		{"TCP at a service of the system", `check { id = "c", tcp = "h:http", interval = "1s" }`, ``},
		{"UDP without a port", `check { id = "c", udp = "h", interval = "1s" }`, `1:25: check "c": check.udp = "h" has no port`},
		{"gRPC without a port", `check { id = "c", grpc = "h/svc", interval = "1s" }`, `1:26: check "c": check.grpc = "h/svc" has no port: write a host and a port, as in "h:8080"`},
		{"gRPC with a scheme", `check { id = "c", grpc = "http://h:1", interval = "1s" }`, `check.grpc = "http://h:1" must be a host and a port without a scheme, as in "h:1"`},
		{"gRPC", `check { id = "c", grpc = "h:1/svc", interval = "1s" }`, ``},
		{"HTTP/2 without a port", `check { id = "c", h2ping = "h", interval = "1s" }`, `1:28: check "c": check.h2ping = "h" has no port`},
		{"HTTP without a scheme", `check { id = "c", http = "localhost:80/x", interval = "1s" }`, `1:26: check "c": check.http must begin with http:// or https://, as in "http://localhost:80/x", but is "localhost:80/x": every run will fail`},
		{"HTTP with another scheme", `check { id = "c", http = "ftp://h", interval = "1s" }`, `check.http must begin with http:// or https://, but is "ftp://h"`},
		{"HTTP without a host", `check { id = "c", http = "http:///x", interval = "1s" }`, `check.http names no host in "http:///x"`},
		{"HTTP with a port that is none", `check { id = "c", http = "https://h:70000", interval = "1s" }`, `check.http has the port "70000", which is not from 1 to 65535`},
		{"HTTP that cannot be read", `check { id = "c", http = "http://u:secret@h:x", interval = "1s" }`, `check.http is no URL: invalid port ":x" after host`},
		{"HTTP with a method that is none", `check { id = "c", http = "http://h", method = "G T", interval = "1s" }`, `1:47: check "c": check.method = "G T" is no method of HTTP`},
		{"HTTP with a header that is none", `check { id = "c", http = "http://h", header { "a b" = ["x"] }, interval = "1s" }`, `1:45: check "c": check.header: "a b" is no name of a header`},
		{"HTTP with a value that is none", `check { id = "c", http = "http://h", header { a = ["x\ny"] }, interval = "1s" }`, `check.header.a: a value has characters that a header cannot have`},
		{"HTTP", `check { id = "c", http = "https://u:p@[::1]:8443/x?y=z", method = "HEAD", header { a = ["x"] }, interval = "1s" }`, ``},
		{"script that is not there", `enable_local_script_checks = true, check { id = "c", args = ["/nowhere/x"], interval = "1s" }`, `1:61: check "c": check.args[0] = "/nowhere/x" is no program that this machine can run`},
		{"script without a name", `enable_local_script_checks = true, check { id = "c", args = [""], interval = "1s" }`, `check.args[0] = "" is no program that this machine can run`},
		{"alias of a service that no file has", `service { name = "a", check { alias_service = "b" } }`, `1:47: check "service:a": no service of this configuration has the ID "b", so the check is critical until a client registers one`},
		{"alias by name", `services { name = "a", check { alias_service = "b" } }|services { id = "b-1", name = "b" }`, `(the service named "b" has the ID "b-1")`},
		{"alias of a later service", `services { name = "a", check { alias_service = "b" } }|services { name = "b" }`, ``},
		{"alias on another node", `service { name = "a", check { alias_service = "b", alias_node = "n2" } }`, ``},
		{"alias of itself", `service { name = "a", check { alias_service = "a" } }`, `check.alias_service = "a" is the service that the check belongs to, so it says nothing of its own`},
		{"aliases of each other", `services { name = "a", check { alias_service = "b" } }|services { name = "b", check { ttl = "9s" }, checks = [{ alias_service = "c" }] }|services { name = "c", check { alias_service = "a" } }`,
			`1:48: check "service:a": check.alias_service = "b" waits in turn for service "a", so that both stay as they begin`},
		{"alias of a node's check", `services { name = "a" }|check { id = "c", alias_service = "a" }`, ``},
		{"threshold of a TTL", `check { id = "c", ttl = "1s", success_before_passing = 3 }`, `1:56: check "c": check.success_before_passing has no effect, because this is a check of kind ttl`},
		{"removal too soon", `service { name = "a", check { ttl = "1s", deregister_critical_service_after = "10s" } }`, `deregister_critical_service_after = 10s is less than 1m0s, so the service is removed after 1m0s`},
		{"address with a port", `service { name = "a", address = "10.0.0.1:80" }`, `1:33: service "a": service.address = "10.0.0.1:80" must not have a port: write "10.0.0.1", and the port 80 in the key port`},
		{"address with a scheme", `service { name = "a", address = "http://x" }`, `must be an IP address or a name without a scheme, as in "x"`},
		{"address that is none", `service { name = "a", address = "10.0.0.256" }`, `service.address = "10.0.0.256" is neither an IP address nor a name that DNS can have`},
		{"address with a space", `service { name = "a", address = "10.0.0.1 " }`, `is neither an IP address nor a name that DNS can have`},
		{"tagged address with a port", `service { name = "a", tagged_addresses { lan { address = "x:1" } } }`, `1:40: service "a": service.tagged_addresses.lan.address = "x:1" must not have a port`},
		{"header that cannot be sent", `http_config { response_headers {| "X Y" = "z" } }`, `2:2: http_config.response_headers: "X Y" = "z" has no effect, because it is no header that HTTP can send`},
		{"address by name", `service { name = "a", address = "db_1.example.com.", tagged_addresses { wan { address = "x.example" } } }`, ``},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			dir := folder(t, map[string]string{"20.hcl": strings.ReplaceAll(test.text, "|", "\n"), "10.hcl": `data_dir = "/nowhere/muster", bind_addr = "127.0.0.1"`})
			warnings, err := Validate([]string{dir}, "")
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if len(warnings) > 0 {
					t.Errorf("it warns: %q", warnings)
				}
				return
			}
			if !slices.ContainsFunc(warnings, func(w string) bool {
				return strings.HasPrefix(w, filepath.Join(dir, "20.hcl")+":") && strings.Contains(w, test.want)
			}) {
				t.Errorf("got  %q\nwant %s", warnings, test.want)
			}
			if strings.Contains(strings.Join(warnings, ""), "secret") {
				t.Errorf("a password is shown: %q", warnings)
			}
		})
	}
	if _, err := os.Stat("/nowhere"); err == nil {
		t.Error("a folder was made")
	}
}
