package state

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// past applies commands, the first at index 10, each as asked for by somebody
// else: the caller at 192.0.2.<index>.
type past struct {
	t     *testing.T
	m     *Machine
	index uint64
}

func newPast(t *testing.T) *past { return &past{t: t, m: NewMachine(), index: 9} }

func (p *past) do(cmd any) *past {
	p.t.Helper()
	p.index++
	b, err := Encode(cmd, int64(p.index)*1000, mvcc.Origin{Node: "agent", Address: fmt.Sprintf("192.0.2.%d", p.index), Endpoint: "PUT /v1/test"})
	if err != nil {
		p.t.Fatal(err)
	}
	if r := p.m.Apply(&raft.Log{Index: p.index, Data: b}).(Result); r.Err != nil {
		p.t.Fatal(r.Err)
	}
	return p
}

// node registers a node, service an instance and check a check: of the node if
// its ID begins with "node", else of the instance.
func (p *past) node(name, address string) *past {
	return p.do(&health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: name, Address: address}}})
}

func (p *past) service(node, id, name string, port int, tags ...string) *past {
	return p.do(&health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: node}, SkipNodeUpdate: true,
		Service: &catalog.Service{ID: id, Name: name, Port: port, Tags: tags}}})
}

func (p *past) check(node, id, service string, status health.Status, output string) *past {
	return p.do(&health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: node}, SkipNodeUpdate: true},
		Checks: []health.Check{{ID: id, Name: "name of " + id, ServiceID: service, Status: status, Output: output}}})
}

// why asks for a service and writes down what is answered.
func (p *past) why(service string) string {
	p.t.Helper()
	a, err := p.m.View().Answer(&Why{Service: service}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return told(a.Value.(*Reasons))
}

func told(r *Reasons) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s since %d", r.Service, r.Begins)
	if r.GoneCut {
		b.WriteString(", more are gone")
	}
	b.WriteString("\n")
	for i, list := range [][]Reason{r.Instances, r.Gone} {
		for _, in := range list {
			fmt.Fprintf(&b, "%s %s/%s registered %s written %s\n", []string{"there", "gone"}[i], in.Service.Node, in.Service.ID,
				stepped(in.Registered), stepped(in.Written))
			for _, c := range in.Checks {
				fmt.Fprintf(&b, "  %s is %s: turned %s written %s\n", c.Check.ID, c.Check.Status, stepped(c.Turned), stepped(c.Written))
			}
			for _, c := range in.Changes {
				fmt.Fprintf(&b, "  - %d %s", c.Step.Index, c.Kind)
				if c.CheckID != "" {
					fmt.Fprintf(&b, " %s(%v) %q", c.CheckID, c.NodeCheck, c.Output)
				}
				for _, f := range c.Fields {
					fmt.Fprintf(&b, " %s=%s>%s", f.Field, f.Before, f.After)
				}
				b.WriteString("\n")
			}
			if in.Cut {
				b.WriteString("  - and more\n")
			}
		}
	}
	return b.String()
}

func stepped(s *Step) string {
	switch {
	case s == nil:
		return "?"
	case s.At != int64(s.Index)*1000 || s.Origin != mvcc.Origin{Node: "agent", Address: fmt.Sprintf("192.0.2.%d", s.Index), Endpoint: "PUT /v1/test"}:
		return fmt.Sprintf("WRONG %+v", *s)
	}
	return fmt.Sprint(s.Index)
}

func TestWhy(t *testing.T) {
	for _, c := range []struct {
		name string
		past func(*past)
		ask  string
		want string
	}{
		{"unknown service", func(p *past) { p.node("n1", "10.0.0.1").service("n1", "db", "db", 1) }, "web", `
web since 0
`},
		{"no name", func(p *past) { p.node("n1", "10.0.0.1").service("n1", "db", "db", 1) }, "", `
 since 11
`},
		{"letter case", func(p *past) { p.node("N1", "10.0.0.1").service("n1", "Web-1", "Web", 1) }, "wEB", `
Web since 0
there N1/Web-1 registered 11 written 11
  - 11 registered Port=>1
`},
		{"a check that turns, whose output changes", func(p *past) {
			p.node("n1", "10.0.0.1").service("n1", "web-1", "web", 80, "a", "b")
			p.check("n1", "up", "web-1", health.Critical, "")
			p.check("n1", "up", "web-1", health.Passing, "200")
			p.check("n1", "up", "web-1", health.Critical, "500")
			p.check("n1", "up", "web-1", health.Critical, "501")
		}, "web", `
web since 0
there n1/web-1 registered 11 written 11
  up is critical: turned 14 written 15
  - 14 check turned up(false) "500" Status=passing>critical
  - 13 check turned up(false) "200" Status=critical>passing
  - 12 check registered up(false) "" Status=>critical
  - 11 registered Port=>80 Tags=>a, b
`},
		{"checks of the node count for all on it, those of others for none", func(p *past) {
			p.node("n1", "10.0.0.1").node("n2", "10.0.0.2").check("n1", health.SerfHealth, "", health.Passing, "alive")
			p.service("n1", "web-1", "web", 80).service("n1", "db", "db", 81).service("n2", "web-1", "web", 82)
			p.check("n1", "db-up", "db", health.Critical, "")
			p.check("n1", health.SerfHealth, "", health.Critical, "dead")
		}, "web", `
web since 0
there n1/web-1 registered 13 written 13
  serfHealth is critical: turned 17 written 17
  - 17 check turned serfHealth(true) "dead" Status=passing>critical
  - 13 registered Port=>80
there n2/web-1 registered 15 written 15
  - 15 registered Port=>82
`},
		{"everything about an instance", func(p *past) {
			p.node("n1", "10.0.0.1").service("n1", "web-1", "web", 80)
			p.service("n1", "web-1", "web", 81)
			p.service("n1", "web-1", "web", 81, "blue")
			p.node("n1", "10.0.0.9")
			p.do(&health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: "n1"}, SkipNodeUpdate: true, Service: &catalog.Service{
				ID: "web-1", Name: "web", Port: 81, Tags: []string{"blue"}, Weights: catalog.Weights{Passing: 3}, Meta: map[string]string{"b": "2", "a": "1"},
				EnableTagOverride: true, Kind: "k", Locality: &catalog.Locality{Region: "r", Zone: "z"}, Native: true, Proxy: []byte("{}"),
				TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "198.51.100.1", Port: 8}}}}})
			p.check("n1", "up", "web-1", health.Passing, "").do(&catalog.Deregister{Node: "n1", CheckID: "up"})
		}, "web", `
web since 0
there n1/web-1 registered 11 written 15
  - 17 check removed up(false) "" Status=passing>
  - 16 check registered up(false) "" Status=>passing
  - 15 changed Weights=>passing 3, warning 0 Meta=>a=1, b=2 TaggedAddresses=>wan=198.51.100.1:8 EnableTagOverride=>true Kind=>k Locality=>r/z Proxy=>{} Connect.Native=>true
  - 14 node changed Address=10.0.0.1>10.0.0.9
  - 13 changed Tags=>blue
  - 12 moved Port=80>81
  - 11 registered Port=>80
`},
		{"removed, by itself and with its node", func(p *past) {
			p.node("n1", "10.0.0.1").node("n2", "10.0.0.2").service("n1", "web-1", "web", 80).service("n2", "web-2", "web", 80)
			p.check("n2", "up", "web-2", health.Warning, "slow")
			p.do(&catalog.Deregister{Node: "n1", ServiceID: "web-1"}).do(&catalog.Deregister{Node: "n2"})
		}, "web", `
web since 0
gone n2/web-2 registered 13 written 13
  - 16 removed with node
  - 14 check registered up(false) "slow" Status=>warning
  - 13 registered Port=>80
gone n1/web-1 registered 12 written 12
  - 15 removed
  - 12 registered Port=>80
`},
		{"removed and registered again, and between two lives nothing counts", func(p *past) {
			p.node("n1", "10.0.0.1").service("n1", "web-1", "web", 80).check("n1", "up", "web-1", health.Critical, "")
			p.do(&catalog.Deregister{Node: "n1", ServiceID: "web-1"})
			p.node("n1", "10.0.0.2").check("n1", "node-disk", "", health.Warning, "")
			p.service("n1", "web-1", "web", 81).check("n1", "up", "web-1", health.Passing, "")
		}, "web", `
web since 0
there n1/web-1 registered 16 written 16
  node-disk is warning: turned 15 written 15
  up is passing: turned 17 written 17
  - 17 check registered up(false) "" Status=>passing
  - 16 registered Port=>81
  - 13 removed
  - 12 check registered up(false) "" Status=>critical
  - 11 registered Port=>80
`},
		{"of another service before and after", func(p *past) {
			p.node("n1", "10.0.0.1").service("n1", "a", "db", 80).check("n1", "up", "a", health.Critical, "")
			p.service("n1", "a", "web", 80).check("n1", "up", "a", health.Passing, "")
			p.service("n1", "b", "web", 81).service("n1", "b", "db", 81).check("n1", "b-up", "b", health.Passing, "")
		}, "web", `
web since 0
there n1/a registered 11 written 13
  up is passing: turned 14 written 14
  - 14 check turned up(false) "" Status=critical>passing
  - 13 renamed Service=db>web
gone n1/b registered 15 written 15
  - 16 renamed Service=web>db
  - 15 registered Port=>81
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPast(t)
			c.past(p)
			if got := "\n" + p.why(c.ask); got != c.want {
				t.Errorf("got%swant%s", got, c.want)
			}
		})
	}
}

func TestWhyIsBounded(t *testing.T) {
	p := newPast(t).node("n1", "10.0.0.1").service("n1", "web-1", "web", 80)
	p.check("n1", "up", "web-1", health.Passing, strings.Repeat("é", MaxWhyText))
	for i := range MaxWhyChanges {
		p.service("n1", "web-1", "web", 81+i)
	}
	for i := range MaxWhyGone + 3 {
		id := fmt.Sprintf("old-%d", i)
		p.service("n1", id, "web", 80).service("n1", id, "web", 81).do(&catalog.Deregister{Node: "n1", ServiceID: id})
	}
	a, err := p.m.View().Answer(&Why{Service: "web"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := a.Value.(*Reasons)
	if len(r.Instances) != 1 || len(r.Instances[0].Changes) != MaxWhyChanges || !r.Instances[0].Cut {
		t.Errorf("an instance of %d changes is told with %d, cut: %v", MaxWhyChanges+2, len(r.Instances[0].Changes), r.Instances[0].Cut)
	}
	// What is not listed still counts.
	if got := stepped(r.Instances[0].Registered); got != "11" {
		t.Errorf("registered at %s, want 11", got)
	}
	if len(r.Gone) != MaxWhyGone || !r.GoneCut || r.Gone[0].Service.ID != fmt.Sprintf("old-%d", MaxWhyGone+2) {
		t.Errorf("%d instances are gone, cut: %v; the first is %s", len(r.Gone), r.GoneCut, r.Gone[0].Service.ID)
	}
	p = newPast(t).node("n1", "10.0.0.1").service("n1", "web-1", "web", 80)
	p.check("n1", "up", "web-1", health.Passing, "a"+strings.Repeat("é", MaxWhyText))
	a, _ = p.m.View().Answer(&Why{Service: "web"}, nil)
	if got, want := a.Value.(*Reasons).Instances[0].Changes[0].Output, "a"+strings.Repeat("é", MaxWhyText/2-1)+"..."; got != want {
		t.Errorf("an output of %d bytes is told as %q", 1+2*MaxWhyText, got)
	}
}

// What lies before the history is not known, and is not guessed.
func TestWhyWhereTheHistoryBegins(t *testing.T) {
	p := newPast(t).node("n1", "10.0.0.1").service("n1", "web-1", "web", 80).check("n1", "up", "web-1", health.Critical, "")
	for range MaxHistoryChanges {
		p.do(&kv.Set{Key: "k", Value: []byte(fmt.Sprint(p.index))})
	}
	began := p.m.History().Oldest()
	want := fmt.Sprintf(`web since %d
there n1/web-1 registered ? written ?
  up is critical: turned ? written ?
`, began)
	if got := p.why("web"); began < 12 || got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// A view of before still answers, from what is left.
	old, err := p.m.History().At(began)
	if err != nil {
		t.Fatal(err)
	}
	p.service("n1", "web-1", "web", 81)
	a, _ := old.Answer(&Why{Service: "web"}, nil)
	if got := told(a.Value.(*Reasons)); got != want {
		t.Errorf("an old view: got\n%swant\n%s", got, want)
	}
	// A snapshot begins the history anew, on its own line of views.
	view := p.m.View()
	p.m.mu.Lock()
	fresh := *view
	fresh.gone = make(chan struct{})
	p.m.replace(&fresh)
	p.m.mu.Unlock()
	want = fmt.Sprintf("web since %d\nthere n1/web-1 registered ? written ?\n  up is critical: turned ? written ?\n", view.Index)
	if got := p.why("web"); got != want {
		t.Errorf("after a snapshot: got\n%swant\n%s", got, want)
	}
	a, _ = view.Answer(&Why{Service: "web"}, nil)
	if got := told(a.Value.(*Reasons)); got != want {
		t.Errorf("the line of before: got\n%swant\n%s", got, want)
	}
}

// Whoever waits is woken by what changes the answer, and an unknown service is
// missing until it comes.
func TestWhyIsWatched(t *testing.T) {
	p := newPast(t).node("n1", "10.0.0.1").node("n2", "10.0.0.2")
	w := &mvcc.Watch{}
	a, _ := p.m.View().Answer(&Why{Service: "web"}, w)
	if !a.Missing || a.Index == 0 {
		t.Errorf("an unknown service: %+v", a)
	}
	woken := func(change func()) bool {
		t.Helper()
		w.Reset()
		before, _ := p.m.View().Answer(&Why{Service: "web"}, w)
		change()
		ctx, cancel := canceled()
		defer cancel()
		after, _ := p.m.View().Answer(&Why{Service: "web"}, nil)
		// An ended context and a change are both at hand, so which one is seen is a
		// matter of luck: the index is not.
		_ = w.Wait(ctx, nil)
		return after.Index > before.Index
	}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"registered", func() { p.service("n1", "web-1", "web", 80) }},
		{"check", func() { p.check("n1", "up", "web-1", health.Critical, "") }},
		{"node's check", func() { p.check("n1", "node", "", health.Critical, "") }},
		{"node", func() { p.node("n1", "10.0.0.3") }},
		{"removed", func() { p.do(&catalog.Deregister{Node: "n1"}) }},
	} {
		if !woken(c.change) {
			t.Errorf("%s: the index stays", c.name)
		}
	}
	if a, _ := p.m.View().Answer(&Why{Service: "web"}, nil); a.Missing {
		t.Error("a service is missing whose instances are remembered")
	}
	if woken(func() { p.do(&kv.Set{Key: "a"}) }) {
		t.Error("a key moves the index")
	}
}

// TestWhyAgreesWithTheHistory compares with what a reader of the plain history
// finds, over random commands and a history that is cut off.
func TestWhyAgreesWithTheHistory(t *testing.T) {
	for seed := range uint64(20) {
		m := NewMachine()
		for i, l := range randomLog(t, seed, 300) {
			if i == 100 && seed%2 == 0 { // the history begins here
				m.history.reset(m.View())
			}
			m.Apply(l)
		}
		v := m.View()
		for _, name := range []string{"web0", "web1", "web2"} {
			a, err := v.Answer(&Why{Service: name}, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := a.Value.(*Reasons)
			for _, in := range r.Instances {
				wantStep(t, in.Registered, in.Service.CreateIndex, r.Begins)
				wantStep(t, in.Written, in.Service.ModifyIndex, r.Begins)
				for _, c := range in.Checks {
					wantTurned(t, m, c)
				}
				for i := 1; i < len(in.Changes); i++ {
					if in.Changes[i].Step.Index > in.Changes[i-1].Step.Index {
						t.Fatalf("seed %d: changes of %s/%s stand in the wrong order", seed, in.Service.Node, in.Service.ID)
					}
				}
			}
			for _, in := range r.Gone {
				d, _ := v.Catalog.NodeServices(&catalog.NodeServices{Node: in.Service.Node}, nil)
				if d == nil {
					continue
				}
				for _, s := range d.Services {
					if s.ID == in.Service.ID && s.Name == in.Service.Name {
						t.Errorf("seed %d: %s/%s is told to be gone", seed, s.Node, s.ID)
					}
				}
			}
			again, _ := v.Answer(&Why{Service: name}, nil)
			if !reflect.DeepEqual(again.Value, a.Value) {
				t.Errorf("seed %d: two answers of one view differ", seed)
			}
		}
	}
}

// wantStep wants the step of an index, if the history reaches back to it.
func wantStep(t *testing.T, s *Step, index, begins uint64) {
	t.Helper()
	if (s != nil) != (index > begins) || s != nil && (s.Index != index || s.Origin.Endpoint == "") {
		t.Errorf("step %+v, want index %d in a history that begins at %d", s, index, begins)
	}
}

// wantTurned compares with the last view in which the check had another status.
func wantTurned(t *testing.T, m *Machine, c CheckReason) {
	t.Helper()
	if c.Turned == nil {
		if c.Check.CreateIndex > m.History().Oldest() {
			t.Errorf("check %s was registered at %d, and it is not known when it turned", c.Check.ID, c.Check.CreateIndex)
		}
		return
	}
	before, err := m.History().At(c.Turned.Index - 1)
	if err != nil {
		t.Fatal(err)
	}
	statusIn := func(v *View) health.Status {
		checks, _ := v.Health.NodeChecks(&health.NodeChecks{Node: c.Check.Node}, nil)
		for _, have := range checks {
			if have.ID == c.Check.ID {
				return have.Status
			}
		}
		return ""
	}
	if statusIn(before) == c.Check.Status {
		t.Errorf("check %s had its status before index %d", c.Check.ID, c.Turned.Index)
	}
	records, err := m.History().Since(c.Turned.Index - 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if got := statusIn(r.View); got != c.Check.Status {
			t.Errorf("check %s turned at %d, but is %q at %d", c.Check.ID, c.Turned.Index, got, r.View.Index)
		}
	}
}

// The history may be cut while it is read: whatever is told is true, and where it
// begins is not before what was seen.
func TestWhyWhileTheHistoryIsCut(t *testing.T) {
	p := newPast(t).node("n1", "10.0.0.1")
	for i := range 3 * historyChunk {
		p.service("n1", "web-1", "web", 1+i)
	}
	v := p.m.View()
	h := p.m.History()
	steps := 0
	begins, _ := h.back(v, func(r *Record) {
		if steps++; steps == historyChunk/2 {
			h.mu.Lock()
			h.records = h.records[len(h.records)-1:] // all but the newest are forgotten
			h.mu.Unlock()
		}
	})
	if steps != historyChunk || begins != v.Index-historyChunk {
		t.Errorf("%d steps were taken back to %d, want %d back to %d", steps, begins, historyChunk, v.Index-historyChunk)
	}
}

// BenchmarkWhy measures a service of 500 instances in a history that is full.
func BenchmarkWhy(b *testing.B) {
	m := NewMachine()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 500 {
		reg := registration(i, 80)
		reg.Service.Name = "web"
		m.Apply(entry(b, uint64(i+1), reg))
	}
	for i := range MaxHistoryChanges / 4 {
		reg := registration(r.IntN(500), 80+i%2)
		reg.Service.Name = "web"
		reg.Checks[0].Status = []health.Status{health.Passing, health.Critical}[r.IntN(2)]
		m.Apply(entry(b, uint64(1000+i), reg))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.View().Answer(&Why{Service: "web"}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
