package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
)

// put writes a key through an agent.
func writeKey(t *testing.T, a *agenttest.Agent, key, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	status, body, err := a.Do(ctx, http.MethodPut, "/v1/kv/"+key, strings.NewReader(value))
	if err == nil && (status != http.StatusOK || strings.TrimSpace(body) != "true") {
		err = fmt.Errorf("PUT %s at %s: %d %s", key, a.Name, status, body)
	}
	return err
}

// get reads a key through an agent.
func readKey(t *testing.T, a *agenttest.Agent, key, query string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	status, body, err := a.Do(ctx, http.MethodGet, "/v1/kv/"+key+"?raw"+query, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s at %s: %d %s", key, a.Name, status, body)
	}
	return body, err
}

func TestClusterAnswersEverywhere(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 2)
	for i, writer := range c.Agents() {
		key, value := fmt.Sprintf("k%d", i), "by "+writer.Name
		if err := writeKey(t, writer, key, value); err != nil {
			t.Fatal(err)
		}
		for _, reader := range c.Agents() {
			for _, mode := range []string{"", "&consistent"} {
				if got, err := readKey(t, reader, key, mode); err != nil || got != value {
					t.Errorf("%s reads %q from %s with %q: %v", key, got, reader.Name, mode, err)
				}
			}
		}
	}
	members := func(a *agenttest.Agent) error {
		var all []struct{ Name string }
		if err := a.GetJSON(t.Context(), "/v1/agent/members", &all); err != nil {
			return err
		}
		if len(all) != 5 {
			return fmt.Errorf("%s sees the members %v", a.Name, all)
		}
		return nil
	}
	for _, a := range c.Agents() {
		c.Eventually("everybody sees all members", func() error { return members(a) })
		var peers []string
		if err := a.GetJSON(t.Context(), "/v1/status/peers", &peers); err != nil || len(peers) != 3 {
			t.Errorf("%s names the peers %v: %v", a.Name, peers, err)
		}
		var leader string
		if err := a.GetJSON(t.Context(), "/v1/status/leader", &leader); err != nil || leader != c.Leader().ServerAddr() {
			t.Errorf("%s names the leader %q: %v", a.Name, leader, err)
		}
	}
	manyReadAtOnce(t, c.Agents())
	sameState(t, c)
}

// sameState waits until all servers that run have the same state.
func sameState(t *testing.T, c *agenttest.Cluster) {
	t.Helper()
	c.Eventually("all servers have one state", func() error {
		index, hash, name := uint64(0), "", ""
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			i, h := s.State()
			if name != "" && (i != index || h != hash) {
				return fmt.Errorf("%s is at %d with %s, %s at %d with %s", name, index, hash, s.Name, i, h)
			}
			index, hash, name = i, h, s.Name
		}
		return nil
	})
}

func TestClusterSurvivesItsLeader(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 1)
	if err := writeKey(t, c.Clients[0], "before", "1"); err != nil {
		t.Fatal(err)
	}
	old := c.Leader()
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	c.Eventually("a write is taken again", func() error { return writeKey(t, c.Clients[0], "after", "2") })
	for _, a := range append(c.Followers(), c.Clients[0]) {
		for _, key := range []string{"before", "after"} {
			if _, err := readKey(t, a, key, ""); err != nil {
				t.Error(err)
			}
		}
	}
	old.Rerun()
	c.Eventually("the old leader follows", func() error {
		_, err := readKey(t, old, "after", "")
		return err
	})
	sameState(t, c)
}

func TestPartedLeaderAnswersNothing(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`performance { rpc_hold_timeout = "1s" }`))
	old := c.Leader()
	if err := writeKey(t, old, "key", "old"); err != nil {
		t.Fatal(err)
	}
	var others []string
	for _, s := range c.Followers() {
		others = append(others, s.Name)
	}
	c.Net.Part([]string{old.Name}, others)
	var survivor *agenttest.Agent
	c.Eventually("another server leads", func() error {
		for _, s := range c.Servers {
			if s != old && s.Leads() {
				survivor = s
				return nil
			}
		}
		return errors.New("nobody does")
	})
	c.Eventually("a write is taken", func() error { return writeKey(t, survivor, "key", "new") })
	if got, err := readKey(t, old, "key", ""); err == nil {
		t.Errorf("the parted leader answers %q", got)
	}
	if got, err := readKey(t, old, "key", "&stale"); err != nil || got != "old" {
		t.Errorf("a stale read there is %q: %v", got, err)
	}
	if err := writeKey(t, old, "key", "lost"); err == nil {
		t.Error("the parted leader takes a write")
	}
	c.Net.Heal()
	c.Eventually("the old leader follows", func() error {
		got, err := readKey(t, old, "key", "")
		if err == nil && got != "new" {
			err = fmt.Errorf("it reads %q", got)
		}
		return err
	})
	sameState(t, c)
}

func TestServersMoveWithoutHands(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0)
	if err := writeKey(t, c.Leader(), "key", "kept"); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Servers {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range c.Servers {
		s.Move()
		s.JoinVia(c.Servers[:i]...)
		s.Rerun()
	}
	c.Leader()
	for _, s := range c.Servers {
		c.Eventually("the key is read everywhere", func() error {
			_, err := readKey(t, s, "key", "")
			return err
		})
	}
}

func TestWipedServerComesBackWithoutAVote(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`autopilot { server_stabilization_time = "300ms" }`))
	if err := writeKey(t, c.Leader(), "key", "kept"); err != nil {
		t.Fatal(err)
	}
	wiped := c.Followers()[0]
	if err := wiped.Stop(); err != nil {
		t.Fatal(err)
	}
	wiped.Wipe()
	wiped.Rerun()
	type configuration struct {
		Servers []struct {
			Node  string
			Voter bool
		}
	}
	seen := map[bool]bool{}
	c.Eventually("it votes again", func() error {
		var got configuration
		if err := c.Leader().GetJSON(t.Context(), "/v1/operator/raft/configuration", &got); err != nil {
			return err
		}
		for _, s := range got.Servers {
			if s.Node == wiped.Name {
				seen[s.Voter] = true
				if s.Voter && seen[false] {
					return nil
				}
			}
		}
		return fmt.Errorf("it is %+v", got)
	})
	if _, err := readKey(t, wiped, "key", "&stale"); err != nil {
		t.Error(err)
	}
	sameState(t, c)
}

func TestNewServerJoins(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0, agenttest.HCL(`autopilot { server_stabilization_time = "300ms" }`))
	fourth := c.AddServer("s4")
	c.Eventually("it votes", func() error {
		var got struct {
			Servers []struct {
				Node  string
				Voter bool
			}
		}
		if err := fourth.GetJSON(t.Context(), "/v1/operator/raft/configuration?stale", &got); err != nil {
			return err
		}
		for _, s := range got.Servers {
			if s.Node == "s4" && s.Voter {
				return nil
			}
		}
		return fmt.Errorf("the servers are %+v", got)
	})
	sameState(t, c)
}

func TestClientAnswersWhileServersAreGone(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 1, 1)
	client := c.Clients[0]
	ctx := t.Context()
	if status, body, err := client.Do(ctx, http.MethodPut, "/v1/agent/service/register", strings.NewReader(`{"Name":"web","Port":80}`)); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	c.Eventually("DNS knows the instance", func() error { return digSRV(client, "web.service.consul.") })
	if err := c.Servers[0].Stop(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := digSRV(client, "web.service.consul."); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, err := client.Do(ctx, http.MethodGet, "/v1/agent/services", nil); err != nil || status != http.StatusOK {
		t.Errorf("its own services: %d %v", status, err)
	}
}

// digSRV asks an agent for the instances of a service and wants one at least.
func digSRV(a *agenttest.Agent, name string) error {
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeSRV)
	got, _, err := new(dns.Client).Exchange(q, a.DNS)
	if err == nil && len(got.Answer) == 0 {
		err = fmt.Errorf("%s answers %s with %s and nothing", a.Name, name, dns.RcodeToString[got.Rcode])
	}
	return err
}

// A leader that learns that its state is another than that of the others hands over
// and takes theirs, instead of having them take its own.
func TestLeaderThatDiffersTakesTheOthersState(t *testing.T) {
	t.Parallel()
	c := agenttest.StartCluster(t, 3, 0)
	if err := writeKey(t, c.Leader(), "key", "1"); err != nil {
		t.Fatal(err)
	}
	sameState(t, c)
	odd, right := c.Leader(), c.Followers()[0]
	if err := odd.Corrupt(); err != nil {
		t.Fatal(err)
	}
	// What it says of commands that it passes over is an error, and nobody's loss.
	for i := range 3 {
		_ = writeKey(t, odd, fmt.Sprint("more", i), "2")
	}
	c.Eventually("another one leads, and it has the others' state", func() error {
		if odd.Leads() {
			return fmt.Errorf("it leads: %v", right.ProposeCheck(t.Context()))
		}
		if odd.Differs() {
			return errors.New("it differs")
		}
		return nil
	})
	sameState(t, c)
	for _, a := range c.Servers {
		if got, err := readKey(t, a, "corrupt", "&stale"); err == nil && got != "" {
			t.Errorf("%s has %q", a.Name, got)
		}
	}
}

func TestServerThatDiffersTakesTheLeadersState(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 3, 0, agenttest.Log(log))
	if err := writeKey(t, c.Leader(), "key", "1"); err != nil {
		t.Fatal(err)
	}
	sameState(t, c)
	odd := c.Followers()[0]
	if err := odd.Corrupt(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // one of them is what the odd one passes over
		if err := writeKey(t, c.Leader(), fmt.Sprint("more", i), "2"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readKey(t, odd, "corrupt", "&stale"); err != nil || got != "1" {
		t.Fatalf("it is not corrupt: %q %v", got, err)
	}
	if err := c.Leader().ProposeCheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Eventually("it has the leader's state", func() error {
		if !strings.Contains(log.String(), agent.PhraseDiffers) {
			return errors.New("nothing was said")
		}
		if odd.Differs() {
			return errors.New("it differs")
		}
		return nil
	})
	sameState(t, c)
	if err := odd.Stop(); err != nil { // what is on disk is the leader's, too
		t.Fatal(err)
	}
	odd.Rerun()
	c.Eventually("it answers", func() error {
		_, err := readKey(t, odd, "more2", "")
		return err
	})
	sameState(t, c)
}

// Two clusters do not grow into one, whoever joins whom, and a client agent stays
// with its own.
func TestClustersStayApart(t *testing.T) {
	t.Parallel()
	log := &buffer{}
	c := agenttest.StartCluster(t, 1, 1, agenttest.Log(log))
	other := agenttest.Start(t, agenttest.Name("foreign"))
	if err := writeKey(t, other, "whose", "the other's"); err != nil {
		t.Fatal(err)
	}
	if err := writeKey(t, c.Clients[0], "whose", "ours"); err != nil {
		t.Fatal(err)
	}
	c.Eventually("everybody says which cluster it belongs to", func() error {
		for _, a := range append(c.Agents(), other) {
			var self struct {
				Member struct{ Tags map[string]string }
			}
			if err := a.GetJSON(t.Context(), "/v1/agent/self", &self); err != nil {
				return err
			}
			if self.Member.Tags["cluster"] == "" {
				return errors.New(a.Name + " does not")
			}
		}
		return nil
	})
	for _, joins := range [][2]*agenttest.Agent{{other, c.Servers[0]}, {other, c.Clients[0]}, {c.Clients[0], other}} {
		status, text, err := joins[0].Do(t.Context(), http.MethodPut, "/v1/agent/join/"+joins[1].GossipAddr(), nil)
		if err != nil || status == http.StatusOK {
			t.Errorf("%s joined %s: %d %s %v", joins[0].Name, joins[1].Name, status, text, err)
		}
		if !strings.Contains(text, "cluster") {
			t.Errorf("the refusal does not say why: %s", text)
		}
	}
	for range 10 {
		if got, err := readKey(t, c.Clients[0], "whose", ""); err != nil || got != "ours" {
			t.Errorf("the client agent reads %q: %v", got, err)
		}
	}
}
