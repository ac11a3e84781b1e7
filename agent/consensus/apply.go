package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Apply puts a command into the log and returns what the state machine made of
// it, once a quorum has it and it is applied here. Data must not be changed
// afterwards: Raft keeps it.
//
// Only the leader can apply. A command larger than MaxCommandBytes is
// ErrTooLarge, one that finds no place in flight within QueueTimeout is ErrBusy,
// and one for which the disk has too little space is ErrFull. If the answer does
// not come within ApplyTimeout, or ctx ends first, the error is ErrTimeout: the
// command may still take effect, as with every error that is ErrUncertain. An
// error of a disk that fails or hangs is also a [Fault].
func (n *Node) Apply(ctx context.Context, data []byte) (any, error) {
	if len(data) > MaxCommandBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, %d are possible", ErrTooLarge, len(data), MaxCommandBytes)
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if n.isStopping() {
		return nil, ErrStopped
	}
	if n.raft.State() != raft.Leader || !n.stores.serves() {
		return nil, n.because(ErrNotLeader)
	}
	if err := n.gate.enter(ctx, len(data), n.stopping); err != nil {
		return nil, err
	}
	var response any
	err := n.await(ctx, ApplyTimeout, func() error {
		defer n.gate.leave(len(data))
		if err := n.stores.room.admit(len(data), n.gate.inside()); err != nil {
			return err
		}
		future := n.raft.Apply(data, QueueTimeout)
		err, known := outcome(future.Error())
		if !known { // the log store's
			if fault := n.Fault(); fault != nil {
				err = fault
			}
			err = fmt.Errorf("%w: %w", ErrStore, err)
		}
		if err == nil {
			response = future.Response()
		}
		return err
	})
	if err != nil {
		return nil, n.because(err)
	}
	return response, nil
}

// await runs a call into Raft in a goroutine of its own, because Raft's futures
// know neither contexts nor time limits. What call writes may be read only if
// await returns nil. A limit of zero is none. On a node that is stopping, call
// is not made.
func (n *Node) await(ctx context.Context, limit time.Duration, call func() error) error {
	done := make(chan error, 1)
	if !n.begin() {
		return ErrStopped
	}
	go func() {
		defer n.calls.Done()
		done <- call()
	}()
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case err := <-done:
		return err
	case <-late:
		return n.because(fmt.Errorf("%w (waited %v)", ErrTimeout, limit))
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrTimeout, context.Cause(ctx))
	case <-n.abandoned:
		select {
		case err := <-done: // it came at the same moment
			return err
		default:
			return fmt.Errorf("%w: %w", ErrStopped, ErrUncertain)
		}
	}
}
