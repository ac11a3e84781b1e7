package agent_test

import (
	"fmt"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// The only server of a cluster is killed, loses its data and is started again before
// anybody misses it: the client agent moves over to the cluster that it then begins.
func TestReplacedServerKeepsItsClients(t *testing.T) {
	c := agenttest.StartCluster(t, 1, 1)
	server, client := c.Servers[0], c.Clients[0]
	c.Eventually("the client writes", func() error { return writeKey(t, client, "before", "1") })
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	server.Wipe()
	server.Rerun()
	c.Eventually("the server has the client as a member, and in its catalog", func() error {
		var members []struct {
			Name   string
			Status int
		}
		if err := server.GetJSON(t.Context(), "/v1/agent/members", &members); err != nil {
			return err
		}
		in := false
		for _, m := range members {
			in = in || m.Name == client.Name && m.Status == 1
		}
		if !in {
			return fmt.Errorf("the members are %+v", members)
		}
		var checks []struct{ CheckID, Status string }
		if err := server.GetJSON(t.Context(), "/v1/health/node/"+client.Name, &checks); err != nil {
			return err
		}
		if len(checks) == 0 || checks[0].Status != "passing" {
			return fmt.Errorf("the checks are %+v", checks)
		}
		return writeKey(t, client, "after", "1")
	})
}
