package gossip

import (
	"fmt"
	"testing"
	"time"
)

// slow keeps memberlist from finding out by itself.
func slow(cfg *Config) {
	cfg.Timing.ProbeInterval = time.Minute
	cfg.Timing.ProbeTimeout = 400 * time.Millisecond
	cfg.Timing.RefusalGrace, cfg.Timing.RefusalGap = time.Second, 300*time.Millisecond
}

// probeAll is what happens when a member's connection to a server breaks.
func probeAll(nodes []*node, id string) {
	for _, n := range nodes {
		n.Probe(id)
	}
}

func TestKilledProcessIsSeenByAll(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 6, 3, slow)
	nodes[5].kill()
	begun := time.Now()
	nodes[0].Probe(nodeID(5)) // one server kept the connection
	for _, n := range nodes[:5] {
		n.waitAll(patience, Failed, nodes[5])
	}
	took := time.Since(begun)
	t.Logf("all saw it after %s", took)
	if took < time.Second {
		t.Errorf("it failed after %s, though it had a second to come back", took)
	}
	again := open(t, 5, slow, func(cfg *Config) { cfg.Bind = nodes[5].Addr() })
	again.join(nodes[1])
	for _, n := range nodes[:5] {
		n.wait(patience, "n5 is back", func() bool { return n.status("n5") == Alive })
	}
}

func TestLastServerDecidesAlone(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2, slow)
	nodes[1].kill() // the other server
	nodes[0].Probe(nodeID(1))
	nodes[0].waitAll(patience, Failed, nodes[1])
	nodes[2].waitAll(patience, Failed, nodes[1])
}

func TestOneOfTwoServersIsNotEnough(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 2, slow)
	client := nodes[3]
	life := func() uint64 {
		nodes[0].mu.Lock()
		defer nodes[0].mu.Unlock()
		return nodes[0].table["n3"].meta.life
	}()
	// A report of one server, and one in the name of a client.
	for _, from := range []string{"n0", "n2"} {
		nodes[1].mu.Lock()
		m := message{kind: kindReport, time: nodes[1].tick() + 5, name: "n3", life: life, from: from}
		nodes[1].mu.Unlock()
		nodes[1].receive(m)
		nodes[1].receive(m)
	}
	if got := nodes[1].status(client.name); got != Alive {
		t.Errorf("it is %s", got)
	}
}

func TestProbeOfLiveMembersDoesNothing(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3, slow)
	probeAll(nodes[:3], nodeID(4))
	nodes[0].never(1500*time.Millisecond, "a live member fails", func() bool { return nodes[0].status("n4") != Alive })
	nodes[0].Probe("nobody")
}

// A firewall that resets connections leaves gossip alone: the port refuses, and
// pings are answered.
func TestResetConnectionsAreNotDeath(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3, slow)
	_ = nodes[4].transport.tcp.Close()
	probeAll(nodes[:3], nodeID(4))
	for _, n := range nodes[:4] {
		n.never(1500*time.Millisecond/4, "it fails", func() bool { return n.status("n4") != Alive })
		if n.log.has("a member failed") {
			n.wrong("for %s it failed for a while", n.name)
		}
	}
}

func TestQuickRestartNeverFails(t *testing.T) {
	t.Parallel()
	const grace = 6 * time.Second // the start of a member is a matter of milliseconds
	gracious := func(cfg *Config) { cfg.Timing.RefusalGrace = grace }
	nodes := cluster(t, 5, 3, slow, gracious)
	at := nodes[4].Addr()
	nodes[4].kill()
	probeAll(nodes[:3], nodeID(4))
	killed := time.NewTimer(grace + time.Second)
	timer := time.NewTimer(grace / 6)
	<-timer.C
	again := open(t, 4, slow, gracious, func(cfg *Config) { cfg.Bind = at })
	again.join(nodes[0])
	<-killed.C
	for _, n := range nodes[:4] {
		n.never(100*time.Millisecond, "it fails", func() bool { return n.status("n4") != Alive })
		if n.log.has("a member failed") {
			n.wrong("for %s it failed for a while", n.name)
		}
	}
}

// A member that is wrongly reported contradicts, and an answer to a ping clears
// what was said.
func TestOverlayIsCleared(t *testing.T) {
	t.Parallel()
	t.Run("by the member", func(t *testing.T) {
		t.Parallel()
		nodes := cluster(t, 5, 3, slow)
		report(nodes, "n4", true)
		for _, n := range nodes[:4] {
			n.waitAll(patience, Alive, nodes[4])
		}
	})
	t.Run("by an answer", func(t *testing.T) {
		t.Parallel()
		nodes := cluster(t, 5, 3)
		// Only the first member hears the reports, and soon a ping's answer.
		report(nodes, "n4", false)
		if got := nodes[0].status("n4"); got != Failed {
			t.Fatalf("two reports make it %s", got)
		}
		nodes[0].waitAll(patience, Alive, nodes[4])
	})
}

// Two servers may report at once: the contradiction of what one says has the time of
// what the other says, then, and is not later than it.
func TestContradictionIsLaterThanAllReports(t *testing.T) {
	p := newTestPool()
	p.leaving = false
	self := p.table[p.name]
	said := func(from string, at uint64) {
		p.receive(message{kind: kindReport, time: at, name: p.name, life: p.life, from: from})
	}
	said("n0", 10)
	if self.aliveAt != 11 {
		t.Fatalf("a report of time 10 was contradicted at %d", self.aliveAt)
	}
	said("n1", 11)
	if self.aliveAt != 12 {
		t.Errorf("a report of time 11 was contradicted at %d", self.aliveAt)
	}
	said("n0", 10)
	said("n1", 11)
	if self.aliveAt != 12 {
		t.Errorf("reports that came twice were contradicted again, at %d", self.aliveAt)
	}
	p.cancel()
	p.group.Wait()
}

// report has the first member receive reports of two servers.
func report(nodes []*node, name string, tell bool) {
	p := nodes[0].Pool
	for _, from := range []string{"n0", "n1"} {
		p.mu.Lock()
		m := message{kind: kindReport, time: p.tick(), name: name, life: p.table[name].meta.life, from: from}
		p.takeReport(m)
		p.mu.Unlock()
		if tell {
			p.tellAll(m, true)
		}
	}
}

func TestFirstProbeAsksOthers(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 3, slow)
	nodes[3].kill()
	nodes[1].Probe(nodeID(3))
	nodes[2].wait(patience, "the other servers reported too", func() bool {
		nodes[2].mu.Lock()
		defer nodes[2].mu.Unlock()
		return len(nodes[2].table["n3"].reports) >= 2
	})
	if got := fmt.Sprint(nodes[0].status("n3")); got != "failed" {
		nodes[0].waitAll(patience, Failed, nodes[3])
	}
}
