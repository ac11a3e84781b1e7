package agenttest

import (
	"errors"
	"strings"
	"testing"
)

// What clients see of a cluster whose leader is parted from the others, and comes
// back, can have happened; and a value that was changed afterwards cannot.
func TestLoadOnCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	c := StartCluster(t, 3, 1, HCL(`performance { rpc_hold_timeout = "2s" }`))
	var targets []Target
	for _, a := range c.Agents() {
		targets = append(targets, Target{Name: a.Name, Address: a.HTTP, Server: a != c.Clients[0]})
	}
	load := StartLoad("h", 1, 3, targets)
	defer load.Stop()
	progress := func(agents ...*Agent) {
		t.Helper()
		begin := load.History.Len()
		for _, a := range agents {
			from := load.Answered(a.Name)
			c.Eventually(a.Name+" carries out operations", func() error {
				if load.Answered(a.Name) < from+20 {
					return errors.New("it does not")
				}
				return nil
			})
		}
		t.Logf("%d operations", load.History.Len()-begin)
	}
	progress(c.Agents()...)
	old := c.Leader()
	var others []string
	var running []*Agent
	for _, a := range c.Agents() {
		if a != old {
			others, running = append(others, a.Name), append(running, a)
		}
	}
	c.Net.Part([]string{old.Name}, others)
	c.Eventually("another server leads", func() error {
		for _, s := range c.Servers {
			if s != old && s.Leads() {
				return nil
			}
		}
		return errors.New("none does")
	})
	progress(running...)
	load.ReadAll(old.Name, Default)
	c.Net.Heal()
	progress(c.Agents()...)
	load.Stop()
	if err := load.Finish(); err != nil {
		t.Fatal(err)
	}
	t.Log(load.History.Summary())

	// One answer from the past is enough to be found.
	h := load.History
	last := map[string]string{}
	for _, o := range h.ops {
		if o.Client < 0 && o.Mode == Consistent {
			last[o.Key] = o.Got
		}
	}
	for _, o := range h.ops {
		if o.Kind == Get && o.Outcome == Done && o.Got != "" && o.Got != last[o.Key] {
			late := *o
			late.Mode, late.Client, late.Call, late.Return = Default, len(targets)*3, h.Now(), h.Now()
			h.Add(late)
			break
		}
	}
	if err := h.Check(); err == nil || !strings.HasPrefix(err.Error(), "default reads are not linearizable") {
		t.Errorf("after an answer from the past: %v", err)
	}
}
