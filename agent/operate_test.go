package agent_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

func TestMembersThatALoneServerKnows(t *testing.T) {
	log := &buffer{}
	a := agenttest.Start(t, agenttest.Log(log))
	put := func(path string) answer { return do(t, http.MethodPut, a.URL("/v1/agent/"+path), "") }
	var self struct {
		DebugConfig struct{ SerfAdvertiseAddrLAN string }
	}
	if err := json.Unmarshal([]byte(do(t, http.MethodGet, a.URL("/v1/agent/self"), "").body), &self); err != nil {
		t.Fatal(err)
	}
	own := strings.TrimPrefix(self.DebugConfig.SerfAdvertiseAddrLAN, "tcp://")
	closed := closedAddress(t)
	for _, c := range []struct {
		path string
		code int
		body string
	}{
		{"join/" + own, 200, ""},
		{"join/" + closed, 500, "1 error occurred:\n\t* Failed to join " + closed + ": dial tcp " + closed + ": connect: connection refused"},
		{"join/", 500, "1 error occurred:\n\t* Failed to join : an address is missing"},
		{"force-leave/" + a.Name, 200, ""},
		{"force-leave/" + a.Name + "?prune=1", 200, ""},
		{"force-leave/" + a.Name + ".dc1?wan=1", 200, ""},
		{"force-leave/" + a.Name + "?wan=1", 500, "agent: No node found with name '" + a.Name + "'"},
		{"force-leave/nobody", 500, "agent: No node found with name 'nobody'"},
		{"force-leave/", 500, "agent: No node found with name ''"},
		{"reload", 200, ""},
	} {
		if got := put(c.path); got.code != c.code || got.body != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.path, got.code, got.body, c.code, c.body)
		}
	}
	if n := strings.Count(log.String(), "force-leave does nothing: the member is alive"); n != 3 {
		t.Errorf("the log says %d times that a member that is alive was forced to leave in vain, want 3", n)
	}
}

// closedAddress is one that nobody listens on.
func closedAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", agenttest.Ports(t, 1)[0])
}

func TestLeaveAnswersAndThenEndsTheAgent(t *testing.T) {
	a := agenttest.Start(t)
	// One who follows the log does not hold the agent up.
	r, err := http.Get(a.URL("/v1/agent/monitor?loglevel=debug"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got := do(t, http.MethodPut, a.URL("/v1/agent/leave"), ""); got.code != http.StatusOK || got.body != "" {
		t.Errorf("got %d %q", got.code, got.body)
	}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the log ended with %v", err)
	}
	if err := a.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}
