package gossip

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// watchful is a pool in which only the servers' own pings find a silent member.
func watchful(cfg *Config) {
	slow(cfg)
	cfg.Timing.ProbeTimeout = 200 * time.Millisecond
	cfg.Timing.WatchInterval, cfg.Timing.Patience = 100*time.Millisecond, 1500*time.Millisecond
	cfg.Timing.PushPullInterval = time.Hour
}

func TestSilenceIsSeenByAll(t *testing.T) {
	t.Parallel()
	network := NewNetwork(1)
	nodes := cluster(t, 6, 3, watchful, func(cfg *Config) { cfg.Filter = network })
	for _, silent := range []*node{nodes[5], nodes[0]} { // a client and a server
		network.Silence(silent.Addr())
		begun := time.Now()
		for _, n := range nodes {
			if n != silent {
				n.waitAll(patience, Failed, silent)
			}
		}
		took := time.Since(begun)
		t.Logf("all saw it after %s", took)
		if took < time.Second {
			t.Errorf("it failed after %s, though it had more than a second to answer", took)
		}
		network.Wake(silent.Addr())
		for _, n := range nodes {
			n.waitAll(patience, Alive, nodes...)
		}
	}
}

// A member that no server reaches, but another member does, is not silent.
func TestUnreachableForServersIsNotSilence(t *testing.T) {
	t.Parallel()
	network := NewNetwork(2)
	nodes := cluster(t, 5, 3, watchful, func(cfg *Config) { cfg.Filter = network })
	for _, s := range nodes[:3] {
		network.Cut(s.Addr(), nodes[4].Addr())
		network.Cut(nodes[4].Addr(), s.Addr())
	}
	nodes[0].never(4*time.Second, "it fails", func() bool { return nodes[0].status("n4") != Alive })
	for _, n := range nodes[:4] {
		if n.log.has("a member failed") {
			n.wrong("for %s it failed for a while", n.name)
		}
	}
}

// streamsOnly loses all packets to and from an address.
type streamsOnly struct{ at netip.AddrPort }

func (f *streamsOnly) Packet(from, to netip.AddrPort) []time.Duration {
	if from == f.at || to == f.at {
		return nil
	}
	return []time.Duration{0}
}

func (*streamsOnly) Stream(netip.AddrPort, netip.AddrPort) error { return nil }

// A member that is reached by TCP alone is not silent.
func TestWithoutPacketsIsNotSilence(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	nodes := cluster(t, 5, 3, watchful, func(cfg *Config) {
		cfg.Filter = &streamsOnly{at}
		if cfg.Self.Name == "n4" {
			cfg.Bind = at
		}
		cfg.Timing.ReconnectInterval = time.Hour
	})
	nodes[0].never(4*time.Second, "it fails", func() bool { return nodes[0].status("n4") != Alive })
	for _, n := range nodes[:4] {
		if n.log.has("a member failed") {
			n.wrong("for %s it failed for a while", n.name)
		}
	}
}

// freePort is an address that nothing listens at.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	tcp, udp, err := bind(ownAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	defer tcp.Close()
	return udp.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
}

// A server that hears nobody says nothing of the others.
func TestIsolatedServerAccusesNobody(t *testing.T) {
	t.Parallel()
	network := NewNetwork(3)
	nodes := cluster(t, 4, 1, watchful, func(cfg *Config) { cfg.Filter = network })
	network.Silence(nodes[0].Addr())
	nodes[0].wait(patience, "it doubts itself", func() bool { return nodes[0].log.has("it may be this agent's fault") })
	nodes[0].never(time.Second, "it fails others", func() bool {
		return slices.ContainsFunc(nodes[0].Members(), func(m Member) bool { return m.Status != Alive })
	})
}

// Reports of silence are not believed by who hears the member, so that those of a
// partition that has healed do no harm.
func TestStaleSilenceIsNotBelieved(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3, watchful)
	p := nodes[2].Pool
	nodes[2].wait(patience, "it hears n4", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return time.Since(p.table["n4"].heardAt) < 300*time.Millisecond
	})
	for _, from := range []string{"n0", "n1"} {
		p.mu.Lock()
		p.table["n4"].heardAt = time.Now() // a busy machine may have stood still since
		p.receiveSilence(message{kind: kindSilent, time: p.tick(), name: "n4", life: p.table["n4"].meta.life, from: from})
		reports := len(p.table["n4"].reports)
		p.mu.Unlock()
		if reports != 0 {
			t.Errorf("it believed %s", from)
		}
	}
	if nodes[2].log.has("a member failed") {
		nodes[2].wrong("it failed for a while")
	}
}

// Of two members that are reported at once, neither is waited for to report the
// other.
func TestLastOfThreeServersDecidesAlone(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3, slow)
	nodes[1].kill()
	nodes[2].kill()
	nodes[0].Probe(nodeID(1))
	nodes[0].Probe(nodeID(2))
	for _, n := range []*node{nodes[0], nodes[3], nodes[4]} {
		n.waitAll(patience, Failed, nodes[1], nodes[2])
	}
}

// A killed member to which nobody kept a connection is found by the servers' own
// pings.
func TestKilledProcessIsFoundByPings(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3, watchful, func(cfg *Config) { cfg.Timing.Patience = time.Hour })
	nodes[4].kill()
	for _, n := range nodes[:4] {
		n.waitAll(patience, Failed, nodes[4])
	}
}
