package consensus

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// gate admits commands while fewer than a number of them, with fewer than a
// number of bytes, are inside. Those who wait are admitted in their order, so
// that small commands do not starve a large one.
type gate struct {
	maxCount, maxBytes int

	mu           sync.Mutex
	count, bytes int
	waiting      list.List // of *ticket
}

// ticket is one command that waits.
type ticket struct {
	bytes    int
	admitted chan struct{}
}

func newGate(maxCount, maxBytes int) *gate {
	return &gate{maxCount: maxCount, maxBytes: maxBytes}
}

// enter waits for a place, at most QueueTimeout and until ctx or stopping ends.
// Who entered must leave with the same size.
func (g *gate) enter(ctx context.Context, bytes int, stopping <-chan struct{}) error {
	g.mu.Lock()
	if g.waiting.Len() == 0 && g.fits(bytes) {
		g.admit(bytes)
		g.mu.Unlock()
		return nil
	}
	t := &ticket{bytes: bytes, admitted: make(chan struct{})}
	place := g.waiting.PushBack(t)
	g.mu.Unlock()

	timer := time.NewTimer(QueueTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-t.admitted:
		return nil
	case <-timer.C:
		err = fmt.Errorf("%w: no place among %d commands of %d bytes within %v", ErrBusy, g.maxCount, g.maxBytes, QueueTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-stopping:
		err = ErrStopped
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.admitted: // meanwhile: give it back
		g.count--
		g.bytes -= bytes
	default:
		g.waiting.Remove(place)
	}
	g.admitWaiting()
	return err
}

// leave gives a place back.
func (g *gate) leave(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count--
	g.bytes -= bytes
	g.admitWaiting()
}

// inside returns the bytes of all commands that are inside.
func (g *gate) inside() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}

func (g *gate) fits(bytes int) bool {
	return g.count < g.maxCount && g.bytes+bytes <= g.maxBytes
}

func (g *gate) admit(bytes int) {
	g.count++
	g.bytes += bytes
}

func (g *gate) admitWaiting() {
	for place := g.waiting.Front(); place != nil; place = g.waiting.Front() {
		t := place.Value.(*ticket)
		if !g.fits(t.bytes) {
			return
		}
		g.admit(t.bytes)
		g.waiting.Remove(place)
		close(t.admitted)
	}
}
