package state

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// reads are the questions whose answers, indexes and watches are told apart
// below, by a short name.
var reads = []struct {
	name  string
	query any
}{
	{"web", &health.ServiceQuery{Service: "web"}},
	{"db", &health.ServiceQuery{Service: "db"}},
	{"none", &health.ServiceQuery{Service: "none"}},
	{"nodes", &catalog.Nodes{}},
	{"services", &catalog.Services{}},
	{"n1", &catalog.NodeServices{Node: "n1"}},
	{"n2", &catalog.NodeServices{Node: "n2"}},
	{"checks", &health.StateChecks{State: "any"}},
	{"key a", &kv.Get{Key: "a"}},
	{"tree a/", &kv.List{Prefix: "a/"}},
}

func node(name, addr string) *health.Register {
	return &health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: name, Address: addr}}}
}

func on(r *health.Register, service *catalog.Service, checks ...health.Check) *health.Register {
	r.SkipNodeUpdate, r.Service, r.Checks = true, service, checks
	return r
}

// TestWhatMoves runs one story and says after each command which reads are
// woken, and which indexes move to the command's own.
func TestWhatMoves(t *testing.T) {
	web := &catalog.Service{ID: "web", Name: "web", Port: 80}
	db := &catalog.Service{ID: "db", Name: "db"}
	alive := health.Check{ID: "serfHealth", Status: health.Passing}
	failed := health.Check{ID: "serfHealth", Status: health.Critical}
	up := health.Check{ID: "up", ServiceID: "web", Status: health.Passing}
	down := health.Check{ID: "up", ServiceID: "web", Status: health.Critical}
	story := []struct {
		what  string
		cmd   any
		moves []string // indexes that are the command's
		wakes []string // watches that fire, if not the same
	}{
		{"a node", node("n1", "10.0.0.1"), []string{"nodes", "n1"}, nil},
		{"the same node again", node("n1", "10.0.0.1"), nil, nil},
		{"an instance", on(node("n1", ""), web), []string{"web", "nodes", "services", "n1"}, nil},
		{"another service on it", on(node("n1", ""), db), []string{"db", "nodes", "services", "n1"}, nil},
		{"a check of the instance", on(node("n1", ""), nil, up), []string{"web", "checks"}, nil},
		{"it turns critical", on(node("n1", ""), nil, down), []string{"web", "checks"}, nil},
		{"the same again", on(node("n1", ""), nil, down), nil, nil},
		{"a check of the node", on(node("n1", ""), nil, alive), []string{"web", "db", "checks"}, nil},
		{"the node fails", on(node("n1", ""), nil, failed), []string{"web", "db", "checks"}, nil},
		{"the node moves", node("n1", "10.0.0.9"), []string{"web", "db", "nodes", "n1"}, nil},
		{"another node", node("n2", "10.0.0.2"), []string{"nodes", "n2"}, nil},
		{"an instance there", on(node("n2", ""), web), []string{"web", "nodes", "services", "n2"}, nil},
		{"the first instance goes", &catalog.Deregister{Node: "n1", ServiceID: "web"}, []string{"web", "checks", "nodes", "services", "n1"}, nil},
		{"the other node goes", &catalog.Deregister{Node: "n2"}, []string{"web", "none", "nodes", "services", "n2"}, []string{"web", "nodes", "services", "n2"}},
		{"a service nobody has is removed", &catalog.Deregister{Node: "n1", ServiceID: "web"}, nil, nil},
		{"a key", &kv.Set{Key: "a"}, []string{"key a", "tree a/"}, []string{"key a"}},
		{"a key below", &kv.Set{Key: "a/b"}, []string{"tree a/"}, nil},
		{"a tree around it goes", &kv.DeleteTree{Prefix: "a"}, []string{"key a", "tree a/"}, nil},
		{"nothing is left to go", &kv.DeleteTree{Prefix: "a"}, nil, nil},
	}
	m := NewMachine()
	for i, step := range story {
		index := uint64(i + 10)
		watches := map[string]*mvcc.Watch{}
		for _, r := range reads {
			watches[r.name] = &mvcc.Watch{}
			if _, err := m.View().Answer(r.query, watches[r.name]); err != nil {
				t.Fatal(err)
			}
		}
		if reg, ok := step.cmd.(*health.Register); ok {
			if err := reg.Normalize(); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
		}
		if res := m.Apply(entry(t, index, step.cmd)).(Result); res.Err != nil {
			t.Fatalf("%s: %v", step.what, res.Err)
		}
		var moved, woken []string
		for _, r := range reads {
			a, err := m.View().Answer(r.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a.Index == index && (slices.Contains(step.moves, r.name) || !empty(a.Value)) {
				moved = append(moved, r.name)
			}
			if fired(watches[r.name]) {
				woken = append(woken, r.name)
			}
		}
		// What is not there has the index of its table, and wakes for neighbours
		// now and then: the reader looks again and sleeps on.
		for _, name := range step.moves {
			if !slices.Contains(moved, name) {
				t.Errorf("%s: the index of %s does not move", step.what, name)
			}
		}
		for _, name := range moved {
			if !slices.Contains(step.moves, name) {
				t.Errorf("%s: the index of %s moves", step.what, name)
			}
		}
		wakes := step.wakes
		if wakes == nil {
			wakes = step.moves
		}
		for _, name := range wakes {
			if !slices.Contains(woken, name) {
				t.Errorf("%s: %s is not woken", step.what, name)
			}
		}
		if m.View().Hash() != m.View().Recount() {
			t.Errorf("%s: the hash is not the recount", step.what)
		}
	}
}

// empty reports whether an answer found nothing.
func empty(value any) bool {
	v := reflect.ValueOf(value)
	return v.Kind() == reflect.Slice && v.Len() == 0 || v.Kind() == reflect.Pointer && v.IsNil()
}

func fired(w *mvcc.Watch) bool {
	done, cancel := canceled()
	defer cancel()
	// A watch that has fired wins at once; one that has not ends by the context.
	for range 64 {
		if w.Wait(done, nil) {
			return true
		}
	}
	return false
}

func TestAnExactWatchSleepsThroughNeighbours(t *testing.T) {
	m := NewMachine()
	for i := range 50 {
		m.Apply(entry(t, uint64(i+1), registration(i, 80)))
	}
	watch := &mvcc.Watch{}
	if _, err := m.View().Answer(&health.ServiceQuery{Service: "web7"}, watch); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if i != 7 && i/10 != 0 {
			m.Apply(entry(t, uint64(100+i), registration(i, 81)))
		}
	}
	if fired(watch) {
		t.Error("a watcher of one service was woken by others")
	}
	m.Apply(entry(t, 200, registration(7, 81)))
	if !fired(watch) {
		t.Error("a watcher was not woken by its own service")
	}
}

func TestWhoANodeIs(t *testing.T) {
	const id1, id2 = "11111111-2222-4333-8444-555555555501", "11111111-2222-4333-8444-555555555502"
	withID := func(name, id, addr string, checks ...health.Check) *health.Register {
		r := node(name, addr)
		r.Node.ID, r.Checks = id, checks
		return r
	}
	alive := health.Check{ID: "serfHealth", Status: health.Passing}
	failed := health.Check{ID: "serfHealth", Status: health.Critical}
	cases := []struct {
		what  string
		first []*health.Register
		then  *health.Register
		err   string
		nodes string
	}{
		{"a known ID under a new name renames", []*health.Register{withID("a", id1, "1.1.1.1")}, withID("b", id1, "1.1.1.1"), "", "b=" + id1},
		{"a known name with another ID, no serfHealth", []*health.Register{withID("a", id1, "1.1.1.1")}, withID("a", id2, "1.1.1.2"), "", "a=" + id2},
		{"a known name with another ID, failed", []*health.Register{withID("a", id1, "1.1.1.1", failed)}, withID("a", id2, "1.1.1.2"), "", "a=" + id2},
		{"a known name with another ID, alive", []*health.Register{withID("a", id1, "1.1.1.1", alive)}, withID("a", id2, "1.1.1.2"),
			`failed inserting node: Error while renaming Node ID: "` + id2 + `" (1.1.1.2): Node name a is reserved by node ` + id1 + ` with name a (1.1.1.1)`, "a=" + id1},
		{"a name without an ID takes one", []*health.Register{node("a", "1.1.1.1")}, withID("a", id1, "1.1.1.1"), "", "a=" + id1},
		{"an ID is cleared", []*health.Register{withID("a", id1, "1.1.1.1")}, node("a", "1.1.1.1"), "", "a="},
		{"a swap of names", []*health.Register{withID("a", id1, "1.1.1.1"), withID("b", id2, "1.1.1.2")}, withID("b", id1, "1.1.1.1"), "", "b=" + id1},
	}
	for _, c := range cases {
		m := NewMachine()
		for i, r := range c.first {
			m.Apply(entry(t, uint64(i+1), r))
		}
		res := m.Apply(entry(t, 9, c.then)).(Result)
		if got := ""; res.Err != nil {
			if got = res.Err.Text; got != c.err {
				t.Errorf("%s: error %q, want %q", c.what, got, c.err)
			}
		} else if c.err != "" {
			t.Errorf("%s: no error", c.what)
		}
		a, err := m.View().Answer(&catalog.Nodes{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, n := range a.Value.([]*catalog.Node) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%s=%s", n.Name, n.ID)
		}
		if got != c.nodes {
			t.Errorf("%s: nodes %q, want %q", c.what, got, c.nodes)
		}
	}
}
