package agent_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/api"
)

// whyOf asks an agent for the reasons of a service.
func whyOf(t *testing.T, a *agenttest.Agent, service string) *api.ServiceReasons {
	t.Helper()
	var out api.ServiceReasons
	if err := a.GetJSON(t.Context(), "/v1/catalog/why/"+service, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// put does something at an agent that must work.
func put(t *testing.T, a *agenttest.Agent, path, body string) {
	t.Helper()
	if got := do(t, http.MethodPut, a.URL(path), body); got.code != http.StatusOK {
		t.Fatalf("PUT %s: %d %s", path, got.code, got.body)
	}
}

// answeredBy reports whether DNS, and a read with ?passing, answer with any
// instance of a service.
func answeredBy(t *testing.T, a *agenttest.Agent, service string) (byDNS, byPassing bool) {
	t.Helper()
	reply := exchange(t, a, service+".service.consul.", dns.TypeSRV)
	got := do(t, http.MethodGet, a.URL("/v1/health/service/"+service+"?passing"), "")
	return len(reply.Answer) > 0, got.body != "[]"
}

func TestWhy(t *testing.T) {
	a := agenttest.Start(t, agenttest.HCL(`dns_config { only_passing = true }`))
	type verdict struct {
		byDefault, configured, passing bool
		weight                         int    // by default
		checks                         string // to blame in DNS as configured
		removal                        string // how the first one begins
	}
	for _, c := range []struct {
		service string
		puts    [][2]string
		want    verdict
		last    string // the newest change
	}{
		{"passing", [][2]string{
			{"/v1/agent/service/register", `{"Name":"passing","Port":80,"Check":{"CheckID":"p-up","TTL":"1h"}}`},
			{"/v1/agent/check/pass/p-up", ""},
		}, verdict{true, true, true, 1, "", ""}, "check turned"},
		{"not-run-yet", [][2]string{
			{"/v1/agent/service/register", `{"Name":"not-run-yet","Check":{"CheckID":"n-up","TTL":"1h"}}`},
		}, verdict{false, false, false, 0, "n-up", ""}, "registered"},
		{"warning", [][2]string{
			{"/v1/agent/service/register", `{"Name":"warning","Weights":{"Passing":3,"Warning":2},"Check":{"CheckID":"w-up","TTL":"1h"}}`},
			{"/v1/agent/check/warn/w-up?note=slow", ""},
		}, verdict{true, false, false, 2, "w-up", ""}, "check turned"},
		{"drained", [][2]string{
			{"/v1/agent/service/register", `{"Name":"drained","Weights":{"Passing":3,"Warning":0},"Check":{"CheckID":"z-up","TTL":"1h"}}`},
			{"/v1/agent/check/warn/z-up", ""},
		}, verdict{true, false, false, 0, "z-up", ""}, "check turned"},
		{"maintained", [][2]string{
			{"/v1/agent/service/register", `{"Name":"maintained"}`},
			{"/v1/agent/service/maintenance/maintained?enable=true&reason=new+disk", ""},
		}, verdict{false, false, false, 0, "_service_maintenance:maintained", ""}, "check registered"},
		{"alias", [][2]string{
			{"/v1/agent/service/register", `{"Name":"alias","Check":{"CheckID":"a-up","AliasService":"not-run-yet"}}`},
		}, verdict{false, false, false, 0, "a-up", ""}, "registered"},
		{"doomed", [][2]string{
			{"/v1/agent/service/register", `{"Name":"doomed","Check":{"CheckID":"d-up","TTL":"1h","DeregisterCriticalServiceAfter":"90m"}}`},
			{"/v1/agent/check/fail/d-up?note=no+more", ""},
		}, verdict{false, false, false, 0, "d-up", "check d-up has deregister_critical_service_after = 1h30m0s"}, "registered"},
		{"ghost", [][2]string{
			{"/v1/catalog/register", `{"Node":"legacy","Address":"10.0.0.9","Service":{"Service":"ghost"},"Check":{"CheckID":"g-up","ServiceID":"ghost","Status":"critical"}}`},
		}, verdict{false, false, false, 0, "g-up", "never by itself"}, "registered"},
		{"esm", [][2]string{
			{"/v1/catalog/register", `{"Node":"legacy","Address":"10.0.0.9","Service":{"Service":"esm"},"Check":{"CheckID":"e-up","ServiceID":"esm","Status":"critical","Definition":{"DeregisterCriticalServiceAfter":"2h"}}}`},
		}, verdict{false, false, false, 0, "e-up", "check e-up has DeregisterCriticalServiceAfter = 2h0m0s"}, "registered"},
		{"strange", [][2]string{
			{"/v1/catalog/register", `{"Node":"legacy","Address":"10.0.0.9","Service":{"Service":"strange"},"Check":{"CheckID":"s-up","ServiceID":"strange","Status":"unknown"}}`},
		}, verdict{true, false, false, 1, "s-up", "never by itself"}, "registered"},
	} {
		t.Run(c.service, func(t *testing.T) {
			for _, p := range c.puts {
				put(t, a, p[0], p[1])
			}
			path := "/v1/catalog/why/" + c.service
			got := eventually(t, a, path, func(got answer) bool {
				var r api.ServiceReasons
				if json.Unmarshal([]byte(got.body), &r) != nil || len(r.Instances) != 1 {
					return false
				}
				return r.Instances[0].Changes[0].Kind == c.last && strings.Join(r.Instances[0].DNS.Configured.Checks, " ") == c.want.checks
			})
			var r api.ServiceReasons
			if err := json.Unmarshal([]byte(got.body), &r); err != nil {
				t.Fatal(err)
			}
			in := r.Instances[0]
			have := verdict{in.DNS.Default.Answered, in.DNS.Configured.Answered, in.Passing.Answered, in.DNS.Default.Weight,
				strings.Join(in.DNS.Configured.Checks, " "), ""}
			if len(in.Removal) > 0 && strings.HasPrefix(in.Removal[0].Text, c.want.removal) {
				have.removal = c.want.removal
			}
			if have != c.want {
				t.Errorf("got %+v with %+v, want %+v", have, in.Removal, c.want)
			}
			byDNS, byPassing := answeredBy(t, a, c.service)
			if byDNS != in.DNS.Configured.Answered || byPassing != in.Passing.Answered || (r.Answering == 1) != byDNS || (r.Passing == 1) != byPassing {
				t.Errorf("DNS answers: %v, ?passing answers: %v; told are %+v", byDNS, byPassing, have)
			}
			// Who asked is known, though the agent wrote it.
			origin := in.Registered.Origin
			if origin == nil || origin.Node != "n1" || !strings.HasPrefix(origin.Address, "127.0.0.1:") || origin.Endpoint != "PUT "+c.puts[0][0] {
				t.Errorf("registered by %+v", origin)
			}
			for _, check := range in.Checks {
				if check.Turned.Time == nil || check.ReportedBy != "n1" {
					t.Errorf("check %s: turned %+v, reported by %q", check.CheckID, check.Turned, check.ReportedBy)
				}
			}
		})
	}
	t.Run("unknown", func(t *testing.T) {
		got := do(t, http.MethodGet, a.URL("/v1/catalog/why/nobody"), "")
		if got.code != http.StatusNotFound || !strings.Contains(got.body, `the service "nobody"`) || !strings.Contains(got.body, "history begins at index ") {
			t.Errorf("%d %s", got.code, got.body)
		}
	})
	t.Run("removed", func(t *testing.T) {
		put(t, a, "/v1/agent/service/deregister/passing", "")
		r := whyOf(t, a, "passing")
		if len(r.Instances) != 0 || len(r.Removed) != 1 || r.Removed[0].ServiceID != "passing" || r.Removed[0].Port != 80 {
			t.Fatalf("got %+v", r)
		}
		last := r.Removed[0].Changes[0]
		if last.Kind != "removed" || last.Origin.Endpoint != "PUT /v1/agent/service/deregister/" || last.Origin.Address == "" {
			t.Errorf("the last change is %+v", last)
		}
	})
	t.Run("node in maintenance", func(t *testing.T) {
		put(t, a, "/v1/agent/maintenance?enable=true&reason=new+disk", "")
		in := whyOf(t, a, "maintained").Instances[0]
		if v := in.DNS.Default; v.Answered || !slices.Equal(v.Checks, []string{"_node_maintenance", "_service_maintenance:maintained"}) {
			t.Errorf("got %+v", v)
		}
		if c := in.Checks[0]; c.CheckID != "_node_maintenance" || c.Scope != "node" || c.Notes != "new disk" {
			t.Errorf("got %+v", c)
		}
		for _, c := range in.Checks {
			want := map[string]string{"_node_maintenance": "PUT /v1/agent/maintenance", "_service_maintenance:maintained": "PUT /v1/agent/service/maintenance/"}[c.CheckID]
			if o := c.Written.Origin; want != "" && (o == nil || o.Node != "n1" || !strings.HasPrefix(o.Address, "127.0.0.1:") || o.Endpoint != want) {
				t.Errorf("check %s was written by %+v, want %s", c.CheckID, o, want)
			}
		}
	})
	t.Run("history cut off", func(t *testing.T) {
		// Who goes back to a snapshot begins anew.
		_, archive, err := a.Do(t.Context(), http.MethodGet, "/v1/snapshot", nil)
		if err != nil {
			t.Fatal(err)
		}
		put(t, a, "/v1/snapshot", archive)
		r := whyOf(t, a, "not-run-yet")
		in := r.Instances[0]
		want := fmt.Sprintf("history begins at index %d", r.History.Begins)
		if r.History.Text != want || in.Registered.Unknown != want || in.Registered.Index == 0 || in.Registered.Origin != nil || len(in.Changes) != 0 || in.Changes == nil {
			t.Errorf("got %+v of %+v", in, r.History)
		}
		if c := in.Checks[0]; c.Turned.Unknown != want || c.ReportedBy != "" {
			t.Errorf("got %+v", c)
		}
	})
}

func TestWhyOfAnAgentsInstance(t *testing.T) {
	a := agenttest.Start(t)
	why := func(id string) (*api.AgentReasons, answer) {
		t.Helper()
		got := do(t, http.MethodGet, a.URL("/v1/agent/why/service/"+id), "")
		var out api.AgentReasons
		if got.code == http.StatusOK {
			if err := json.Unmarshal([]byte(got.body), &out); err != nil {
				t.Fatal(err)
			}
		}
		return &out, got
	}
	put(t, a, "/v1/agent/service/register", `{"ID":"web/1","Name":"web","Checks":[{"CheckID":"up","TTL":"1h"},{"CheckID":"mirror","AliasService":"other"},
		{"CheckID":"probe","TCP":"127.0.0.1:1","Interval":"1h","Status":"warning","FailuresBeforeCritical":2}]}`)
	for _, status := range []string{"pass", "fail", "pass"} {
		put(t, a, "/v1/agent/check/"+status+"/up?note="+status, "")
		eventually(t, a, "/v1/health/checks/web", func(got answer) bool { return strings.Contains(got.body, `"`+status+`"`) })
	}
	put(t, a, "/v1/agent/check/pass/up?note=again", "")
	r, _ := why("web/1")
	if r.Service != "web" || r.ServiceID != "web/1" || r.Agent != "n1" || r.Local == nil || r.Catalog == nil || r.History == nil || r.Catalog.Local != nil {
		t.Fatalf("got %+v", r)
	}
	if !r.Local.Synced || r.Local.FromFile || r.Local.Flaps < 3 || r.Local.FlapWindow != "10m0s" {
		t.Errorf("local: %+v", r.Local)
	}
	local := map[string]*api.LocalCheckReasons{}
	for _, c := range r.Local.Checks {
		local[c.CheckID] = c
	}
	if c := local["up"]; c.Kind != "ttl" || c.TTL != "1h0m0s" || c.Flaps != 3 || c.Output != "again" || c.OutputDue == nil || c.LastRun == nil || c.NextRun == nil {
		t.Errorf("up: %+v", c)
	}
	if c := local["mirror"]; c.Kind != "alias" || c.AliasService != "other" || c.NextRun != nil {
		t.Errorf("mirror: %+v", c)
	}
	if c := local["probe"]; c.Kind != "tcp" || c.InitialStatus != "warning" || c.FailuresBeforeCritical != 2 || c.LastRun != nil || c.NextRun == nil || c.NextRun.After(time.Now().Add(time.Hour)) {
		t.Errorf("probe: %+v", c)
	}
	for _, c := range r.Catalog.Checks {
		if c.CheckID == "up" && c.Output != "pass" {
			t.Errorf("the catalog was told %q, though the output waits", c.Output)
		}
	}
	if in := whyOf(t, a, "web").Instances[0]; in.Local == nil || len(in.Local.Checks) != 3 {
		t.Errorf("the catalog's answer says of the agent's own instance: %+v", in.Local)
	}

	if _, got := why("nobody"); got.code != http.StatusNotFound || !strings.Contains(got.body, `Unknown service ID "nobody"`) {
		t.Errorf("unknown: %d %s", got.code, got.body)
	}
	// What somebody else wrote under this node.
	put(t, a, "/v1/catalog/register", `{"Node":"n1","Address":"127.0.0.1","SkipNodeUpdate":true,"Service":{"Service":"foreign"}}`)
	r, _ = why("foreign")
	if r.Local != nil || r.Catalog == nil || len(r.Catalog.Removal) != 1 || !strings.HasPrefix(r.Catalog.Removal[0].Text, "it is not registered at the agent") {
		t.Errorf("foreign: %+v", r.Catalog)
	}
	// What the catalog has not.
	put(t, a, "/v1/catalog/deregister", `{"Node":"n1","ServiceID":"web/1"}`)
	if r, _ = why("web/1"); r.Local == nil || r.Catalog != nil || r.CatalogUnknown != "the catalog does not know of it" {
		t.Errorf("deregistered behind the agent's back: %+v", r)
	}
}

func TestWhyOfAFailedNode(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 1, 2, agenttest.HCL(`performance { rpc_hold_timeout = "1s" }`))
	server, lost, asked := c.Servers[0], c.Clients[0], c.Clients[1]
	put(t, lost, "/v1/agent/service/register", `{"Name":"web","Check":{"CheckID":"up","TTL":"1h"}}`)
	put(t, lost, "/v1/agent/check/pass/up", "")
	c.Eventually("the instance answers", func() error {
		if r := whyOf(t, asked, "web"); len(r.Instances) != 1 || r.Answering != 1 {
			return fmt.Errorf("got %+v", r)
		}
		return nil
	})
	c.Net.Part([]string{lost.Name}, []string{server.Name, asked.Name})
	c.Eventually("the node fails", func() error {
		// Client agents ask the server, which has the history.
		r := whyOf(t, asked, "web")
		if len(r.Instances) != 1 || r.Answering != 0 {
			return fmt.Errorf("got %d instances, of which %d answer", len(r.Instances), r.Answering)
		}
		in := r.Instances[0]
		if len(in.Removal) == 0 || in.Removal[0].At == nil {
			return fmt.Errorf("%s has not noticed: %+v", asked.Name, in.Removal)
		}
		return nil
	})
	in := whyOf(t, asked, "web").Instances[0]
	if !slices.Equal(in.DNS.Configured.Checks, []string{"serfHealth"}) {
		t.Errorf("to blame are %v", in.DNS.Configured.Checks)
	}
	if wait := time.Until(*in.Removal[0].At); wait < 71*time.Hour || wait > 72*time.Hour {
		t.Errorf("it goes in %s: %+v", wait, in.Removal)
	}
	if in.Checks[0].CheckID != "serfHealth" || in.Checks[0].ReportedBy != server.Name || in.Checks[0].Turned.Origin.Endpoint != "leader" {
		t.Errorf("serfHealth: %+v, turned %+v", in.Checks[0], in.Checks[0].Turned)
	}
	if in.Checks[1].ReportedBy != lost.Name || in.Local != nil {
		t.Errorf("its own check: %+v", in.Checks[1])
	}
	// The lost agent still knows its own part.
	var alone api.AgentReasons
	c.Eventually("the lost agent answers without the catalog", func() error {
		return lost.GetJSON(t.Context(), "/v1/agent/why/service/web?stale", &alone)
	})
	if alone.Local == nil || alone.Catalog != nil || !strings.HasPrefix(alone.CatalogUnknown, "the catalog cannot be read: ") || alone.History != nil {
		t.Errorf("the lost agent: %+v", alone)
	}
}
