package agent_test

import (
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// A server that says nothing at all is not the end of a client agent's reads:
// others are asked within the hold time, and next time they are asked first.
func TestClientAsksAnotherThanSilentServers(t *testing.T) {
	c := agenttest.StartCluster(t, 3, 1)
	client := c.Clients[0]
	if err := writeKey(t, client, "key", "1"); err != nil {
		t.Fatal(err)
	}
	for _, silent := range c.Servers {
		// Only the connection is silent: gossip knows nothing of it.
		c.Net.Part([]string{client.Name}, []string{silent.Name})
		for _, query := range []string{"", "&consistent", "&stale"} {
			began := time.Now()
			got, err := readKey(t, client, "key", query)
			if took := time.Since(began); err != nil || got != "1" || took > 5*time.Second {
				t.Errorf("while %s is silent, a read with %q takes %s: %q, %v", silent.Name, query, took, got, err)
			}
		}
		c.Net.Heal()
	}
}
