package api

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

const (
	redisText = `{"ID":"redis","Service":"redis","Tags":[],"Meta":{},"Port":0,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Datacenter":"dc1"}`
	ttlText   = `{"Node":"n1","CheckID":"ttl","Name":"ttl","Status":"passing","Notes":"","Output":"fine","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"ttl","Interval":"0s","Timeout":"0s","ExposedPort":0,"Definition":{},"CreateIndex":0,"ModifyIndex":0}`
)

func newAgentMocks() *mocks {
	m := newMocks()
	m.local.services = func() []LocalService {
		return []LocalService{{Service: &catalog.Service{ID: "redis", Name: "redis", Weights: catalog.Weights{Passing: 1, Warning: 1}}},
			{Service: &catalog.Service{ID: "team/api", Name: "api", Kind: "connect-proxy", Native: true, Port: 80, Meta: map[string]string{"k": "v"}, Proxy: webB.Proxy}}}
	}
	m.local.checks = func() []*health.Check {
		return []*health.Check{{Node: "n1", ID: "ttl", Name: "ttl", Status: health.Passing, Output: "fine", Type: "ttl", Interval: "0s", Timeout: "0s",
			Definition: health.Definition{TTL: time.Second}, ModifyIndex: 9}}
	}
	m.agent.self = func() Self {
		return Self{Datacenter: "dc1", PrimaryDatacenter: "dc1", NodeName: "n1", NodeID: "id", Server: true, Version: "1.21.4", Revision: "abc",
			BuildDate: "2026-01-02T03:04:05Z", MusterVersion: "0.1.0", Stats: map[string]map[string]string{"raft": {"term": "2"}}}
	}
	m.agent.members = func() []Member {
		return []Member{{Name: "n1", Addr: "127.0.0.1", Port: 8301, Status: 1, Tags: map[string]string{"role": "consul", "dc": "dc1", "segment": ""}},
			{Name: "c1", Addr: "127.0.0.2", Port: 8301, Status: 4, Tags: map[string]string{"role": "node", "dc": "dc1"}}}
	}
	m.agent.membersWAN = func() []Member {
		return []Member{{Name: "n1.dc1", Addr: "203.0.113.1", Port: 8302, Status: 1, Tags: map[string]string{"role": "consul", "dc": "dc1"}}}
	}
	return m
}

func TestReadAgent(t *testing.T) {
	const api = `{"Kind":"connect-proxy","ID":"team/api","Service":"api","Tags":[],"Meta":{"k":"v"},"Port":80,"Address":"","Weights":{"Passing":0,"Warning":0},"EnableTagOverride":false,"Proxy":{"DestinationServiceName":"db","Expose":{},"LocalServicePort":9,"MeshGateway":{},"Mode":""},"Connect":{"Native":true},"Datacenter":"dc1"}`
	const zeros = `"ProtocolMin":0,"ProtocolMax":0,"ProtocolCur":0,"DelegateMin":0,"DelegateMax":0,"DelegateCur":0}`
	const server = `{"Name":"n1","Addr":"127.0.0.1","Port":8301,"Tags":{"dc":"dc1","role":"consul","segment":""},"Status":1,` + zeros
	const client = `{"Name":"c1","Addr":"127.0.0.2","Port":8301,"Tags":{"dc":"dc1","role":"node"},"Status":4,` + zeros
	h := newAgentMocks().handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/agent/services", status: 200, body: `{"redis":` + redisText + `,"team/api":` + api + `}`},
		{request: "GET /v1/agent/services?filter=Port+==+80", status: 200, body: `{"team/api":` + api + `}`},
		{request: "GET /v1/agent/services?filter=Proxy.LocalServicePort+==+9", status: 200, body: `{"team/api":` + api + `}`},
		{request: "GET /v1/agent/services?filter=Service+==+nothing", status: 200, body: `{}`},
		{request: "GET /v1/agent/services?filter=Datacenter+==+dc1", status: 500, body: `Failed to create boolean expression evaluator: Selector "Datacenter" is not valid`},
		{request: "GET /v1/agent/service/none", status: 404, body: "unknown service ID: none"},
		{request: "GET /v1/agent/service/redis?wait=x", status: 400, body: "Invalid wait time"},
		{request: "GET /v1/agent/checks", status: 200, body: `{"ttl":` + ttlText + `}`},
		{request: "GET /v1/agent/checks?filter=Status+==+warning&index=9", status: 200, body: `{}`},
		{request: "GET /v1/agent/checks?filter=zz+==+x", status: 500, body: `Selector "zz" is not valid`},
		{request: "GET /v1/agent/members", status: 200, body: `[` + server + `,` + client + `]`},
		{request: "GET /v1/agent/members?segment=_all&filter=Tags.role+==+node", status: 200, body: `[` + client + `]`},
		{request: "GET /v1/agent/members?filter=Status+==+4", status: 200, body: `[` + client + `]`},
		{request: "GET /v1/agent/members?wan=1", status: 200, body: `[{"Name":"n1.dc1","Addr":"203.0.113.1","Port":8302,"Tags":{"dc":"dc1","role":"consul"},"Status":1,` + zeros + `]`},
		{request: "GET /v1/agent/members?segment=alpha", status: 500, body: "Network segments are not supported in this version of Consul"},
		{request: "GET /v1/agent/members?wan=1&segment=alpha", status: 400, body: "Cannot provide a segment with wan=true"},
		{request: "GET /v1/agent/version", status: 200, body: `{"SHA":"abc","BuildDate":"2026-01-02T03:04:05Z","HumanVersion":"1.21.4","FIPS":""}`},
	})
	w := do(t, h, "GET /v1/agent/service/team%2Fapi", "")
	if hash := w.Header().Get("X-Consul-ContentHash"); len(hash) != 16 || !strings.Contains(w.Body.String(), `"ContentHash":"`+hash+`"`) {
		t.Errorf("hash %q in %s", hash, w.Body)
	}
	if again := do(t, newAgentMocks().handler(t), "GET /v1/agent/service/team%2Fapi", ""); again.Body.String() != w.Body.String() {
		t.Errorf("another hash for the same definition: %s", again.Body)
	}
	if got := do(t, h, "GET /v1/agent/self", "").Body.String(); !strings.Contains(got, `"Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}`) ||
		!strings.Contains(got, `"NodeID":"id"`) || !strings.Contains(got, `"Stats":{"raft":{"term":"2"}}`) {
		t.Errorf("self: %s", got)
	}
	m := newAgentMocks()
	m.local.checks = func() []*health.Check { return nil }
	run(t, m.handler(t), []exchange{{request: "GET /v1/agent/checks?filter=zz+==+x", status: 200, body: `{}`}})
}

func TestWaitByHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newAgentMocks()
		began := time.Now()
		m.local.services = func() []LocalService {
			switch past := time.Since(began); {
			case past < 5*time.Second:
				return []LocalService{{Service: &catalog.Service{ID: "a", Port: 1}}}
			case past < 20*time.Second:
				return []LocalService{{Service: &catalog.Service{ID: "a", Port: 2}}}
			}
			return nil
		}
		m.local.changed = func() <-chan struct{} {
			past, done := time.Since(began), make(chan struct{})
			if past < 20*time.Second {
				at := 5 * time.Second
				if past >= at {
					at = 20 * time.Second
				}
				time.AfterFunc(at-past, func() { close(done) })
			}
			return done
		}
		h := m.handler(t)
		ask := func(hash, wait string) (int, string, time.Duration) {
			from := time.Now()
			w := do(t, h, "GET /v1/agent/service/a?hash="+hash+"&wait="+wait, "")
			return w.Code, w.Header().Get("X-Consul-ContentHash"), time.Since(from).Round(time.Second)
		}
		_, first, waited := ask("other", "10s")
		if waited != 0 {
			t.Errorf("another hash waited %v", waited)
		}
		_, second, waited := ask(first, "10s")
		if second == first || waited != 5*time.Second {
			t.Errorf("a change came after %v", waited)
		}
		if _, third, waited := ask(second, "4s"); third != second || waited != 4*time.Second {
			t.Errorf("no change came after %v", waited)
		}
		if code, _, waited := ask(second, "1m"); code != 404 || waited != 11*time.Second {
			t.Errorf("the end came as %d after %v", code, waited)
		}
	})
}

func TestRegisterService(t *testing.T) {
	var got check.Registration
	var replaced bool
	m := newMocks()
	m.local.addService = func(r check.Registration, replace bool) error { got, replaced = r, replace; return nil }
	body := `{"name":"web","ID":"w1","Tags":["b","a"],"Port":80,"Address":"10.0.0.1","tagged_addresses":{"wan":{"Address":"203.0.113.7","Port":81}},
		"Meta":{"k":"v"},"enable_tag_override":true,"Weights":{"Passing":3,"Warning":2},"Kind":"","Proxy":null,"Connect":{"Native":true,"SidecarService":null},
		"Check":{"TTL":"60s","Status":"passing","failures_before_critical":3},
		"Checks":[{"CheckID":"c2","Name":"two","HTTP":"http://x","Interval":10000000000,"deregister_critical_service_after":"90m","Header":{"A":["b"]},"tls_skip_verify":true},
			{"H2PING":"h:1","Interval":"1s"},{"H2PING":"h:1","h2ping_use_tls":false,"Interval":"1s"},{"Args":["true"],"Interval":"1s"},{"script_args":["false"],"Interval":"1s"}]}`
	w := do(t, m.handler(t), "PUT /v1/agent/service/register?replace-existing-checks", body, "X-Consul-Token", "secret")
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "application/json" || !replaced {
		t.Fatalf("got %d %q, replaced %t", w.Code, w.Body, replaced)
	}
	web := catalog.Service{ID: "w1", Name: "web", Tags: []string{"b", "a"}, Port: 80, Address: "10.0.0.1", Meta: map[string]string{"k": "v"},
		EnableTagOverride: true, Weights: catalog.Weights{Passing: 3, Warning: 2}, Native: true,
		TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "203.0.113.7", Port: 81},
			"lan_ipv4": {Address: "10.0.0.1", Port: 80}, "wan_ipv4": {Address: "10.0.0.1", Port: 80}}}
	if !reflect.DeepEqual(got.Service, web) || got.Token != "secret" {
		t.Errorf("token %q\n got %+v\nwant %+v", got.Token, got.Service, web)
	}
	named := func(id, name string, status health.Status, d check.Definition) check.Definition {
		d.ID, d.Name, d.Status, d.ServiceID = id, name, status, "w1"
		return d
	}
	const name = "Service 'web' check"
	want := []check.Definition{
		named("service:w1:1", name, health.Passing, check.Definition{TTL: time.Minute, FailuresBeforeCritical: 3, FailuresBeforeWarning: 3}),
		named("c2", "two", health.Critical, check.Definition{HTTP: "http://x", Interval: 10 * time.Second, DeregisterCriticalServiceAfter: 90 * time.Minute,
			Header: map[string][]string{"A": {"b"}}, TLSSkipVerify: true}),
		named("service:w1:3", name, health.Critical, check.Definition{H2PING: "h:1", H2PingUseTLS: true, Interval: time.Second}),
		named("service:w1:4", name, health.Critical, check.Definition{H2PING: "h:1", Interval: time.Second}),
		named("service:w1:5", name, health.Critical, check.Definition{ScriptArgs: []string{"true"}, Interval: time.Second}),
		named("service:w1:6", name, health.Critical, check.Definition{ScriptArgs: []string{"false"}, Interval: time.Second}),
	}
	if !reflect.DeepEqual(got.Checks, want) {
		t.Errorf("\n got %+v\nwant %+v", got.Checks, want)
	}
}

func TestRefusedServices(t *testing.T) {
	m := newMocks()
	m.local.addService = func(r check.Registration, _ bool) error {
		switch {
		case len(r.Checks) > 0:
			return &mvcc.Error{Code: mvcc.Internal, Text: "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"}
		case r.Service.Name == "odd":
			return &mvcc.Error{Code: mvcc.Invalid, Text: "no odd services"}
		}
		return nil
	}
	m.local.removeService = func(id string) error {
		return &mvcc.Error{Code: mvcc.Unknown, Text: `Unknown service ID "` + id + `". Ensure that the service ID is passed, not the service name.`}
	}
	const path = "PUT /v1/agent/service/register"
	run(t, m.handler(t), []exchange{
		{request: path, send: `{"ID":"x"}`, status: 400, body: "Missing service name"},
		{request: path, status: 400, body: "Request decode failed: EOF"},
		{request: path, send: `{"Name": "x",, }`, status: 400, body: "Request decode failed: invalid character ',' looking for beginning of object key string"},
		{request: path, send: `{"Name":"x","Colour":"green"}`, status: 400, body: `Request decode failed: json: unknown field "Colour"`},
		{request: path, send: `{"Name":"x","Namespace":""}`, status: 400, body: `Request decode failed: json: unknown field "Namespace"`},
		{request: path, send: `{"Name":"x","Address":"::"}`, status: 400, body: "Invalid service address"},
		{request: path, send: `{"Name":"x","Weights":{"Passing":-1,"Warning":1}}`, status: 400, body: "Invalid Weights: Passing must be greater than 0"},
		{request: path, send: `{"Name":"x","Meta":{"a b":"c"}}`, status: 400, body: "Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters"},
		{request: path, send: `{"Name":"x","Check":{"Name":"c"}}`, status: 400, body: "Invalid check: TTL must be > 0 for TTL checks"},
		{request: path, send: `{"Name":"x","Check":{"TTL":"soon"}}`, status: 400, body: `Request decode failed: time: invalid duration "soon"`},
		{request: path, send: `{"Name":"x","Check":{"TTL":"10s","Status":"splendid"}}`, status: 400, body: "Status for checks must 'passing', 'warning', 'critical'"},
		{request: path, send: `{"Name":"x","TaggedAddresses":{"lan_ipv4":{"Address":"::1"}}}`, status: 500, body: `Service tagged address "lan_ipv4" must be a valid IPv4 address, not "::1"`},
		{request: path, send: `{"Name":"x","Connect":{"SidecarService":{}}}`, status: 400, body: "Connect.SidecarService is not supported: Muster has no service mesh"},
		{request: path, send: `{"Name":"x","Check":{"Args":["true"],"Interval":"1s"}}`, status: 500, body: "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{request: path, send: `{"Name":"odd"}`, status: 400, body: "no odd services"},
		{request: path + "?replace-existing-checks=perhaps", send: `{"Name":"x"}`, status: 400, body: `Invalid value for replace-existing-checks: "perhaps"`},
		{request: path + "?replace-existing-checks=false", send: `{"Name":"x"}`, status: 200},
		{request: "PUT /v1/agent/service/deregister/", status: 404, body: `Unknown service ID "". Ensure that the service ID is passed, not the service name.`},
		{request: "PUT /v1/agent/service/deregister/team%2Fapi", status: 404, body: `Unknown service ID "team/api". Ensure that the service ID is passed, not the service name.`},
	})
}

func TestChangeChecks(t *testing.T) {
	type update struct {
		id     string
		status health.Status
		output string
	}
	var updated update
	var added check.Definition
	unknown := func(id string) error {
		if id == "t1" {
			return nil
		}
		return &mvcc.Error{Code: mvcc.Unknown, Text: `Unknown check ID "` + id + `". Ensure that the check ID is passed, not the check name.`}
	}
	m := newMocks()
	m.local.addCheck = func(d check.Definition) error { added = d; return nil }
	m.local.removeCheck = unknown
	m.local.updateTTL = func(id string, s health.Status, out string) error { updated = update{id, s, out}; return unknown(id) }
	h := m.handler(t)
	for request, want := range map[string]update{
		"PUT /v1/agent/check/pass/t1?note=all+good": {"t1", health.Passing, "all good"},
		"PUT /v1/agent/check/warn/t1":               {"t1", health.Warning, ""},
		"PUT /v1/agent/check/fail/t1?note=x":        {"t1", health.Critical, "x"},
		"PUT /v1/agent/check/update/t1":             {"t1", health.Warning, "o"},
	} {
		if w := do(t, h, request, `{"Status":"warning","Output":"o"}`); w.Code != 200 || w.Body.Len() != 0 || updated != want {
			t.Errorf("%s: got %d %s, %+v", request, w.Code, w.Body, updated)
		}
	}
	const path = "PUT /v1/agent/check/register"
	body := `{"id":"c","name":"n","Notes":"x","service_id":"s","Token":"own","TCP":"h:1","Interval":"1s","Timeout":"2s","OutputMaxSize":9,"success_before_passing":2}`
	if w := do(t, h, path+"?token=other", body); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	want := check.Definition{ID: "c", Name: "n", Notes: "x", ServiceID: "s", Token: "own", Status: health.Critical, TCP: "h:1",
		Interval: time.Second, Timeout: 2 * time.Second, OutputMaxSize: 9, SuccessBeforePassing: 2}
	if !reflect.DeepEqual(added, want) {
		t.Errorf("\n got %+v\nwant %+v", added, want)
	}
	do(t, h, path, `{"Name":"n","TTL":"1s"}`, "Authorization", "bearer  header-token rest")
	if added.Token != "header-token" || added.ID != "n" {
		t.Errorf("got %+v", added)
	}
	run(t, h, []exchange{
		{request: path, send: `{"TTL":"10s"}`, status: 400, body: "Missing check name"},
		{request: path, send: `{"Name":"c"}`, status: 400, body: "Invalid check: TTL must be > 0 for TTL checks"},
		{request: path, send: `{"Name":"c","TTL":"10s","Status":"splendid"}`, status: 400, body: "Bad check status"},
		{request: path, send: `{"Name":"c","HTTP":"http://x","Interval":"0s"}`, status: 400, body: "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{request: path, send: `{"Name":"c","CheckID":"c"}`, status: 400, body: `Request decode failed: json: unknown field "CheckID"`},
		{request: "PUT /v1/agent/check/deregister/t1", status: 200},
		{request: "PUT /v1/agent/check/deregister/none", status: 404, body: `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`},
		{request: "PUT /v1/agent/check/pass/", status: 404, body: `Unknown check ID "". Ensure that the check ID is passed, not the check name.`},
		{request: "PUT /v1/agent/check/update/t1", send: `{"Status":"splendid"}`, status: 400, body: "Invalid check status: 'splendid'"},
		{request: "PUT /v1/agent/check/update/t1", send: `{"Output":"x"}`, status: 400, body: "Invalid check status: ''"},
		{request: "PUT /v1/agent/check/update/t1", send: `{"Status"`, status: 400, body: "Request decode failed: unexpected EOF"},
	})
}

func TestJudgements(t *testing.T) {
	check := func(id, service string, status health.Status) *health.Check {
		return &health.Check{Node: "n1", ID: id, ServiceID: service, Status: status, Type: "ttl", Interval: "1s"}
	}
	for _, c := range []struct {
		about   string
		checks  []*health.Check
		request string
		status  int
		text    string
	}{
		{"no checks", nil, "id/a", 200, "passing"},
		{"another's check", []*health.Check{check("c", "b", health.Critical)}, "id/a", 200, "passing"},
		{"warning", []*health.Check{check("c", "a", health.Warning)}, "id/a", 429, "warning"},
		{"critical", []*health.Check{check("c", "a", health.Critical), check("d", "a", health.Warning)}, "id/a", 503, "critical"},
		{"the node's check", []*health.Check{check("host", "", health.Critical)}, "id/a", 503, "critical"},
		{"maintenance", []*health.Check{check("_service_maintenance:a", "a", health.Critical)}, "id/a", 503, "maintenance"},
		{"maintenance of the node", []*health.Check{check("_node_maintenance", "", health.Critical)}, "name/web", 503, "maintenance"},
		{"unknown ID", nil, "id/nope", 404, "ServiceId nope not found"},
		{"unknown name", nil, "name/nope", 404, "ServiceName nope Not Found"},
		{"the worst of two", []*health.Check{check("c", "b", health.Warning)}, "name/web", 429, "warning"},
	} {
		t.Run(c.about, func(t *testing.T) {
			m := newMocks()
			m.local.services = func() []LocalService {
				return []LocalService{{&catalog.Service{ID: "b", Name: "web"}}, {&catalog.Service{ID: "a", Name: "web"}}}
			}
			m.local.checks = func() []*health.Check { return c.checks }
			h := m.handler(t)
			path := "GET /v1/agent/health/service/" + c.request
			if w := do(t, h, path, ""); w.Code != c.status || w.Header().Get("X-Consul-Reason") != c.text || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("got %d %v", w.Code, w.Header())
			}
			if w := do(t, h, path, "", "Accept", "text/plain"); w.Code != c.status || w.Body.String() != c.text || w.Header().Get("Content-Type") != "text/plain" {
				t.Errorf("as text: got %d %s", w.Code, w.Body)
			}
			if w := do(t, h, path+"?format=text", ""); w.Body.String() != c.text {
				t.Errorf("as text: got %s", w.Body)
			}
		})
	}
	const definition = `"Definition":{"HTTP":"","Header":null,"Method":"","Body":"","TLSServerName":"","TLSSkipVerify":false,"TCP":"","TCPUseTLS":false,"UDP":"","GRPC":"","OSService":"","GRPCUseTLS":false,"Interval":"0s","Timeout":"0s","DeregisterCriticalServiceAfter":"0s"}`
	m := newAgentMocks()
	run(t, m.handler(t), []exchange{
		{request: "GET /v1/agent/health/service/id/redis", status: 200, body: `{"AggregatedStatus":"passing","Service":` + redisText +
			`,"Checks":[{"Node":"n1","CheckID":"ttl","Name":"ttl","Status":"passing","Notes":"","Output":"fine","ServiceID":"","ServiceName":"","ServiceTags":null,"Type":"",` + definition + `,"ExposedPort":0,"CreateIndex":0,"ModifyIndex":0}]}`},
		{request: "GET /v1/agent/health/service/id/nope", status: 404, body: `{"AggregatedStatus":"critical","Service":null,"Checks":null}`},
		{request: "GET /v1/agent/health/service/name/nope", status: 404, body: `[]`},
		{request: "GET /v1/agent/health/service/id/", status: 500, body: "Missing serviceID"},
		{request: "GET /v1/agent/health/service/name/", status: 500, body: "Missing service Name"},
	})
}
