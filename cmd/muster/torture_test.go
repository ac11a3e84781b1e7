package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// torture is how long the agent is killed over and over; every test run has a
// short share of it.
var torture = flag.Duration("torture", 6*time.Second, "how long TestTorture kills agents")

const (
	// tortureWriters write at the same time, each to keys of its own.
	tortureWriters = 8
	// tortureLife is the longest time that an agent lives before it is killed.
	tortureLife = 800 * time.Millisecond
	// tortureShort is all there is of it in a short run of the tests.
	tortureShort = 2 * time.Second
)

// An agent that is killed in the middle of writes loses none that it answered:
// each key has the last value that was acknowledged, or a later one that was
// sent. The index never falls.
func TestTortureKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSettings(t, "")
	writers := make([]tortureWriter, tortureWriters)
	limit := *torture
	if testing.Short() {
		limit = min(limit, tortureShort)
	}
	deadline := time.Now().Add(limit)
	rounds, index := 0, uint64(0)
	for ; rounds < 2 || time.Now().Before(deadline); rounds++ {
		p := startServer(t, s)
		index = checkKeys(t, p, writers, index)
		if t.Failed() {
			return
		}
		writeUntilKilled(t, p, writers, time.Duration(random.Int64N(int64(tortureLife))))
	}
	p := startServer(t, s)
	checkKeys(t, p, writers, index)
	total := uint64(0)
	for i := range writers {
		total += writers[i].acknowledged
	}
	t.Logf("%d kills, %d acknowledged writes", rounds, total)
	if total == 0 {
		t.Error("no write was ever acknowledged, so this showed nothing")
	}
}

// tortureWriter counts up in one key.
type tortureWriter struct {
	sent         uint64 // the highest number that was ever sent
	acknowledged uint64 // the highest one that was answered with success
}

func tortureKey(writer int) string { return fmt.Sprintf("torture/%d", writer) }

// writeUntilKilled lets all writers write for a while and kills the agent among
// it.
func writeUntilKilled(t *testing.T, p *agentProcess, writers []tortureWriter, life time.Duration) {
	t.Helper()
	var killed atomic.Bool
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			w := &writers[i]
			for !killed.Load() {
				w.sent++
				pair := &api.KVPair{Key: tortureKey(i), Value: []byte(fmt.Sprint(w.sent))}
				_, err := p.client.KV().Put(pair, nil)
				if answered := (api.StatusError{}); errors.As(err, &answered) {
					t.Errorf("a write was refused: %v", err)
				}
				if err != nil {
					return // killed, so this one may have happened or not
				}
				w.acknowledged = w.sent
			}
		})
	}
	timer := time.NewTimer(life)
	<-timer.C
	killed.Store(true)
	p.signal(t, syscall.SIGKILL)
	group.Wait()
}

// checkKeys holds what the agent has against what the writers know, and returns
// its index, which must not be below the one before.
func checkKeys(t *testing.T, p *agentProcess, writers []tortureWriter, before uint64) (index uint64) {
	t.Helper()
	for i, w := range writers {
		pair, meta, err := p.client.KV().Get(tortureKey(i), &api.QueryOptions{RequireConsistent: true})
		if err != nil {
			t.Fatalf("%s: %v", tortureKey(i), err)
		}
		index = max(index, meta.LastIndex)
		var has uint64
		if pair != nil {
			if _, err := fmt.Sscan(string(pair.Value), &has); err != nil {
				t.Fatalf("%s holds %q: %v", tortureKey(i), pair.Value, err)
			}
		}
		if has < w.acknowledged || has > w.sent {
			t.Errorf("%s holds %d, but %d was acknowledged and %d was the last one sent", tortureKey(i), has, w.acknowledged, w.sent)
		}
	}
	if index < before {
		t.Errorf("the index fell from %d to %d", before, index)
	}
	return index
}
