package agent_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/gossip"
)

// How long clusters in this process are treated badly.
var (
	chaosTime = flag.Duration("chaos", 0, "how long TestChaosRandom goes on, at least, and others watch a cluster, at most; 0 skips them")
	chaosSeed = flag.Uint64("chaos.seed", 0, "where tests under faults begin; 0 is a new place each time")
)

const (
	// chaosClients is how many clients work at each agent.
	chaosClients = 2
	// progressLimit is how long agents may take to carry out operations, and
	// wholeLimit how long a cluster may take to be whole when nothing is wrong any
	// more; a busy machine is slow.
	progressLimit = 90 * time.Second
	wholeLimit    = 2 * time.Minute
	// fewOperations tell that an agent goes on.
	fewOperations = 10
	// faultTime is how long a fault lasts at least.
	faultTime = 2 * time.Second
)

// chaosSettings are those of all agents under faults.
const chaosSettings = `
performance {
	raft_multiplier  = 1
	rpc_hold_timeout = "3s"
}
autopilot { server_stabilization_time = "300ms" }
`

// trial is a cluster under load, and what can be done to it.
type trial struct {
	*agenttest.Cluster
	t      *testing.T
	load   *agenttest.Load
	random *rand.Rand
	disks  map[string]*disk
	clocks map[string]*agenttest.Clock
}

// disk is that of a server, which can hang and fail.
type disk struct {
	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil while it does
	err  error
}

// call is made before something is stored.
func (d *disk) call() error {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held != nil {
		<-held
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// hang lets nothing be stored until mend.
func (d *disk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == nil {
		d.held = make(chan struct{})
	}
}

// fail refuses to store anything until mend.
func (d *disk) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = errors.New("the test's disk fails")
}

func (d *disk) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held != nil {
		close(d.held)
		d.held = nil
	}
	d.err = nil
}

// newTrial starts a cluster and lets clients use it.
func newTrial(t *testing.T, seed uint64, servers, clients int, options ...agenttest.Option) *trial {
	t.Helper()
	x := &trial{t: t, random: rand.New(rand.NewPCG(seed, 0)), disks: map[string]*disk{}, clocks: map[string]*agenttest.Clock{}}
	x.Cluster = agenttest.StartCluster(t, servers, clients, append([]agenttest.Option{
		agenttest.HCL(chaosSettings), agenttest.Reconnect(time.Second),
		agenttest.Each(func(name string) []agenttest.Option {
			x.disks[name], x.clocks[name] = &disk{}, &agenttest.Clock{}
			return []agenttest.Option{
				agenttest.Clocked(x.clocks[name]),
				agenttest.Faults(consensus.Faults{Log: x.disks[name].call, Stable: x.disks[name].call}),
			}
		}),
	}, options...)...)
	x.Net.Seed(seed)
	t.Cleanup(func() {
		for _, d := range x.disks {
			d.mend()
		}
	})
	x.awaitWhole()
	x.load = agenttest.StartLoad("c", seed, chaosClients, x.targets())
	t.Cleanup(x.load.Stop)
	x.awaitProgress(x.Agents()...)
	return x
}

func (x *trial) targets() []agenttest.Target {
	var out []agenttest.Target
	for _, a := range x.Servers {
		out = append(out, agenttest.Target{Name: a.Name, Address: a.HTTP, Server: true})
	}
	for _, a := range x.Clients {
		out = append(out, agenttest.Target{Name: a.Name, Address: a.HTTP})
	}
	return out
}

// within waits until check returns nil.
func (x *trial) within(limit time.Duration, what string, check func() error) {
	x.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			x.t.Fatalf("waited %s until %s: %v", limit, what, err)
		}
	}
}

// awaitProgress waits until each of some agents carries out operations.
func (x *trial) awaitProgress(agents ...*agenttest.Agent) {
	x.t.Helper()
	begin := map[string]int{}
	for _, a := range agents {
		begin[a.Name] = x.load.Answered(a.Name)
	}
	for _, a := range agents {
		x.within(progressLimit, a.Name+" carries out operations", func() error {
			if n := x.load.Answered(a.Name) - begin[a.Name]; n < fewOperations {
				return fmt.Errorf("there were %d", n)
			}
			return nil
		})
	}
}

// another waits until a server leads that is none of some.
func (x *trial) another(not ...*agenttest.Agent) *agenttest.Agent {
	x.t.Helper()
	var leader *agenttest.Agent
	x.within(progressLimit, "another server leads", func() error {
		for _, s := range x.Servers {
			if !slices.Contains(not, s) && s.Running() && s.Leads() {
				leader = s
				return nil
			}
		}
		return errors.New("none does")
	})
	return leader
}

// awaitWhole waits until all servers vote, and all agents answer and see each
// other.
func (x *trial) awaitWhole() {
	x.t.Helper()
	began := time.Now()
	for _, a := range x.Agents() {
		x.within(wholeLimit-min(wholeLimit/2, time.Since(began)), a.Name+" is a part of a whole cluster", func() error {
			ctx, cancel := context.WithTimeout(x.t.Context(), 5*time.Second)
			defer cancel()
			return x.whole(ctx, a)
		})
	}
	x.t.Logf("whole after %s", time.Since(began).Round(10*time.Millisecond))
}

// whole says what an agent misses of a whole cluster.
func (x *trial) whole(ctx context.Context, a *agenttest.Agent) error {
	voters, err := votersSeenBy(ctx, a)
	if err != nil {
		return err
	}
	all := names(x.Servers)
	slices.Sort(all)
	if !slices.Equal(voters, all) {
		return fmt.Errorf("the voters are %v", voters)
	}
	members, err := membersSeenBy(ctx, a)
	if err != nil {
		return err
	}
	for name, status := range members {
		if status != gossip.Alive {
			return fmt.Errorf("%s is %s there", name, status)
		}
	}
	if len(members) != len(x.Agents()) {
		return fmt.Errorf("it sees %d members", len(members))
	}
	for _, other := range x.Agents() {
		var found []struct{ CheckID, Status string }
		if err := a.GetJSON(ctx, "/v1/health/node/"+other.Name, &found); err != nil {
			return err
		}
		if len(found) == 0 || found[0].CheckID != "serfHealth" || found[0].Status != "passing" {
			return fmt.Errorf("the catalog has %s with %v", other.Name, found)
		}
	}
	return nil
}

// membersSeenBy lists the members that an agent knows.
func membersSeenBy(ctx context.Context, a *agenttest.Agent) (map[string]gossip.Status, error) {
	var got []struct {
		Name   string
		Status gossip.Status
	}
	if err := a.GetJSON(ctx, "/v1/agent/members", &got); err != nil {
		return nil, err
	}
	out := map[string]gossip.Status{}
	for _, m := range got {
		out[m.Name] = m.Status
	}
	return out, nil
}

// votersSeenBy names the servers that vote, as an agent sees it.
func votersSeenBy(ctx context.Context, a *agenttest.Agent) ([]string, error) {
	var got struct {
		Servers []struct {
			Node   string
			Voter  bool
			Leader bool
		}
	}
	if err := a.GetJSON(ctx, "/v1/operator/raft/configuration", &got); err != nil {
		return nil, err
	}
	var out []string
	led := false
	for _, s := range got.Servers {
		if s.Voter {
			out = append(out, s.Node)
		}
		led = led || s.Leader
	}
	if !led {
		return nil, errors.New("nobody leads")
	}
	slices.Sort(out)
	return out, nil
}

// heal makes all well again, and waits until it is.
func (x *trial) heal() {
	x.t.Helper()
	x.Net.Heal()
	for _, d := range x.disks {
		d.mend()
	}
	x.awaitWhole()
	x.awaitProgress(x.used()...)
}

// used lists the agents that clients use: those that were there at first.
func (x *trial) used() []*agenttest.Agent {
	return slices.DeleteFunc(x.Agents(), func(a *agenttest.Agent) bool { return x.disks[a.Name] == nil })
}

// hold waits for as long as a fault lasts at least.
func (x *trial) hold() {
	timer := time.NewTimer(faultTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.t.Context().Done():
	}
}

// sameState waits until all servers have one state, while nobody writes.
func (x *trial) sameState() {
	x.t.Helper()
	x.load.Pause()
	defer x.load.Resume()
	if err := x.load.SameState(x.t.Context()); err != nil {
		x.t.Error(err)
	}
}

// finish checks all that the clients saw.
func (x *trial) finish(fewest int) int {
	x.t.Helper()
	for deadline := time.Now().Add(progressLimit); x.load.History.Len() < fewest && time.Now().Before(deadline) && !x.t.Failed(); {
		x.awaitProgress(x.used()...)
	}
	x.load.Stop()
	if err := x.load.Finish(); err != nil {
		x.t.Error(err)
	}
	x.t.Log(x.load.History.Summary())
	if n := x.load.History.Len(); n < fewest {
		x.t.Errorf("there were only %d operations", n)
	}
	return x.load.History.Len()
}

func names(agents []*agenttest.Agent) []string {
	var out []string
	for _, a := range agents {
		out = append(out, a.Name)
	}
	return out
}

// without lists agents but for some.
func without(agents []*agenttest.Agent, but ...*agenttest.Agent) []*agenttest.Agent {
	return slices.DeleteFunc(slices.Clone(agents), func(a *agenttest.Agent) bool { return slices.Contains(but, a) })
}

// part cuts some agents off from all others.
func (x *trial) part(some ...*agenttest.Agent) (others []*agenttest.Agent) {
	others = without(x.Agents(), some...)
	x.Net.Part(names(some), names(others))
	return others
}

// A leader that is cut off is replaced, and learns what happened meanwhile.
func partLeader(x *trial) {
	old := x.Leader()
	others := x.part(old)
	x.another(old)
	x.awaitProgress(others...)
	if old.Leads() {
		x.t.Errorf("%s leads although it is cut off", old.Name)
	}
}

// cutOneWay loses all that one agent sends, or all that is sent to it.
func (x *trial) cutOneWay(a *agenttest.Agent, sends bool) {
	for _, other := range without(x.Agents(), a) {
		if sends {
			x.Net.Cut(a.Name, other.Name)
		} else {
			x.Net.Cut(other.Name, a.Name)
		}
	}
}

// A leader whom nobody hears, or who hears nobody, is replaced; without such a
// follower the others go on.
func oneWay(leader, sends bool) func(x *trial) {
	return func(x *trial) {
		cut := x.Leader()
		if !leader {
			cut = x.Followers()[0]
		}
		x.cutOneWay(cut, sends)
		if leader {
			x.another(cut)
		}
		x.awaitProgress(without(x.Agents(), cut)...)
	}
}

// A third of all packets is lost, also of connections.
func lossy(x *trial) {
	x.Net.Packets(0.3, 0.05)
	x.Net.Stall(0.3)
	x.awaitProgress(x.Agents()...)
}

// Everything takes 200 ms each way.
func late(x *trial) {
	x.Net.Delay(200*time.Millisecond, 0)
	x.awaitProgress(x.Agents()...)
}

// chaosFault is something that is done to a cluster under load.
type chaosFault struct {
	name string
	do   func(x *trial)
}

// run does one after the other, and lets the cluster heal each time.
func (x *trial) run(faults ...chaosFault) {
	for _, f := range faults {
		began := time.Now()
		f.do(x)
		x.hold()
		x.heal()
		x.sameState()
		x.t.Logf("%s: %s", f.name, time.Since(began).Round(100*time.Millisecond))
		if x.t.Failed() {
			break
		}
	}
}

func TestChaosThreeServers(t *testing.T) {
	t.Parallel()
	x := newTrial(t, seedOf(t), 3, 1)
	x.run(
		chaosFault{"the leader is cut off", partLeader},
		chaosFault{"nobody hears the leader", oneWay(true, true)},
		chaosFault{"the leader hears nobody", oneWay(true, false)},
		chaosFault{"nobody hears a follower", oneWay(false, true)},
		chaosFault{"a follower hears nobody", oneWay(false, false)},
	)
	x.finish(1000)
}

func TestChaosBadNetwork(t *testing.T) {
	t.Parallel()
	x := newTrial(t, seedOf(t), 3, 1)
	x.run(
		chaosFault{"a third of all packets is lost", lossy},
		chaosFault{"everything is late", late},
	)
	x.finish(500)
}

// A minority that is cut off, with client agents on its side, does nothing; the
// majority changes who takes part meanwhile. It runs alone, since it keeps a processor
// busy by itself.
func TestChaosFiveServers(t *testing.T) {
	x := newTrial(t, seedOf(t), 5, 2)
	x.run(
		chaosFault{"a minority with the leader and a client agent", func(x *trial) {
			leader := x.Leader()
			others := x.part(leader, x.Followers()[0], x.Clients[0])
			x.another(leader)
			x.awaitProgress(others...)
		}},
		chaosFault{"a minority without the leader", func(x *trial) {
			followers := x.Followers()
			x.awaitProgress(x.part(followers[0], followers[1], x.Clients[1])...)
		}},
		chaosFault{"members change while a minority is away", changeMembers},
	)
	x.finish(1000)
}

// changeMembers adds a server, takes one of those out that are cut off, and forces
// another to leave.
func changeMembers(x *trial) {
	followers := x.Followers()
	away := followers[:2]
	others := x.part(away...)
	leader := x.another(away...)
	ctx := x.t.Context()
	added := x.AddServer("s6", agenttest.HCL(chaosSettings), agenttest.Reconnect(time.Second))
	x.Net.Part(names(away), []string{added.Name})
	x.within(wholeLimit, "the new server votes", func() error {
		voters, err := votersSeenBy(ctx, leader)
		if err == nil && !slices.Contains(voters, added.Name) {
			err = fmt.Errorf("the voters are %v", voters)
		}
		return err
	})
	status, body, err := leader.Do(ctx, http.MethodDelete, "/v1/operator/raft/peer?id="+away[0].NodeID(), nil)
	// The cluster takes out by itself whom gossip found dead, once the new server votes.
	if err != nil || status != http.StatusOK && !strings.Contains(body, "was not found in the Raft configuration") {
		x.t.Errorf("removing a peer: %d %s %v", status, body, err)
	}
	x.within(wholeLimit, "a failed server is forced to leave", func() error {
		status, body, err := leader.Do(ctx, http.MethodPut, "/v1/agent/force-leave/"+away[1].Name, strings.NewReader(""))
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%d %s %w", status, body, err)
		}
		members, err := membersSeenBy(ctx, leader)
		if err != nil || members[away[1].Name] != gossip.Left {
			return fmt.Errorf("it is %s: %w", members[away[1].Name], err)
		}
		voters, err := votersSeenBy(ctx, leader)
		if err == nil && (slices.Contains(voters, away[0].Name) || slices.Contains(voters, away[1].Name)) {
			err = fmt.Errorf("the voters are %v", voters)
		}
		return err
	})
	x.awaitProgress(others...)
}

// seedOf is where chance begins, as the test prints.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("to do the same again: -chaos.seed=%d", seed)
	return seed
}

// All servers come back at new addresses, two of them at each other's, while a
// client agent looks for them. They know only where all were before.
func TestChaosServersSwap(t *testing.T) {
	t.Parallel()
	x := newTrial(t, seedOf(t), 3, 1)
	x.run(chaosFault{"two servers exchange their addresses, and the third has a new one", func(x *trial) {
		for _, s := range x.Servers {
			s.JoinVia(without(x.Servers, s)...)
		}
		for _, s := range x.Servers {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		agenttest.Swap(x.Servers[0], x.Servers[1])
		x.Servers[2].Move()
		for _, s := range x.Servers {
			s.Rerun()
		}
	}})
	x.finish(500)
}
