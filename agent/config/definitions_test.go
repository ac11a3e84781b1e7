package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/local"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

func TestDefinitions(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.json": `{"service": {"name": "web", "tags": ["b", "a"], "address": "10.0.0.1", "port": 80, "meta": {"k": "v"}, "token": "t",
			"tagged_addresses": {"wan": {"address": "203.0.113.5", "port": 81}}, "weights": {"passing": 5}, "enable_tag_override": true,
			"connect": {"native": true}, "kind": "typical", "proxy": {"b": [1, "x"], "a": null},
			"checks": [{"ttl": "10s"}], "check": {"id": "own", "http": "http://x/", "interval": "5s", "header": {"Host": ["a", "b"]}, "failures_before_critical": 3}}}`,
		"b.hcl":  "services { name = \"db\"\nid = \"db1\"\ncheck { tcp = \"x:1\", interval = \"1s\", status = \"passing\" } }\nservices { name = \"db\"\nid = \"db2\" }",
		"c.json": `{"check": {"name": "mem", "notes": "n", "ttl": "1m", "ServiceID": "db1", "token": "t"}, "checks": [{"id": "c1", "ttl": "1m"}]}`,
	})
	c, err := load(Sources{Dev: true, Files: []string{dir}}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	services := []check.Registration{
		{
			Token: "t",
			Service: catalog.Service{
				ID: "web", Name: "web", Tags: []string{"b", "a"}, Address: "10.0.0.1", Port: 80, Meta: map[string]string{"k": "v"},
				Weights: catalog.Weights{Passing: 5, Warning: 1}, EnableTagOverride: true, Native: true, Kind: "typical", Proxy: []byte(`{"a":null,"b":[1,"x"]}`),
				TaggedAddresses: map[string]catalog.ServiceAddress{
					"wan": {Address: "203.0.113.5", Port: 81}, "lan_ipv4": {Address: "10.0.0.1", Port: 80}, "wan_ipv4": {Address: "10.0.0.1", Port: 80},
				},
			},
			Checks: []check.Definition{
				{ID: "service:web:1", Name: "Service 'web' check", ServiceID: "web", TTL: 10 * time.Second, Status: health.Critical},
				{ID: "own", Name: "Service 'web' check", ServiceID: "web", HTTP: "http://x/", Interval: 5 * time.Second, Header: map[string][]string{"Host": {"a", "b"}},
					FailuresBeforeWarning: 3, FailuresBeforeCritical: 3, Status: health.Critical},
			},
		},
		{
			Service: catalog.Service{ID: "db1", Name: "db", Weights: catalog.Weights{Passing: 1, Warning: 1}},
			Checks:  []check.Definition{{ID: "service:db1", Name: "Service 'db' check", ServiceID: "db1", TCP: "x:1", Interval: time.Second, Status: health.Passing}},
		},
		{Service: catalog.Service{ID: "db2", Name: "db", Weights: catalog.Weights{Passing: 1, Warning: 1}}},
	}
	if len(c.Services) != len(services) {
		t.Fatalf("%d services", len(c.Services))
	}
	for i := range services {
		if !reflect.DeepEqual(c.Services[i], services[i]) && !(len(services[i].Checks) == 0 && reflect.DeepEqual(c.Services[i].Service, services[i].Service)) {
			t.Errorf("service %d:\ngot  %+v\nwant %+v", i, c.Services[i], services[i])
		}
	}
	checks := []check.Definition{
		{ID: "c1", Name: "c1", TTL: time.Minute, Status: health.Critical},
		{ID: "mem", Name: "mem", Notes: "n", ServiceID: "db1", Token: "t", TTL: time.Minute, Status: health.Critical},
	}
	if !reflect.DeepEqual(c.Checks, checks) {
		t.Errorf("checks:\ngot  %+v\nwant %+v", c.Checks, checks)
	}
}

// Checks count by their place, with and without IDs of their own.
func TestCheckIDs(t *testing.T) {
	c, err := load(Sources{Dev: true, HCL: []string{`{"services": [{"name":"cfgsvc", "checks":[{"ttl":"10s"},{"ttl":"10s"},{"id":"third","ttl":"10s"},{"ttl":"10s"}]}]}`}}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, d := range c.Services[0].Checks {
		ids = append(ids, d.ID)
	}
	if got := strings.Join(ids, " "); got != "service:cfgsvc:1 service:cfgsvc:2 third service:cfgsvc:4" {
		t.Errorf("got %s", got)
	}
}

func TestDefinitionFaults(t *testing.T) {
	at := "-hcl fragment 1:1:"
	tests := []struct {
		name, text, want string
	}{
		{"service without a name", `service { id = "x" }`, at + `9: service "": Missing service name`},
		{"metadata", `service { name = "x", meta { "a b" = "c" } }`, at + `30: service "x": Invalid Service Meta: Couldn't load metadata pair ('a b', 'c')`},
		{"no weight", `service { name = "x", weights { passing = 0 } }`, at + `43: service "x": weights: Passing must be greater than 0`},
		{"no weight at all", `service { name = "x", weights { passing = 0, warning = 0 } }`, `Passing must be greater than 0`},
		{"negative weight", `service { name = "x", weights { warning = -1 } }`, `DNS Weight must be between 0 and 65535`},
		{"large weight", `service { name = "x", weights { passing = 65536 } }`, `DNS Weight must be between 0 and 65535`},
		{"negative port", `service { name = "x", port = -1 }`, at + `30: service.port must be from 0 to 65535, but is -1`},
		{"socket and port", `service { name = "x", socket_path = "/x", port = 1 }`, `a socket path ("/x") excludes an address and a port`},
		{"tagged address", `service { name = "x", tagged_addresses { lan_ipv4 { address = "::1" } } }`, `Service tagged address "lan_ipv4" must be a valid IPv4 address`},
		{"zone without region", `service { name = "x", locality { zone = "z" } }`, `zone cannot be set without region`},
		{"address of nobody", `service { name = "x", address = "0.0.0.0" }`, at + `33: service "x": Invalid service address`},
		{"ID that nobody can type", `service { name = "x", id = "a\u0007", tagged_addresses { lan { address = "a" } } }`, at + `9: service "x": Invalid service: ID "a\a" must have printable characters only`},
		{"two checks of one ID", `service { name = "x", checks = [{ id = "c", ttl = "1s" }, { id = "c", ttl = "1s" }] }`, `service "x": two checks have the ID "c"`},

		{"interval and TTL", `check { id = "c", ttl = "1s", interval = "1s", http = "http://x" }`, at + `25: check "c": Invalid check: Interval and TTL cannot both be specified`},
		{"no interval", `check { id = "c", http = "http://x" }`, `check "c": Invalid check: Interval must be > 0`},
		{"no kind", `check { id = "c" }`, `check "c": Invalid check: TTL must be > 0 for TTL checks`},
		{"thresholds", `check { id = "c", ttl = "1s", failures_before_warning = 2, failures_before_critical = 1 }`, `FailuresBeforeWarning can't be higher than FailuresBeforeCritical`},
		{"alias and HTTP", `check { id = "c", alias_node = "n", http = "http://x", interval = "1s" }`, `check "c": Invalid check:`},
		{"status", `check { id = "c", ttl = "1s", status = "splendid" }`, at + `40: check "c": status must be passing, warning or critical, but is "splendid"`},
		{"no name", `check { ttl = "1s" }`, at + `7: check without id and name`},
		{"alias and TTL", `check { id = "c", alias_node = "n", ttl = "1s" }`, `check "c": Invalid check:`},
		{"negative output", `check { id = "c", ttl = "1s", output_max_size = -1 }`, at + `49: check.output_max_size must be at least 0, but is -1`},
		{"script", `service { name = "x", check { name = "c", args = ["true"], interval = "1s" } }`,
			at + `50: check "service:x": script checks are disabled: set enable_local_script_checks = true to allow those of files`},
		{"script in a container", `check { id = "c", docker_container_id = "d", args = ["true"], interval = "1s" }`, at + `53: check "c": script checks are disabled`},
		{"no leave for scripts of files", `check { id = "c", args = ["true"], interval = "1s" }
			enable_local_script_checks = false`, `check "c": script checks are disabled`},
		{"script without interval", `enable_script_checks = true, check { id = "c", args = ["true"] }`, `check "c": Invalid check: Interval must be > 0`},
		{"TCP without interval", `check { id = "c", tcp = "x:1" }`, `check "c": Invalid check: Interval must be > 0`},
		{"UDP without interval", `check { id = "c", udp = "x:1" }`, `check "c": Invalid check: Interval must be > 0`},
		{"gRPC without interval", `check { id = "c", grpc = "x:1" }`, `check "c": Invalid check: Interval must be > 0`},
		{"HTTP/2 without interval", `check { id = "c", h2ping = "x:1" }`, `check "c": Invalid check: Interval must be > 0`},
		{"service of the system without interval", `check { id = "c", os_service = "x" }`, `check "c": Invalid check: Interval must be > 0`},
		{"negative thresholds", `check { id = "c", ttl = "1s", success_before_passing = -1 }`, `check.success_before_passing must be at least 0, but is -1`},
		{"reserved service", `service { name = "consul" }`, at + `18: service ID "consul" is reserved for the servers of the cluster`},
		{"reserved check", `check { id = "serfHealth", ttl = "1s" }`, at + `14: check ID "serfHealth" is reserved`},
		{"reserved check of a service", `service { name = "x", check { id = "_service_maintenance:x", ttl = "1s" } }`, at + `36: check ID "_service_maintenance:x" is reserved`},
		{"check of maintenance", `check { name = "_node_maintenance", ttl = "1s" }`, at + `16: check ID "_node_maintenance" is reserved`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(Sources{Dev: true, HCL: []string{test.text}}, testHost())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// More than an agent may have is too much already in files.
func TestTooManyDefinitions(t *testing.T) {
	if MaxServices != local.MaxServices || MaxChecks != local.MaxChecks {
		t.Errorf("the agent may have %d services and %d checks, files %d and %d", local.MaxServices, local.MaxChecks, MaxServices, MaxChecks)
	}
	if testing.Short() {
		t.Skip("reading 60,000 definitions takes a while")
	}
	var text strings.Builder
	for i := range MaxServices + 1 {
		fmt.Fprintf(&text, "services { name = \"s%d\"\nchecks = [", i)
		for range MaxChecks/MaxServices + 1 {
			text.WriteString("{ ttl = \"1s\" },")
		}
		text.WriteString("] }\n")
	}
	_, err := load(Sources{Dev: true, HCL: []string{text.String()}}, testHost())
	if want := "10001 services are more than the 10000 that one agent may have\n60006 checks are more than the 50000 that one agent may have"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A service that takes the place of another takes that of its checks with it, of
// which nothing more is said; a check that moved to another service in between
// stays.
func TestReplacedService(t *testing.T) {
	c, err := load(Sources{Dev: true, HCL: []string{`services = [{ name = "a", checks = [{ id = "c", ttl = "1s" }, { id = "d", ttl = "1s" }] },
		{ name = "b", check { id = "d", ttl = "2s" } },
		{ name = "a", checks = [{ id = "c", ttl = "3s" }, { id = "d", ttl = "3s" }] }]`}}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`-hcl fragment 1:2:23: check "d" replaces the one with the same ID at -hcl fragment 1:1:63`,
		`-hcl fragment 1:3:3: service "a" replaces the one with the same ID at -hcl fragment 1:1:13`,
		`-hcl fragment 1:3:53: check "d" replaces the one with the same ID at -hcl fragment 1:2:23`,
	}
	if strings.Join(c.Warnings, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(c.Warnings, "\n"), strings.Join(want, "\n"))
	}
	// The agent takes them in this order, so that the last of a check's definitions
	// is the one that counts.
	if len(c.Services) != 2 || c.Services[0].Service.ID != "b" || c.Services[1].Checks[0].TTL != 3*time.Second {
		t.Errorf("got %+v", c.Services)
	}
}

// All faults of a service are told at once.
func TestAllFaultsOfAService(t *testing.T) {
	_, err := load(Sources{Dev: true, HCL: []string{`service { name = "x", weights { passing = 0 }, meta { "a b" = "c" }
		checks = [{ tcp = "x:1" }, { ttl = "1s" }, { id = "c", ttl = "1s", status = "up" }], check { name = "n" } }`}}, testHost())
	want := []string{
		`-hcl fragment 1:1:43: service "x": weights: Passing must be greater than 0`,
		`-hcl fragment 1:1:55: service "x": Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters`,
		`-hcl fragment 1:2:13: check 1 of service "x": Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks (add how often it runs, as in interval = "10s")`,
		`-hcl fragment 1:2:79: check "c": status must be passing, warning or critical, but is "up"`,
		`-hcl fragment 1:2:94: check "n": Invalid check: TTL must be > 0 for TTL checks (a check needs one of http, tcp, udp, grpc, h2ping, args, os_service, ttl, alias_service and alias_node)`,
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
}

// Every kind of check, with all of its fields, as the runner gets it.
func TestCheckKinds(t *testing.T) {
	tests := []struct {
		text string
		want check.Definition
	}{
		{`http = "https://x/", method = "PUT", header { A = ["b"] }, body = "b", disable_redirects = true, tls_server_name = "n", tls_skip_verify = true, interval = "5s", timeout = "2s"`,
			check.Definition{HTTP: "https://x/", Method: "PUT", Header: map[string][]string{"A": {"b"}}, Body: "b", DisableRedirects: true, TLSServerName: "n", TLSSkipVerify: true,
				Interval: 5 * time.Second, Timeout: 2 * time.Second}},
		{`tcp = "x:1", tcp_use_tls = true, interval = "5s"`, check.Definition{TCP: "x:1", TCPUseTLS: true, Interval: 5 * time.Second}},
		{`udp = "x:1", interval = "5s"`, check.Definition{UDP: "x:1", Interval: 5 * time.Second}},
		{`grpc = "x:1/s", grpc_use_tls = true, interval = "5s"`, check.Definition{GRPC: "x:1/s", GRPCUseTLS: true, Interval: 5 * time.Second}},
		{`h2ping = "x:1", interval = "5s"`, check.Definition{H2PING: "x:1", H2PingUseTLS: true, Interval: 5 * time.Second}},
		{`h2ping = "x:1", h2ping_use_tls = false, interval = "5s"`, check.Definition{H2PING: "x:1", Interval: 5 * time.Second}},
		{`args = ["sh", "b"], interval = "5s", timeout = "1m"`, check.Definition{ScriptArgs: []string{"sh", "b"}, Interval: 5 * time.Second, Timeout: time.Minute}},
		{`docker_container_id = "d", shell = "/bin/sh", args = ["a"], interval = "5s"`,
			check.Definition{DockerContainerID: "d", Shell: "/bin/sh", ScriptArgs: []string{"a"}, Interval: 5 * time.Second}},
		{`alias_service = "z", interval = "5s"`, check.Definition{AliasService: "z", Interval: 5 * time.Second}},
		{`alias_node = "n", alias_service = "y"`, check.Definition{AliasNode: "n", AliasService: "y"}},
		{`ttl = "5s"`, check.Definition{TTL: 5 * time.Second}},
		{`tcp = "x:1", interval = "5s", success_before_passing = 1, failures_before_warning = 2, failures_before_critical = 3, output_max_size = 10, deregister_critical_service_after = "1h"`,
			check.Definition{TCP: "x:1", Interval: 5 * time.Second, SuccessBeforePassing: 1, FailuresBeforeWarning: 2, FailuresBeforeCritical: 3, OutputMaxSize: 10, DeregisterCriticalServiceAfter: time.Hour}},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			text := `enable_local_script_checks = true, service { name = "x", check { id = "c", name = "n", notes = "o", status = "warning", ` + test.text + ` } }`
			c, err := load(Sources{Dev: true, HCL: []string{text, `service { name = "z" }`}}, testHost())
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.ID, want.Name, want.Notes, want.Status, want.ServiceID = "c", "n", "o", health.Warning, "x"
			if got := c.Services[0].Checks[0]; !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if len(c.Warnings) > 0 {
				t.Errorf("warnings %q", c.Warnings)
			}
		})
	}
}

// Kinds that no agent of Linux runs are known when files are read, not only
// when the agent starts.
func TestUnavailableKind(t *testing.T) {
	want := check.Available(check.OSService)
	_, err := load(Sources{Dev: true, HCL: []string{`check { id = "c", os_service = "x", interval = "1s" }`}}, testHost())
	switch {
	case want == nil && err != nil, want != nil && (err == nil || !strings.Contains(err.Error(), want.Error())):
		t.Errorf("got %v, want %v", err, want)
	}
}

// What a client registers is for the agent to judge that gets it.
func TestParseServicesLeavesLeave(t *testing.T) {
	dir := folder(t, map[string]string{"a.hcl": `service { name = "a", check { args = ["true"], interval = "1s" } }`})
	services, err := ParseServices(filepath.Join(dir, "a.hcl"))
	if err != nil || len(services) != 1 || len(services[0].Checks) != 1 {
		t.Errorf("got %+v, %v", services, err)
	}
}

func TestParseServices(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.hcl":   "service { name = \"a\" }\nservices { name = \"b\" }\ndatacenter = \"x\"",
		"bad.hcl": "service { nam = \"a\" }",
		"a.txt":   "",
		"none.js": "",
	})
	services, err := ParseServices(filepath.Join(dir, "a.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 2 || services[0].Service.Name != "b" || services[1].Service.ID != "a" {
		t.Errorf("got %+v", services)
	}
	for file, want := range map[string]string{
		"bad.hcl":   `bad.hcl:1:11: invalid config key service.nam (did you mean "service.name"?)`,
		"a.txt":     `a.txt: the name ends neither in .hcl nor in .json`,
		"gone.json": `cannot read services: open `,
	} {
		if _, err := ParseServices(filepath.Join(dir, file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestValidate(t *testing.T) {
	dir := folder(t, map[string]string{"a.hcl": server, "b.json": `{"service": {"name": "a", "check": {"ttl": "1s"}}}`})
	warnings, err := Validate([]string{dir}, "")
	if err != nil || len(warnings) != 1 {
		t.Errorf("%q, %v", warnings, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.hcl"), []byte("log_level = \"x\""), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Validate([]string{dir}, ""); err == nil || !strings.HasPrefix(err.Error(), dir+"/c.hcl:1:13: log_level") {
		t.Errorf("got %v", err)
	}
}
