package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
)

// Faults puts tests between an agent and its disk.
func Faults(f consensus.Faults) Option { return func(s *settings) { s.faults = f } }

// Clock is a clock on the wall that a test can put forward and back.
type Clock struct{ off atomic.Int64 }

// Now is what the clock shows.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

// Set makes the clock wrong by so much.
func (c *Clock) Set(off time.Duration) { c.off.Store(int64(off)) }

// Clocked gives an agent a clock of its own.
func Clocked(c *Clock) Option { return func(s *settings) { s.clock = c } }

// Each gives each agent of a cluster options of its own, by its name.
func Each(options func(name string) []Option) Option {
	return func(s *settings) {
		for _, o := range options(s.name) {
			o(s)
		}
	}
}

// Reconnect is how often an agent looks for members that failed, instead of every
// half minute.
func Reconnect(interval time.Duration) Option {
	return func(s *settings) { s.reconnect = interval }
}

// Cluster is several agents in this process, on a network that the test can cut.
// Servers are s1, s2, …, client agents c1, c2, ….
type Cluster struct {
	Servers []*Agent
	Clients []*Agent
	Net     *Net

	t testing.TB
}

// StartCluster returns a running cluster whose servers have a leader and keep
// their data on disk, and whose agents are all in the catalog. Options hold for
// all of them. It is stopped when the test ends.
func StartCluster(t testing.TB, servers, clients int, options ...Option) *Cluster {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("the seed of the network is %d", seed)
	c := &Cluster{Net: NewNet(seed), t: t}
	for i := range servers {
		c.Servers = append(c.Servers, c.make(fmt.Sprintf("s%d", i+1), false, servers, options))
	}
	for i := range clients {
		c.Clients = append(c.Clients, c.make(fmt.Sprintf("c%d", i+1), true, 0, options))
	}
	for _, a := range c.Agents() {
		if err := a.awaitReady(); err != nil {
			t.Fatalf("agent %s is not ready: %v", a.Name, err)
		}
	}
	return c
}

// AddServer starts a server that expects to be added to the cluster.
func (c *Cluster) AddServer(name string, options ...Option) *Agent {
	c.t.Helper()
	a := c.make(name, false, 0, options)
	c.Servers = append(c.Servers, a)
	return a
}

// AddClient starts a client agent and waits until it is in the catalog.
func (c *Cluster) AddClient(name string, options ...Option) *Agent {
	c.t.Helper()
	a := c.make(name, true, 0, options)
	c.Clients = append(c.Clients, a)
	if err := a.awaitReady(); err != nil {
		c.t.Fatalf("agent %s is not ready: %v", name, err)
	}
	return a
}

// StartClients starts client agents, all at the same time, and waits for nothing.
// Their names are the prefix and a number from 1.
func (c *Cluster) StartClients(prefix string, n int, options ...Option) []*Agent {
	c.t.Helper()
	agents := make([]*Agent, n)
	var group sync.WaitGroup
	for i := range agents {
		group.Go(func() { agents[i] = c.make(fmt.Sprintf("%s%d", prefix, i+1), true, 0, options) })
	}
	group.Wait()
	if slices.Contains(agents, nil) {
		c.t.FailNow() // one said why
	}
	c.Clients = append(c.Clients, agents...)
	return agents
}

// Agents lists all agents, servers first.
func (c *Cluster) Agents() []*Agent {
	return append(append([]*Agent(nil), c.Servers...), c.Clients...)
}

// make starts one agent, which joins the servers that run.
func (c *Cluster) make(name string, client bool, expect int, options []Option) *Agent {
	c.t.Helper()
	s := settings{name: name, log: io.Discard, client: client, expect: expect, net: c.Net, folder: c.t.TempDir()}
	if test, ok := c.t.(*testing.T); ok {
		s.log = outputOf(test)
	}
	for _, o := range options {
		o(&s)
	}
	for _, other := range c.Servers {
		if other.Running() {
			s.join = append(s.join, other.GossipAddr())
		}
	}
	s.ports = newFixedPorts(c.t)
	a := &Agent{Name: name, t: c.t, settings: s}
	a.run()
	c.t.Cleanup(func() {
		c.Net.Heal()
		if err := a.Stop(); err != nil {
			c.t.Errorf("agent %s did not stop in order: %v", name, err)
		}
	})
	return a
}

// Running reports whether the agent has not ended.
func (a *Agent) Running() bool {
	select {
	case <-a.ended:
		return false
	default:
		return true
	}
}

// Rerun starts an agent of a cluster that was stopped, at the addresses that it
// had, and does not wait until it is ready.
func (a *Agent) Rerun() {
	a.t.Helper()
	a.run()
}

// newFixedPorts are for one agent of a cluster.
func newFixedPorts(t testing.TB) *fixedPorts {
	t.Helper()
	var at []string
	for _, port := range Ports(t, 4) {
		at = append(at, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return &fixedPorts{server: at[0], gossip: at[1], http: at[2], dns: at[3]}
}

// Move makes an agent that was stopped come back at other addresses for agents.
func (a *Agent) Move() {
	a.t.Helper()
	moved := newFixedPorts(a.t)
	a.settings.ports.server, a.settings.ports.gossip = moved.server, moved.gossip
}

// Swap makes two agents that were stopped come back at each other's addresses for
// agents.
func Swap(a, b *Agent) {
	one, other := *a.settings.ports, *b.settings.ports
	a.settings.ports.server, a.settings.ports.gossip = other.server, other.gossip
	b.settings.ports.server, b.settings.ports.gossip = one.server, one.gossip
}

// Wipe removes the data of an agent that was stopped, but its ID.
func (a *Agent) Wipe() {
	a.t.Helper()
	id := a.NodeID()
	if err := os.RemoveAll(a.settings.folder); err != nil {
		a.t.Fatal(err)
	}
	if err := os.MkdirAll(a.settings.folder, 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(a.settings.folder+"/node-id", []byte(id), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// JoinVia makes an agent look for the cluster at others when it is run again.
func (a *Agent) JoinVia(others ...*Agent) {
	a.settings.join = nil
	for _, o := range others {
		a.settings.join = append(a.settings.join, o.GossipAddr())
	}
}

// Leader waits until one of the servers that run leads, and returns it.
func (c *Cluster) Leader() *Agent {
	c.t.Helper()
	var leader *Agent
	c.Eventually("a server leads", func() error {
		for _, s := range c.Servers {
			if s.Running() && s.Leads() {
				leader = s
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// Followers lists the servers that run and do not lead.
func (c *Cluster) Followers() []*Agent {
	c.t.Helper()
	leader := c.Leader()
	var out []*Agent
	for _, s := range c.Servers {
		if s != leader && s.Running() {
			out = append(out, s)
		}
	}
	return out
}

// eventuallyLimit is how long anything may take that must come to hold, on a machine
// that is busy.
const eventuallyLimit = time.Minute

// Eventually waits until check returns nil.
func (c *Cluster) Eventually(what string, check func() error) {
	c.t.Helper()
	deadline := time.NewTimer(eventuallyLimit)
	defer deadline.Stop()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			c.t.Fatalf("waited %s until %s: %v", eventuallyLimit, what, err)
		}
	}
}

// lookInterval is between two looks at something that is waited for.
const lookInterval = 20 * time.Millisecond

// Do makes a request to an agent over HTTP and returns the status and the body.
func (a *Agent) Do(ctx context.Context, method, path string, body io.Reader) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.URL(path), body)
	if err != nil {
		return 0, "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return response.StatusCode, string(b), err
}

// GetJSON asks an agent and reads the answer into v.
func (a *Agent) GetJSON(ctx context.Context, path string, v any) error {
	status, body, err := a.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, status, body)
	}
	return json.Unmarshal([]byte(body), v)
}
