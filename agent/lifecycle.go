package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// undo is a stack of what has to be undone, each with a name. [New] pushes what
// it acquires; a failed New and [Agent.Run] pop it, newest first.
type undo struct {
	steps []undoStep
}

type undoStep struct {
	name string
	fn   func() error
}

func (u *undo) push(name string, fn func() error) {
	u.steps = append(u.steps, undoStep{name, fn})
}

// run undoes everything, newest first, and gives up waiting after the limit. It
// leaves the stack empty, so a second run does nothing. All errors are joined.
func (u *undo) run(limit time.Duration) error {
	steps := u.steps
	u.steps = nil
	done := make(chan error, 1)
	var mu sync.Mutex
	under := ""
	go func() {
		var errs []error
		for i := len(steps) - 1; i >= 0; i-- {
			mu.Lock()
			under = steps[i].name
			mu.Unlock()
			if err := steps[i].fn(); err != nil {
				errs = append(errs, fmt.Errorf("cannot stop the %s: %w", steps[i].name, err))
			}
		}
		done <- errors.Join(errs...)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		mu.Lock()
		defer mu.Unlock()
		return fmt.Errorf("the %s did not stop within %s", under, limit)
	}
}

// group runs parts of the agent side by side on one context. The first part to
// end, for whatever reason, ends the context; wait returns when all have.
type group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	under  map[string]int // parts that run, by name
	err    error
}

func newGroup(ctx context.Context) *group {
	g := &group{under: map[string]int{}}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// start runs a part. The error of one that ended because it was told to is not
// an error.
func (g *group) start(name string, run func(ctx context.Context) error) {
	g.mu.Lock()
	g.under[name]++
	g.mu.Unlock()
	g.wg.Go(func() {
		defer g.cancel()
		err := run(g.ctx)
		g.ended(name, g.ctx.Err() != nil, err)
	})
}

// ended takes note of the end of a part.
func (g *group) ended(name string, told bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.under[name]--; g.under[name] == 0 {
		delete(g.under, name)
	}
	if err != nil && !told {
		g.err = errors.Join(g.err, fmt.Errorf("the %s failed: %w", name, err))
	}
}

// wait waits for the context to end, and then for the parts, but not longer
// than the limit: its error names those that have not ended by then.
func (g *group) wait(limit time.Duration) error {
	<-g.ctx.Done()
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.err
	for _, name := range slices.Sorted(maps.Keys(g.under)) {
		err = errors.Join(err, fmt.Errorf("the %s did not stop within %s", name, limit))
	}
	return err
}

// depart says goodbye: leadership is handed over, the pool is left, and a server
// waits until the others have taken it out of Raft.
func (a *Agent) depart(ctx context.Context) {
	log := a.logger
	goodbye, cancel := context.WithTimeout(ctx, departLimit)
	defer cancel()
	several := false
	if a.node != nil {
		several = len(a.node.Peers()) > 1
		if several && a.node.Leading() {
			limited, end := context.WithTimeout(goodbye, handoverLimit)
			if err := a.node.TransferLeadership(limited, ""); err != nil {
				log.Warn("could not hand leadership over", "error", err)
				// Who leads alone of several can at least take itself out.
				if err := a.node.RemoveServer(goodbye, a.id); err != nil {
					log.Warn("could not take this server out of Raft", "error", err)
				}
			}
			end()
		}
	}
	if err := a.pool.Leave(goodbye); err != nil {
		log.Warn("could not tell the others that this agent leaves", "error", err)
		if !a.pool.HeardLately() {
			// Nobody hears it, so nobody will take this server out either.
			return
		}
		// Agents of older versions take a leave over without a word.
	}
	if several {
		limited, cancel := context.WithTimeout(ctx, leaveLimit)
		defer cancel()
		a.awaitRemoval(limited)
	}
}

// awaitRemoval waits until this server is no part of Raft any more, as far as it
// can learn of it.
func (a *Agent) awaitRemoval(ctx context.Context) {
	look := time.NewTicker(retryPause)
	defer look.Stop()
	for {
		in := false
		for _, p := range a.node.Peers() {
			in = in || p.ID == a.id
		}
		if !in {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}
