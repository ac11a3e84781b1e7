package consensus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/rpc"
)

// patience bounds every wait of these tests; what is waited for takes a few
// seconds at most.
const patience = time.Minute

// highest is a state machine that keeps the highest number it was given, and
// tells those who wait for it. (So a number may be given again when nobody
// knows whether it arrived.)
type highest struct {
	mu      sync.Mutex
	number  uint64
	changed chan struct{}
}

func newHighest() *highest { return &highest{changed: make(chan struct{})} }

func (h *highest) raise(number uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number = max(h.number, number)
	close(h.changed)
	h.changed = make(chan struct{})
	return h.number
}

func (h *highest) get() (uint64, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.number, h.changed
}

func (h *highest) Apply(log *raft.Log) any { return h.ApplyBatch([]*raft.Log{log})[0] }

func (h *highest) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, log := range logs {
		if log.Type == raft.LogCommand {
			results[i] = h.raise(binary.BigEndian.Uint64(log.Data))
		}
	}
	return results
}

func (h *highest) Snapshot() (raft.FSMSnapshot, error) {
	number, _ := h.get()
	return saved(binary.BigEndian.AppendUint64(nil, number)), nil
}

func (h *highest) Restore(source io.ReadCloser) error {
	data, err := io.ReadAll(source)
	if err == nil {
		h.raise(binary.BigEndian.Uint64(data))
	}
	return err
}

type saved []byte

func (s saved) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
func (s saved) Release() {}

// server is one node of a cluster, on a server port of its own.
type server struct {
	id      string
	machine *highest
	mux     *rpc.Mux
	node    *consensus.Node
}

// stream reaches other servers over their server ports.
type stream struct {
	net.Listener
	dialer rpc.Dialer
}

func (s stream) Dial(id string, timeout time.Duration) (net.Conn, error) {
	return s.dialer.Dial(rpc.ProtocolRaft, id, timeout)
}

// cluster is some servers, and where they are now.
type cluster struct {
	t         *testing.T
	id        [16]byte
	dir       string
	mu        sync.Mutex
	addresses map[string]string
	servers   []*server
}

func (c *cluster) resolve(id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if address, ok := c.addresses[id]; ok {
		return address, nil
	}
	return "", fmt.Errorf("no server %q", id)
}

// start starts a server on a port that it never had before.
func (c *cluster) start(id string) *server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.addresses[id] = listener.Addr().String()
	c.mu.Unlock()
	belongs := func() [16]byte { return c.id }
	s := &server{id: id, machine: newHighest(), mux: rpc.NewMux(rpc.MuxConfig{Listener: listener, ID: id, Cluster: belongs})}
	ended := make(chan error, 1)
	go func() { ended <- s.mux.Run(context.Background()) }()
	s.node, err = consensus.Open(consensus.Config{
		ID: id, Dir: c.dir + "/" + id, FSM: s.machine, Multiplier: 1, TrailingLogs: 10,
		Stream: stream{s.mux.Raft(), rpc.Dialer{ID: id, Cluster: belongs, Resolve: c.resolve}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers = append(c.servers, s)
	c.t.Cleanup(func() {
		if err := errors.Join(s.node.Stop(), s.mux.Close(), <-ended); err != nil {
			c.t.Errorf("server %s: %v", id, err)
		}
	})
	return s
}

func (c *cluster) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// lead calls a function on whichever of the servers leads, until it succeeds.
func (c *cluster) lead(servers []*server, do func(s *server) error) *server {
	c.t.Helper()
	for {
		s := c.leader(servers...)
		err := do(s)
		switch {
		case err == nil:
			return s
		case !errors.Is(err, consensus.ErrNotLeader) && !errors.Is(err, consensus.ErrNotReady) && !errors.Is(err, consensus.ErrUncertain):
			c.t.Fatalf("server %s: %v", s.id, err)
		}
	}
}

// put puts a number into the log.
func (c *cluster) put(number uint64, servers ...*server) *server {
	c.t.Helper()
	return c.lead(servers, func(s *server) error {
		_, err := s.node.Apply(c.context(), binary.BigEndian.AppendUint64(nil, number))
		return err
	})
}

// reach waits until each server has a number.
func (c *cluster) reach(want uint64, servers ...*server) {
	c.t.Helper()
	for _, s := range servers {
		for {
			number, changed := s.machine.get()
			if number >= want {
				break
			}
			select {
			case <-changed:
			case <-c.context().Done():
				c.t.Fatalf("server %s has %d, want %d", s.id, number, want)
			}
		}
	}
}

// leader waits until one of the servers leads, and returns it.
func (c *cluster) leader(servers ...*server) *server {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found := make(chan *server, len(servers))
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	for _, s := range servers {
		waiting.Go(func() {
			_ = s.node.WhileLeader(ctx, func(context.Context) error {
				found <- s
				cancel()
				return nil
			})
		})
	}
	select {
	case s := <-found:
		return s
	case <-time.After(patience):
		c.t.Fatal("nobody leads")
		return nil
	}
}

// form starts servers and makes them one cluster, of which the first leads at
// first.
func (c *cluster) form(ids ...string) []*server {
	c.t.Helper()
	for _, id := range ids {
		c.start(id)
	}
	if fresh, err := c.servers[0].node.Bootstrap(); err != nil || !fresh {
		c.t.Fatal(fresh, err)
	}
	for i, id := range ids[1:] {
		nonce, _ := c.servers[i+1].node.Fresh()
		if err := c.servers[i+1].node.Admit(nonce); err != nil {
			c.t.Fatal(err)
		}
		c.lead(c.servers, func(s *server) error { return s.node.AddVoter(c.context(), id) })
	}
	return c.servers
}

// others returns the servers without one of them.
func others(servers []*server, without *server) (rest []*server) {
	for _, s := range servers {
		if s != without {
			rest = append(rest, s)
		}
	}
	return rest
}

// Three servers that store each other by ID alone elect, replicate, and elect
// again when the leader is gone; the one that was gone finds back on another
// port, and is filled by a snapshot.
func TestThreeServers(t *testing.T) {
	c := &cluster{t: t, id: [16]byte{1}, dir: t.TempDir(), addresses: make(map[string]string)}
	all := c.form("a", "b", "d")
	c.put(1, all...)
	c.reach(1, all...)
	first := c.lead(all, func(s *server) error { return s.node.Verify(c.context()) })
	rest := others(all, first)

	if err := first.node.Stop(); err != nil {
		t.Fatal(err)
	}
	for number := range uint64(50) {
		c.put(number, rest...)
	}
	c.lead(rest, func(s *server) error {
		if got := s.node.Peers(); len(got) != 3 {
			t.Errorf("peers %v", got)
		}
		if id, ok := s.node.Leader(); ok && id == first.id {
			t.Errorf("the leader is %q, which has stopped", id)
		}
		return s.node.Snapshot()
	})
	c.reach(49, rest...)

	// The entries that the first server misses are cut from the log by now.
	c.servers = rest
	back := c.start(first.id)
	c.reach(49, back)
	c.lead(c.servers, func(s *server) error { return s.node.RemoveServer(c.context(), "z") })
	c.put(100, c.servers...)
	c.reach(100, c.servers...)
}

// A follower refuses what only a leader may do, and knows who leads.
func TestFollower(t *testing.T) {
	c := &cluster{t: t, dir: t.TempDir(), addresses: make(map[string]string)}
	all := c.form("a", "b", "d")
	c.put(1, all...)
	c.reach(1, all...)
	for { // until leadership has not moved meanwhile
		leader := c.leader(all...)
		follower := others(all, leader)[0]
		_, applied := follower.node.Apply(c.context(), make([]byte, 8))
		verified := follower.node.Verify(c.context())
		id, known := follower.node.Leader()
		peers := fmt.Sprint(follower.node.Peers())
		if follower.node.Leading() || !leader.node.Leading() || !known {
			continue
		}
		if !errors.Is(applied, consensus.ErrNotLeader) || !errors.Is(verified, consensus.ErrNotLeader) {
			t.Errorf("on a follower: Apply %v, Verify %v", applied, verified)
		}
		var want []consensus.Peer
		for _, s := range all {
			want = append(want, consensus.Peer{ID: s.id, Voter: true, Leader: s == leader, Self: s == follower})
		}
		if id != leader.id || peers != fmt.Sprint(want) {
			t.Errorf("a follower knows leader %q and peers %v, want %q and %v", id, peers, leader.id, want)
		}
		return
	}
}

// A leader that loses its quorum stops leading, and what it could not commit is
// uncertain.
func TestQuorumLost(t *testing.T) {
	c := &cluster{t: t, dir: t.TempDir(), addresses: make(map[string]string)}
	all := c.form("a", "b")
	leader := c.put(1, all...)
	if err := others(all, leader)[0].node.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.node.Apply(c.context(), make([]byte, 8)); !errors.Is(err, consensus.ErrLeadershipLost) && !errors.Is(err, consensus.ErrNotLeader) {
		t.Errorf("Apply without a quorum: %v", err)
	}
	if leader.node.Leading() {
		t.Error("leads without a quorum")
	}
}
