package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

// Entries that nothing is found with do not keep the others from being tried, and
// alone they are attempts that fail.
func TestJoiningWithProviders(t *testing.T) {
	t.Parallel()
	log := new(buffer)
	agenttest.StartCluster(t, 1, 1, agenttest.Log(log), agenttest.HCL(`retry_join = ["provider=nowhere tag=x"]`))
	if !strings.Contains(log.String(), `[ERROR] agent: Cannot look up addresses to join: error="unknown provider \"nowhere\""`) {
		t.Errorf("the log does not tell:\n%s", log.String())
	}
	o := raw(t, "retry_join = [\"provider=nowhere\"]\nretry_max = 2\nretry_interval = \"1ms\"")
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "in 2 attempts") || !strings.Contains(err.Error(), "stands for an address") {
		t.Errorf("it ended with %v", err)
	}
}
