package agent_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

// A number of voters that there are not is taken, for servers to come, and not
// without a word.
func TestMinQuorumAboveTheVoters(t *testing.T) {
	log := &buffer{}
	a := agenttest.Start(t, agenttest.Log(log))
	for _, c := range []struct {
		body string
		code int
		said bool
	}{
		{`{"MinQuorum":0}`, 200, false},
		{`{"MinQuorum":1}`, 200, false},
		{`{"MinQuorum":-1}`, 400, false},
		{`{"MinQuorum":18446744073709551615}`, 400, false},
		{`{"MinQuorum":2}`, 200, true},
	} {
		got := do(t, http.MethodPut, a.URL("/v1/operator/autopilot/configuration"), c.body)
		if said := strings.Contains(log.String(), agent.PhraseMinQuorum); got.code != c.code || said != c.said {
			t.Errorf("%s: %d %s, and the log was told: %v", c.body, got.code, got.body, said)
		}
	}
}
