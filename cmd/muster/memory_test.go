package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 100}, {1 << 20, 100}, {64 << 20, 100}, {65 << 20, 90}, {80 << 20, 80}, {110 << 20, 50}, {128 << 20, 50},
		{160 << 20, 40}, {1 << 30, 40}, {1 << 45, 40},
	} {
		if got := paceOf(test.live); got != test.want {
			t.Errorf("a heap of %d MiB may grow by %d%%, want %d%%", test.live>>20, got, test.want)
		}
	}
}

// The collector follows the heap, as it grows and as it shrinks.
func TestCollectorFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(maxPace)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	paceCollector()
	held := make([]byte, 3*maxGarbage)
	follows(t, minPace)
	runtime.KeepAlive(held)
	held = nil
	follows(t, maxPace)
	runtime.KeepAlive(held)
}

// follows collects until the pace is the one wanted.
func follows(t *testing.T, want uint64) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("the heap may grow by %d%%", want), func(context.Context) error {
		runtime.GC()
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		if got := sample[0].Value.Uint64(); got != want {
			return fmt.Errorf("it is %d%%", got)
		}
		return nil
	})
}
