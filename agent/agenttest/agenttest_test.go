package agenttest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/agenttest"
)

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func TestStartLeadsAndStops(t *testing.T) {
	a := agenttest.Start(t)
	if code, leader := do(t, "GET", a.URL("/v1/status/leader"), ""); code != 200 || strings.TrimSpace(leader) != `"`+a.ServerAddr()+`"` {
		t.Errorf("the leader is %d %s, want %s", code, leader, a.ServerAddr())
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
	if err := a.Stop(); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

func TestRestartKeepsWhatIsOnDisk(t *testing.T) {
	a := agenttest.Start(t, agenttest.Name("kept"), agenttest.OnDisk(t.TempDir()))
	if code, answer := do(t, "PUT", a.URL("/v1/kv/a"), "1"); code != 200 || answer != "true" {
		t.Fatalf("put: %d %s", code, answer)
	}
	id := a.NodeID()
	a.Restart()
	if code, answer := do(t, "GET", a.URL("/v1/kv/a?raw"), ""); code != 200 || answer != "1" {
		t.Errorf("after a restart: %d %q", code, answer)
	}
	if a.NodeID() != id {
		t.Errorf("the node's ID changed from %s to %s", id, a.NodeID())
	}
}

func TestAgentsSideBySide(t *testing.T) {
	a, b := agenttest.Start(t), agenttest.Start(t, agenttest.Name("other"))
	do(t, "PUT", a.URL("/v1/kv/a"), "1")
	if code, _ := do(t, "GET", b.URL("/v1/kv/a"), ""); code != 404 {
		t.Errorf("another agent's key is there: %d", code)
	}
	if err := a.Stop(); err != nil { // b still runs, and is not taken for a leak
		t.Error(err)
	}
}
