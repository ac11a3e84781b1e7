package gossip

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// tryJoin joins and returns the error that it must give.
func (n *node) tryJoin(to *node) string {
	n.t.Helper()
	got, err := n.Join(context.Background(), []string{to.Addr().String()})
	if got != 0 || err == nil {
		n.t.Fatalf("%s joined %d members: %v", n.name, got, err)
	}
	if !strings.HasPrefix(err.Error(), "Failed to join "+to.Addr().String()+": ") {
		n.t.Errorf("the error begins otherwise: %v", err)
	}
	return err.Error()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in: %s", part, text)
		}
	}
}

// unhurried members wait long for a ping, by which they tell who is alive.
func unhurried(cfg *Config) { cfg.Timing.ProbeInterval, cfg.Timing.ProbeTimeout = patience, patience/4 }

// givenUp waits until a pool has failed a member, and memberlist, from which those
// who join hear of it, gave it up too.
func (n *node) givenUp(other *node) {
	n.t.Helper()
	n.wait(patience, other.name+" is given up", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		r := n.table[other.name]
		return r.status == Failed && !r.answers
	})
}

// apart checks that neither of two pools took the other in.
func apart(t *testing.T, a, b *node) {
	t.Helper()
	a.never(300*time.Millisecond, "it knows the other", func() bool {
		return len(a.Members()) != 1 || len(b.Members()) != 1
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	keyed := func(k []byte) func(*Config) {
		return func(cfg *Config) { cfg.Key, cfg.VerifyIncoming, cfg.VerifyOutgoing = k, true, true }
	}
	for _, c := range []struct {
		name           string
		pool, newcomer func(*Config)
		says, logs     []string
	}{
		{"datacenter", nil, func(cfg *Config) { cfg.Datacenter = "dc2" },
			[]string{`datacenter "dc1"`, `"dc2"`}, []string{`datacenter \"dc2\"`, "n1"}},
		{"protocol version", nil, func(cfg *Config) {
			cfg.Self.Tags["vsn"], cfg.Self.Tags["vsn_min"], cfg.Self.Tags["vsn_max"] = "9", "8", "9"
		}, []string{"protocol version 2", "8 to 9"}, []string{"protocol version 9", "understands 2 to 3"}},
		{"another key", keyed(key), keyed(other),
			[]string{"gossip key", "encrypt"}, []string{"refused what another member sent", "gossip key"}},
		{"no key", keyed(key), nil,
			[]string{"gossip key", "encrypt"}, []string{"not encrypted with this pool's gossip key"}},
		{"a key where there is none", nil, keyed(key),
			[]string{"gossip key", "encrypt"}, []string{"this agent has no gossip key"}},
		{"live name", func(cfg *Config) { cfg.Self.Name = "n1" }, nil,
			[]string{nodeID(0), nodeID(1), "127.", "muster agent -node=n1-2"}, []string{nodeID(0), nodeID(1), "muster agent -node=n1-2"}},
		{"live name in capital letters", func(cfg *Config) { cfg.Self.Name = "N1" }, nil,
			[]string{nodeID(0), nodeID(1), "127.", "muster agent -node=n1-2"}, []string{`\"N1\"`, `\"n1\"`, "differ only in capital letters"}},
		{"live ID", func(cfg *Config) { cfg.Self.ID = nodeID(1) }, nil,
			[]string{`\"n0\"`, `\"n1\"`, "muster agent -node-id="}, []string{`n0`, `n1`, "muster agent -node-id="}},
		{"name and ID", func(cfg *Config) { cfg.Self.ID, cfg.Self.Name = nodeID(1), "n1" }, nil,
			[]string{nodeID(1), "n1", "muster agent -node=n1-2 -node-id="}, []string{"muster agent -node=n1-2 -node-id="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := []func(*Config){unhurried}, []func(*Config){unhurried}
			if c.pool != nil {
				a = append(a, c.pool)
			}
			if c.newcomer != nil {
				b = append(b, c.newcomer)
			}
			pool, newcomer := open(t, 0, a...), open(t, 1, b...)
			text := newcomer.tryJoin(pool)
			for _, part := range c.says {
				contains(t, text, strings.ReplaceAll(part, `\"`, `"`))
			}
			pool.wait(patience, "its log says why", func() bool {
				for _, part := range c.logs {
					if !pool.log.has(part) {
						return false
					}
				}
				return true
			})
			apart(t, pool, newcomer)
		})
	}
}

func TestAllowedNetworks(t *testing.T) {
	t.Parallel()
	only := func(cfg *Config) { cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")} }
	inside := open(t, 0, only, func(cfg *Config) { cfg.Bind = netip.MustParseAddrPort("127.0.0.9:0") })
	outside := open(t, 1)
	outside.tryJoin(inside)
	apart(t, inside, outside)
	if !inside.log.has("serf_allowed_cidrs_lan") {
		t.Error("the log does not say why")
	}
	if _, err := Open(Config{
		Self: Member{Name: "x", ID: "y"}, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Datacenter: "dc1",
		Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a member outside of its own networks gives %v", err)
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 24)
	nodes := cluster(t, 3, 1, func(cfg *Config) { cfg.Key, cfg.VerifyIncoming, cfg.VerifyOutgoing = key, true, true })
	_ = nodes
	// The three steps of turning it on: at each, old and new members are mixed.
	for _, step := range []struct{ inA, outA, inB, outB, keyA bool }{
		{false, false, false, false, false},
		{false, false, false, true, true},
		{false, true, true, true, true},
	} {
		a := open(t, 10, func(cfg *Config) {
			if step.keyA {
				cfg.Key = key
			}
			cfg.VerifyIncoming, cfg.VerifyOutgoing = step.inA, step.outA
		})
		b := open(t, 11, func(cfg *Config) { cfg.Key, cfg.VerifyIncoming, cfg.VerifyOutgoing = key, step.inB, step.outB })
		b.join(a)
		a.waitAll(patience, Alive, b)
		b.waitAll(patience, Alive, a)
		a.never(500*time.Millisecond, "the other does not answer", func() bool { return a.status("n11") != Alive })
		a.end()
		b.end()
	}
	if _, err := Open(Config{Self: Member{Name: "x", ID: "y"}, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Key: []byte("short")}); err == nil {
		t.Error("a key of 5 bytes is taken")
	}
}

func TestNameOfTheDeadIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	long := func(cfg *Config) { cfg.Timing.ReclaimTime = 10 * time.Second }
	nodes := cluster(t, 3, 2, long)
	nodes[2].kill()
	nodes[0].givenUp(nodes[2])
	nodes[1].givenUp(nodes[2])
	heir := open(t, 3, long, func(cfg *Config) { cfg.Self.Name = "n2" })
	text := heir.tryJoin(nodes[0])
	contains(t, text, nodeID(2), nodeID(3), "muster force-leave n2", heir.Addr().String(), nodes[2].Addr().String())
	heir.wait(patience, "the name is free", func() bool {
		n, err := heir.Join(context.Background(), []string{nodes[0].Addr().String()})
		return n == 1 && err == nil
	})
	for _, n := range nodes[:2] {
		n.wait(patience, "the heir has the name", func() bool {
			m, _ := n.find("n2")
			return m.ID == nodeID(3) && m.Status == Alive
		})
	}
}

func TestNameOfThoseWhoLeftIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2)
	_ = nodes[2].Leave(context.Background())
	nodes[2].end()
	nodes[0].waitAll(patience, Left, nodes[2])
	heir := open(t, 3, func(cfg *Config) { cfg.Self.Name = "n2" })
	heir.join(nodes[0])
	for _, n := range nodes[:2] {
		n.wait(patience, "the heir has the name", func() bool {
			m, _ := n.find("n2")
			return m.ID == nodeID(3) && m.Status == Alive
		})
	}
}

func TestIDOfTheDeadIsKept(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2)
	nodes[2].kill()
	nodes[0].givenUp(nodes[2])
	renamed := open(t, 2, func(cfg *Config) { cfg.Self.Name = "other" })
	text := renamed.tryJoin(nodes[0])
	contains(t, text, nodeID(2), `"n2"`, `"other"`, "muster force-leave n2")
	nodes[0].never(300*time.Millisecond, "it is let in", func() bool { return nodes[0].status("other") != None })
	if err := nodes[0].ForceLeave(context.Background(), "n2", false); err != nil {
		t.Fatal(err)
	}
	nodes[1].waitAll(patience, Left, nodes[2])
	renamed.join(nodes[0])
	for _, n := range nodes[:2] {
		n.waitAll(patience, Alive, renamed)
	}
}

// Who was killed and comes back by another name is told the command that lets it in,
// also while the others have not missed it yet.
func TestRenamedNodeAtItsAddress(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2)
	at := nodes[2].Addr()
	nodes[2].kill()
	renamed := open(t, 2, func(cfg *Config) { cfg.Self.Name, cfg.Bind = "other", at })
	n, err := renamed.Join(context.Background(), []string{nodes[0].Addr().String()})
	if n != 0 || !IsRefusal(err) {
		t.Fatalf("it joined %d members: %v", n, err)
	}
	contains(t, err.Error(), nodeID(2), `"n2"`, `"other"`, "muster force-leave n2")
	if strings.Contains(err.Error(), "-node-id") {
		t.Errorf("it is told to take another ID: %v", err)
	}
	nodes[0].waitAll(patience, Failed, nodes[2])
	if err := nodes[0].ForceLeave(context.Background(), "n2", false); err != nil {
		t.Fatal(err)
	}
	nodes[1].waitAll(patience, Left, nodes[2])
	renamed.wait(patience, "it is let in", func() bool {
		n, err := renamed.Join(context.Background(), []string{nodes[0].Addr().String()})
		return n == 1 && err == nil
	})
	for _, n := range nodes[:2] {
		n.waitAll(patience, Alive, renamed)
	}
}

// Two members that are restarted with each other's addresses both come back.
func TestExchangedAddresses(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 3)
	a, b := nodes[2].Addr(), nodes[3].Addr()
	nodes[2].kill()
	nodes[3].kill()
	two := open(t, 2, func(cfg *Config) { cfg.Bind = b })
	three := open(t, 3, func(cfg *Config) { cfg.Bind = a })
	two.join(nodes[0])
	three.join(nodes[1])
	for _, n := range []*node{nodes[0], nodes[1], two, three} {
		n.wait(patience, "both are where the other was", func() bool {
			m2, _ := n.find("n2")
			m3, _ := n.find("n3")
			return m2.AddrPort() == b && m3.AddrPort() == a && m2.Status == Alive && m3.Status == Alive
		})
	}
}

// rawMember speaks memberlist's protocol with tags that are none.
type rawMember struct {
	memberlist.Delegate
	meta []byte
}

func (r rawMember) NodeMeta(int) []byte                        { return r.meta }
func (r rawMember) NotifyMsg([]byte)                           {}
func (r rawMember) GetBroadcasts(overhead, limit int) [][]byte { return nil }
func (r rawMember) LocalState(bool) []byte                     { return []byte("no state of ours") }
func (r rawMember) MergeRemoteState([]byte, bool)              {}

func TestMalformedTagsAreRefused(t *testing.T) {
	t.Parallel()
	pool := open(t, 0)
	for i, meta := range [][]byte{nil, []byte("garbage"), {metaForm, 0, 0, 0, 0, 0, 0, 0, 1, 0}} {
		cfg := memberlist.DefaultLocalConfig()
		cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "raw"+string(rune('a'+i)), "127.0.0.1", 0, 0
		cfg.LogOutput = io.Discard
		cfg.EnableCompression = false
		cfg.Delegate = rawMember{meta: meta}
		cfg.DelegateProtocolVersion, cfg.DelegateProtocolMin, cfg.DelegateProtocolMax = DelegateCur, DelegateMin, DelegateMax
		list, err := memberlist.Create(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer list.Shutdown()
		_, _ = list.Join([]string{pool.Addr().String()})
		pool.wait(patience, "it says why", func() bool { return pool.log.has("tags") && pool.log.has(cfg.Name) })
		if got := len(pool.Members()); got != 1 {
			t.Errorf("it was let in: %s", pool.describe())
		}
	}
}
