package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/kv/mvcc"
)

// deafCaller reaches servers that never answer.
type deafCaller struct{}

func (deafCaller) Apply(ctx context.Context, _ string, _ *rpc.ApplyRequest) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (deafCaller) Query(ctx context.Context, _ string, _ *rpc.QueryRequest, _ func(rpc.Reply) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestServersMayTakeSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{calls: deafCaller{}, hold: 7 * time.Second}
		expect := func(what string, want time.Duration, do func() error) {
			t.Helper()
			began := time.Now()
			if err := do(); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != want {
				t.Errorf("%s ended after %v, want %v: %v", what, time.Since(began), want, err)
			}
		}
		query := func(o mvcc.ReadOptions) func() error {
			return func() error {
				_, err := r.once(t.Context(), "s", &rpc.QueryRequest{Options: o})
				return err
			}
		}
		r.follow(&config.Config{RPCClientTimeout: time.Minute, RPCRate: -1})
		expect("a read", r.hold+callGrace, query(mvcc.ReadOptions{}))
		r.follow(&config.Config{RPCClientTimeout: 2 * time.Second, RPCRate: -1})
		expect("a read with less time", 2*time.Second, query(mvcc.ReadOptions{}))
		expect("one that waits", 62*time.Second, query(mvcc.ReadOptions{Index: 5, Wait: time.Minute}))
		expect("a write", 2*time.Second, func() error {
			_, err := r.applyAt(t.Context(), "s", nil)
			return err
		})
	})
}
