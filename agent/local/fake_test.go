package local

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// fakeCatalog is the catalog of one node, with a diary of what was written.
type fakeCatalog struct {
	mu       sync.Mutex
	node     *catalog.Node
	services map[string]*catalog.Service
	checks   map[string]*health.Check
	diary    []string
	reads    []time.Time
	fault    func(c *health.Register) error // of a registration; nil is none
	down     error                          // of every call
}

func newFakeCatalog() *fakeCatalog {
	return &fakeCatalog{services: map[string]*catalog.Service{}, checks: map[string]*health.Check{}}
}

func (f *fakeCatalog) NodeServices(_ context.Context, _ mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, time.Now())
	if f.down != nil || f.node == nil {
		return nil, mvcc.Meta{}, f.down
	}
	detail := &catalog.NodeDetail{Node: f.node}
	for _, id := range slices.Sorted(maps.Keys(f.services)) {
		detail.Services = append(detail.Services, f.services[id])
	}
	return detail, mvcc.Meta{}, nil
}

func (f *fakeCatalog) NodeChecks(context.Context, mvcc.ReadOptions, *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*health.Check
	for _, id := range slices.Sorted(maps.Keys(f.checks)) {
		out = append(out, f.checks[id])
	}
	return out, mvcc.Meta{}, f.down
}

func (f *fakeCatalog) Register(_ context.Context, _ string, c *health.Register) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return f.down
	}
	if err := c.Normalize(); err != nil {
		return err
	}
	if f.fault != nil {
		if err := f.fault(c); err != nil {
			return err
		}
	}
	var wrote []string
	if !c.SkipNodeUpdate || f.node == nil {
		f.node = &c.Node
		wrote = append(wrote, "node")
	}
	if c.Service != nil {
		s := *c.Service
		s.Node = f.node.Name
		f.services[s.ID] = &s
		wrote = append(wrote, s.ID)
	}
	for _, check := range c.Checks {
		check.ServiceName, check.ServiceTags = "", []string{}
		if check.ServiceID != "" {
			s := f.services[check.ServiceID]
			if s == nil {
				return &mvcc.Error{Code: mvcc.Invalid, Text: "Unknown service ID " + check.ServiceID}
			}
			check.ServiceName, check.ServiceTags = s.Name, s.Tags
		}
		f.checks[check.ID] = &check
		wrote = append(wrote, fmt.Sprintf("%s=%s", check.ID, check.Status))
	}
	f.diary = append(f.diary, "+"+strings.Join(wrote, ","))
	return nil
}

func (f *fakeCatalog) Deregister(_ context.Context, _ string, d *catalog.Deregister) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return f.down
	}
	f.diary = append(f.diary, "-"+d.ServiceID+d.CheckID)
	delete(f.services, d.ServiceID)
	delete(f.checks, d.CheckID)
	if d.ServiceID != "" {
		maps.DeleteFunc(f.checks, func(_ string, c *health.Check) bool { return c.ServiceID == d.ServiceID })
	}
	return nil
}

// wrote returns the diary since it was last asked for.
func (f *fakeCatalog) wrote() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := strings.Join(f.diary, " ")
	f.diary = nil
	return out
}

// output is what the catalog knows a check to have said.
func (f *fakeCatalog) output(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.checks[id]; c != nil {
		return c.Output
	}
	return "no such check"
}

// service is an instance as the catalog has it.
func (f *fakeCatalog) service(id string) catalog.Service {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.services[id]; s != nil {
		return *s
	}
	return catalog.Service{}
}

// rows is how many instances and checks the catalog has.
func (f *fakeCatalog) rows() (services, checks int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.services), len(f.checks)
}

func (f *fakeCatalog) setFault(fault func(*health.Register) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fakeCatalog) setDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

var testNode = catalog.Node{ID: "11111111-2222-3333-4444-555555555555", Name: "one", Address: "10.0.0.1"}

// open returns a loaded registry with the given settings.
func open(t testing.TB, cfg Config) *Registry {
	t.Helper()
	cfg.Node = testNode
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Load(nil, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// running runs r until the returned function is called.
func running(r *Registry, cat Catalog) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Run(ctx, cat); close(done) }()
	return func() { cancel(); <-done }
}

func web(id string, checks ...check.Definition) check.Registration {
	return check.Registration{Service: catalog.Service{ID: id, Name: "web", Port: 80}, Checks: checks}
}

func ttl(id string) check.Definition {
	return check.Definition{ID: id, Name: id, TTL: time.Hour}
}

// add registers and fails the test if that is refused.
func add(t testing.TB, r *Registry, reg check.Registration) {
	t.Helper()
	if err := r.AddService(t.Context(), reg, false); err != nil {
		t.Fatal(err)
	}
}

// states lists the checks as id=status.
func states(r *Registry) string {
	var out []string
	for _, c := range r.Checks() {
		out = append(out, fmt.Sprintf("%s=%s", c.ID, c.Status))
	}
	return strings.Join(out, " ")
}

// ids lists the services.
func ids(r *Registry) string {
	var out []string
	for _, s := range r.Services() {
		out = append(out, s.ID)
	}
	return strings.Join(out, " ")
}

func expect(t testing.TB, about, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", about, got, want)
	}
}
