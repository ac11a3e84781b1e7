package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// verifier lets callers of Verify share rounds of asking the quorum.
type verifier struct {
	ask func() error // asks once, and returns one of our errors

	mu      sync.Mutex
	running bool
	next    *round // the round that has not begun yet, if anybody waits for it
}

// round is one question to the quorum.
type round struct {
	done chan struct{}
	err  error // set before done is closed
}

// Verify confirms with a quorum that this server still leads, after the call
// began: what was committed before can be read here when it returns nil. Those
// who call while a round is under way share the next one. Its errors are
// ErrNotLeader, ErrNotReady, ErrTimeout (after VerifyTimeout, or when ctx ends)
// and ErrStopped.
func (n *Node) Verify(ctx context.Context) error {
	if n.isStopping() {
		return ErrStopped
	}
	if !n.reigns() {
		if !n.stores.serves() {
			return n.because(ErrNotLeader)
		}
		if n.raft.State() == raft.Leader {
			return ErrNotReady
		}
		return ErrNotLeader
	}
	r := n.joinRound()
	timer := time.NewTimer(VerifyTimeout)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.err
	case <-timer.C:
		return n.because(fmt.Errorf("%w (waited %v)", ErrTimeout, VerifyTimeout))
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrTimeout, context.Cause(ctx))
	case <-n.abandoned:
		select {
		case <-r.done: // it came at the same moment
			return r.err
		default:
			return ErrStopped
		}
	}
}

// joinRound returns a round that has not begun yet, and sees to it that it will.
func (n *Node) joinRound() *round {
	v := &n.verifier
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil {
		v.next = &round{done: make(chan struct{})}
	}
	r := v.next
	if v.running {
		return r
	}
	if !n.begin() {
		v.next = nil
		r.err = ErrStopped
		close(r.done)
		return r
	}
	v.running = true
	go func() {
		defer n.calls.Done()
		n.runRounds()
	}()
	return r
}

// runRounds asks the quorum until nobody waits.
func (n *Node) runRounds() {
	v := &n.verifier
	for {
		v.mu.Lock()
		r := v.next
		v.next = nil
		v.running = r != nil
		v.mu.Unlock()
		if r == nil {
			return
		}
		r.err = v.ask()
		close(r.done)
	}
}

// askQuorum confirms leadership once. Unlike those of a command, its errors are
// certain: it changes nothing.
func (n *Node) askQuorum() error {
	err := n.raft.VerifyLeader().Error()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrStopped
	}
	return ErrNotLeader
}
