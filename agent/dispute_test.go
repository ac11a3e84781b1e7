package agent_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// An agent whose name is another's writes nothing to the catalog by it, and goes on
// once the other is gone for good.
func TestAgentThatIsRefusedWritesNothing(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	service := agenttest.HCL(`service { name = "web" port = 80 }`)
	c := agenttest.StartCluster(t, 1, 1, service)
	owner, server := c.Clients[0], c.Servers[0]
	ctx := t.Context()
	nodeOf := func() (id string, err error) {
		var got []struct{ ID, Node string }
		if err := server.GetJSON(ctx, "/v1/catalog/service/web", &got); err != nil {
			return "", err
		}
		for _, instance := range got {
			if instance.Node == owner.Name {
				return instance.ID, nil
			}
		}
		return "", errors.New("there is no instance")
	}
	c.Eventually("the instance is there", func() error { _, err := nodeOf(); return err })
	if err := owner.Stop(); err != nil {
		t.Fatal(err)
	}
	failed := func() error {
		var members []struct {
			Name   string
			Status int
		}
		if err := server.GetJSON(ctx, "/v1/agent/members", &members); err != nil {
			return err
		}
		for _, m := range members {
			if m.Name == owner.Name && m.Status == 4 {
				return nil
			}
		}
		return errors.New("it does not count as failed")
	}
	c.Eventually("its agent counts as failed", failed)
	// Its ID under another name: it finds the servers, and may not be a member.
	renamed := c.AddServer("renamed", service, agenttest.Log(log), agenttest.HCL(`server = false node_id = "`+owner.NodeID()+`"`))
	c.Eventually("it says that it holds back", func() error {
		if !strings.Contains(log.String(), "writes nothing to the catalog while the pool refuses it") {
			return errors.New("it does not")
		}
		return nil
	})
	if id, err := nodeOf(); err != nil || id != owner.NodeID() {
		t.Errorf("the node is now %q: %v", id, err)
	}
	if !strings.Contains(log.String(), "muster force-leave "+owner.Name) {
		t.Errorf("the log does not say what settles it: %s", log.String())
	}
	if status, text, err := server.Do(ctx, http.MethodPut, "/v1/agent/force-leave/"+owner.Name, nil); err != nil || status != http.StatusOK {
		t.Fatal(status, text, err)
	}
	c.Eventually("it is registered", func() error {
		var got []struct{ ID, Node string }
		if err := server.GetJSON(ctx, "/v1/catalog/service/web", &got); err != nil {
			return err
		}
		for _, instance := range got {
			if instance.Node == renamed.Name {
				return nil
			}
		}
		return errors.New("it is not")
	})
}
