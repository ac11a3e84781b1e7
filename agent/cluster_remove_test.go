package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// A voter is not removed while those that would be left elect nobody; a dead one is.
func TestRemovingAPeerLeavesAQuorum(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`autopilot { cleanup_dead_servers = false } performance { raft_multiplier = 4 }`))
	dead := c.Followers()[1]
	if err := dead.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, a := range c.Servers {
		if a == dead {
			continue
		}
		c.Eventually("the dead one is missed", func() error {
			var members []struct {
				Name   string
				Status int
			}
			if err := a.GetJSON(t.Context(), "/v1/agent/members", &members); err != nil {
				return err
			}
			for _, m := range members {
				if m.Name == dead.Name && m.Status == 4 {
					return nil
				}
			}
			return fmt.Errorf("the members are %+v", members)
		})
	}
	remove := func(leader, a *agenttest.Agent) (int, string, error) {
		return leader.Do(t.Context(), http.MethodDelete, "/v1/operator/raft/peer?id="+a.NodeID(), nil)
	}
	c.Eventually("the one that lives is refused", func() error {
		leader := c.Leader() // which a busy machine may change
		if silence, ok := leader.Silence()[dead.NodeID()]; !ok || silence >= 0 && silence < leader.SilentFor() {
			return fmt.Errorf("the dead one is silent for %v", silence)
		}
		status, text, err := remove(leader, c.Followers()[0])
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			t.Fatal("it was removed")
		case !strings.Contains(text, "of the 2 voters that would be left 1 answer, and 2 are needed"), !strings.Contains(text, dead.NodeID()):
			return errors.New(text)
		}
		return nil
	})
	c.Eventually("the dead one is removed", func() error {
		status, text, err := remove(c.Leader(), dead)
		if err == nil && status != http.StatusOK && !strings.Contains(text, "was not found") {
			err = errors.New(text)
		}
		return err
	})
	c.Eventually("one of two that answer is removed", func() error {
		status, text, err := remove(c.Leader(), c.Followers()[0])
		if err == nil && status != http.StatusOK && !strings.Contains(text, "was not found") {
			err = errors.New(text)
		}
		return err
	})
}
