package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

type mockKeys struct {
	key   func(context.Context, mvcc.ReadOptions, *kv.Get) (*kv.Entry, mvcc.Meta, error)
	list  func(context.Context, mvcc.ReadOptions, *kv.List) ([]*kv.Entry, mvcc.Meta, error)
	keys  func(context.Context, mvcc.ReadOptions, *kv.Keys) ([]string, mvcc.Meta, error)
	apply func(context.Context, any) (bool, error)
}

func (m *mockKeys) Key(ctx context.Context, o mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error) {
	return m.key(ctx, o, q)
}
func (m *mockKeys) List(ctx context.Context, o mvcc.ReadOptions, q *kv.List) ([]*kv.Entry, mvcc.Meta, error) {
	return m.list(ctx, o, q)
}
func (m *mockKeys) Keys(ctx context.Context, o mvcc.ReadOptions, q *kv.Keys) ([]string, mvcc.Meta, error) {
	return m.keys(ctx, o, q)
}
func (m *mockKeys) ApplyKey(ctx context.Context, cmd any) (bool, error) { return m.apply(ctx, cmd) }

type mockCatalog struct {
	nodes        func(context.Context, mvcc.ReadOptions, *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error)
	nodeServices func(context.Context, mvcc.ReadOptions, *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error)
	instances    func(context.Context, mvcc.ReadOptions, *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error)
	services     func(context.Context, mvcc.ReadOptions, *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error)
	register     func(context.Context, string, *health.Register) error
	deregister   func(context.Context, string, *catalog.Deregister) error
}

func (m *mockCatalog) Nodes(ctx context.Context, o mvcc.ReadOptions, q *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
	return m.nodes(ctx, o, q)
}
func (m *mockCatalog) NodeServices(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
	return m.nodeServices(ctx, o, q)
}
func (m *mockCatalog) Instances(ctx context.Context, o mvcc.ReadOptions, q *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error) {
	return m.instances(ctx, o, q)
}
func (m *mockCatalog) Services(ctx context.Context, o mvcc.ReadOptions, q *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error) {
	return m.services(ctx, o, q)
}
func (m *mockCatalog) Register(ctx context.Context, dc string, r *health.Register) error {
	return m.register(ctx, dc, r)
}
func (m *mockCatalog) Deregister(ctx context.Context, dc string, d *catalog.Deregister) error {
	return m.deregister(ctx, dc, d)
}

type mockHealth struct {
	service func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error)
	node    func(context.Context, mvcc.ReadOptions, *health.NodeChecks) ([]*health.Check, mvcc.Meta, error)
	checks  func(context.Context, mvcc.ReadOptions, *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error)
	state   func(context.Context, mvcc.ReadOptions, *health.StateChecks) ([]*health.Check, mvcc.Meta, error)
}

func (m *mockHealth) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	return m.service(ctx, o, q)
}
func (m *mockHealth) NodeChecks(ctx context.Context, o mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
	return m.node(ctx, o, q)
}
func (m *mockHealth) ServiceChecks(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error) {
	return m.checks(ctx, o, q)
}
func (m *mockHealth) StateChecks(ctx context.Context, o mvcc.ReadOptions, q *health.StateChecks) ([]*health.Check, mvcc.Meta, error) {
	return m.state(ctx, o, q)
}

type mockTxn struct {
	transact func(context.Context, mvcc.ReadOptions, *health.Transaction) (*health.Outcome, mvcc.Meta, error)
}

func (m *mockTxn) Transact(ctx context.Context, o mvcc.ReadOptions, t *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
	return m.transact(ctx, o, t)
}

type mockStatus struct {
	leader func(string) (string, error)
	peers  func(string) ([]string, error)
}

func (m *mockStatus) Leader(_ context.Context, dc string) (string, error)  { return m.leader(dc) }
func (m *mockStatus) Peers(_ context.Context, dc string) ([]string, error) { return m.peers(dc) }
func (m *mockStatus) Datacenters(context.Context) ([]string, error)        { return []string{"dc1"}, nil }

type mockLocal struct {
	services      func() []LocalService
	changed       func() <-chan struct{}
	checks        func() []*health.Check
	addService    func(check.Registration, bool) error
	removeService func(string) error
	addCheck      func(check.Definition) error
	removeCheck   func(string) error
	updateTTL     func(string, health.Status, string) error
	maintenance   func(id string, on bool, reason string) error
}

func (m *mockLocal) Services() []LocalService { return m.services() }
func (m *mockLocal) WatchService(id string) (*catalog.Service, <-chan struct{}) {
	var changed <-chan struct{}
	if m.changed != nil {
		changed = m.changed()
	}
	for _, s := range m.services() {
		if s.Service.ID == id {
			return s.Service, changed
		}
	}
	return nil, nil
}
func (m *mockLocal) Checks() []*health.Check { return m.checks() }
func (m *mockLocal) AddService(_ context.Context, r check.Registration, replace bool) error {
	return m.addService(r, replace)
}
func (m *mockLocal) RemoveService(_ context.Context, id string) error     { return m.removeService(id) }
func (m *mockLocal) AddCheck(_ context.Context, d check.Definition) error { return m.addCheck(d) }
func (m *mockLocal) RemoveCheck(_ context.Context, id string) error       { return m.removeCheck(id) }
func (m *mockLocal) UpdateTTL(_ context.Context, id string, s health.Status, out string) error {
	return m.updateTTL(id, s, out)
}

func (m *mockLocal) SetNodeMaintenance(_ context.Context, on bool, reason string) error {
	return m.maintenance("", on, reason)
}
func (m *mockLocal) SetServiceMaintenance(_ context.Context, id string, on bool, reason string) error {
	return m.maintenance(id, on, reason)
}

type mockAgent struct {
	self       func() Self
	members    func() []Member
	membersWAN func() []Member
	host       func() Host
	join       func(address string, wan bool) error
	forceLeave func(node string, wan, prune bool) error
	leave      func()
	reload     func() (ReloadReport, error)
}

func (m *mockAgent) Self() Self           { return m.self() }
func (m *mockAgent) Members() []Member    { return m.members() }
func (m *mockAgent) MembersWAN() []Member { return m.membersWAN() }
func (m *mockAgent) Host() Host           { return m.host() }
func (m *mockAgent) Join(_ context.Context, address string, wan bool) error {
	return m.join(address, wan)
}
func (m *mockAgent) ForceLeave(_ context.Context, node string, wan, prune bool) error {
	return m.forceLeave(node, wan, prune)
}
func (m *mockAgent) Leave() { m.leave() }
func (m *mockAgent) Reload(context.Context) (ReloadReport, error) {
	return m.reload()
}

type mockTelemetry struct {
	request func(method, path string)
	metrics func() Metrics
	follow  func(context.Context, func(Metrics) error)
	monitor func(context.Context, slog.Level, bool) (<-chan []byte, error)
}

func (m *mockTelemetry) Request(method, path string, _ time.Duration) { m.request(method, path) }
func (m *mockTelemetry) Metrics() Metrics                             { return m.metrics() }
func (m *mockTelemetry) FollowMetrics(ctx context.Context, give func(Metrics) error) {
	m.follow(ctx, give)
}
func (m *mockTelemetry) Monitor(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error) {
	return m.monitor(ctx, level, asJSON)
}

// here is what an answer of the leader stands on.
var here = mvcc.Meta{Index: 7, KnownLeader: true}

// mocks are the parts of an interface under test. All reads find nothing and
// all changes succeed until a test says otherwise.
type mocks struct {
	keys      mockKeys
	catalog   mockCatalog
	health    mockHealth
	txn       mockTxn
	status    mockStatus
	local     mockLocal
	agent     mockAgent
	measure   mockTelemetry
	operator  mockOperator
	snapshots mockSnapshots
	config    Config
}

func newMocks() *mocks {
	noChecks := []*health.Check(nil)
	return &mocks{
		keys: mockKeys{
			key: func(context.Context, mvcc.ReadOptions, *kv.Get) (*kv.Entry, mvcc.Meta, error) { return nil, here, nil },
			list: func(context.Context, mvcc.ReadOptions, *kv.List) ([]*kv.Entry, mvcc.Meta, error) {
				return nil, here, nil
			},
			keys:  func(context.Context, mvcc.ReadOptions, *kv.Keys) ([]string, mvcc.Meta, error) { return nil, here, nil },
			apply: func(context.Context, any) (bool, error) { return true, nil },
		},
		catalog: mockCatalog{
			nodes: func(context.Context, mvcc.ReadOptions, *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
				return nil, here, nil
			},
			nodeServices: func(context.Context, mvcc.ReadOptions, *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
				return nil, here, nil
			},
			instances: func(context.Context, mvcc.ReadOptions, *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error) {
				return nil, here, nil
			},
			services: func(context.Context, mvcc.ReadOptions, *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error) {
				return nil, here, nil
			},
			register:   func(context.Context, string, *health.Register) error { return nil },
			deregister: func(context.Context, string, *catalog.Deregister) error { return nil },
		},
		health: mockHealth{
			service: func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
				return nil, here, nil
			},
			node: func(context.Context, mvcc.ReadOptions, *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
				return noChecks, here, nil
			},
			checks: func(context.Context, mvcc.ReadOptions, *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error) {
				return noChecks, here, nil
			},
			state: func(context.Context, mvcc.ReadOptions, *health.StateChecks) ([]*health.Check, mvcc.Meta, error) {
				return noChecks, here, nil
			},
		},
		txn: mockTxn{
			transact: func(context.Context, mvcc.ReadOptions, *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
				return &health.Outcome{}, here, nil
			},
		},
		status: mockStatus{
			leader: func(string) (string, error) { return "127.0.0.1:8300", nil },
			peers:  func(string) ([]string, error) { return nil, nil },
		},
		local: mockLocal{
			services:      func() []LocalService { return nil },
			checks:        func() []*health.Check { return nil },
			addService:    func(check.Registration, bool) error { return nil },
			removeService: func(string) error { return nil },
			addCheck:      func(check.Definition) error { return nil },
			removeCheck:   func(string) error { return nil },
			updateTTL:     func(string, health.Status, string) error { return nil },
			maintenance:   func(string, bool, string) error { return nil },
		},
		agent: mockAgent{
			self:       func() Self { return Self{} },
			members:    func() []Member { return nil },
			membersWAN: func() []Member { return nil },
			host:       func() Host { return Host{} },
			join:       func(string, bool) error { return nil },
			forceLeave: func(string, bool, bool) error { return nil },
			leave:      func() {},
			reload:     func() (ReloadReport, error) { return ReloadReport{}, nil },
		},
		measure: mockTelemetry{
			request: func(string, string) {},
			metrics: func() Metrics { return Metrics{} },
			follow:  func(context.Context, func(Metrics) error) {},
			monitor: func(context.Context, slog.Level, bool) (<-chan []byte, error) {
				return nil, errors.New("nobody follows the log here")
			},
		},
		operator: mockOperator{
			raft:     func(mvcc.ReadOptions) (RaftConfiguration, error) { return RaftConfiguration{}, nil },
			remove:   func(string, PeerName) error { return nil },
			transfer: func(string, string) error { return nil },
			config:   func(mvcc.ReadOptions) (AutopilotConfig, error) { return DefaultAutopilot(), nil },
			set:      func(string, AutopilotConfig, *uint64) (bool, error) { return true, nil },
			health:   func(mvcc.ReadOptions) (AutopilotHealth, error) { return AutopilotHealth{Healthy: true}, nil },
			state:    func(mvcc.ReadOptions) (AutopilotState, error) { return AutopilotState{}, nil },
			usage: func(context.Context, mvcc.ReadOptions, bool) (map[string]Usage, mvcc.Meta, error) {
				return nil, here, nil
			},
		},
		snapshots: mockSnapshots{
			save:    func(_ mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error { begin(here); return nil },
			restore: func(string, io.Reader) error { return nil },
		},
		config: Config{Datacenter: "dc1", NodeName: "n1"},
	}
}

func (m *mocks) handler(t testing.TB) *Handler {
	t.Helper()
	h, err := New(Deps{Config: m.config, Keys: &m.keys, Catalog: &m.catalog, Health: &m.health, Txn: &m.txn, Status: &m.status,
		Local: &m.local, Agent: &m.agent, Operator: &m.operator, Snapshots: &m.snapshots, Telemetry: &m.measure, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// do sends one request, written as "METHOD target", and returns the answer.
func do(t testing.TB, h http.Handler, request, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// exchange is one request and what is expected of its answer.
type exchange struct {
	request string // "METHOD target"
	send    string
	status  int
	body    string
	headers []string // of the request: name, value, …
}

func run(t *testing.T, h http.Handler, exchanges []exchange) {
	t.Helper()
	for _, x := range exchanges {
		t.Run(x.request, func(t *testing.T) {
			w := do(t, h, x.request, x.send, x.headers...)
			if w.Code != x.status || w.Body.String() != x.body {
				t.Errorf("sent %q\n got %d %q\nwant %d %q", x.send, w.Code, w.Body.String(), x.status, x.body)
			}
		})
	}
}
