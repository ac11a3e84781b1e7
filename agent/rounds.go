package agent

import (
	"context"
	"sync"
	"time"
)

// rounds lets all who ask the same share one question. Who comes while one is
// under way shares the next, so an answer is never older than who asked for it.
// Who was answered often asks again at once: the next question waits a moment for
// as many as took part in the last one, and nobody waits who is alone. Set ask
// before use.
type rounds[T any] struct {
	ask func(ctx context.Context) (T, error)

	mu      sync.Mutex
	running bool
	next    *oneRound[T] // that has not begun yet, if anybody waits for it
	// expected is how many took part in the last round, or waited when it ended.
	expected int
	ended    time.Time // when that was
}

// oneRound is one question.
type oneRound[T any] struct {
	done  chan struct{}
	value T
	err   error // both set before done is closed

	joined  int
	awaited int           // how many are waited for
	full    chan struct{} // closed when so many have joined, if they are waited for
}

// join waits for the answer to a question that was put after join was called.
func (r *rounds[T]) join(ctx context.Context) (T, error) {
	r.mu.Lock()
	if !r.running && !r.gathers() {
		// Whoever is alone asks himself.
		r.running = true
		r.mu.Unlock()
		defer r.alone()
		return r.ask(ctx)
	}
	if r.next == nil {
		r.next = &oneRound[T]{done: make(chan struct{})}
	}
	mine := r.next
	mine.joined++
	if mine.full != nil && mine.joined == mine.awaited {
		close(mine.full)
	}
	if !r.running {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.value, mine.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// gathers reports whether more than one is expected to ask; r.mu is held.
func (r *rounds[T]) gathers() bool {
	return r.expected > 1 && time.Since(r.ended) <= roundGather
}

// alone ends a question that one asked himself, and sees to it that those are
// answered who came meanwhile.
func (r *rounds[T]) alone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected, r.ended = 1, time.Now()
	if r.next == nil {
		r.running = false
		return
	}
	r.expected += r.next.joined
	go r.run()
}

// busy reports whether somebody asks, or waits.
func (r *rounds[T]) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// run asks until nobody waits.
func (r *rounds[T]) run() {
	for {
		r.gather()
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.value, now.err = r.ask(context.Background())
		r.mu.Lock()
		r.expected, r.ended = now.joined, time.Now()
		if r.next != nil {
			r.expected += r.next.joined
		}
		r.mu.Unlock()
		close(now.done)
	}
}

// gather waits a moment for those who are expected in the next round, if there is
// one.
func (r *rounds[T]) gather() {
	r.mu.Lock()
	next, expected := r.next, min(r.expected, roundEnough)
	if next == nil || next.joined >= expected || time.Since(r.ended) > roundGather {
		r.mu.Unlock()
		return
	}
	full := make(chan struct{})
	next.awaited, next.full = expected, full
	r.mu.Unlock()
	timer := time.NewTimer(roundGather)
	defer timer.Stop()
	select {
	case <-full:
	case <-timer.C:
	}
}
