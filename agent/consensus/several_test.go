package consensus

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// member is one of several nodes of a test.
type member struct {
	*Node
	machine *counter
	disk    *disk
	cfg     Config
}

// members are nodes that form a cluster in the time of a synctest bubble.
type members struct {
	t   *testing.T
	net *network
	all []*member
}

// admit ends a node's freshness.
func admit(t testing.TB, n *Node) {
	t.Helper()
	nonce, _ := n.Fresh()
	if err := n.Admit(nonce); err != nil {
		t.Fatal(err)
	}
}

// gather opens nodes that bootstrap a cluster together, in folders below one, or
// in memory if it is empty.
func gather(t *testing.T, dir string, ids ...string) *members {
	t.Helper()
	m := &members{t: t, net: new(network)}
	for _, id := range ids {
		m.open(dir, id)
	}
	for _, one := range m.all {
		if fresh, err := one.BootstrapServers(ids); err != nil || !fresh {
			t.Fatalf("BootstrapServers: %v, %v", fresh, err)
		}
	}
	return m
}

// open opens a node that belongs to nobody yet.
func (m *members) open(dir, id string) *member {
	m.t.Helper()
	one := &member{machine: new(counter), disk: new(disk)}
	one.cfg = on(one.disk, "", one.machine)
	one.cfg.ID = id
	if dir != "" {
		one.cfg.Dir = filepath.Join(dir, id)
	}
	m.start(one)
	m.all = append(m.all, one)
	return one
}

func (m *members) start(one *member) {
	m.t.Helper()
	one.machine = new(counter)
	one.cfg.FSM, one.cfg.Stream = one.machine, m.net.port(one.cfg.ID)
	n, err := Open(one.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	one.Node = n
}

// stop stops all nodes. (A bubble ends before the cleanups of its test.)
func (m *members) stop() {
	m.net.heal()
	for _, one := range m.all {
		stop(m.t, one.Node)
	}
	time.Sleep(2 * time.Minute) // until the network has given up what was under way
	synctest.Wait()
}

// others returns the nodes without some.
func (m *members) others(without ...*member) (rest []*member) {
	for _, one := range m.all {
		if !slices.Contains(without, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

// leads returns the nodes that lead now.
func leads(all []*member) (leading []*member) {
	for _, one := range all {
		if one.Leading() {
			leading = append(leading, one)
		}
	}
	return leading
}

// leader waits until one of the nodes leads. At no moment may two.
func (m *members) leader(of ...*member) *member {
	m.t.Helper()
	if len(of) == 0 {
		of = m.all
	}
	var found *member
	m.until("one leads", 20*time.Second, func() bool {
		if l := leads(of); len(l) == 1 {
			found = l[0]
		}
		return found != nil
	})
	return found
}

// until waits for a condition, in steps of a millisecond of the bubble's time,
// and fails if ever two nodes lead at once.
func (m *members) until(what string, limit time.Duration, done func() bool) (took time.Duration) {
	m.t.Helper()
	for start := time.Now(); ; {
		synctest.Wait()
		if l := leads(m.all); len(l) > 1 {
			m.t.Fatalf("%s and %s lead at once", l[0].cfg.ID, l[1].cfg.ID)
		}
		if done() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			m.t.Fatalf("after %v it is not so that %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// holds checks that a condition holds for some time.
func (m *members) holds(what string, length time.Duration, so func() bool) {
	m.t.Helper()
	start := time.Now()
	m.until(what, length+time.Second, func() bool {
		if !so() {
			m.t.Fatalf("after %v it is no longer so that %s", time.Since(start), what)
		}
		return time.Since(start) >= length
	})
}

// agree waits until nodes have the same state.
func (m *members) agree(count uint64, of ...*member) {
	m.t.Helper()
	m.until("all have the same state", 20*time.Second, func() bool {
		for _, one := range of {
			if _, have := one.machine.state(); have != count {
				return false
			}
		}
		return true
	})
}

// several runs a test with some nodes, in memory and on disk.
func several(t *testing.T, ids []string, test func(t *testing.T, m *members)) {
	for _, place := range []string{"memory", "disk"} {
		t.Run(place, func(t *testing.T) {
			dir := ""
			if place == "disk" {
				dir = t.TempDir()
			}
			synctest.Test(t, func(t *testing.T) {
				m := gather(t, dir, ids...)
				defer m.stop()
				test(t, m)
			})
		})
	}
}

var three, five = []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}

// Servers that bootstrap together elect one, which counts, and whose commands all
// apply.
func TestBootstrapServers(t *testing.T) {
	several(t, five, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 3)
		m.agree(3, m.all...)
		for _, one := range m.all {
			if _, fresh := one.Fresh(); fresh {
				t.Errorf("%s is fresh", one.cfg.ID)
			}
			if len(one.Peers()) != 5 || one.PeersIndex() != 1 {
				t.Errorf("%s knows %v of entry %d", one.cfg.ID, one.Peers(), one.PeersIndex())
			}
			if fresh, err := one.BootstrapServers(five); fresh || err != nil {
				t.Errorf("bootstrapped again: %v, %v", fresh, err)
			}
		}
	})
}

// A leader that is cut off stops leading before another can begin to, and that is
// soon.
func TestLeaderIsCutOff(t *testing.T) {
	for _, ids := range [][]string{three, five} {
		synctest.Test(t, func(t *testing.T) {
			m := gather(t, "", ids...)
			defer m.stop()
			var times []time.Duration
			for range 20 {
				leader := m.leader()
				apply(t, leader.Node, 2)
				m.net.isolate(leader.cfg.ID)
				m.until("the old leader says that it does not lead", BaseTimeout, func() bool { return !leader.Leading() })
				if id, ok := leader.Leader(); ok {
					t.Errorf("the old leader says that %q leads", id)
				}
				rest := m.others(leader)
				var next *member
				times = append(times, BaseTimeout*leasePart/leaseWhole+m.until("another leads", 3*time.Second, func() bool {
					if l := leads(rest); len(l) == 1 {
						next = l[0]
					}
					return next != nil
				}))
				apply(t, next.Node, 1)
				m.net.heal()
				m.until("the old leader follows", 20*time.Second, func() bool { id, ok := leader.Leader(); return ok && id != leader.cfg.ID })
			}
			slices.Sort(times)
			t.Logf("%d servers, failover: median %v, worst %v", len(ids), times[len(times)/2], times[len(times)-1])
			if times[len(times)/2] > time.Second || times[len(times)-1] > 2*time.Second {
				t.Errorf("it took %v", times)
			}
		})
	}
}

// A hand-over takes a moment, and at no moment do two lead.
func TestTransferLeadership(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		for i := range 6 {
			leader := m.leader()
			apply(t, leader.Node, 1)
			to := ""
			if i%2 == 0 {
				to = m.others(leader)[0].cfg.ID
			}
			if _, err := m.others(leader)[0].Apply(t.Context(), number(1)); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower applies: %v", err)
			}
			if err := m.others(leader)[0].TransferLeadership(t.Context(), ""); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower hands over: %v", err)
			}
			start := time.Now()
			if err := leader.TransferLeadership(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			next := m.leader()
			if took := time.Since(start); took > 300*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if next == leader || to != "" && next.cfg.ID != to {
				t.Errorf("%s leads after %s, want %q", next.cfg.ID, leader.cfg.ID, to)
			}
		}
		// A server that cannot be reached does not take over, and this one goes
		// on.
		leader := m.leader()
		away := m.others(leader)[0]
		m.net.isolate(away.cfg.ID)
		time.Sleep(2 * BaseTimeout)
		if err := leader.TransferLeadership(t.Context(), away.cfg.ID); err == nil {
			t.Error("handed over to a server that is cut off")
		}
		m.leader()
		m.net.heal()
	})
}

// Whoever asks a server to stand for election past a living leader must be the
// leader of the term.
func TestHandOverOfAnotherIsRefused(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		rest := m.others(leader)
		term := leader.raft.CurrentTerm()
		if err := rest[1].transport.TimeoutNow("", idOf(rest[0]), handOverOf(rest[1]), newTimeoutNow()); err == nil {
			t.Error("from another follower: not refused")
		}
		if err := leader.transport.NetworkTransport.TimeoutNow("", idOf(rest[0]), handOverOf(leader), newTimeoutNow()); err == nil {
			t.Error("without a term: not refused")
		}
		m.holds("the leader leads on", 5*BaseTimeout, func() bool { return leader.Leading() && leader.raft.CurrentTerm() == term })
	})
}

// A server that has lost its memory votes for nobody, and counts for nothing,
// until it was made a member anew: else a write that it had confirmed could be
// lost.
func TestWipedServer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, dir, three...)
		defer m.stop()
		leader := m.leader()
		apply(t, leader.Node, 3)
		m.agree(3, m.all...)
		behind, wiped := m.others(leader)[0], m.others(leader)[1]
		m.net.isolate(behind.cfg.ID)
		apply(t, leader.Node, 2) // on the leader and on wiped
		stop(t, leader.Node)
		stop(t, wiped.Node)
		wiped.cfg.Dir = filepath.Join(dir, "wiped")
		m.start(wiped)
		m.net.heal()
		if _, fresh := wiped.Fresh(); !fresh {
			t.Fatal("a server with an empty folder is not fresh")
		}
		two := []*member{behind, wiped}
		m.holds("nobody leads who lacks what was confirmed", 20*BaseTimeout, func() bool { return len(leads(two)) == 0 && behind.raft.State() != raft.Leader })

		// Nor does it count when the leader is back, and the third is gone.
		m.start(leader)
		m.until("one leads", 20*time.Second, func() bool { return len(leads(m.all)) == 1 })
		if !leader.Leading() {
			t.Fatal("the server that has all does not lead")
		}
		stop(t, behind.Node)
		m.until("the leader stops to lead", 2*BaseTimeout, func() bool { return !leader.Leading() })
		m.holds("nobody leads", 10*BaseTimeout, func() bool { return len(leads([]*member{leader, wiped})) == 0 })
		m.start(behind)
		leader = m.leader(leader, behind)
		if p := leader.FollowerProgress()[wiped.cfg.ID]; !p.Fresh || !p.Voter {
			t.Errorf("the leader knows %+v", p)
		}
		if err := leader.DemoteVoter(t.Context(), wiped.cfg.ID); err != nil {
			t.Fatal(err)
		}
		m.agree(5, m.all...)
		nonce, _ := wiped.Fresh()
		if err := wiped.Admit("another"); !errors.Is(err, ErrOtherFolder) {
			t.Errorf("admitted with another nonce: %v", err)
		}
		if err := wiped.Admit(nonce); err != nil {
			t.Fatal(err)
		}
		if err := leader.AddVoter(t.Context(), wiped.cfg.ID); err != nil {
			t.Fatal(err)
		}
		stop(t, wiped.Node)
		m.start(wiped)
		if _, fresh := wiped.Fresh(); fresh {
			t.Error("fresh again after a restart")
		}
		m.agree(5, wiped)
		apply(t, leader.Node, 1)
		m.agree(6, m.all...)
		// Now it counts.
		gone := m.others(leader, wiped)[0]
		m.net.isolate(gone.cfg.ID)
		apply(t, leader.Node, 1)
		m.agree(7, leader, wiped)
	})
}

// A server that was just started grants no vote: it may have answered a leader a
// moment before.
func TestRestartKeepsTheLease(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, dir, three...)
		defer m.stop()
		for range 10 {
			leader := m.leader()
			apply(t, leader.Node, 1)
			rest := m.others(leader)
			m.net.isolate(rest[0].cfg.ID)
			time.Sleep(2 * BaseTimeout) // rest[0] asks for votes
			// The leader is cut off, rest[0] is back, and rest[1] starts again.
			m.net.heal()
			m.net.isolate(leader.cfg.ID)
			stop(t, rest[1].Node)
			m.start(rest[1])
			m.until("one of the others leads", 5*time.Second, func() bool { return len(leads(rest)) == 1 })
			m.net.heal()
			m.until("all know the leader", 20*time.Second, func() bool {
				for _, one := range m.all {
					if _, ok := one.Leader(); !ok {
						return false
					}
				}
				return len(leads(m.all)) == 1
			})
		}
	})
}

// A leader knows how far it is committed, and one that is cut off does not say.
func TestReadIndex(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		rest := m.others(leader)
		apply(t, leader.Node, 3)
		for _, verify := range []bool{false, true} {
			index, err := leader.ReadIndex(t.Context(), verify)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range m.all {
				if err := one.WaitApplied(t.Context(), index); err != nil {
					t.Fatal(err)
				}
				if _, count := one.machine.state(); count != 3 {
					t.Errorf("%s has applied %d", one.cfg.ID, count)
				}
			}
			if _, err := rest[0].ReadIndex(t.Context(), verify); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower: %v", err)
			}
		}
		m.net.isolate(leader.cfg.ID)
		next := m.leader(rest...)
		apply(t, next.Node, 2)
		for _, verify := range []bool{false, true} {
			if index, err := leader.ReadIndex(t.Context(), verify); err == nil {
				t.Errorf("the old leader says %d", index)
			}
		}
		index, err := next.ReadIndex(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := leader.WaitApplied(ctx, index); !errors.Is(err, ErrNotApplied) {
			t.Errorf("the server that is cut off has applied %d: %v", index, err)
		}
		m.net.heal()
		if err := leader.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
	})
}

// A follower may have applied what the leader has only committed: reads of the
// leader's own state have to wait for it.
func TestLeaderAppliesLast(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		rest := m.others(leader)
		apply(t, leader.Node, 1)
		hold := make(chan struct{})
		leader.machine.mu.Lock()
		leader.machine.hold = hold
		leader.machine.mu.Unlock()
		written := make(chan error, 1)
		go func() {
			_, err := leader.Apply(t.Context(), number(7))
			written <- err
		}()
		m.until("a follower has applied it", 5*time.Second, func() bool {
			_, count := rest[0].machine.state()
			return count == 2
		})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := leader.WaitCommitted(ended); !errors.Is(err, ErrNotApplied) {
			t.Errorf("a leader that is behind its followers: %v", err)
		}
		close(hold)
		if err := leader.WaitCommitted(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, count := leader.machine.state(); count != 2 {
			t.Errorf("the leader has applied %d", count)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		for _, one := range m.all {
			if err := one.WaitCommitted(ended); err != nil && one == leader {
				t.Errorf("nothing is to be waited for: %v", err)
			}
		}
	})
}

// After an answer that is no success, nobody takes what a pipeline hands on, and
// to send on it ends all the same.
func TestPipelineAfterARefusal(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		other := m.others(leader)[0]
		p, err := leader.transport.AppendEntriesPipeline(raft.ServerID(other.cfg.ID), idOf(other))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		send := func() error { // in a term that is over
			_, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, new(raft.AppendEntriesResponse))
			return err
		}
		// Raft may send some before it sees the first answer.
		sent := make(chan error, 9)
		go func() {
			for range cap(sent) {
				sent <- send()
			}
		}()
		synctest.Wait() // until no more can be sent
		if future := <-p.Consumer(); future.Response().Success {
			t.Fatal("a call of a term that is over had success")
		}
		for i := range cap(sent) {
			select {
			case <-sent:
			case <-time.After(time.Hour): // of the test's own time
				t.Fatalf("call %d does not end", i+1)
			}
		}
		if err := send(); !errors.Is(err, errRefused) {
			t.Errorf("a call after a refusal: %v", err)
		}
	})
}

// A slow network is no reason for an election.
func TestSlowNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, "", three...)
		defer m.stop()
		leader := m.leader()
		term := leader.raft.CurrentTerm()
		m.net.slow(100 * time.Millisecond)
		m.leader(leader)
		// Its lease may run out for a moment now and then: two round trips and a
		// heartbeat are just about as long.
		m.holds("nobody stands for election", 30*time.Second, func() bool {
			return leader.raft.State() == raft.Leader && leader.raft.CurrentTerm() == term
		})
		m.leader(leader)
		apply(t, leader.Node, 3)
	})
}

// Members come and go while one server is cut off.
func TestMembershipWhilePartitioned(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		away := m.others(leader)[0]
		m.net.isolate(away.cfg.ID)
		d := m.open("", "d")
		ctx := t.Context()
		if err := leader.AddNonvoter(ctx, "d"); err != nil {
			t.Fatal(err)
		}
		apply(t, leader.Node, 3)
		m.agree(3, d)
		if d.raft.State() != raft.Follower || leader.FollowerProgress()["d"].Voter {
			t.Error("a non-voter counts")
		}
		admit(t, d.Node)
		if err := leader.AddVoter(ctx, "d"); err != nil {
			t.Fatal(err)
		}
		if err := leader.RemoveServer(ctx, away.cfg.ID); err != nil {
			t.Fatal(err)
		}
		m.net.heal()
		m.leader(leader) // the new voter's word counts as soon as it has been heard
		m.holds("a removed server disturbs nobody", 10*BaseTimeout, func() bool { return leader.Leading() })
		// The one that is left of the first three, and d, are a quorum.
		m.net.isolate(leader.cfg.ID)
		next := m.leader(m.others(leader, away)...)
		apply(t, next.Node, 1)
		if got := len(next.Peers()); got != 3 {
			t.Errorf("%d servers", got)
		}
		if err := next.DemoteVoter(ctx, leader.cfg.ID); err != nil {
			t.Fatal(err)
		}
		m.net.heal()
		m.agree(4, leader, d)
		m.holds("a non-voter does not stand", 10*BaseTimeout, func() bool { return leader.raft.State() == raft.Follower })
	})
}

// A leader whose disk hangs says within three seconds that it does not lead, and
// another does.
func TestDiskOfLeaderHangs(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 1)
		release := leader.disk.block()
		write := begin(func() error { _, err := leader.Apply(t.Context(), number(1)); return err })
		took := m.until("it does not lead", 3*time.Second, func() bool { return !leader.Leading() })
		next := m.leader(m.others(leader)...)
		t.Logf("it said so after %v", took)
		apply(t, next.Node, 1)
		release()
		<-write
		m.agree(2, m.others(leader)...)
		m.until("the old leader follows", 20*time.Second, func() bool { id, ok := leader.Leader(); return ok && id == next.cfg.ID })
	})
}

func idOf(m *member) raft.ServerAddress { return raft.ServerAddress(m.cfg.ID) }

func handOverOf(m *member) *raft.TimeoutNowRequest {
	return &raft.TimeoutNowRequest{RPCHeader: m.transport.header()}
}

func newTimeoutNow() *raft.TimeoutNowResponse { return new(raft.TimeoutNowResponse) }
