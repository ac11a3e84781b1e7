package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// countingCaller answers each question with how many there were before.
type countingCaller struct {
	deafCaller
	asked *atomic.Uint64
}

func (c countingCaller) Query(ctx context.Context, _ string, _ *rpc.QueryRequest, each func(rpc.Reply) error) error {
	n := c.asked.Add(1)
	time.Sleep(100 * time.Microsecond) // of the test's own time
	if err := ctx.Err(); err != nil {
		return err
	}
	body, err := state.EncodeAnswer(&kv.Entry{Key: "k", ModifyIndex: n})
	if err != nil {
		return err
	}
	return each(rpc.Reply{Meta: mvcc.Meta{Index: n}, Body: body})
}

// TestClientAgentSharesQuestions has many clients of one agent read one key: they
// share the questions to the servers, and none gets an answer that is older than
// what it asked. Who asks something else, or waits for a change, shares nothing.
func TestClientAgentSharesQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := new(atomic.Uint64)
		r := &remote{calls: countingCaller{asked: asked}, hold: time.Second, router: newRouter("c", "dc1", twoServers{}, time.Now)}
		r.follow(&config.Config{RPCRate: -1})
		const who, times = 16, 20
		together := func(o func(i int) mvcc.ReadOptions, key func(i int) string) int {
			began := asked.Load()
			var group sync.WaitGroup
			for i := range who {
				group.Go(func() {
					for range times {
						before := asked.Load()
						value, meta, err := r.ask(t.Context(), o(i), &kv.Get{Key: key(i)})
						if err != nil || value.(*kv.Entry).ModifyIndex <= before || meta.Index != value.(*kv.Entry).ModifyIndex {
							t.Errorf("an answer of %v, %+v to a question of %d, %v", value, meta, before, err)
						}
					}
				})
			}
			group.Wait()
			synctest.Wait()
			return int(asked.Load() - began)
		}
		plain := func(int) mvcc.ReadOptions { return mvcc.ReadOptions{} }
		one := func(int) string { return "k" }
		own := func(i int) string { return fmt.Sprint("k", i) }
		if n := together(plain, one); n > times+3 {
			t.Errorf("%d who read one key %d times asked the servers %d times", who, times, n)
		}
		for name, n := range map[string]int{
			"other keys":         together(plain, own),
			"other consistency":  together(func(i int) mvcc.ReadOptions { return mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: time.Duration(i)} }, one),
			"waits for a change": together(func(int) mvcc.ReadOptions { return mvcc.ReadOptions{Index: 1, Wait: time.Second} }, one),
		} {
			if n != who*times {
				t.Errorf("%s: the servers were asked %d times, want %d", name, n, who*times)
			}
		}
	})
}

// TestSharedQuestionsAreBounded forgets questions that nobody puts.
func TestSharedQuestionsAreBounded(t *testing.T) {
	var s shared
	answer := func() question { return func(context.Context) (fetched, error) { return fetched{}, nil } }
	for i := range 3 * maxShared {
		r := s.of(mvcc.ReadOptions{}, []byte(fmt.Sprint(i)), answer)
		if r == nil {
			t.Fatalf("question %d is not shared, and nobody asks", i)
		}
		if _, err := r.join(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.rounds); n > maxShared {
		t.Errorf("%d questions are kept in mind, the limit is %d", n, maxShared)
	}
	for _, r := range s.rounds {
		r.running = true
	}
	if s.of(mvcc.ReadOptions{}, []byte("another"), answer) != nil {
		t.Error("a question is shared where all that may be are being put")
	}
	if s.of(mvcc.ReadOptions{}, make([]byte, maxMemoKey+1), answer) != nil {
		t.Error("a question is shared that is too long")
	}
}
