package agent_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

// A server that lags behind says that, and not that nobody leads; who asks it
// through a client agent is answered by another.
func TestServerThatLagsSaysThatItIsNotReady(t *testing.T) {
	t.Parallel()
	// Who lags must not come to lead, on however busy a machine: elections take patience.
	c := agenttest.StartCluster(t, 3, 1, agenttest.HCL(`performance { rpc_hold_timeout = "2s" raft_multiplier = 4 }`))
	behind, client := c.Followers()[0], c.Clients[0]
	release, err := behind.HoldLog()
	if err != nil {
		t.Fatal(err)
	}
	c.Eventually("a write is taken", func() error { return writeKey(t, c.Leader(), "key", "1") })
	for _, query := range []string{"", "?consistent"} {
		c.Eventually("the server that lags says so", func() error {
			status, body, err := behind.Do(t.Context(), http.MethodGet, "/v1/kv/key"+query, nil)
			if err == nil && (status != http.StatusInternalServerError || !strings.HasPrefix(body, "Not ready to serve consistent reads: this server has not caught up")) {
				err = fmt.Errorf("it answers a read with %q: %d %s", query, status, body)
			}
			return err
		})
	}
	for range 10 {
		c.Eventually("the client agent reads what was written", func() error {
			got, err := readKey(t, client, "key", "")
			if err == nil && got != "1" {
				t.Errorf("it reads %q", got)
			}
			return err
		})
	}
	release()
	c.Eventually("it answers", func() error {
		_, err := readKey(t, behind, "key", "")
		return err
	})
}
