package agent_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// reloadWith gives an agent another configuration.
func reloadWith(t *testing.T, a *agenttest.Agent, fragments ...string) {
	t.Helper()
	cfg, err := a.Load(fragments...)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := a.Reload(cfg); err != nil || len(report.Restart) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
}

// exhausted asks often enough to use up what a bucket of one has, whoever else
// takes from it, and returns the last answer.
func exhausted(t *testing.T, a *agenttest.Agent, method, path string) (int, string) {
	t.Helper()
	var status int
	var body string
	for range 2 {
		var err error
		if status, body, err = a.Do(t.Context(), method, path, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	return status, body
}

func TestRequestsAreLimited(t *testing.T) {
	const elsewhere = "rate limit exceeded, try again later or against a different server"
	c := agenttest.StartCluster(t, 1, 1)
	server, client := c.Servers[0], c.Clients[0]
	limits := func(mode string) string {
		return `limits { request_limits { mode = "` + mode + `" read_rate = 0.0001 write_rate = 0.0001 } }`
	}
	expect := func(who *agenttest.Agent, method, path string, status int, text string) {
		t.Helper()
		if got, body := exhausted(t, who, method, path); got != status || !strings.Contains(body, text) {
			t.Errorf("%s %s at %s: %d %q, want %d %q", method, path, who.Name, got, body, status, text)
		}
	}
	reloadWith(t, server, limits("permissive"))
	expect(server, http.MethodPut, "/v1/kv/a", 200, "true")
	expect(client, http.MethodGet, "/v1/kv/a?raw", 200, "x")

	reloadWith(t, server, limits("enforcing"))
	for _, who := range []*agenttest.Agent{server, client} {
		expect(who, http.MethodGet, "/v1/kv/a", 429, elsewhere)
		expect(who, http.MethodPut, "/v1/kv/a", 503, "rate limit exceeded for operation that can only be performed by the leader, try again later")
	}
	expect(server, http.MethodGet, "/v1/agent/self", 200, "Config") // of the agent itself
	reloadWith(t, server)
	expect(client, http.MethodPut, "/v1/kv/a", 200, "true")

	reloadWith(t, client, `limits { rpc_rate = 0.0001 rpc_max_burst = 1 }`)
	expect(client, http.MethodGet, "/v1/kv/a", 429, "RPC rate limit exceeded")
	expect(client, http.MethodPut, "/v1/kv/a", 429, "RPC rate limit exceeded")
	expect(server, http.MethodPut, "/v1/kv/a", 200, "true")
	reloadWith(t, client)
	expect(client, http.MethodGet, "/v1/kv/a?raw", 200, "x")
}
