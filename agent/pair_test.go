package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
)

// pipes connect the nodes of a test in memory, by their IDs.
type pipes struct {
	ports map[string]*pipePort
}

type pipePort struct {
	pipes  *pipes
	in     chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) port(id string) *pipePort {
	port := &pipePort{pipes: p, in: make(chan net.Conn), closed: make(chan struct{})}
	p.ports[id] = port
	return port
}

func (p *pipePort) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipePort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipePort) Dial(id string, timeout time.Duration) (net.Conn, error) {
	to := p.pipes.ports[id]
	if to == nil {
		return nil, errors.New("nobody is " + id)
	}
	near, far := net.Pipe()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case to.in <- far:
		return near, nil
	case <-to.closed:
		return nil, net.ErrClosed
	case <-timer.C:
		return nil, errors.New("nobody answers at " + id)
	}
}

// scripted reaches a leader that answers what the test says.
type scripted struct {
	query func(ctx context.Context, query []byte, each func(rpc.Reply) error) error
}

func (scripted) Apply(context.Context, string, *rpc.ApplyRequest) ([]byte, error) {
	return nil, errors.New("the test has no answer to a command")
}

func (s scripted) Query(ctx context.Context, _ string, r *rpc.QueryRequest, each func(rpc.Reply) error) error {
	return s.query(ctx, r.Query, each)
}

// newFollower is a server that follows a leader, which answers its calls as query
// says; stop is called before the bubble ends.
func newFollower(t *testing.T, query func(ctx context.Context, query []byte, each func(rpc.Reply) error) error) (follower *Agent, leader *backend, stop func()) {
	t.Helper()
	dropMetrics(t)
	net := &pipes{ports: map[string]*pipePort{}}
	var both []*backend
	for _, id := range []string{"a", "b"} {
		machine := state.NewMachine()
		node, err := consensus.Open(consensus.Config{ID: id, FSM: machine, Stream: net.port(id), Multiplier: 1})
		if err != nil {
			t.Fatal(err)
		}
		b := &backend{id: id, datacenter: "dc1", nodeName: id, machine: machine, node: node, hold: testHold, now: time.Now}
		both = append(both, b)
	}
	leader, b := both[0], both[1]
	if _, err := leader.node.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	if err := leader.node.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := leader.node.AddNonvoter(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := b.node.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.remote = &remote{self: "b", calls: scripted{query}, hold: testHold, router: newRouter("b", "dc1", twoServers{}, time.Now)}
	for i, confirmed := range []bool{false, true} {
		b.indexes[i].ask = func(ctx context.Context) (uint64, error) { return b.committed(ctx, confirmed) }
	}
	follower = &Agent{id: "b", config: &config.Config{Server: true, Datacenter: "dc1", RPCHoldTimeout: testHold}, backend: b, node: b.node, machine: b.machine, remote: b.remote}
	return follower, leader, func() {
		for _, b := range both {
			if err := b.node.Stop(); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * time.Minute) // of the test's own time: until what was under way has ended
		synctest.Wait()
	}
}

// answerCommitted answers the question for what is committed.
func answerCommitted(index uint64, each func(rpc.Reply) error) error {
	return each(rpc.Reply{Body: binary.BigEndian.AppendUint64(nil, index)})
}
