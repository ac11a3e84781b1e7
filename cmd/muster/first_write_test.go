package main

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent/consensus"
)

const (
	// firstWriteRuns is how often each start is measured.
	firstWriteRuns = 5
	// firstWriteGoal is what a start takes at most where nothing else runs. It is
	// told, and not held against a machine that is busy with other tests.
	firstWriteGoal = 500 * time.Millisecond
	// firstWriteLimit is what the middle one of the runs may take anywhere.
	firstWriteLimit = 10 * time.Second
)

// The only server of a cluster takes writes as soon as its process runs, whether
// it begins or begins again, and does not wait for others as long as an election
// may take.
func TestFirstWrite(t *testing.T) {
	t.Parallel()
	binary(t) // which may have to be built first
	for _, multiplier := range []int{1, consensus.MaxMultiplier} {
		t.Run(fmt.Sprintf("multiplier %d", multiplier), func(t *testing.T) {
			election := time.Duration(multiplier) * consensus.BaseTimeout
			var fresh, again []time.Duration
			for range firstWriteRuns {
				s := newSettings(t, "")
				flag := fmt.Sprintf("-hcl=performance { raft_multiplier = %d }", multiplier)
				fresh = append(fresh, firstWrite(t, s, flag))
				again = append(again, firstWrite(t, s, flag))
			}
			for name, took := range map[string][]time.Duration{"on a fresh folder": fresh, "once more": again} {
				slices.Sort(took)
				middle := took[len(took)/2]
				t.Logf("%s: the first write was acknowledged after %v (the goal is %v)", name, took, firstWriteGoal)
				limit := firstWriteLimit
				if multiplier == consensus.MaxMultiplier {
					limit = min(limit, election) // else it is below what a process may take to start
				}
				if middle >= limit {
					t.Errorf("%s: it took %v in the middle, want less than %v", name, middle, limit)
				}
			}
		})
	}
}

// firstWrite starts the agent, returns how long after that it acknowledged a
// write, and ends it.
func firstWrite(t *testing.T, s *settings, flag string) time.Duration {
	t.Helper()
	begin := time.Now()
	p := launch(t, s, flag)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := p.client.KV().Put(&api.KVPair{Key: "first"}, nil)
		if err == nil {
			break
		}
		if time.Since(begin) > readyLimit {
			t.Fatalf("no write within %v: %v", readyLimit, err)
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			t.Fatalf("the agent ended: %s", p.err)
		}
	}
	took := time.Since(begin)
	p.signal(t, syscall.SIGTERM)
	return took
}
