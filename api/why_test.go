package api

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

type mockWhy struct {
	service  func(mvcc.ReadOptions, string) (*ServiceReasons, mvcc.Meta, error)
	instance func(mvcc.ReadOptions, string) (*AgentReasons, mvcc.Meta, error)
}

func (m *mockWhy) WhyService(_ context.Context, o mvcc.ReadOptions, service string) (*ServiceReasons, mvcc.Meta, error) {
	return m.service(o, service)
}
func (m *mockWhy) WhyInstance(_ context.Context, o mvcc.ReadOptions, id string) (*AgentReasons, mvcc.Meta, error) {
	return m.instance(o, id)
}

// whyHandler is an interface that explains.
func whyHandler(t *testing.T, why Why) *Handler {
	t.Helper()
	m := newMocks()
	h, err := New(Deps{Config: m.config, Keys: &m.keys, Catalog: &m.catalog, Health: &m.health, Txn: &m.txn, Status: &m.status,
		Local: &m.local, Agent: &m.agent, Why: why, Telemetry: &m.measure, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCatalogWhy(t *testing.T) {
	var asked []string
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	reach := HistoryReach{Begins: 5, Time: &at, Text: "history begins at index 5"}
	full := &ServiceReasons{
		Service: "web", Datacenter: "dc1", Agent: "n1", Answering: 1, Passing: 0, History: reach,
		Instances: []*InstanceReasons{{
			Node: "n2", NodeID: "id", NodeAddress: "10.0.0.2", ServiceID: "web-1", Service: "web", Address: "10.0.0.2", Port: 80, Tags: []string{},
			Weights: catalog.Weights{Passing: 1, Warning: 1},
			DNS:     DNSVerdict{Default: Verdict{true, 1, []string{}}, Configured: Verdict{true, 1, []string{}}},
			Passing: Verdict{false, 0, []string{"up"}},
			Checks: []*CheckReasons{{CheckID: "up", Scope: "service", Status: "warning", ReportedBy: "n2",
				Turned:  StepReasons{Index: 9, Time: &at, Origin: &ChangeOrigin{Node: "n2", Endpoint: "anti-entropy"}},
				Written: StepReasons{Unknown: reach.Text}}},
			Registered: StepReasons{Index: 3, Unknown: reach.Text}, Written: StepReasons{Index: 3, Unknown: reach.Text},
			Removal: []Removal{{Text: "never"}}, Changes: []*ChangeReasons{{Index: 9, Time: at, Kind: "check turned", CheckID: "up", Fields: []FieldReasons{{"Status", "passing", "warning"}}}},
		}},
		Removed: []*RemovedReasons{},
	}
	h := whyHandler(t, &mockWhy{service: func(o mvcc.ReadOptions, service string) (*ServiceReasons, mvcc.Meta, error) {
		asked = append(asked, fmt.Sprintf("%s %v %d", service, o.Mode, o.Index))
		switch service {
		case "web":
			return full, here, nil
		case "lost":
			return nil, mvcc.Meta{}, noLeader
		}
		return &ServiceReasons{Service: service, History: reach}, here, nil
	}})
	const body = `{"Service":"web","Datacenter":"dc1","Agent":"n1","OnlyPassing":false,"Answering":1,"Passing":0,"Instances":[` +
		`{"Node":"n2","NodeID":"id","NodeAddress":"10.0.0.2","ServiceID":"web-1","Service":"web","Address":"10.0.0.2","Port":80,"Tags":[],"Weights":{"Passing":1,"Warning":1},` +
		`"DNS":{"Default":{"Answered":true,"Weight":1,"Checks":[]},"Configured":{"Answered":true,"Weight":1,"Checks":[]}},"Passing":{"Answered":false,"Weight":0,"Checks":["up"]},` +
		`"Checks":[{"CheckID":"up","Name":"","Scope":"service","Status":"warning","Output":"",` +
		`"Turned":{"Index":9,"Time":"2026-11-21T03:00:00Z","Origin":{"Node":"n2","Address":"","Endpoint":"anti-entropy"}},"Written":{"Unknown":"history begins at index 5"},"ReportedBy":"n2"}],` +
		`"Registered":{"Index":3,"Unknown":"history begins at index 5"},"Written":{"Index":3,"Unknown":"history begins at index 5"},"Removal":[{"At":null,"Text":"never"}],` +
		`"Changes":[{"Index":9,"Time":"2026-11-21T03:00:00Z","Origin":{"Node":"","Address":"","Endpoint":""},"Kind":"check turned","CheckID":"up","Fields":[{"Field":"Status","Before":"passing","After":"warning"}]}],"ChangesCut":false}],` +
		`"Removed":[],"RemovedCut":false,"History":{"Begins":5,"Time":"2026-11-21T03:00:00Z","Text":"history begins at index 5"}}`
	run(t, h, []exchange{
		{request: "GET /v1/catalog/why/web", status: 200, body: body},
		{request: "GET /v1/catalog/why/web?stale&index=6&wait=1s", status: 200, body: body},
		{request: "GET /v1/catalog/why/a%2Fb", status: 404,
			body: `No instance of the service "a/b" is known, and none was removed lately: history begins at index 5`},
		{request: "GET /v1/catalog/why/lost", status: 500, body: "No cluster leader"},
		{request: "GET /v1/catalog/why/", status: 400, body: textMissingService},
		{request: "GET /v1/catalog/why/web?stale&consistent", status: 400, body: textStaleConsistent},
		{request: "PUT /v1/catalog/why/web", status: 405, body: "method PUT not allowed"},
	})
	if got, want := fmt.Sprint(asked), "[web leader 0 web stale 6 a/b leader 0 lost leader 0]"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	for _, request := range []string{"GET /v1/catalog/why/web", "GET /v1/catalog/why/nobody"} {
		if got := do(t, h, request, "").Header().Get("X-Consul-Index"); got != "7" {
			t.Errorf("%s: the index is %q", request, got)
		}
	}
}

func TestAgentWhy(t *testing.T) {
	var asked []string
	h := whyHandler(t, &mockWhy{instance: func(o mvcc.ReadOptions, id string) (*AgentReasons, mvcc.Meta, error) {
		asked = append(asked, fmt.Sprintf("%s %v %d", id, o.Mode, o.Index))
		if id != "web/1" {
			return nil, mvcc.Meta{}, unknown
		}
		return &AgentReasons{Agent: "n1", ServiceID: id, Service: "web", CatalogUnknown: "gone",
			Local: &LocalReasons{Synced: true, Flaps: 2, FlapWindow: "10m0s", Checks: []*LocalCheckReasons{{CheckID: "up", Kind: "ttl"}}}}, here, nil
	}})
	run(t, h, []exchange{
		{request: "GET /v1/agent/why/service/web/1?stale&index=5", status: 200,
			body: `{"Agent":"n1","OnlyPassing":false,"ServiceID":"web/1","Service":"web","Local":{"FromFile":false,"Synced":true,"Refused":false,"Flaps":2,"FlapWindow":"10m0s","Checks":[` +
				`{"CheckID":"up","Name":"","Scope":"","Kind":"ttl","Status":"","Output":"","OutputDue":null,"Since":"0001-01-01T00:00:00Z","Flaps":0,"InitialStatus":"","LastRun":null,"NextRun":null,"RemoveAt":null,"FromFile":false,"Synced":false}]},` +
				`"Catalog":null,"CatalogUnknown":"gone","History":null}`},
		{request: "GET /v1/agent/why/service/nobody", status: 404, body: "not known to me"},
		{request: "GET /v1/agent/why/service/", status: 400, body: "Missing service ID"},
	})
	// The agent's own part is as of now, so nobody can wait for a change of it.
	if got, want := fmt.Sprint(asked), "[web/1 stale 0 nobody leader 0]"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestWhyMayBeMissing(t *testing.T) {
	h := whyHandler(t, nil)
	for _, request := range []string{"GET /v1/catalog/why/web", "GET /v1/agent/why/service/web"} {
		if w := do(t, h, request, ""); w.Code != 501 {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
}
