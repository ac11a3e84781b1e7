package agent_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/gossip"
)

// The only server of a cluster is killed, loses its data and is started again before
// anybody misses it: the client agent moves over to the cluster that it then begins,
// with all that is registered at it, and says just that.
func TestReplacedServerKeepsItsClients(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 1, 0)
	var log buffer
	server, client := c.Servers[0], c.AddClient("c1", agenttest.Log(&log))
	const instance = `{"Name":"web","Port":80,"Check":{"TTL":"1h","Status":"passing"}}`
	if status, body, err := client.Do(t.Context(), http.MethodPut, "/v1/agent/service/register", strings.NewReader(instance)); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	stands := func() error {
		var list []struct{ Node struct{ Node string } }
		if err := server.GetJSON(t.Context(), "/v1/health/service/web?passing", &list); err != nil {
			return err
		}
		if len(list) != 1 || list[0].Node.Node != client.Name {
			return fmt.Errorf("the instances are %+v", list)
		}
		return nil
	}
	c.Eventually("the instance is in the catalog", stands)
	c.Eventually("the client writes", func() error { return writeKey(t, client, "before", "1") })
	c.Eventually("the client knows its cluster", func() error {
		var self struct {
			Member struct{ Tags map[string]string }
		}
		if err := client.GetJSON(t.Context(), "/v1/agent/self", &self); err != nil {
			return err
		}
		if self.Member.Tags[gossip.ClusterTag] == "" {
			return fmt.Errorf("its tags are %v", self.Member.Tags)
		}
		return nil
	})
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
	c.Eventually("the client says that it moved", func() error {
		if n := strings.Count(log.String(), agent.PhraseMoved); n != 1 {
			return fmt.Errorf("it says so %d times", n)
		}
		return nil
	})
	c.Eventually("the instance is in the new catalog", stands)
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "empty data directory") && !strings.Contains(line, "DEBUG") {
			t.Errorf("it says %q", line)
		}
	}
}
