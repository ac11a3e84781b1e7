package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
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

// A server that is cut off from the leader is not asked again while it is, but
// beside the requests, and comes back when it has one.
func TestLeaderlessServerStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := twoServers{}
		r := &remote{hold: testHold, router: newRouter("c", "dc1", pool, time.Now)}
		r.router.probe = r.hasLeader
		first := r.router.servers()[0]
		cut := newCutOff(first)
		r.calls = cut
		r.follow(&config.Config{RPCRate: -1})
		failed := 0
		for range 600 {
			if _, err := r.apply(t.Context(), []byte("x")); err != nil {
				failed++
			}
			// What needs no leader is no sign of one.
			if _, err := r.query(t.Context(), mvcc.ReadOptions{Mode: mvcc.Stale}, []byte("q")); err != nil {
				t.Fatal(err)
			}
			r.router.served(first)
			time.Sleep(time.Second)
		}
		if failed > 1 {
			t.Errorf("%d of 600 writes failed", failed)
		}
		if probes := cut.probes.Load(); probes < 600/60 || probes > 600/20 {
			t.Errorf("the server was tried %d times in ten minutes", probes)
		}
		cut.cut.Store(false)
		for range 40 {
			r.servers()
			time.Sleep(time.Second)
		}
		if now := r.servers()[0]; now != first {
			t.Errorf("%s comes first, and %s has a leader again", now, first)
		}
	})
}

// Who writes while others have waited for long at the same server asks another one.
func TestWritesLeaveAServerThatHoldsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		r.router.probe = r.hasLeader
		r.calls = newCutOff(r.router.servers()[0])
		r.follow(&config.Config{RPCRate: -1})
		const each = 100 * time.Millisecond
		var failed atomic.Int64
		var group sync.WaitGroup
		for range 600 {
			group.Go(func() {
				if _, err := r.apply(t.Context(), []byte("x")); err != nil {
					failed.Add(1)
				}
			})
			time.Sleep(each)
		}
		group.Wait()
		if most := int64(patience/each) + 2; failed.Load() > most {
			t.Errorf("%d of 600 writes failed, want %d at most", failed.Load(), most)
		}
		if n := len(r.router.changes); n != 0 {
			t.Errorf("changes are counted as under way at %d servers", n)
		}
	})
}

// cutOff reaches two servers of which one has no leader while it is cut off.
type cutOff struct {
	which  string
	cut    atomic.Bool
	probes atomic.Int64
}

func newCutOff(which string) *cutOff {
	c := &cutOff{which: which}
	c.cut.Store(true)
	return c
}

func (c *cutOff) Apply(_ context.Context, to string, _ *rpc.ApplyRequest) ([]byte, error) {
	if c.cut.Load() && to == c.which {
		time.Sleep(testHold)
		return nil, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	return state.EncodeResult(state.Result{OK: true})
}

func (c *cutOff) Query(ctx context.Context, to string, q *rpc.QueryRequest, each func(rpc.Reply) error) error {
	if c.cut.Load() && to == c.which && q.Options.Mode != mvcc.Stale {
		c.probes.Add(1)
		select {
		case <-time.After(testHold):
		case <-ctx.Done():
			return ctx.Err()
		}
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	return each(rpc.Reply{})
}

// brokenCaller reaches servers of which one fails as the test says, and counts what
// it is asked.
type brokenCaller struct {
	deafCaller
	which string
	err   error
	asked int
}

func (c *brokenCaller) Apply(_ context.Context, to string, _ *rpc.ApplyRequest) ([]byte, error) {
	if to == c.which {
		c.asked++
		return nil, c.err
	}
	return state.EncodeResult(state.Result{OK: true})
}

// A change that may have been made is not tried again. Its error says so, in words
// for people, and the next one goes to another server.
func TestUncertainWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			err  error
			says string
		}{
			{&rpc.Silence{To: "x", For: 1234 * time.Millisecond}, "server %s has given no sign of life for 1.2s"},
			{fmt.Errorf("the call to server \"%%s\" ended: %w", context.DeadlineExceeded), "server %s did not answer in time"},
			{fmt.Errorf("the call ended: %w", context.Canceled), "server %s has not answered, and leads no more or was not heard of for too long"},
		} {
			r := &remote{hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
			b := &brokenCaller{which: r.router.servers()[0], err: c.err}
			r.calls = b
			r.follow(&config.Config{RPCRate: -1})
			_, err := r.apply(t.Context(), []byte("x"))
			want := strings.ReplaceAll(c.says, "%s", b.which) + ": the change may still take effect, so read it back before you repeat it"
			if mvcc.CodeOf(err) != mvcc.Timeout || err.Error() != want || b.asked != 1 {
				t.Errorf("after %d tries: %v\nwant: %s", b.asked, err, want)
			}
			for range 3 {
				if _, err := r.apply(t.Context(), []byte("x")); err != nil || b.asked != 1 {
					t.Errorf("the next write asked it again: %v", err)
				}
			}
		}
	})
}
