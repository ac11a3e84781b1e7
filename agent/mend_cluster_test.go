package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

// A server that is the only one has nobody to take another state from: it says what
// it found, and goes on.
func TestLoneServerThatDiffersGoesOn(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 1, 0, agenttest.Log(log))
	only := c.Servers[0]
	for i := range 2 {
		if err := writeKey(t, only, "key", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if err := only.ProposeOther(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Eventually("it goes on, and says so", func() error {
			if only.Differs() || strings.Count(log.String(), agent.PhraseGoesOn) <= i {
				return errors.New("it does not")
			}
			return nil
		})
		if got, err := readKey(t, only, "key", "&consistent"); err != nil || got != fmt.Sprint(i) {
			t.Errorf("it answers %q, %v", got, err)
		}
		if err := only.ProposeCheck(t.Context()); err != nil {
			t.Fatal(err)
		}
		if only.Differs() {
			t.Error("it differs from itself")
		}
	}
}
