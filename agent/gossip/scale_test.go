package gossip

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"
)

// paced has default timings divided by a factor.
func paced(factor int) func(*Config) {
	return func(cfg *Config) {
		d := DefaultTiming()
		f := time.Duration(factor)
		d.GossipInterval /= f
		d.ProbeInterval /= f
		d.ProbeTimeout /= f
		d.PushPullInterval /= f
		cfg.Timing = d
		cfg.Timing.LeaveSettle = 5 * time.Second
	}
}

// No live member fails while every tenth packet is lost, some come twice and
// all are reordered.
func TestNoFalseFailuresUnderLoss(t *testing.T) {
	t.Parallel()
	factor, while := 2, 10*time.Second
	if testing.Short() {
		while = 3 * time.Second
	}
	network := NewNetwork(42)
	nodes := cluster(t, 10, 3, paced(factor), func(cfg *Config) { cfg.Filter = network })
	joining, _ := network.Count()
	network.SetLoss(0.1, 0.05)
	network.SetDelay(0, 10*time.Millisecond/time.Duration(factor))
	failed := make(chan string, len(nodes))
	var group sync.WaitGroup
	end := time.Now().Add(while)
	for _, n := range nodes {
		group.Go(func() {
			changed, cancel := n.Subscribe()
			defer cancel()
			for left := time.Until(end); left > 0; left = time.Until(end) {
				select {
				case <-changed:
				case <-time.After(left):
				}
				for _, m := range n.Members() {
					if m.Status != Alive {
						failed <- fmt.Sprintf("%s sees %s as %s", n.name, m.Name, m.Status)
						return
					}
				}
			}
		})
	}
	group.Wait()
	close(failed)
	for what := range failed {
		nodes[0].wrong("%s", what)
	}
	packets, lost := network.Count()
	if lost < (packets-joining)/20 {
		t.Errorf("only %d of %d packets were lost", lost, packets)
	}
}

// With the real timings a silent host in a pool of ten fails after some five and a
// half seconds: in several pools at once, which keep the machine busy, the median
// is held to less than four times that, and no host to less than its patience.
func TestSilentHostWithRealTimings(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of a minute")
	}
	t.Parallel()
	const pools, lost = 4, 2
	var mu sync.Mutex
	var took []time.Duration
	t.Run("pools", func(t *testing.T) {
		for i := range pools {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				network := NewNetwork(uint64(i))
				nodes := cluster(t, 10, 3, paced(1), func(cfg *Config) { cfg.Filter = network })
				for range lost {
					last := nodes[len(nodes)-1]
					nodes = nodes[:len(nodes)-1]
					begun := time.Now()
					network.Silence(last.Addr())
					for _, n := range nodes {
						n.waitAll(60*time.Second, Failed, last)
					}
					mu.Lock()
					took = append(took, time.Since(begun))
					mu.Unlock()
				}
			})
		}
	})
	slices.Sort(took)
	t.Logf("all saw the silence after %s", took)
	if len(took) != pools*lost {
		t.Fatalf("%d of %d hosts failed", len(took), pools*lost)
	}
	if first := took[0]; first < 4*time.Second {
		t.Errorf("one failed after %s", first)
	}
	if median := took[len(took)/2]; median > 20*time.Second {
		t.Errorf("the median is %s", median)
	}
}

func TestLeaveIsQuickWithRealTimings(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 10, 3, paced(1))
	var took []time.Duration
	for len(nodes) > 5 {
		last := nodes[len(nodes)-1]
		nodes = nodes[:len(nodes)-1]
		begun := time.Now()
		done := make(chan error, 1)
		go func() { done <- last.Leave(t.Context()) }()
		for _, n := range nodes {
			n.waitAll(patience, Left, last)
		}
		took = append(took, time.Since(begun))
		if err := <-done; err != nil {
			t.Error(err)
		}
		last.end()
	}
	slices.Sort(took)
	t.Logf("all saw the leave after %s", took)
	if median := took[len(took)/2]; median > 3*time.Second { // it is a tenth of a second
		t.Errorf("the median is %s", median)
	}
}

func TestManyJoinAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("100 pools")
	}
	const many = 100
	var log lines
	quiet := func(cfg *Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	first := open(t, 0, paced(1), server, quiet)
	nodes := []*node{first}
	for i := 1; i < many; i++ {
		nodes = append(nodes, open(t, i, paced(1), quiet))
	}
	begun := time.Now()
	var group sync.WaitGroup
	errs := make([]error, many)
	for i, n := range nodes[1:] {
		group.Go(func() {
			var got int
			if got, errs[i] = n.Join(t.Context(), []string{first.Addr().String()}); got != 1 && errs[i] == nil {
				errs[i] = fmt.Errorf("it joined %d", got)
			}
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("n%d: %v", i+1, err)
		}
	}
	t.Logf("all joined after %s", time.Since(begun))
	for _, n := range nodes {
		n.wait(90*time.Second, "all are alive", func() bool {
			alive := 0
			for _, m := range n.Members() {
				if m.Status == Alive {
					alive++
				}
			}
			return alive == many
		})
	}
	t.Logf("all know all after %s", time.Since(begun))
	if log.has("a member failed") { // as happens where a hundred agents share a busy machine
		t.Logf("a member failed meanwhile: %s", tail(log.String(), 2000))
	}
	group = sync.WaitGroup{}
	for _, n := range nodes {
		group.Go(n.end)
	}
	group.Wait()
}

// A partition is mended by the reconnection to failed members.
func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	network := NewNetwork(5)
	nodes := cluster(t, 5, 3, func(cfg *Config) { cfg.Filter = network })
	left, right := nodes[:3], nodes[3:]
	for _, a := range left {
		for _, b := range right {
			network.Cut(a.Addr(), b.Addr())
			network.Cut(b.Addr(), a.Addr())
		}
	}
	for _, a := range left {
		a.waitAll(patience, Failed, right...)
	}
	for _, b := range right {
		b.waitAll(patience, Failed, left...)
	}
	for _, a := range left {
		for _, b := range right {
			network.Mend(a.Addr(), b.Addr())
			network.Mend(b.Addr(), a.Addr())
		}
	}
	for _, n := range nodes {
		n.waitAll(patience, Alive, nodes...)
	}
}

// A member of which only the way back is cut is kept alive by the others.
func TestOneWayCutIsNotDeath(t *testing.T) {
	t.Parallel()
	network := NewNetwork(6)
	nodes := cluster(t, 5, 3, paced(2), func(cfg *Config) { cfg.Filter = network })
	network.Cut(nodes[4].Addr(), nodes[0].Addr())
	nodes[0].never(8*time.Second, "it fails", func() bool { return nodes[0].status("n4") != Alive })
}
