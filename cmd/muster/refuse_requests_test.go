package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
)

// A request that is refused says why and leaves nothing behind, neither in what
// the cluster has agreed on nor at the agent nor on its disk; nor after a
// restart.
func TestRefuseRequests(t *testing.T) {
	t.Parallel()
	const node = `"Node":"n9","Address":"192.0.2.9"`
	s := newSettings(t, "")
	p := startServer(t, s)
	awaitItself(t, p)
	before := stateHash(t, p)
	for _, test := range []struct {
		name   string
		path   string // of a PUT
		body   string
		status int
		want   string // contained in the answer
	}{
		{"value too large", "kv/big", strings.Repeat("x", 512<<10+1), 413, "524288"},
		{"value too large, and announced", "kv/big?cas=0", strings.Repeat("x", 4<<20), 413, "524288"},
		{"value with wrong flags", "kv/a?flags=many", "x", 500, `"many"`},
		{"value with a wrong index", "kv/a?cas=now", "x", 500, `"now"`},
		{"value without a key", "kv/", "x", 400, "key"},

		{"catalog, not JSON", "catalog/register", `{` + node, 400, "Request decode failed"},
		{"catalog, wrong type", "catalog/register", `{` + node + `,"Service":7}`, 400, "Request decode failed"},
		{"catalog, unknown field", "catalog/register", `{` + node + `,"Colour":"green"}`, 400, `unknown field "Colour"`},
		{"catalog, unknown field inside", "catalog/register", `{` + node + `,"Service":{"Service":"web","Colour":"green"}}`, 400, `unknown field "Colour"`},
		{"catalog, body too large", "catalog/register", `{` + node + `,"NodeMeta":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, 413, "1048576"},
		{"catalog, no address", "catalog/register", `{"Node":"n9"}`, 500, "address"},
		{"catalog, check of an unknown service", "catalog/register",
			`{` + node + `,"Service":{"Service":"web"},"Checks":[{"CheckID":"a","Name":"a"},{"CheckID":"b","Name":"b","ServiceID":"db"}]}`, 500, "Unknown service ID 'db'"},
		{"catalog, node ID that is none", "catalog/register", `{` + node + `,"ID":"9"}`, 500, "Bad node ID"},
		{"catalog, check of another node", "catalog/register", `{` + node + `,"Check":{"CheckID":"a","Name":"a","Node":"n8"}}`, 500, "n8"},
		{"catalog, deregister what is not JSON", "catalog/deregister", `{"Node":`, 400, "Request decode failed"},

		{"agent, not JSON", "agent/service/register", `{"Name":"web"`, 400, "Request decode failed"},
		{"agent, unknown field", "agent/service/register", `{"Name":"web","Colour":"green"}`, 400, `unknown field "Colour"`},
		{"agent, no name", "agent/service/register", `{"ID":"web"}`, 400, "Missing service name"},
		{"agent, body too large", "agent/service/register", `{"Name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "1048576"},
		{"agent, meta too large", "agent/service/register", `{"Name":"web","Meta":{"a":"` + strings.Repeat("x", 513) + `"}}`, 400, "Invalid Service Meta"},
		{"agent, a good check and a bad one", "agent/service/register", `{"Name":"web","Checks":[{"TTL":"10s"},{"Interval":"10s"}]}`, 400, "check"},
		{"agent, check of an unknown service", "agent/check/register", `{"Name":"a","TTL":"10s","ServiceID":"web"}`, 404, "web"},
		{"agent, check that does nothing", "agent/check/register", `{"Name":"a"}`, 400, ""},

		{"transaction, not JSON", "txn", `[{"KV":{"Verb":"set"`, 400, ""},
		{"transaction, a good part and an unknown one", "txn", `[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},{"KV":{"Verb":"paint","Key":"b"}}]`, 409, "paint"},
		{"transaction, a good part and one that fails", "txn", `[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},{"KV":{"Verb":"check-index","Key":"b","Index":7}}]`, 409, "b"},
		{"transaction, value too large", "txn", `[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}},{"KV":{"Verb":"set","Key":"b","Value":"` +
			strings.Repeat("eHh4", 180_000) + `"}}]`, 413, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := p.put(t, test.path, test.body)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("PUT /v1/%s: %d %.300q, want %d and %q in it", test.path, status, body, test.status, test.want)
			}
		})
	}
	if after := stateHash(t, p); after != before {
		t.Errorf("the state is %s, and was %s before all that was refused", after, before)
	}
	expectNothing(t, p)
	p.signal(t, syscall.SIGTERM)
	p = startServer(t, s)
	awaitItself(t, p)
	expectNothing(t, p)
	if after := stateHash(t, p); after != before {
		t.Errorf("the state after a restart is %s, and was %s before all that was refused", after, before)
	}
}

// awaitItself waits until the server has written about itself to the catalog.
func awaitItself(t *testing.T, p *agentProcess) {
	t.Helper()
	eventually(t, settleLimit, "the server is in its catalog", func(ctx context.Context) error {
		checks, _, err := p.client.Health().Node("n1", (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && len(checks) != 1 {
			err = fmt.Errorf("it has %d checks", len(checks))
		}
		return err
	})
}

// stateHash is the hash over all that the cluster has agreed on.
func stateHash(t *testing.T, p *agentProcess) string {
	t.Helper()
	self, err := p.client.Agent().Self()
	if err != nil {
		t.Fatal(err)
	}
	stats, _ := self["Stats"]["state"].(map[string]any)
	hash, _ := stats["hash"].(string)
	if hash == "" {
		t.Fatalf("there is no hash in %v", self["Stats"])
	}
	return hash
}

// put sends a request and returns the answer.
func (p *agentProcess) put(t *testing.T, path, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+p.settings.address()+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// expectNothing fails the test if the agent has anything but itself.
func expectNothing(t *testing.T, p *agentProcess) {
	t.Helper()
	keys, _, err := p.client.KV().Keys("", "", nil)
	if err != nil || len(keys) > 0 {
		t.Errorf("there are the keys %v (%v), want none", keys, err)
	}
	nodes, _, err := p.client.Catalog().Nodes(nil)
	if err != nil || len(nodes) != 1 {
		t.Errorf("there are %d nodes (%v), want one", len(nodes), err)
	}
	services, _, err := p.client.Catalog().Services(nil)
	if err != nil || len(services) != 1 {
		t.Errorf("there are the services %v (%v), want only the server itself", services, err)
	}
	checks, _, err := p.client.Health().State(api.HealthAny, nil)
	if err != nil || len(checks) != 1 {
		t.Errorf("there are %d checks (%v), want one", len(checks), err)
	}
	local, err := p.client.Agent().Services()
	if err != nil || len(local) > 0 {
		t.Errorf("the agent has the services %v (%v), want none", local, err)
	}
	localChecks, err := p.client.Agent().Checks()
	if err != nil || len(localChecks) > 0 {
		t.Errorf("the agent has the checks %v (%v), want none", localChecks, err)
	}
	for _, folder := range []string{"services", "checks"} {
		for name, is := range tree(t, filepath.Join(p.settings.dir, "data", folder)) {
			if is[0] != os.ModeDir.String()[0] {
				t.Errorf("there is the file %s/%s", folder, name)
			}
		}
	}
}
