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

// adder is a state machine that adds up numbers, and tells those who wait for
// a sum.
type adder struct {
	mu      sync.Mutex
	sum     uint64
	changed chan struct{}
}

func newAdder() *adder { return &adder{changed: make(chan struct{})} }

func (a *adder) set(sum uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum = sum
	close(a.changed)
	a.changed = make(chan struct{})
	return sum
}

func (a *adder) get() (uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum, a.changed
}

func (a *adder) Apply(log *raft.Log) any { return a.ApplyBatch([]*raft.Log{log})[0] }

func (a *adder) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, log := range logs {
		if log.Type == raft.LogCommand {
			sum, _ := a.get()
			results[i] = a.set(sum + binary.BigEndian.Uint64(log.Data))
		}
	}
	return results
}

func (a *adder) Snapshot() (raft.FSMSnapshot, error) {
	sum, _ := a.get()
	return total(binary.BigEndian.AppendUint64(nil, sum)), nil
}

func (a *adder) Restore(source io.ReadCloser) error {
	data, err := io.ReadAll(source)
	if err == nil {
		a.set(binary.BigEndian.Uint64(data))
	}
	return err
}

type total []byte

func (s total) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
func (s total) Release() {}

// server is one node of a cluster, on a server port of its own.
type server struct {
	id      string
	machine *adder
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
	s := &server{id: id, machine: newAdder(), mux: rpc.NewMux(rpc.MuxConfig{Listener: listener, ID: id, Cluster: belongs})}
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

// add puts numbers into the log of a leader.
func (c *cluster) add(s *server, numbers ...uint64) {
	c.t.Helper()
	for _, number := range numbers {
		if _, err := s.node.Apply(c.context(), binary.BigEndian.AppendUint64(nil, number)); err != nil {
			c.t.Fatalf("server %s: %v", s.id, err)
		}
	}
}

// reaches waits until each server has a sum.
func (c *cluster) reaches(want uint64, servers ...*server) {
	c.t.Helper()
	for _, s := range servers {
		for {
			sum, changed := s.machine.get()
			if sum == want {
				break
			}
			select {
			case <-changed:
			case <-c.context().Done():
				c.t.Fatalf("server %s has the sum %d, want %d", s.id, sum, want)
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

// Three servers that store each other by ID alone elect, replicate, and elect
// again when the leader is gone; the one that was gone finds back on another
// port, and is filled by a snapshot.
func TestThreeServers(t *testing.T) {
	c := &cluster{t: t, id: [16]byte{1}, dir: t.TempDir(), addresses: make(map[string]string)}
	a, b, d := c.start("a"), c.start("b"), c.start("d")
	if fresh, err := a.node.Bootstrap(); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if err := a.node.WaitLeader(c.context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*server{b, d} {
		if err := a.node.AddVoter(c.context(), s.id); err != nil {
			t.Fatal(err)
		}
	}
	c.add(a, 1, 2, 3)
	c.reaches(6, a, b, d)
	if err := a.node.Verify(c.context()); err != nil {
		t.Errorf("Verify on the leader: %v", err)
	}
	if _, err := b.node.Apply(c.context(), make([]byte, 8)); !errors.Is(err, consensus.ErrNotLeader) {
		t.Errorf("Apply on a follower: %v", err)
	}
	if err := b.node.Verify(c.context()); !errors.Is(err, consensus.ErrNotLeader) {
		t.Errorf("Verify on a follower: %v", err)
	}
	if id, ok := b.node.Leader(); !ok || id != "a" || b.node.Leading() {
		t.Errorf("a follower knows leader %q", id)
	}
	want := []consensus.Peer{{ID: "a", Voter: true, Leader: true}, {ID: "b", Voter: true}, {ID: "d", Voter: true}}
	if got := b.node.Peers(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("peers %v, want %v", got, want)
	}

	if err := a.node.Stop(); err != nil {
		t.Fatal(err)
	}
	second := c.leader(b, d)
	for number := range uint64(50) {
		c.add(second, number)
	}
	if err := second.node.Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.reaches(6+1225, b, d)

	// The log that the first server needs is cut by now.
	a = c.start("a")
	c.reaches(6+1225, a)
	if err := second.node.RemoveServer(c.context(), "a"); err != nil {
		t.Fatal(err)
	}
	c.add(second, 100)
	c.reaches(6+1225+100, b, d)
}

// A leader that loses its quorum stops leading, and what it could not commit is
// uncertain.
func TestQuorumLost(t *testing.T) {
	c := &cluster{t: t, dir: t.TempDir(), addresses: make(map[string]string)}
	a, b := c.start("a"), c.start("b")
	if _, err := a.node.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	if err := a.node.WaitLeader(c.context()); err != nil {
		t.Fatal(err)
	}
	if err := a.node.AddVoter(c.context(), "b"); err != nil {
		t.Fatal(err)
	}
	c.add(a, 1)
	if err := b.node.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.node.Apply(c.context(), make([]byte, 8)); !errors.Is(err, consensus.ErrUncertain) || !errors.Is(err, consensus.ErrLeadershipLost) {
		t.Errorf("Apply without a quorum: %v", err)
	}
	if a.node.Leading() {
		t.Error("leads without a quorum")
	}
}
