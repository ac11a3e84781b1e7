package agent_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// votes waits until servers are those that vote, and no others.
func votes(c *agenttest.Cluster, at *agenttest.Agent, t *testing.T, names ...string) {
	t.Helper()
	c.Eventually("the servers are as they should be", func() error {
		var got struct {
			Servers []struct {
				Node  string
				Voter bool
			}
		}
		if err := at.GetJSON(t.Context(), "/v1/operator/raft/configuration?stale", &got); err != nil {
			return err
		}
		voters := map[string]bool{}
		for _, s := range got.Servers {
			voters[s.Node] = s.Voter
		}
		for _, name := range names {
			if !voters[name] {
				return fmt.Errorf("the servers are %+v, %s does not vote", got, name)
			}
		}
		if len(got.Servers) != len(names) {
			return fmt.Errorf("the servers are %+v", got)
		}
		return nil
	})
}

func TestMoreServersThanExpectedBeginOneCluster(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 4, 0, agenttest.HCL(`bootstrap_expect = 2 autopilot { server_stabilization_time = "300ms" }`))
	votes(c, c.Leader(), t, "s1", "s2", "s3", "s4")
	sameState(t, c)
}

func TestServersThatExpectNothingAreNoDisagreement(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 2, 0, agenttest.Log(log), agenttest.HCL(`autopilot { server_stabilization_time = "300ms" }`))
	c.AddServer("s3", agenttest.Log(log))
	votes(c, c.Leader(), t, "s1", "s2", "s3")
	wiped := c.Followers()[0]
	if wiped.Name == "s3" {
		wiped = c.Followers()[1]
	}
	if err := wiped.Stop(); err != nil {
		t.Fatal(err)
	}
	wiped.Wipe()
	wiped.Rerun()
	votes(c, c.Leader(), t, "s1", "s2", "s3")
	sameState(t, c)
	if strings.Contains(log.String(), "do not expect the same") {
		t.Error("a server that expects nothing was taken for one that disagrees")
	}
}

// A server in bootstrap mode that lost its data, or was never to be in that mode,
// begins no cluster of its own beside the one that its addresses lead to.
func TestBootstrapModeBesideACluster(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 1, 0, agenttest.HCL(`autopilot { server_stabilization_time = "300ms" }`))
	if err := writeKey(t, c.Leader(), "key", "kept"); err != nil {
		t.Fatal(err)
	}
	second := c.AddServer("s2", agenttest.HCL(`bootstrap = true`), agenttest.Log(log))
	votes(c, c.Leader(), t, "s1", "s2")
	if got, err := readKey(t, second, "key", ""); err != nil || got != "kept" {
		t.Errorf("it reads %q: %v", got, err)
	}
	if !strings.Contains(log.String(), "there is a cluster already") {
		t.Errorf("it does not say why it waits: %s", log.String())
	}
	sameState(t, c)
}

// Where nobody listens there is nobody to wait for.
func TestBootstrapModeWithNobodyThere(t *testing.T) {
	log := &buffer{}
	// Nobody listens on the port for what nobody listens for; the other address is
	// the server's own.
	c := agenttest.StartCluster(t, 1, 0, agenttest.Log(log), agenttest.HCL(`retry_join = ["127.0.0.1:9", "127.0.0.1"] retry_interval = "1s"`))
	if err := writeKey(t, c.Leader(), "key", "1"); err != nil {
		t.Error(err)
	}
	said := regexp.MustCompile(`no server of a cluster was found.*looked"?[=:] ?"?([0-9.msµ]+)`).FindStringSubmatch(log.String())
	if said == nil {
		t.Fatalf("it does not say what it does: %s", log.String())
	}
	if looked, err := time.ParseDuration(said[1]); err != nil || looked >= 3*time.Second {
		t.Errorf("it began after %s: %v", said[1], err)
	}
}

// Servers that expect different numbers each say so once, however often they look.
func TestDisagreementIsSaidOnce(t *testing.T) {
	logs := map[string]*buffer{}
	c := agenttest.StartCluster(t, 0, 0)
	for i := range 3 {
		log := &buffer{}
		a := c.AddServer(fmt.Sprintf("s%d", i), agenttest.HCL(fmt.Sprintf(`bootstrap_expect = %d`, i+2)), agenttest.Log(log))
		logs[a.Name] = log
	}
	lines := func(log *buffer) (all []string) {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "do not expect the same number") {
				all = append(all, line)
			}
		}
		return all
	}
	c.Eventually("each names both others", func() error {
		for name, log := range logs {
			if all := lines(log); len(all) == 0 || strings.Count(all[len(all)-1], "expects") != 2 {
				return fmt.Errorf("%s says %q", name, all)
			}
		}
		return nil
	})
	// One line for the first of them that was seen, and one for both.
	for name, log := range logs {
		if all := lines(log); len(all) > 2 {
			t.Errorf("%s says %d times that the servers disagree: %q", name, len(all), all)
		}
	}
}
