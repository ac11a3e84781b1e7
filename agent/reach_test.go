package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// reachingCaller says which servers it reaches.
type reachingCaller struct {
	deafCaller
	reaches []string
}

func (c *reachingCaller) Reachable(id string) bool { return slices.Contains(c.reaches, id) }

// failedServers are two servers that failed.
type failedServers struct{ twoServers }

func (failedServers) Members() []gossip.Member {
	out := twoServers{}.Members()
	for i := range out {
		out[i].Status = gossip.Failed
	}
	return out
}

// noServers is a pool without servers.
type noServers struct{ twoServers }

func (noServers) Members() []gossip.Member { return nil }

// waitingLookup answers nothing until the caller gives up.
type waitingLookup struct {
	whileReachable
	asked atomic.Int64
}

func (l *waitingLookup) Service(ctx context.Context, _ mvcc.ReadOptions, _ *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	l.asked.Add(1)
	<-ctx.Done()
	return nil, mvcc.Meta{}, ctx.Err()
}

// DNS waits for a leader, and not for servers of which none can be reached.
func TestLookupsWhileNoServerCanBeReached(t *testing.T) {
	const most = 5 * time.Second // what DNS waits
	for _, c := range []struct {
		name    string
		pool    pool
		reaches []string
		index   uint64
		want    time.Duration
	}{
		{"all live, and nobody leads", twoServers{}, []string{"a", "b"}, 0, most},
		{"one lives", twoServers{}, []string{"b"}, 0, most},
		{"none takes a connection", twoServers{}, nil, 0, reachLooks * reachLook},
		{"all failed", failedServers{}, []string{"a", "b"}, 0, reachLooks * reachLook},
		{"none was met yet", noServers{}, nil, 0, most},
		{"a wait for a change", failedServers{}, nil, 7, most},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &remote{calls: &reachingCaller{reaches: c.reaches}, hold: testHold, router: newRouter("c", "dc1", c.pool, time.Now)}
				l := &waitingLookup{}
				ctx, cancel := context.WithTimeout(t.Context(), most)
				defer cancel()
				began := time.Now()
				_, _, err := whileReachable{l, r}.Service(ctx, mvcc.ReadOptions{Index: c.index}, &health.ServiceQuery{Service: "web"})
				if took := time.Since(began); err == nil || took != c.want || l.asked.Load() != 1 {
					t.Errorf("after %v, want %v: %v", took, c.want, err)
				}
				if (mvcc.CodeOf(err) == mvcc.NoLeader) != (c.want < most) {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// A server that comes back while a question is put answers it.
func TestLookupsOutlastAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{calls: &reachingCaller{}, hold: testHold, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		l := momentary{takes: (reachLooks-1)*reachLook + reachLook/2}
		if _, _, err := (whileReachable{l, r}).Service(t.Context(), mvcc.ReadOptions{}, &health.ServiceQuery{}); err != nil {
			t.Error(err)
		}
	})
}

// momentary is a lookup that takes a moment.
type momentary struct {
	whileReachable
	takes time.Duration
}

func (m momentary) Service(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	time.Sleep(m.takes)
	return nil, mvcc.Meta{}, nil
}
