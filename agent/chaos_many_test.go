package agent_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/gossip"
)

// TestChaosManyAgents starts two hundred client agents of three servers at the same
// time. Each sees all the others, answers for the cluster, and has what was
// registered with it in the catalog; and all of them stop at the same time.
func TestChaosManyAgents(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("200 agents join: give -chaos")
	}
	const clients = 200
	c := agenttest.StartCluster(t, 3, 0)
	x := &trial{t: t, Cluster: c}
	began := time.Now()
	all := c.StartClients("many", clients, agenttest.Log(io.Discard))
	started := time.Since(began)
	each := func(what string, do func(a *agenttest.Agent) error) {
		t.Helper()
		var group sync.WaitGroup
		for _, a := range all {
			group.Go(func() {
				deadline := began.Add(manyLimit)
				for {
					err := do(a)
					if err == nil {
						return
					}
					if time.Now().After(deadline) {
						t.Errorf("%s: %s: %v", a.Name, what, err)
						return
					}
					time.Sleep(100 * time.Millisecond) // between two looks
				}
			})
		}
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	each("it takes writes and reads them", func(a *agenttest.Agent) error {
		if code, body, err := a.Do(t.Context(), "PUT", "/v1/kv/"+a.Name, strings.NewReader(a.Name)); err != nil || code != http.StatusOK {
			return fmt.Errorf("a write: %d %s %w", code, body, err)
		}
		if code, body, err := a.Do(t.Context(), "GET", "/v1/kv/"+a.Name+"?raw", nil); err != nil || body != a.Name {
			return fmt.Errorf("a read: %d %s %w", code, body, err)
		}
		code, body, err := a.Do(t.Context(), "PUT", "/v1/agent/service/register", strings.NewReader(`{"Name": "many", "Port": 80}`))
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("a registration: %d %s %w", code, body, err)
		}
		return nil
	})
	served := time.Since(began)
	each("it sees all", func(a *agenttest.Agent) error {
		members, err := membersSeenBy(t.Context(), a)
		if err != nil {
			return err
		}
		for name, status := range members {
			if status != gossip.Alive {
				return fmt.Errorf("%s is %v", name, status)
			}
		}
		if len(members) != clients+len(c.Servers) {
			return fmt.Errorf("it sees %d members", len(members))
		}
		return nil
	})
	agreed := time.Since(began)
	x.within(manyLimit, "all instances are in the catalog, on nodes that are alive", func() error {
		var entries []struct{ Node struct{ Node string } }
		if err := all[0].GetJSON(t.Context(), "/v1/health/service/many?passing", &entries); err != nil {
			return err
		}
		if len(entries) != clients {
			return fmt.Errorf("it has %d", len(entries))
		}
		return nil
	})
	known := time.Since(began)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	goroutines := runtime.NumGoroutine()
	ending := time.Now()
	var group sync.WaitGroup
	for _, a := range all {
		group.Go(func() {
			if err := a.Stop(); err != nil {
				t.Errorf("%s did not stop in order: %v", a.Name, err)
			}
		})
	}
	group.Wait()
	t.Logf("%d agents were made after %s, served after %s, saw each other after %s and had their instances in the catalog after %s, with %d goroutines and %d MB; they stopped in %s",
		clients, started.Round(time.Millisecond), served.Round(time.Millisecond), agreed.Round(time.Millisecond), known.Round(time.Millisecond), goroutines, memory.Sys>>20,
		time.Since(ending).Round(time.Millisecond))
	if memory.Sys > manyMemory {
		t.Errorf("they take %d bytes", memory.Sys)
	}
}
