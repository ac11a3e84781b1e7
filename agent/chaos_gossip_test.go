package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/gossip"
)

const (
	// manyAgents join at once.
	manyAgents = 200
	// manyLimit is how long they may take until each sees all the others, and
	// manyMemory what memory in bytes all of them may take together.
	manyLimit  = 3 * time.Minute
	manyMemory = 2 << 30
	// watchedFor is how long is looked for false alarms in the short form, and
	// watchedLong in the long one.
	watchedFor, watchedLong = 15 * time.Second, 30 * time.Minute
)

// watched is how long false alarms are looked for.
func watched() time.Duration {
	if *chaosTime < watchedFor {
		return watchedFor
	}
	return min(*chaosTime, watchedLong)
}

// gossiper is what a client agent is to others: a member of the pool.
func gossiper(t *testing.T, i int, role string, filter gossip.Filter) *gossip.Pool {
	t.Helper()
	id := fmt.Sprintf("00000000-0000-0000-0000-%012d", i)
	p, err := gossip.Open(gossip.Config{
		Self: gossip.Member{Name: "m" + strconv.Itoa(i), ID: id, Tags: map[string]string{"role": role, "dc": "dc1", "id": id, "segment": ""}},
		Bind: netip.MustParseAddrPort("127.0.0.1:0"), Datacenter: "dc1", Filter: filter,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// closeAll closes pools, all at once: each waits a little for what it still sends.
func closeAll(pools []*gossip.Pool) {
	var group sync.WaitGroup
	for _, p := range pools {
		group.Go(func() { _ = p.Close() })
	}
	group.Wait()
}

// allAlive says what a member misses of a pool whose members are all alive.
func allAlive(p *gossip.Pool, members int) error {
	all := p.Members()
	for _, m := range all {
		if m.Status != gossip.Alive {
			return fmt.Errorf("%s sees %s as %s", p.Self().Name, m.Name, m.Status)
		}
	}
	if len(all) != members {
		return fmt.Errorf("%s sees %d members", p.Self().Name, len(all))
	}
	return nil
}

// Members join three servers until there are two hundred, all at the same time:
// each sees all, and the catalog has all.
func TestChaosManyJoin(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("200 members join: give -chaos")
	}
	c := agenttest.StartCluster(t, 3, 0)
	x := &trial{t: t, Cluster: c}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var pools []*gossip.Pool
	defer func() { closeAll(pools) }()
	for i := range manyAgents - len(c.Servers) {
		pools = append(pools, gossiper(t, i, gossip.RoleClient, nil))
	}
	began := time.Now()
	for i, p := range pools {
		group.Go(func() { _ = p.Run(ctx) })
		group.Go(func() {
			// A server that is asked by more than it takes at once cuts some, who ask
			// again, as agents do.
			for ctx.Err() == nil {
				if _, err := p.Join(ctx, []string{c.Servers[i%3].GossipAddr()}); err == nil {
					return
				}
				<-time.After(time.Second)
			}
		})
	}
	x.within(manyLimit, "all see all", func() error {
		for _, p := range pools {
			if err := allAlive(p, manyAgents); err != nil {
				return err
			}
		}
		for _, s := range c.Servers {
			members, err := membersSeenBy(ctx, s)
			if err != nil || len(members) != manyAgents {
				return fmt.Errorf("%s sees %d members: %w", s.Name, len(members), err)
			}
		}
		return nil
	})
	agreed := time.Since(began)
	x.within(manyLimit, "the catalog has all", func() error {
		var nodes []struct{ Node string }
		if err := c.Servers[0].GetJSON(t.Context(), "/v1/catalog/nodes", &nodes); err != nil {
			return err
		}
		var passing []struct{ Node, CheckID string }
		if err := c.Servers[1].GetJSON(t.Context(), "/v1/health/state/passing", &passing); err != nil {
			return err
		}
		passing = slices.DeleteFunc(passing, func(p struct{ Node, CheckID string }) bool { return p.CheckID != "serfHealth" })
		if len(nodes) != manyAgents || len(passing) != manyAgents {
			return fmt.Errorf("it has %d nodes, %d of them pass", len(nodes), len(passing))
		}
		return nil
	})
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("all saw each other after %s and were in the catalog after %s, with %d goroutines and %d MB",
		agreed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), runtime.NumGoroutine(), memory.Sys>>20)
	if memory.Sys > manyMemory {
		t.Errorf("they take %d bytes", memory.Sys)
	}
}

// Twenty members lose every tenth packet, and none takes another for dead.
func TestChaosNoFalseAlarms(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("it watches for a while: give -chaos")
	}
	const members = 20
	network := gossip.NewNetwork(seedOf(t))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var pools []*gossip.Pool
	defer func() { closeAll(pools) }()
	for i := range members {
		role := gossip.RoleClient
		if i < 3 {
			role = gossip.RoleServer
		}
		p := gossiper(t, i, role, network)
		group.Go(func() { _ = p.Run(ctx) })
		if i > 0 {
			if _, err := p.Join(ctx, []string{pools[0].Addr().String()}); err != nil {
				t.Fatal(err)
			}
		}
		pools = append(pools, p)
	}
	see := func(p *gossip.Pool) error { return allAlive(p, members) }
	(&trial{t: t}).within(wholeLimit, "all see all", func() error {
		for _, p := range pools {
			if err := see(p); err != nil {
				return err
			}
		}
		return nil
	})
	joining, _ := network.Count()
	network.SetLoss(0.1, 0.02)
	network.SetDelay(0, 5*time.Millisecond)
	began, still := time.Now(), watchStalls(ctx)
	end := time.After(watched())
	alarms := make(chan string, members)
	for _, p := range pools {
		changed, stop := p.Subscribe()
		group.Go(func() {
			defer stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-changed:
				}
				if err := see(p); err != nil && ctx.Err() == nil {
					alarms <- fmt.Sprintf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
					return
				}
			}
		})
	}
	<-end
	packets, lost := network.Count()
	longest := still()
	cancel() // who closes is no alarm
	t.Logf("%d members for %s: %d false alarms, %d of %d packets lost", members, time.Since(began).Round(time.Second), len(alarms), lost, packets)
	if lost < (packets-joining)/20 {
		t.Error("too few packets were lost")
	}
	for len(alarms) > 0 {
		blame(t, longest, "%s", <-alarms)
	}
}

// How often servers elect a leader without a cause, while clients use them and the
// network loses packets.
func TestChaosCauselessElections(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("it watches for a while: give -chaos")
	}
	for _, multiplier := range []int{1, 5} {
		t.Run(fmt.Sprint("multiplier ", multiplier), func(t *testing.T) {
			x := newTrial(t, seedOf(t), 3, 1, agenttest.HCL(fmt.Sprintf("performance { raft_multiplier = %d }", multiplier)))
			x.Net.Packets(0.1, 0)
			x.Net.Stall(0.02)
			before, began := x.term(), time.Now()
			still := watchStalls(t.Context())
			end := time.After(watched())
			<-end
			elections, took, longest := x.term()-before, time.Since(began), still()
			t.Logf("%d elections in %s under load and loss: %.1f an hour, %s", elections, took.Round(time.Second), float64(elections)/took.Hours(), x.load.History.Summary())
			x.Net.Heal()
			x.finish(1000)
			if perHour := float64(elections) / took.Hours(); perHour > 60 && elections > 1 {
				blame(t, longest, "%d elections are too many", elections)
			}
		})
	}
}

// longStall is how long this process may not run before what its agents find out of
// each other says nothing.
const longStall = 100 * time.Millisecond

// watchStalls returns what tells the longest time since in which this process did
// not run.
func watchStalls(ctx context.Context) func() time.Duration {
	var longest atomic.Int64
	go func() {
		tick := time.NewTicker(longStall / 10)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			longest.Store(max(longest.Load(), int64(now.Sub(last))))
			last = now
		}
	}()
	return func() time.Duration { return time.Duration(longest.Load()) }
}

// blame fails a test, unless it was the machine that kept agents from answering.
func blame(t *testing.T, stall time.Duration, format string, args ...any) {
	t.Helper()
	if stall > longStall {
		t.Skipf("where a machine does not stand still for %s: "+format, append([]any{stall}, args...)...)
	}
	t.Errorf(format, args...)
}

// term is the highest of the servers' terms.
func (x *trial) term() uint64 {
	x.t.Helper()
	highest := uint64(0)
	for _, s := range x.Servers {
		x.within(progressLimit, "a server tells its term", func() error {
			var self struct{ Stats map[string]map[string]string }
			if err := s.GetJSON(x.t.Context(), "/v1/agent/self", &self); err != nil {
				return err
			}
			term, err := strconv.ParseUint(self.Stats["raft"]["term"], 10, 64)
			highest = max(highest, term)
			return errors.Join(err)
		})
	}
	return highest
}
