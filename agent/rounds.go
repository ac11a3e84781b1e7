package agent

import (
	"context"
	"sync"
)

// rounds lets all who ask the same share one question. Who comes while one is
// under way shares the next, so an answer is never older than who asked for it.
// Set ask before use.
type rounds[T any] struct {
	ask func() (T, error)

	mu      sync.Mutex
	running bool
	next    *oneRound[T] // that has not begun yet, if anybody waits for it
}

// oneRound is one question.
type oneRound[T any] struct {
	done  chan struct{}
	value T
	err   error // both set before done is closed
}

// join waits for the answer to a question that was put after join was called.
func (r *rounds[T]) join(ctx context.Context) (T, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &oneRound[T]{done: make(chan struct{})}
	}
	mine := r.next
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

// run asks until nobody waits.
func (r *rounds[T]) run() {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.value, now.err = r.ask()
		close(now.done)
	}
}
