package agent_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// A voter is not removed while those that would be left elect nobody; a dead one is.
func TestRemovingAPeerLeavesAQuorum(t *testing.T) {
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`autopilot { cleanup_dead_servers = false }`))
	leader := c.Leader()
	living, dead := c.Followers()[0], c.Followers()[1]
	if err := dead.Stop(); err != nil {
		t.Fatal(err)
	}
	remove := func(a *agenttest.Agent) (int, string) {
		t.Helper()
		status, text, err := leader.Do(t.Context(), http.MethodDelete, "/v1/operator/raft/peer?id="+a.NodeID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return status, text
	}
	c.Eventually("it has been silent for long enough", func() error {
		for id, silence := range leader.Silence() {
			if id == dead.NodeID() && silence > 6*time.Second {
				return nil
			}
		}
		return errors.New("it has not")
	})
	status, text := remove(living)
	if want := "of the 2 voters that would be left 1 answer, and 2 are needed"; status != http.StatusInternalServerError || !strings.Contains(text, want) || !strings.Contains(text, dead.NodeID()) {
		t.Fatalf("to remove the one that lives: %d %s", status, text)
	}
	if status, text := remove(dead); status != http.StatusOK {
		t.Errorf("the dead one is not removed: %d %s", status, text)
	}
	if status, text := remove(living); status != http.StatusOK {
		t.Errorf("one of two that answer is not removed: %d %s", status, text)
	}
}
