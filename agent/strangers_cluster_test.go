package agent_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// joins has one agent join another, which must not work: they are of two clusters.
func joins(t *testing.T, a, b *agenttest.Agent) {
	t.Helper()
	status, text, err := a.Do(t.Context(), http.MethodPut, "/v1/agent/join/"+b.GossipAddr(), nil)
	if err != nil || status != http.StatusInternalServerError {
		t.Errorf("%s joined %s: %d %s %v", a.Name, b.Name, status, text, err)
	}
	for _, part := range []string{b.Name, b.GossipAddr(), "two clusters cannot become one", "empty data directory"} {
		if !strings.Contains(text, part) {
			t.Errorf("the answer to a join of %s does not say %q: %s", b.Name, part, text)
		}
	}
}

// aloneInRaft checks that no other server ever came to a server's configuration.
func aloneInRaft(t *testing.T, a *agenttest.Agent, log *buffer) {
	t.Helper()
	var got struct{ Servers []struct{ ID string } }
	if err := a.GetJSON(t.Context(), "/v1/operator/raft/configuration", &got); err != nil {
		t.Error(err)
	}
	if len(got.Servers) != 1 || got.Servers[0].ID != a.NodeID() {
		t.Errorf("the servers of %s are %+v", a.Name, got.Servers)
	}
	if strings.Contains(log.String(), "adding a server that joined") {
		t.Errorf("%s added a server:\n%s", a.Name, log.String())
	}
}

// Two servers that have each begun a cluster alone, a moment ago, do not grow into
// one: a join says so at once, whichever of them is asked, and so do both logs.
func TestFreshServersThatJoinStayApart(t *testing.T) {
	logs := [2]*buffer{{}, {}}
	var servers [2]*agenttest.Agent
	for i := range servers {
		servers[i] = agenttest.Start(t, agenttest.Name(fmt.Sprintf("lone%d", i)), agenttest.OnDisk(t.TempDir()),
			agenttest.HCL(`bootstrap_expect = 0 bootstrap = true`), agenttest.Log(logs[i]))
	}
	var both sync.WaitGroup
	for i := range servers {
		both.Go(func() { joins(t, servers[i], servers[1-i]) })
	}
	both.Wait()
	for i := range servers {
		joins(t, servers[i], servers[1-i])
		aloneInRaft(t, servers[i], logs[i])
		if !strings.Contains(logs[i].String(), "two clusters cannot become one") {
			t.Errorf("the log of %s does not say why they stay apart:\n%s", servers[i].Name, logs[i].String())
		}
		if err := writeKey(t, servers[i], "whose", servers[i].Name); err != nil {
			t.Error(err)
		}
	}
	for _, a := range servers {
		if got, err := readKey(t, a, "whose", ""); err != nil || got != a.Name {
			t.Errorf("%s reads %q: %v", a.Name, got, err)
		}
	}
}

// A server of another cluster that has not said so in its tags, as none can that has
// only just begun, is asked before it becomes a part of Raft, or a join a success.
func TestStrangerThatNamesNoCluster(t *testing.T) {
	logs := [2]*buffer{{}, {}}
	own := agenttest.Start(t, agenttest.Name("own"), agenttest.Log(logs[0]))
	stranger := agenttest.Start(t, agenttest.Name("stranger"), agenttest.Log(logs[1]))
	if err := stranger.HideCluster(); err != nil {
		t.Fatal(err)
	}
	joins(t, own, stranger)
	aloneInRaft(t, own, logs[0])
	aloneInRaft(t, stranger, logs[1])
}

// A server that was taken out of Raft while it was away belongs to the cluster all
// the same, though it does not know yet which that is: its log has no snapshot.
func TestRemovedServerIsAddedAgain(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`autopilot { cleanup_dead_servers = false server_stabilization_time = "300ms" }`))
	away := c.Followers()[0]
	if err := away.Stop(); err != nil {
		t.Fatal(err)
	}
	c.Eventually("it is removed", func() error {
		status, text, err := c.Leader().Do(t.Context(), http.MethodDelete, "/v1/operator/raft/peer?id="+away.NodeID(), nil)
		if err == nil && status != http.StatusOK && !strings.Contains(text, "was not found") {
			err = errors.New(text)
		}
		return err
	})
	away.Rerun()
	votes(c, c.Leader(), t, "s1", "s2", "s3")
	sameState(t, c)
}
