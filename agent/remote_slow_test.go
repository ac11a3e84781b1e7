package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv/mvcc"
)

// lateCaller reaches servers of which one says late that nobody leads.
type lateCaller struct {
	deafCaller
	which string
}

func (c lateCaller) Query(_ context.Context, to string, _ *rpc.QueryRequest, each func(rpc.Reply) error) error {
	if to == c.which {
		time.Sleep(patience + patience/5) // of the test's own time
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	time.Sleep(patience / 3)
	return each(rpc.Reply{})
}

// A server that cannot answer, and says so late, goes last: only the first read waits
// for it.
func TestLateServerGoesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{hold: 7 * time.Second, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		r.calls = lateCaller{which: r.router.servers()[0]}
		r.follow(&config.Config{RPCRate: -1})
		for i := range 3 {
			began := time.Now()
			if _, err := r.query(t.Context(), mvcc.ReadOptions{}, []byte("q")); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); i > 0 && took > patience/2 {
				t.Errorf("read %d took %v", i, took)
			}
			time.Sleep(patience)
		}
	})
}

// tardyCaller reaches servers that do all, and take long over it.
type tardyCaller struct{ takes time.Duration }

func (c tardyCaller) wait(ctx context.Context) error {
	timer := time.NewTimer(c.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c tardyCaller) Apply(ctx context.Context, _ string, _ *rpc.ApplyRequest) ([]byte, error) {
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	return state.EncodeResult(state.Result{OK: true})
}

func (c tardyCaller) Query(ctx context.Context, _ string, _ *rpc.QueryRequest, each func(rpc.Reply) error) error {
	if err := c.wait(ctx); err != nil {
		return err
	}
	return each(rpc.Reply{})
}

// An agent that does not know what came of a write goes on writing through servers
// that are slow, whether or not they say in time that they have a leader.
func TestDoubtEndsWithSlowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{hold: 7 * time.Second, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		r.calls = tardyCaller{takes: probeLimit + time.Second}
		r.router.probe = r.hasLeader
		r.follow(&config.Config{RPCRate: -1})
		r.doubt("a", &mvcc.Error{Code: mvcc.Timeout, Text: "x"})
		for i := range 2 {
			began := time.Now()
			if _, err := r.apply(t.Context(), []byte("x")); err != nil {
				t.Errorf("write %d, after %v: %v", i, time.Since(began), err)
			}
		}
		time.Sleep(time.Minute) // until all has ended that is beside the requests
	})
}
