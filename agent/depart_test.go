package agent_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// goneWithin is how long an agent that is cut off from all others may take to
// leave or to stop. It takes three seconds at most, and a server that leaves five
// more, since it heard the others a moment ago and waits for them to take it out of
// Raft; a busy machine is slow.
const goneWithin = 20 * time.Second

// An agent that nobody hears does not wait for an answer for long.
func TestCutOffAgentsEndSoon(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it cuts clusters apart")
	}
	for name, end := range map[string]func(t *testing.T, a *agenttest.Agent){
		"leave": func(t *testing.T, a *agenttest.Agent) {
			if code, body, err := a.Do(t.Context(), http.MethodPut, "/v1/agent/leave", nil); err != nil || code != http.StatusOK {
				t.Errorf("the leave was answered with %d %q, %v", code, body, err)
			}
		},
		"stop": func(t *testing.T, a *agenttest.Agent) { go func() { _ = a.Stop() }() },
	} {
		t.Run(name, func(t *testing.T) {
			c := agenttest.StartCluster(t, 3, 1)
			for _, a := range []*agenttest.Agent{c.Clients[0], c.Followers()[0]} {
				var others []string
				for _, o := range c.Agents() {
					if o != a {
						others = append(others, o.Name)
					}
				}
				c.Net.Part([]string{a.Name}, others)
				began := time.Now()
				end(t, a)
				if err := a.Wait(); err != nil {
					t.Error(err)
				}
				took := time.Since(began)
				t.Logf("%s was gone after %s", a.Name, took.Round(time.Millisecond))
				if took > goneWithin {
					t.Errorf("%s was gone only after %s", a.Name, took)
				}
				c.Net.Heal()
			}
		})
	}
}
