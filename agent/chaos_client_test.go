package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// A server that says nothing at all is not the end of a client agent's reads:
// others are asked within the hold time, and next time they are asked first.
func TestClientAsksAnotherThanSilentServers(t *testing.T) {
	t.Parallel()
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

// A change that was sent to a server which then says nothing at all may have been made:
// it fails soon, and says so, and the next ones go to another server.
func TestClientWritesElsewhereThanToSilentServers(t *testing.T) {
	c := agenttest.StartCluster(t, 3, 1)
	client := c.Clients[0]
	for _, silent := range c.Servers {
		// What was asked for a sign of life before, and gave one, is judged by it.
		for range 3 {
			if err := writeKey(t, client, "key", "1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
		}
		c.Net.Part([]string{client.Name}, []string{silent.Name})
		failed := 0
		for range 5 {
			began := time.Now()
			err := writeKey(t, client, "key", "2")
			took := time.Since(began)
			if err != nil {
				failed++
				if text := err.Error(); !strings.Contains(text, "server "+silent.Name+" has given no sign of life for") || !strings.Contains(text, "may still take effect, so read it back") {
					t.Errorf("while %s is silent, a write fails with %v", silent.Name, err)
				}
			}
			if took > 5*time.Second {
				t.Errorf("while %s is silent, a write takes %v: %v", silent.Name, took, err)
			}
		}
		if failed > 1 {
			t.Errorf("while %s is silent, %d writes failed", silent.Name, failed)
		}
		c.Net.Heal()
	}
}
