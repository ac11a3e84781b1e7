package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// quick has the intervals of a pool in tests: a part of the real ones.
func quick() Timing {
	return Timing{
		GossipInterval: 20 * time.Millisecond, ProbeInterval: 250 * time.Millisecond, ProbeTimeout: 120 * time.Millisecond,
		PushPullInterval: 2 * time.Second, StreamTimeout: patience, LeaveSettle: 5 * time.Second,
		ReapInterval: 50 * time.Millisecond, ReconnectInterval: 200 * time.Millisecond,
		RefusalGrace: 300 * time.Millisecond, RefusalGap: 90 * time.Millisecond, ReclaimTime: time.Second,
	}
}

// patience is how long a busy machine may take for what must come to hold. It is less
// than slow members take to find something out by themselves.
const patience = 30 * time.Second

// opened counts the pools of all tests.
var opened atomic.Uint32

// ownAddress is one of this machine's that no other pool and no other process has:
// whoever listens there again finds his port free.
func ownAddress() netip.AddrPort {
	if runtime.GOOS != "linux" { // which has all of 127.0.0.0/8
		return netip.MustParseAddrPort("127.0.0.1:0")
	}
	n := opened.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(1 + os.Getpid()%250), byte(n >> 8), byte(n)}), 0)
}

// stalled is when this process was last found not to have run for a while, in
// nanoseconds.
var stalled atomic.Int64

// watchStalls notes when this process does not run.
var watchStalls = sync.OnceFunc(func() {
	const every, long = 10 * time.Millisecond, 100 * time.Millisecond
	go func() {
		last := time.Now()
		for range time.NewTicker(every).C {
			now := time.Now()
			if now.Sub(last) > long {
				stalled.Store(now.UnixNano())
			}
			last = now
		}
	}()
})

// stoodStill reports whether this process did not run for a while lately. What its
// members found out of each other then says nothing.
func stoodStill() bool {
	return time.Since(time.Unix(0, stalled.Load())) < 2*patience
}

// wrong fails the test, unless it is the machine that kept members from answering.
func (n *node) wrong(format string, args ...any) {
	n.t.Helper()
	if stoodStill() {
		n.t.Skipf("where this machine does not stand still: "+format, args...)
	}
	n.t.Fatalf(format, args...)
}

func nodeID(i int) string { return fmt.Sprintf("%08x-1111-4222-8333-444444444444", i) }

// lines keeps what a logger wrote.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

type node struct {
	*Pool
	t   testing.TB
	log *lines
	end func()
}

// open starts a pool of one and runs it until the test ends.
func open(t testing.TB, i int, change ...func(*Config)) *node {
	t.Helper()
	watchStalls()
	log := &lines{}
	cfg := Config{
		Self:       Member{Name: fmt.Sprintf("n%d", i), ID: nodeID(i), Tags: map[string]string{"role": RoleClient, "build": "1.0.0:abcdef12"}},
		Bind:       ownAddress(),
		Datacenter: "dc1",
		Timing:     quick(),
		Logger:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	n := &node{Pool: p, t: t, log: log}
	n.end = sync.OnceFunc(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
	})
	t.Cleanup(func() {
		n.end()
		if t.Failed() {
			t.Logf("log of %s:\n%s", cfg.Self.Name, tail(log.String(), 6000))
		}
	})
	return n
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func server(cfg *Config) { cfg.Self.Tags["role"] = RoleServer }

// cluster opens n pools and joins all to the first. The first servers are that
// many.
func cluster(t testing.TB, n, servers int, change ...func(*Config)) []*node {
	t.Helper()
	nodes := make([]*node, n)
	for i := range nodes {
		changes := change
		if i < servers {
			changes = append([]func(*Config){server}, change...)
		}
		nodes[i] = open(t, i, changes...)
		if i > 0 {
			nodes[i].join(nodes[0])
		}
	}
	for _, at := range nodes {
		at.waitAll(patience, Alive, nodes...)
	}
	return nodes
}

func (n *node) join(to *node) {
	n.t.Helper()
	for tries := 1; ; tries++ {
		got, err := n.Join(context.Background(), []string{to.Addr().String()})
		if got == 1 && err == nil {
			return
		}
		if tries == 3 || !stoodStill() {
			n.t.Fatalf("%s joined %d members: %v", n.name, got, err)
		}
	}
}

func (n *node) find(name string) (Member, bool) {
	for _, m := range n.Members() {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

func (n *node) status(name string) Status {
	m, _ := n.find(name)
	return m.Status
}

// wait waits until a condition holds, which is looked at after each change.
func (n *node) wait(limit time.Duration, what string, holds func() bool) {
	n.t.Helper()
	changed, cancel := n.Subscribe()
	defer cancel()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-changed:
		case <-poll.C:
		case <-deadline.C:
			n.t.Fatalf("%s: after %s it does not hold that %s; members: %s", n.name, limit, what, n.describe())
		}
	}
}

func (n *node) describe() string {
	var b strings.Builder
	for _, m := range n.Members() {
		fmt.Fprintf(&b, "%s=%s ", m.Name, m.Status)
	}
	return b.String()
}

func (n *node) waitAll(limit time.Duration, status Status, others ...*node) {
	n.t.Helper()
	for _, other := range others {
		n.wait(limit, fmt.Sprintf("%s is %s", other.name, status), func() bool { return n.status(other.name) == status })
	}
}

// kill ends a pool as a dying process does: its sockets close without a word.
func (n *node) kill() {
	n.t.Helper()
	n.end()
}

// never fails if a condition holds at any time within a while.
func (n *node) never(while time.Duration, what string, holds func() bool) {
	n.t.Helper()
	changed, cancel := n.Subscribe()
	defer cancel()
	end := time.NewTimer(while)
	defer end.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if holds() {
			n.wrong("%s: it came to hold that %s; members: %s", n.name, what, n.describe())
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-end.C:
			return
		}
	}
}

func TestMembersFindEachOther(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3)
	for _, n := range nodes {
		for i, other := range nodes {
			m, ok := n.find(other.name)
			if !ok || m.ID != nodeID(i) || m.AddrPort() != other.Addr() || m.IsServer() != (i < 3) ||
				m.Tags["dc"] != "dc1" || m.Tags["build"] != "1.0.0:abcdef12" || m.Tags["id"] != m.ID {
				t.Errorf("%s sees %s as %+v", n.name, other.name, m)
			}
		}
	}
	nodes[0].wait(patience, "round trips are known", func() bool {
		for _, n := range nodes[1:] {
			if d, ok := nodes[0].RTT(n.name); !ok || d <= 0 || d > time.Second {
				return false
			}
		}
		return true
	})
}

func TestLeaveIsNotFailure(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 5, 3)
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- nodes[4].Leave(context.Background()) }()
	for _, n := range nodes[:4] {
		n.waitAll(patience, Left, nodes[4])
	}
	t.Logf("all saw the leave after %s", time.Since(begun))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := nodes[4].Self().Status; got != Left {
		t.Errorf("the one who left sees itself as %s", got)
	}
	nodes[4].end()
	nodes[3].kill()
	for _, n := range nodes[:3] {
		n.waitAll(patience, Failed, nodes[3])
		n.never(300*time.Millisecond, "the one who left is not left", func() bool { return n.status("n4") != Left })
	}
}

func TestForceLeave(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 3)
	if err := nodes[0].ForceLeave(context.Background(), "nobody", false); !strings.Contains(fmt.Sprint(err), "nobody") {
		t.Errorf("an unknown name gives %v", err)
	}
	// A live member contradicts, and is never seen to leave.
	if err := nodes[0].ForceLeave(context.Background(), "n3", true); err != nil {
		t.Fatal(err)
	}
	nodes[1].never(500*time.Millisecond, "n3 is not alive", func() bool { return nodes[1].status("n3") != Alive })
	if nodes[0].status("n3") != Alive {
		t.Errorf("a live member is %s", nodes[0].status("n3"))
	}
	nodes[3].kill()
	for _, n := range nodes[:3] {
		n.givenUp(nodes[3])
		n.never(50*time.Millisecond, "the old force-leave counts", func() bool { return n.status("n3") == Left })
	}
	if err := nodes[0].ForceLeave(context.Background(), "n3", false); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:3] {
		n.waitAll(patience, Left, nodes[3])
	}
	if err := nodes[1].ForceLeave(context.Background(), "n3", true); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:3] {
		n.wait(patience, "n3 is not listed", func() bool { _, there := n.find("n3"); return !there })
	}
	if err := nodes[2].ForceLeave(context.Background(), "n3", true); err == nil {
		t.Error("a pruned member is still known")
	}
	// A new member does not hear of it either, and the name is free.
	late := open(t, 9)
	late.join(nodes[2])
	late.waitAll(patience, Alive, nodes[:3]...)
	if _, there := late.find("n3"); there {
		t.Error("a late member hears of a pruned one")
	}
	again := open(t, 3)
	again.join(nodes[0])
	for _, n := range nodes[:3] {
		n.waitAll(patience, Alive, again)
	}
}

func TestRestartAtAnotherAddress(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 3)
	nodes[2].kill()
	moved := open(t, 2, server)
	moved.join(nodes[0])
	for _, n := range nodes[:2] {
		n.wait(patience, "n2 is alive at its new address", func() bool {
			m, _ := n.find("n2")
			return m.Status == Alive && m.AddrPort() == moved.Addr()
		})
	}
}

func TestSubscribersAndTags(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 1)
	if err := nodes[1].SetTags(map[string]string{"role": RoleServer, "expect": "3"}); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.wait(patience, "the tags are new", func() bool {
			m, _ := n.find("n1")
			return m.Tags["expect"] == "3" && m.IsServer() && m.Tags["build"] == "" && m.Tags["id"] == nodeID(1)
		})
	}
	err := nodes[1].SetTags(map[string]string{"role": RoleServer, "big": strings.Repeat("x", 600)})
	if err == nil || !strings.Contains(err.Error(), "512") {
		t.Errorf("tags that are too large give %v", err)
	}
}

func TestEventsComeOnce(t *testing.T) {
	t.Parallel()
	network := NewNetwork(1)
	network.SetLoss(0, 0.5)
	var mu sync.Mutex
	got := map[string]int{}
	nodes := cluster(t, 5, 1, func(cfg *Config) {
		cfg.Filter = network
		cfg.Timing.RetransmitMult = 20 // else one of a hundred misses an event now and then
		name := cfg.Self.Name
		cfg.Event = func(kind byte, payload []byte) {
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprintf("%s %d %s", name, kind, payload)]++
		}
	})
	for i := range 20 {
		if err := nodes[i%5].Broadcast(byte(i), fmt.Appendf(nil, "event %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].wait(patience, "all events came", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 100
	})
	nodes[0].never(300*time.Millisecond, "an event came twice", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range got {
			if n != 1 {
				return true
			}
		}
		return false
	})
	if err := nodes[0].Broadcast(1, make([]byte, MaxEvent+1)); err == nil || !strings.Contains(err.Error(), "1024") {
		t.Errorf("an event that is too large gives %v", err)
	}
}

func TestReap(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 1, func(cfg *Config) {
		cfg.ReconnectTimeout = time.Second
		cfg.Timing.LeftTimeout = time.Second
		if cfg.Self.Name == "n3" {
			cfg.Self.Tags["rc_tm"] = "1h"
		}
	})
	_ = nodes[1].Leave(context.Background())
	nodes[1].end()
	nodes[2].kill()
	nodes[3].kill()
	nodes[0].waitAll(patience, Failed, nodes[3])
	nodes[0].wait(patience, "n1 and n2 are forgotten", func() bool {
		return nodes[0].status("n1") == None && nodes[0].status("n2") == None
	})
	if got := nodes[0].status("n3"); got != Failed {
		t.Errorf("the member whose own tag says an hour is %s", got)
	}
}
