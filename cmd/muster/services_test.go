package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const registerPath = "PUT /v1/agent/service/register"

// writeFile makes a file in a folder of its own.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRegister(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags []string
		file  string // content, in HCL
		want  expectation
		// asked is what the agent was told, as JSON, one a request.
		asked []string
		token string
	}{
		{name: "by flags",
			flags: []string{"-name=web", "-id=w1", "-address=10.0.0.1", "-port=80", "-tag=a", "-tag=b", "-meta=k=v", "-tagged-address=lan=10.0.0.2:81"},
			want:  expectation{out: "Registered service: web\n"},
			asked: []string{`{"Name":"web","ID":"w1","Address":"10.0.0.1","Port":80,"Tags":["a","b"],"Meta":{"k":"v"},
				"TaggedAddresses":{"lan":{"Address":"10.0.0.2","Port":81}}}`}},
		{name: "by a file", want: expectation{out: "Registered service: web\nRegistered service: db\n"},
			file: `services {
				name = "web"
				port = 80
				weights { passing = 5 warning = 2 }
				check { http = "http://127.0.0.1/" interval = "10s" timeout = "2s" output_max_size = 100 disable_redirects = true }
			}
			services {
				id = "db-1"
				name = "db"
				check { id = "alive" ttl = "1m30s" }
			}`,
			asked: []string{
				`{"Name":"web","ID":"web","Port":80,"Weights":{"Passing":5,"Warning":2},"Checks":[{"HTTP":"http://127.0.0.1/","Interval":"10s",
					"Timeout":"2s","OutputMaxSize":100,"DisableRedirects":true,"H2PingUseTLS":false}]}`,
				`{"Name":"db","ID":"db-1","Checks":[{"CheckID":"alive","TTL":"1m30s","H2PingUseTLS":false}]}`,
			}},
		{name: "with a token of its own", want: expectation{out: "Registered service: web\n"}, token: "own",
			file: `service { name = "web" token = "own" }`, asked: []string{`{"Name":"web"}`}},
		{name: "by flags and a file", flags: []string{"-name=web"}, file: `service { name = "web" }`,
			want: expectation{err: "not from both", code: 1}},
		{name: "by nothing", want: expectation{err: "or at least -name", code: 1}},
		{name: "without a name", flags: []string{"-port=80"}, want: expectation{err: "at least -name", code: 1}},
		{name: "with a port in the address", flags: []string{"-name=web", "-address=10.0.0.1:80"},
			want: expectation{err: `"10.0.0.1:80" must not contain a port`, code: 1}},
		{name: "with a tagged address without a port", flags: []string{"-name=web", "-tagged-address=lan=10.0.0.1"},
			want: expectation{err: `"10.0.0.1" is not of the form host:port`, code: 1}},
		{name: "with a port above all ports", flags: []string{"-name=web", "-tagged-address=lan=10.0.0.1:70000"},
			want: expectation{err: `"70000"`, code: 1}},
		{name: "by a file without services", file: `node_name = "n"`, want: expectation{err: "there are no services in", code: 1}},
		{name: "by a file with an unknown key", file: `service { nam = "web" }`, want: expectation{err: "nam", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, map[string]answer{registerPath: {}})
			args := append([]string{"services", "register", "-http-addr=" + stub.address()}, test.flags...)
			if test.file != "" {
				args = append(args, writeFile(t, "services.hcl", test.file))
			}
			runLine("", args...).check(t, test.want)
			if len(stub.asks) != len(test.asked) {
				t.Fatalf("the agent was asked %q, want %d registrations", stub.lines(), len(test.asked))
			}
			for i, asked := range test.asked {
				if stub.asks[i].line != registerPath {
					t.Errorf("the agent was asked %q", stub.asks[i].line)
				}
				compareKeys(t, stub.asks[i].body, asked)
				if got := stub.asks[i].header.Get("X-Consul-Token"); got != test.token {
					t.Errorf("token = %q, want %q", got, test.token)
				}
			}
		})
	}
}

// compareKeys compares the keys that are wanted, and takes others that are empty
// for absent.
func compareKeys(t *testing.T, got, want string) {
	t.Helper()
	var gotValue, wantValue map[string]any
	if err := json.Unmarshal([]byte(got), &gotValue); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &wantValue); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	for key, value := range gotValue {
		wanted, ok := wantValue[key]
		switch {
		case !ok && value == nil, !ok && key == "ID", !ok && key == "Weights":
		case !reflect.DeepEqual(dropGenerated(value), wanted):
			t.Errorf("%s = %v, want %v", key, value, wanted)
		}
	}
	for key := range wantValue {
		if _, ok := gotValue[key]; !ok {
			t.Errorf("%s is missing in %s", key, got)
		}
	}
}

// dropGenerated removes from checks the states, names and IDs that reading a
// file gives to those that have none.
func dropGenerated(value any) any {
	list, _ := value.([]any)
	for _, element := range list {
		check, ok := element.(map[string]any)
		if !ok {
			continue
		}
		delete(check, "Name")
		delete(check, "Status")
		if id, _ := check["CheckID"].(string); strings.HasPrefix(id, "service:") {
			delete(check, "CheckID")
		}
	}
	return value
}

func TestDeregister(t *testing.T) {
	deregistered := map[string]answer{
		"PUT /v1/agent/service/deregister/web":  {},
		"PUT /v1/agent/service/deregister/db-1": {},
		"PUT /v1/agent/service/deregister/gone": {status: 404, body: `Unknown service ID "gone".`},
	}
	for _, test := range []struct {
		name  string
		flags []string
		file  string
		want  expectation
	}{
		{name: "by ID", flags: []string{"-id=web"}, want: expectation{out: "Deregistered service: web\n"}},
		{name: "by a file", file: `services { name = "web" } services { id = "db-1" name = "db" }`,
			want: expectation{out: "Deregistered service: web\nDeregistered service: db-1\n"}},
		{name: "unknown", flags: []string{"-id=gone"}, want: expectation{err: `Unknown service ID "gone"`, code: 1}},
		{name: "nothing", want: expectation{err: "give files with services, or -id", code: 1}},
		{name: "both", flags: []string{"-id=web"}, file: `service { name = "web" }`, want: expectation{err: "not from both", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, deregistered)
			args := append([]string{"services", "deregister", "-http-addr=" + stub.address()}, test.flags...)
			if test.file != "" {
				args = append(args, writeFile(t, "services.hcl", test.file))
			}
			runLine("", args...).check(t, test.want)
		})
	}
}

func TestValidate(t *testing.T) {
	folder := t.TempDir()
	// A server of its own causes a warning, always.
	const notice = "bootstrap"
	valid := `server = true
bootstrap_expect = 1
bind_addr = "127.0.0.1"
data_dir = "` + folder + `"
`
	for _, test := range []struct {
		name  string
		file  string
		flags []string
		as    string // name of the file
		want  expectation
	}{
		{name: "valid", file: valid, want: expectation{out: "Configuration is valid!\n", err: notice}},
		{name: "valid, quietly", file: valid, flags: []string{"-quiet"}, want: expectation{err: notice}},
		{name: "with a warning", file: valid + "node_name = \"under_score\"\n",
			want: expectation{out: "Configuration is valid!\n", err: "under_score"}},
		{name: "unknown key", file: valid + "nonsense = 1\n", want: expectation{err: "Config validation failed: ", code: 1}},
		{name: "unknown key is named", file: valid + "nonsense = 1\n", want: expectation{err: "nonsense", code: 1}},
		{name: "a part", file: `service { name = "web" }`, want: expectation{err: "name the whole folder", code: 1}},
		{name: "a check that cannot pass", file: valid + `check { id = "c", tcp = "10.0.0.1", interval = "1s" }`,
			want: expectation{out: "Configuration is valid!\n", err: "agent.hcl:5:25: check \"c\": check.tcp = \"10.0.0.1\" has no port"}},
		{name: "another name", file: valid, as: "agent.conf", flags: []string{"-config-format=hcl"},
			want: expectation{out: "Configuration is valid!\n", err: notice}},
		{name: "another name, without the format", file: valid, as: "agent.conf", want: expectation{err: "agent.conf", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := test.as
			if name == "" {
				name = "agent.hcl"
			}
			args := append([]string{"validate"}, test.flags...)
			runLine("", append(args, writeFile(t, name, test.file))...).check(t, test.want)
		})
	}
}
