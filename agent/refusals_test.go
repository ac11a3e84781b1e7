package agent_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// refusal is a request that a whole agent refuses, and how.
type refusal struct {
	request string // "METHOD target"
	send    string
	status  int
	// says is the text, or its beginning if it ends in "…".
	says string
}

// ask sends a request over a client and returns the answer.
func ask(t *testing.T, client *http.Client, base, request, send string) (int, string) {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	r, err := http.NewRequest(method, base+target, strings.NewReader(send))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// newClient is a client without redirects, over a connection of any kind.
func newClient(t *testing.T, network, address string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestAgentRefuses sends what cannot be carried out through all parts of an agent.
func TestAgentRefuses(t *testing.T) {
	a := agenttest.Start(t, agenttest.HCL(`log_level = "ERR", http_config { block_endpoints = ["/v1/agent/host"] }`))
	client := newClient(t, "tcp", a.HTTP)
	for _, made := range []struct{ path, send string }{
		{"catalog/register", `{"ID":"01234567-89ab-cdef-0123-456789abcdef","Node":"known","Address":"10.0.0.1","Service":{"Service":"web"},"Checks":[{"CheckID":"serfHealth","Status":"passing"}]}`},
		{"agent/service/register", `{"Name":"redis","Check":{"TTL":"1h"}}`},
		{"agent/check/register", `{"Name":"tcp","TCP":"127.0.0.1:1","Interval":"1h"}`},
		{"kv/a", "1"},
	} {
		if status, body := ask(t, client, a.URL(""), "PUT /v1/"+made.path, made.send); status != 200 {
			t.Fatalf("%s: got %d %s", made.path, status, body)
		}
	}
	const (
		register   = "PUT /v1/catalog/register"
		deregister = "PUT /v1/catalog/deregister"
		service    = "PUT /v1/agent/service/register"
		check      = "PUT /v1/agent/check/register"
		filter     = "Failed to create boolean expression evaluator: "
		noService  = `". Ensure that the service ID is passed, not the service name.`
		noCheck    = `". Ensure that the check ID is passed, not the check name.`
	)
	refusals := []refusal{
		// Paths and methods.
		{"GET /v1/nothing", "", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
		{"GET /nothing", "", 404, "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"},
		{"POST /v1/kv/a", "x", 405, "method POST not allowed"},
		{"POST /v1/catalog/register", "{}", 405, "method POST not allowed"},
		{"HEAD /v1/catalog/nodes", "", 405, ""},
		{"GET /v1/kv//a", "", 307, ""},
		{"GET /v1/kv/a%07", "", 400, ""},
		{"GET /v1/catalog/nodes?a=%zz", "", 500, "Cannot read the query string: …"},
		{"GET /v1/agent/host", "", 403, "Endpoint is blocked by agent configuration"},
		// How fresh, and for how long.
		{"GET /v1/kv/a?dc=nowhere", "", 500, "No path to datacenter"},
		{"PUT /v1/kv/a?dc=nowhere", "1", 500, "No path to datacenter"},
		{"GET /v1/catalog/services?dc=nowhere", "", 500, "No path to datacenter"},
		{"GET /v1/health/service/web?dc=nowhere&index=1&cached", "", 500, "No path to datacenter"},
		{"GET /v1/status/leader?dc=nowhere", "", 500, "No path to datacenter"},
		{"GET /v1/kv/a?stale&consistent", "", 400, "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{"GET /v1/catalog/service/web?cached&consistent", "", 400, "Cannot specify ?cached with ?consistent, conflicting semantics."},
		{"GET /v1/kv/a?max_stale=x", "", 400, `Invalid max_stale value "x"`},
		{"GET /v1/kv/a?index=x", "", 400, "Invalid index"},
		{"GET /v1/kv/a?index=-1", "", 400, "Invalid index"},
		{"GET /v1/kv/a?index=1&wait=10", "", 400, "Invalid wait time"},
		{"GET /v1/agent/service/redis?hash=x&wait=10", "", 400, "Invalid wait time"},
		{"GET /v1/kv/a?ns=x", "", 400, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{"GET /v1/catalog/nodes?partition=x", "", 400, `Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`},
		// Filters.
		{"GET /v1/catalog/nodes?filter=Colour==x", "", 500, filter + `Selector "Colour" is not valid`},
		{"GET /v1/catalog/services?filter=Service==x", "", 500, filter + `Selector "Service" is not valid`},
		{"GET /v1/catalog/service/none?filter=ServicePort==x", "", 500, filter + `Failed to coerce value "x" for selector "ServicePort": …`},
		{"GET /v1/catalog/node/known?filter=Node==x", "", 500, filter + `Selector "Node" is not valid`},
		{"GET /v1/catalog/node-services/none?filter=x", "", 500, filter + "…"},
		{"GET /v1/health/service/none?filter=Node.Node+is+empty", "", 500, filter + `Invalid match operator "Is Empty" for selector "Node.Node"`},
		{"GET /v1/health/node/none?filter=Node+==", "", 500, filter + "…"},
		{"GET /v1/health/checks/none?filter=Definition.TCP==x", "", 500, filter + "…"},
		{"GET /v1/health/state/none?filter=status==x", "", 500, filter + `Selector "status" is not valid`},
		{"GET /v1/agent/services?filter=Nope==x", "", 500, filter + `Selector "Nope" is not valid`},
		{"GET /v1/agent/members?filter=Nope==x", "", 500, filter + `Selector "Nope" is not valid`},
		{"GET /v1/agent/checks?filter=Nope==x", "", 500, `Selector "Nope" is not valid`},
		// Keys.
		{"GET /v1/kv/", "", 400, "Missing key name"},
		{"PUT /v1/kv/", "1", 400, "Missing key name"},
		{"DELETE /v1/kv/", "", 400, "Missing key name"},
		{"GET /v1/kv/none", "", 404, ""},
		{"GET /v1/kv/none?raw", "", 404, ""},
		{"GET /v1/kv/none?recurse", "", 404, ""},
		{"GET /v1/kv/none?keys", "", 404, ""},
		{"PUT /v1/kv/a?flags=x", "1", 500, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT /v1/kv/a?cas", "1", 500, `strconv.ParseUint: parsing "": invalid syntax`},
		{"DELETE /v1/kv/a?cas=x", "", 500, `strconv.ParseUint: parsing "x": invalid syntax`},
		{"PUT /v1/kv/a?cas=1&acquire=x", "1", 400, "Conflicting flags: acquire=x&cas=1\n"},
		{"DELETE /v1/kv/a?cas=1&recurse", "", 400, "Conflicting flags: cas=1&recurse=\n"},
		{"PUT /v1/kv/a", strings.Repeat("x", 524289), 413, "Request body(524289 bytes) too large, max size: 524288 bytes. See limits.kv_max_value_size."},
		// The catalog.
		{register, "", 400, "Request decode failed: EOF"},
		{register, "[]", 400, "Request decode failed: json: cannot unmarshal …"},
		{register, `{"Node":"n","Address":"a","Colour":1}`, 400, `Request decode failed: json: unknown field "Colour"`},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Ports":[]}}`, 400, `Request decode failed: json: unknown field "Ports"`},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Port":1e3}}`, 400, "Request decode failed: json: cannot unmarshal …"},
		{register, `{"Node":"n","Address":"a","Partition":"p"}`, 400, `Invalid request body: "Partition" - Partitions are a Consul Enterprise feature`},
		{register, `{"Address":"a"}`, 500, "Must provide node"},
		{register, `{"Node":"n"}`, 500, "Must provide address if SkipNodeUpdate is not set"},
		{register, `{"Node":"n","Address":"a","ID":"x"}`, 500, "Bad node ID: …"},
		{register, `{"Node":"n","Address":"a","PeerName":"p"}`, 500, "cannot register requests with PeerName in them"},
		{register, `{"Node":"n","Address":"a","Datacenter":"nowhere"}`, 500, "No path to datacenter"},
		{register, `{"Node":"n","Address":"a","Service":{}}`, 500, "Must provide service name (Service.Service)"},
		{register, `{"Node":"n","Address":"a","Service":{"ID":"x"}}`, 500, "Must provide service name (Service.Service) when service ID is provided"},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Address":"0.0.0.0"}}`, 500, "Invalid service address"},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Address":"::"}}`, 500, "Invalid service address"},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Port":65536}}`, 500, "Invalid service: port 65536 is not between 0 and 65535"},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Port":-1}}`, 500, "Invalid service: port -1 is not between 0 and 65535"},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","TaggedAddresses":{"wan":{"Address":"a","Port":70000}}}}`, 500,
			`Invalid service: port of the tagged address "wan": 70000 is not between 0 and 65535`},
		{register, `{"Node":"n","Address":"a","Service":{"Service":"s","Weights":{"Passing":65536}}}`, 500, "Invalid service: weight while passing: 65536 is not between 0 and 65535"},
		{"PUT /v1/txn", `[{"Service":{"Verb":"set","Node":"known","Service":{"ID":"s","Service":"s","Port":65536}}}]`, 409, `…"What": "Invalid service: port 65536 is not between 0 and 65535"…`},
		{register, `{"Node":"n","Address":"a","Check":{"Node":"o","CheckID":"c"}}`, 500, "Node 'o' for check 'c' doesn't match register request node 'n'"},
		{register, `{"Node":"n","Address":"a","Check":{"CheckID":"c","ServiceID":"x"}}`, 500, "…Unknown service ID 'x' for check ID 'c'"},
		{register, `{"Node":"n","Address":"a","Check":{"Definition":{"Interval":"soon"}}}`, 400, `Request decode failed: time: invalid duration "soon"`},
		{register, `{"Node":"known","Address":"a","ID":"11111111-89ab-cdef-0123-456789abcdef"}`, 500, `…Error while renaming Node ID: "11111111-89ab-cdef-0123-456789abcdef"…`},
		{deregister, "", 400, "Request decode failed: EOF"},
		{deregister, "{}", 500, "Must provide node"},
		{deregister, `{"Node":"n","Colour":1}`, 400, `Request decode failed: json: unknown field "Colour"`},
		{deregister, `{"Node":"n","Datacenter":"nowhere"}`, 500, "No path to datacenter"},
		{"GET /v1/catalog/service/", "", 400, "Missing service name"},
		{"GET /v1/catalog/node/", "", 400, "Missing node name"},
		{"GET /v1/catalog/node-services/", "", 400, "Missing node name"},
		// Health.
		{"GET /v1/health/service/", "", 400, "Missing service name"},
		{"GET /v1/health/checks/", "", 400, "Missing service name"},
		{"GET /v1/health/node/", "", 400, "Missing node name"},
		{"GET /v1/health/state/", "", 400, "Missing check state"},
		{"GET /v1/health/service/web?passing=x", "", 400, "Invalid value for ?passing"},
		// The agent's services.
		{service, "", 400, "Request decode failed: EOF"},
		{service, `{"Name":"x","Namespace":""}`, 400, `Request decode failed: json: unknown field "Namespace"`},
		{service, `{"Name":"x","Port":"80"}`, 400, "Request decode failed: json: cannot unmarshal …"},
		{service, `{"Name":"x","Port":65536}`, 400, "Invalid service: port 65536 is not between 0 and 65535"},
		{service, `{"Name":"x","Port":-1}`, 400, "Invalid service: port -1 is not between 0 and 65535"},
		{service, `{"Name":"x","TaggedAddresses":{"wan":{"Address":"a","Port":-1}}}`, 400, `Invalid service: port of the tagged address "wan": -1 is not between 0 and 65535`},
		{service, `{}`, 400, "Missing service name"},
		{service, `{"Name":"x","Address":"0.0.0.0"}`, 400, "Invalid service address"},
		{service, `{"Name":"x","Meta":{"a b":"c"}}`, 400, "Invalid Service Meta: …"},
		{service, `{"Name":"x","Meta":{"` + strings.Repeat("k", 129) + `":"c"}}`, 400, "Invalid Service Meta: …"},
		{service, `{"Name":"x","Meta":{"k":"` + strings.Repeat("v", 513) + `"}}`, 400, "Invalid Service Meta: …"},
		{service, `{"Name":"x","Meta":{` + pairs(65) + `}}`, 400, "Invalid Service Meta: …"},
		{service, `{"Name":"x","TaggedAddresses":{"lan_ipv4":{"Address":"::1"}}}`, 500, `Service tagged address "lan_ipv4" must be a valid IPv4 address, not "::1"`},
		{service, `{"Name":"x","TaggedAddresses":{"wan_ipv6":{"Address":"1.2.3.4"}}}`, 500, `Service tagged address "wan_ipv6" must be a valid IPv6 address…`},
		{service, `{"Name":"x","Weights":{"Passing":0}}`, 400, "Invalid Weights: Passing must be greater than 0"},
		{service, `{"Name":"x","Weights":{"Passing":0,"Warning":1}}`, 400, "Invalid Weights: Passing must be greater than 0"},
		{service, `{"Name":"x","Weights":{"Passing":65536}}`, 400, "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{service, `{"Name":"x","Weights":{"Passing":1,"Warning":-1}}`, 400, "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{service, `{"Name":"x","Locality":{"Zone":"z"}}`, 400, "Validation failed: 1 error occurred:…"},
		{service, `{"Name":"x","Check":{"TTL":"10s","Status":"good"}}`, 400, "Status for checks must 'passing', 'warning', 'critical'"},
		{service, `{"Name":"x","Check":{"HTTP":"http://x","Interval":"1s","TTL":"1s"}}`, 400, "Invalid check: Interval and TTL cannot both be specified"},
		{service, `{"Name":"x","Checks":[{"TTL":"soon"}]}`, 400, `Request decode failed: time: invalid duration "soon"`},
		{service, `{"Name":"x","Check":{"Args":["true"],"Interval":"1s"}}`, 500, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"},
		{service + "?replace-existing-checks=x", `{"Name":"x"}`, 400, `Invalid value for replace-existing-checks: "x"`},
		{"GET /v1/agent/service/none", "", 404, "unknown service ID: none"},
		{"PUT /v1/agent/service/deregister/none", "", 404, `Unknown service ID "none` + noService},
		{"PUT /v1/agent/service/deregister/", "", 404, `Unknown service ID "` + noService},
		{"GET /v1/agent/health/service/id/", "", 500, "Missing serviceID"},
		{"GET /v1/agent/health/service/name/", "", 500, "Missing service Name"},
		{"GET /v1/agent/health/service/id/none?format=text", "", 404, "ServiceId none not found"},
		{"GET /v1/agent/health/service/name/none?format=text", "", 404, "ServiceName none Not Found"},
		// The agent's checks.
		{check, "", 400, "Request decode failed: EOF"},
		{check, `{"Name":"c","TTL":"1s","CheckID":"c"}`, 400, `Request decode failed: json: unknown field "CheckID"`},
		{check, `{"TTL":"1s"}`, 400, "Missing check name"},
		{check, `{"Name":"c","TTL":"1s","Status":"good"}`, 400, "Bad check status"},
		{check, `{"Name":"c","TTL":"1s","Interval":"1s"}`, 400, "Invalid check: Interval and TTL cannot both be specified"},
		{check, `{"Name":"c"}`, 400, "Invalid check: TTL must be > 0 for TTL checks"},
		{check, `{"Name":"c","TCP":"h:1"}`, 400, "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{check, `{"Name":"c","AliasService":"x","HTTP":"http://x","Interval":"1s"}`, 400, "Invalid check: Interval cannot be set for Alias checks"},
		{check, `{"Name":"c","AliasNode":"x","TTL":"1s"}`, 400, "Invalid check: TTL must be not be set for Alias checks"},
		{check, `{"Name":"c","TTL":"1s","OutputMaxSize":-1}`, 400, "Invalid check: MaxOutputMaxSize must be positive"},
		{check, `{"Name":"c","TTL":"1s","FailuresBeforeWarning":3,"FailuresBeforeCritical":1}`, 400, "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical"},
		{check, `{"Name":"c","TTL":"1s","ServiceID":"none"}`, 404, `ServiceID "none" does not exist`},
		{check, `{"Name":"c","Args":["true"],"Interval":"1s"}`, 500, "Scripts are disabled on this agent from remote calls; …"},
		{"PUT /v1/agent/check/deregister/none", "", 404, `Unknown check ID "none` + noCheck},
		{"PUT /v1/agent/check/pass/none", "", 404, `Unknown check ID "none` + noCheck},
		{"PUT /v1/agent/check/warn/", "", 404, `Unknown check ID "` + noCheck},
		{"PUT /v1/agent/check/fail/tcp", "", 500, `CheckID "tcp" does not have associated TTL`},
		{"PUT /v1/agent/check/update/none", `{"Status":"passing"}`, 404, `Unknown check ID "none` + noCheck},
		{"PUT /v1/agent/check/update/service:redis", `{"Status":"pass"}`, 400, "Invalid check status: 'pass'"},
		{"PUT /v1/agent/check/update/service:redis", "", 400, "Request decode failed: EOF"},
		{"GET /v1/agent/members?segment=x", "", 500, "Network segments are not supported in this version of Consul"},
		{"GET /v1/agent/members?segment=x&wan=1", "", 400, "Cannot provide a segment with wan=true"},
		// Access control and the mesh, which are not there.
		{"GET /v1/acl/tokens", "", 401, "ACL support disabled"},
		{"PUT /v1/agent/token/default", "{}", 401, "ACL support disabled"},
		{"GET /v1/connect/ca/roots", "", 500, "Connect must be enabled in order to use this endpoint"},
	}
	_, before := ask(t, client, a.URL(""), "GET /v1/kv/?recurse", "")
	for _, r := range refusals {
		status, body := ask(t, client, a.URL(""), r.request, r.send)
		if status != r.status || !matches(body, r.says) {
			t.Errorf("%s %.200s\n got %d %q\nwant %d %q", r.request, r.send, status, body, r.status, r.says)
		}
	}
	// What was refused has changed nothing.
	if _, after := ask(t, client, a.URL(""), "GET /v1/kv/?recurse", ""); after != before {
		t.Errorf("the keys were %s and are %s", before, after)
	}
	for path, want := range map[string]string{"catalog/nodes?filter=Node==n": "[]\n", "agent/services?filter=Service==x": "{}\n", "agent/checks?filter=Name==c": "{}\n"} {
		if _, body := ask(t, client, a.URL(""), "GET /v1/"+path, ""); body != want {
			t.Errorf("%s: got %s", path, body)
		}
	}
}

// matches reports whether a text is the wanted one, in which "…" stands for any.
func matches(text, want string) bool {
	first, rest, open := strings.Cut(want, "…")
	if !open {
		return text == want
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	middle, _, more := strings.Cut(rest, "…")
	if more {
		return strings.Contains(text[len(first):], middle)
	}
	return strings.HasSuffix(text[len(first):], rest)
}

// pairs are so many pairs of metadata, as in an object.
func pairs(count int) string {
	var out []string
	for i := range count {
		out = append(out, `"k`+strings.Repeat("x", i)+`":"v"`)
	}
	return strings.Join(out, ",")
}

func TestWritesAreTakenFromNamedNetworksOnly(t *testing.T) {
	for network, want := range map[string]int{"192.0.2.0/24": 403, "127.0.0.0/8": 200} {
		a := agenttest.Start(t, agenttest.HCL(`log_level = "ERR", http_config { allow_write_http_from = ["`+network+`"] }`))
		client := newClient(t, "tcp", a.HTTP)
		if status, body := ask(t, client, a.URL(""), "PUT /v1/kv/a", "1"); status != want || (want == 403) != (body == "Access is restricted") {
			t.Errorf("a write where %s may: got %d %s", network, status, body)
		}
		if status, body := ask(t, client, a.URL(""), "GET /v1/kv/?keys", ""); status != 200 {
			t.Errorf("a read where %s may write: got %d %s", network, status, body)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	a := agenttest.Start(t, agenttest.HCL(`log_level = "ERR", http_config { max_header_bytes = 2000 }`))
	client := newClient(t, "tcp", a.HTTP)
	for size, want := range map[int]int{1000: 200, 20_000: 431} {
		r, err := http.NewRequest(http.MethodGet, a.URL("/v1/status/leader"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Long", strings.Repeat("x", size))
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		// Of a header that was not read to its end, the rest ends the connection.
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a header of %d bytes: got %d, want %d", size, response.StatusCode, want)
		}
	}
}
