package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRoundsAreShared has many ask at once, again and again: each gets an answer
// to a question that was put after he asked, and few questions are put.
func TestRoundsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock, asked atomic.Int64
		r := &rounds[int64]{ask: func(context.Context) (int64, error) {
			asked.Add(1)
			now := clock.Add(1)
			time.Sleep(100 * time.Microsecond) // of the test's own time
			return now, nil
		}}
		const who, times = 20, 50
		var group sync.WaitGroup
		for range who {
			group.Go(func() {
				for range times {
					before := clock.Add(1)
					got, err := r.join(t.Context())
					if err != nil || got <= before {
						t.Errorf("an answer of %d to a question of %d, %v", got, before, err)
					}
					time.Sleep(10 * time.Microsecond)
				}
			})
		}
		group.Wait()
		// The first of all is alone; those who come meanwhile are together ever after.
		if n := asked.Load(); n > times+3 {
			t.Errorf("%d questions were put for %d who asked %d times", n, who, times)
		}
	})
}

// TestRoundOfOne asks one after the other, and waits for nobody.
func TestRoundOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		mine := context.WithValue(t.Context(), key{}, true)
		r := &rounds[bool]{ask: func(ctx context.Context) (bool, error) {
			time.Sleep(100 * time.Microsecond)
			return ctx.Value(key{}) != nil, nil
		}}
		began := time.Now()
		for range 10 {
			if own, err := r.join(mine); err != nil || !own {
				t.Errorf("who is alone did not ask himself: %t, %v", own, err)
			}
		}
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("ten questions of 100 us each took %v", took)
		}
		if r.busy() {
			t.Error("somebody asks still")
		}
	})
}

// TestRoundOutlivesWhoBeganIt ends the one who asks while others wait: they get
// their answer, and his error is his alone.
func TestRoundOutlivesWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rounds[int]{ask: func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Millisecond):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := r.join(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who went: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			group.Go(func() {
				if n, err := r.join(t.Context()); n != 7 || err != nil {
					t.Errorf("one who stayed: %d, %v", n, err)
				}
			})
		}
		gone, goes := context.WithCancel(t.Context())
		group.Go(func() {
			if _, err := r.join(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("another one who went: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		goes()
		group.Wait()
		synctest.Wait()
		if r.busy() {
			t.Error("somebody asks still")
		}
	})
}

// TestRoundsWaitForFew bounds how long and for how many a question waits.
func TestRoundsWaitForFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rounds[int]{ask: func(context.Context) (int, error) { return 0, nil }}
		for _, c := range []struct {
			expected, come int
			want           time.Duration
		}{{5, 1, roundGather}, {5, 5, 0}, {1000, roundEnough, 0}, {1000, roundEnough - 1, roundGather}} {
			r.expected, r.ended = c.expected, time.Now()
			began := time.Now()
			var group sync.WaitGroup
			for range c.come {
				group.Go(func() {
					if _, err := r.join(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if took := time.Since(began); took != c.want {
				t.Errorf("%d of %d waited %v, want %v", c.come, c.expected, took, c.want)
			}
			synctest.Wait()
		}
	})
}
