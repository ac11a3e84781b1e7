package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// maxGarbage is how many bytes of garbage a large heap may gather before it
	// is collected. A heap smaller than that may double, as is Go's default.
	maxGarbage = 64 << 20
	// minPace and maxPace bound in percent how much the heap may grow from one
	// collection to the next, and paceStep is the least difference that is worth
	// stopping the process for a moment.
	minPace  = 40
	maxPace  = 100
	paceStep = 10

	liveHeap = "/gc/heap/live:bytes"
)

// paceCollector has the heap collected sooner the larger it is: all that the
// state holds would else be held again as garbage. Who sets GOGC is let have it.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	afterCollections(func() { setPace(paceOf(heapSize())) })
}

// afterCollections calls f after each collection from now on.
func afterCollections(f func()) {
	sentinel := new(*struct{})
	runtime.AddCleanup(sentinel, func(struct{}) {
		f()
		afterCollections(f)
	}, struct{}{})
}

// heapSize is how many bytes the last collection found in use.
func heapSize() uint64 {
	sample := []metrics.Sample{{Name: liveHeap}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// paceOf is by how many percent a heap of so many bytes may grow.
func paceOf(live uint64) int {
	if live <= maxGarbage {
		return maxPace
	}
	pace := int(maxGarbage * 100 / live)
	return max(minPace, pace-pace%paceStep)
}

// pace is what was set last. It belongs to the goroutine of cleanups.
var pace = maxPace

func setPace(percent int) {
	if percent != pace {
		pace = percent
		debug.SetGCPercent(percent)
	}
}
