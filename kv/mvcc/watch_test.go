package mvcc_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// TestWait wakes each of many channels in turn, and ends the wait by context and
// by timer, for every number of channels that is handled in its own way.
func TestWait(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100} {
		for wake := -2; wake < n; wake++ {
			name := fmt.Sprintf("%d channels, number %d closes", n, wake)
			switch wake {
			case -2:
				name = fmt.Sprintf("%d channels, the timer passes", n)
			case -1:
				name = fmt.Sprintf("%d channels, the context ends", n)
			}
			synctest.Test(t, func(t *testing.T) {
				var w mvcc.Watch
				chans := make([]chan struct{}, n)
				for i := range chans {
					chans[i] = make(chan struct{})
					w.Add(chans[i])
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				timer := time.NewTimer(time.Minute)
				defer timer.Stop()
				woken := make(chan bool, 1)
				began := time.Now()
				go func() { woken <- w.Wait(ctx, timer.C) }()
				synctest.Wait()
				select {
				case <-woken:
					t.Fatalf("%s: the wait ended before anything happened", name)
				default:
				}
				switch wake {
				case -2:
				case -1:
					cancel()
				default:
					close(chans[wake])
				}
				if got := <-woken; got != (wake >= 0) {
					t.Errorf("%s: Wait says %v", name, got)
				}
				if slept := time.Since(began); (wake == -2) != (slept == time.Minute) {
					t.Errorf("%s: the wait took %v", name, slept)
				}
			})
		}
	}
}

func TestNilWatch(t *testing.T) {
	var w *mvcc.Watch
	w.Add(make(chan struct{}))
	w.Reset()
	if w.Len() != 0 {
		t.Errorf("a nil Watch holds %d channels", w.Len())
	}
	timer := make(chan time.Time, 1)
	timer <- time.Time{}
	if w.Wait(context.Background(), timer) {
		t.Error("a nil Watch woke")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if w.Wait(ctx, nil) {
		t.Error("a nil Watch woke")
	}
	if r, ok := mapOf("a").Get("a", w); !ok || r.key != "a" {
		t.Errorf("a read with a nil Watch found %+v, %v", r, ok)
	}
}

func TestWatchIsUsedAgain(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	var w mvcc.Watch
	w.Add(nil)
	if w.Len() != 0 {
		t.Errorf("a nil channel was put under watch")
	}
	w.Add(closed)
	if w.Len() != 1 || !w.Fired() {
		t.Errorf("a watch of %d channels does not see that one is closed", w.Len())
	}
	w.Reset()
	if w.Len() != 0 || w.Fired() {
		t.Error("a watch still sees what it held before Reset")
	}
	w.Add(make(chan struct{}))
	if w.Fired() {
		t.Error("a watch of an open channel woke")
	}
}
