package consensus

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

var (
	seedFlag   = flag.Uint64("consensus.seed", 0, "seed of the first random history; zero takes one of its own")
	roundsFlag = flag.Int("consensus.histories", 2, "how many random histories are run")
)

// ledger is a state machine that remembers which numbers it was given.
type ledger struct {
	counter
	mu   sync.Mutex
	seen map[uint64]bool
}

func (l *ledger) Apply(log *raft.Log) any { return l.ApplyBatch([]*raft.Log{log})[0] }

func (l *ledger) ApplyBatch(logs []*raft.Log) []any {
	l.mu.Lock()
	for _, log := range logs {
		if log.Type == raft.LogCommand {
			l.seen[binary.BigEndian.Uint64(log.Data)] = true
		}
	}
	l.mu.Unlock()
	return l.counter.ApplyBatch(logs)
}

func (l *ledger) has(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[number]
}

// Whatever happens to the network, the disks and the servers: at no moment do two
// lead, what was acknowledged is on every server in the end, and a read index
// covers all that was acknowledged before it was asked for.
func TestRandomFaults(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	rounds := *roundsFlag
	if testing.Short() {
		rounds = min(rounds, 1)
	}
	for round := range rounds {
		seed := seed + uint64(round)
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { randomHistory(t, dir, seed) })
		if t.Failed() {
			t.Fatalf("run it again with -consensus.seed=%d -consensus.histories=1", seed)
		}
	}
}

func randomHistory(t *testing.T, dir string, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	ids := three
	if random.IntN(2) == 0 {
		ids = five
	}
	m := &members{t: t, net: new(network)}
	ledgers := make(map[*member]*ledger)
	start := func(one *member) {
		l := &ledger{seen: make(map[uint64]bool)}
		ledgers[one] = l
		one.cfg.FSM, one.cfg.Stream = l, m.net.port(one.cfg.ID)
		n, err := Open(one.cfg)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		one.Node = n
	}
	for _, id := range ids {
		one := &member{disk: new(disk)}
		one.cfg = on(one.disk, filepath.Join(dir, id), nil)
		one.cfg.ID = id
		start(one)
		m.all = append(m.all, one)
	}
	for _, one := range m.all {
		if _, err := one.BootstrapServers(ids); err != nil {
			t.Fatal(err)
		}
	}

	// Writers and readers.
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var mu sync.Mutex // held to look at a node that may be started anew
	nodes := func() []*Node {
		mu.Lock()
		defer mu.Unlock()
		var list []*Node
		for _, one := range m.all {
			list = append(list, one.Node)
		}
		return list
	}
	var acknowledged []uint64
	next := uint64(0)
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				for _, n := range nodes() {
					if !n.Leading() {
						continue
					}
					mu.Lock()
					next++
					this := next
					mu.Unlock()
					short, cancel := context.WithTimeout(ctx, time.Second)
					_, err := n.Apply(short, number(this))
					cancel()
					if err == nil {
						mu.Lock()
						acknowledged = append(acknowledged, this)
						mu.Unlock()
					}
				}
				time.Sleep(23 * time.Millisecond)
			}
		})
	}
	stale := 0
	clients.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, n := range nodes() {
				mu.Lock()
				before := len(acknowledged)
				mu.Unlock()
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				index, err := n.ReadIndex(short, i%2 == 0)
				if err == nil && n.WaitApplied(short, index) == nil {
					mu.Lock()
					for _, one := range m.all {
						if one.Node != n {
							continue
						}
						for _, number := range acknowledged[max(0, before-100):before] {
							if !ledgers[one].has(number) {
								stale++
							}
						}
					}
					mu.Unlock()
				}
				cancel()
			}
			time.Sleep(29 * time.Millisecond)
		}
	})

	for range 30 {
		one := m.all[random.IntN(len(m.all))]
		switch random.IntN(9) {
		case 0, 1:
			m.net.isolate(one.cfg.ID)
		case 2:
			m.net.hold(one.cfg.ID, m.all[random.IntN(len(m.all))].cfg.ID)
		case 3:
			m.net.slow(time.Duration(random.IntN(100)) * time.Millisecond)
		case 4:
			one.disk.fail(errDisk, errDisk)
		case 5:
			if leading := leads(m.all); len(leading) == 1 {
				go func() { _ = leading[0].TransferLeadership(ctx, "") }()
			}
		case 6:
			one.disk.fail(nil, nil)
			if err := one.Stop(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			mu.Lock()
			start(one)
			mu.Unlock()
		default:
			m.net.heal()
			m.net.slow(0)
			for _, one := range m.all {
				one.disk.fail(nil, nil)
			}
		}
		length := time.Duration(random.IntN(1500)) * time.Millisecond
		begun := time.Now()
		m.until("time passes", time.Minute, func() bool { return time.Since(begun) >= length })
	}
	m.net.heal()
	m.net.slow(0)
	for _, one := range m.all {
		one.disk.fail(nil, nil)
	}
	m.leader()
	time.Sleep(5 * time.Second)
	cancel()
	clients.Wait()
	m.until("every server has what was acknowledged", time.Minute, func() bool {
		for _, one := range m.all {
			for _, number := range acknowledged {
				if !ledgers[one].has(number) {
					return false
				}
			}
		}
		return true
	})
	if stale > 0 {
		t.Errorf("seed %d: %d reads from the past", seed, stale)
	}
	t.Logf("seed %d: %d servers, %d of %d writes acknowledged", seed, len(ids), len(acknowledged), next)
	m.stop()
}
