package agent

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/kv/mvcc"
)

// twoServers is a pool of two servers that are alive.
type twoServers struct{}

func (twoServers) Members() []gossip.Member {
	var out []gossip.Member
	for _, id := range []string{"a", "b"} {
		out = append(out, gossip.Member{
			Name: id, ID: id, Addr: netip.MustParseAddr("192.0.2.1"), Status: gossip.Alive,
			Tags: map[string]string{"role": gossip.RoleServer, "dc": "dc1"},
		})
	}
	return out
}

func (twoServers) RTT(string) (time.Duration, bool)     { return 0, false }
func (twoServers) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// slowCaller reaches servers that do what they are asked, and take their time.
type slowCaller struct {
	deafCaller
	asked chan string
	takes time.Duration
}

func (c slowCaller) Query(_ context.Context, to string, _ *rpc.QueryRequest, each func(rpc.Reply) error) error {
	c.asked <- to
	time.Sleep(c.takes)
	return each(rpc.Reply{Body: []byte(`{"Servers":[]}`)})
}

// What changes who takes part or leads is asked of one server, however long that
// takes; what only tells is asked of another one too.
func TestClientAgentOperatesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller := slowCaller{asked: make(chan string, 9), takes: patience + patience/2}
		a := &Agent{config: &config.Config{Datacenter: "dc1"}, backend: &backend{datacenter: "dc1"}}
		a.remote = &remote{calls: caller, hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		expect := func(what string, want int, err error) {
			t.Helper()
			time.Sleep(2 * patience)
			if got := len(caller.asked); err != nil || got != want {
				t.Errorf("%s was asked of %d servers, want %d: %v", what, got, want, err)
			}
			for len(caller.asked) > 0 {
				<-caller.asked
			}
		}
		o := operator{a}
		expect("a transfer", 1, o.TransferLeader(t.Context(), "", ""))
		expect("a removal", 1, o.RemovePeer(t.Context(), "", api.PeerName{ID: "b"}))
		_, err := o.RaftConfiguration(t.Context(), mvcc.ReadOptions{})
		expect("the configuration", 2, err)
	})
}

// failingCaller reaches servers of which one fails.
type failingCaller struct {
	deafCaller
	which string
	err   error
}

func (c failingCaller) Query(_ context.Context, to string, _ *rpc.QueryRequest, each func(rpc.Reply) error) error {
	if to == c.which {
		return c.err
	}
	return each(rpc.Reply{Body: []byte(`{}`)})
}

// A server that cannot be reached, or that says after all the time it holds a request
// that nobody leads, goes last for a while.
func TestServersToBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			err   error
			moved bool
		}{
			{"nobody leads", &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}, true},
			{"the connection broke", errors.New("broken"), true},
			{"not ready", &mvcc.Error{Code: mvcc.NotReady, Text: "not ready"}, true},
			{"not to be read", &mvcc.Error{Code: mvcc.Invalid, Text: "not to be read"}, false},
		} {
			r := &remote{hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
			first := r.router.servers()[0]
			r.calls = failingCaller{which: first, err: c.err}
			r.follow(&config.Config{RPCRate: -1})
			_, err := r.query(t.Context(), mvcc.ReadOptions{}, []byte("q"))
			if c.moved != (err == nil) {
				t.Errorf("%s: %v", c.name, err)
			}
			if moved := r.router.servers()[0] != first; moved != c.moved {
				t.Errorf("%s: the server went last: %t", c.name, moved)
			}
		}
	})
}

// leaderlessCaller reaches servers of which one takes its time to say that nobody leads.
type leaderlessCaller struct {
	deafCaller
	which string
	done  *int
}

func (c leaderlessCaller) Apply(ctx context.Context, to string, _ *rpc.ApplyRequest) ([]byte, error) {
	if to == c.which {
		time.Sleep(testHold) // of the test's own time
		return nil, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	*c.done++
	return state.EncodeResult(state.Result{OK: true})
}

// A client agent whose server is cut off from the leader writes through another
// one: the next write if that one took all the time there was.
func TestClientAgentLeavesACutOffServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		done := 0
		r.calls = leaderlessCaller{which: r.router.servers()[0], done: &done}
		r.follow(&config.Config{RPCRate: -1})
		failed := 0
		for range 5 {
			if _, err := r.apply(t.Context(), []byte("x")); err != nil {
				failed++
			}
		}
		if failed > 1 || done != 5-failed {
			t.Errorf("%d of 5 writes failed, %d were done", failed, done)
		}
	})
}
