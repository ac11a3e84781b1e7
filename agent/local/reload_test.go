package local

import (
	"testing"
	"time"

	"github.com/muster-sd/muster/health/check"
)

// A check that a reload does not change is carried out by the same runner, and so
// runs when it would have run anyway.
func TestReloadKeepsTheSchedule(t *testing.T) {
	r := open(t, Config{EnableScriptChecks: true})
	stop := running(r, newFakeCatalog())
	defer stop()
	definitions := func(interval time.Duration) []check.Definition {
		return []check.Definition{
			{ID: "script", Name: "script", ScriptArgs: []string{"true"}, Interval: interval},
			{ID: "http", Name: "http", HTTP: "http://127.0.0.1:1/", Header: map[string][]string{"X-A": {"b"}}, Interval: interval},
			{ID: "tcp", Name: "tcp", TCP: "127.0.0.1:1", Interval: interval},
			{ID: "ttl", Name: "ttl", TTL: interval},
		}
	}
	load := func(checks []check.Definition) map[string]*check.Runner {
		t.Helper()
		if err := r.Load(nil, checks); err != nil {
			t.Fatal(err)
		}
		r.change.Lock()
		defer r.change.Unlock()
		runners := map[string]*check.Runner{}
		for id, c := range r.checks {
			runners[id] = c.runner
		}
		return runners
	}
	await(t, r)
	first := load(definitions(time.Hour))
	notes := definitions(time.Hour)
	for i := range notes {
		notes[i].Notes, notes[i].Name = "for people", "another name"
	}
	for name, checks := range map[string][]check.Definition{
		"the same": definitions(time.Hour), "one more": append(definitions(time.Hour), ttl("more")), "other words": notes,
	} {
		now := load(checks)
		for id, runner := range first {
			if runner == nil || now[id] != runner {
				t.Errorf("%s: %s is run by %p, and was by %p", name, id, now[id], runner)
			}
		}
	}
	now := load(definitions(2 * time.Hour))
	for id, runner := range first {
		if now[id] == nil || now[id] == runner {
			t.Errorf("another interval: %s is still run as before", id)
		}
	}
}

// await waits until r carries its checks out.
func await(t *testing.T, r *Registry) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		r.change.Lock()
		up := r.running
		r.change.Unlock()
		if up {
			return
		}
		select {
		case <-deadline.C:
			t.Fatal("the registry does not run")
		case <-look.C:
		}
	}
}

func TestDiscardCheckOutputFromNowOn(t *testing.T) {
	r := open(t, Config{})
	if err := r.AddCheck(t.Context(), ttl("c")); err != nil {
		t.Fatal(err)
	}
	output := func(text string) string {
		t.Helper()
		if err := r.UpdateTTL(t.Context(), "c", "passing", text); err != nil {
			t.Fatal(err)
		}
		return r.Checks()[0].Output
	}
	expect(t, "at first", output("one"), "one")
	r.DiscardCheckOutput(true)
	expect(t, "switched off", output("two"), "")
	r.DiscardCheckOutput(false)
	expect(t, "switched on", output("three"), "three")
}
