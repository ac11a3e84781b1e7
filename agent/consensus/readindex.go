package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// ReadIndex returns how far a server must have applied the log to read all that
// was committed before the call began. Only the leader knows, after the first
// barrier of its term. If verify is set, a quorum confirms that it leads, as
// with [Node.Verify]; else its lease is enough, and only while that does not
// hold, the quorum is asked all the same. The errors are those of Verify.
func (n *Node) ReadIndex(ctx context.Context, verify bool) (uint64, error) {
	if n.isStopping() {
		return 0, ErrStopped
	}
	// Whatever was acknowledged before the call is committed here by now, if
	// this server leads: that is checked after the look.
	index := n.raft.CommitIndex()
	if !verify && n.Leading() {
		return index, nil
	}
	if err := n.Verify(ctx); err != nil {
		return 0, err
	}
	return index, nil
}

// WaitCommitted waits until the state machine has applied all that was committed
// when it was called. A leader that answers from its own state has to: a follower
// may have applied an entry, and shown it to somebody, before the leader has.
// Its errors are those of [Node.WaitApplied].
func (n *Node) WaitCommitted(ctx context.Context) error {
	return n.WaitApplied(ctx, n.raft.CommitIndex())
}

// WaitApplied waits until the state machine has applied all entries up to an
// index. Its errors are ErrNotApplied, if ctx ends first, and ErrStopped.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	if n.hasApplied(index) {
		return nil
	}
	if ctx.Err() != nil {
		return notApplied(ctx, index)
	}
	// What the state machine is not given, such as a leader's first entry, is
	// applied without a notice.
	again := time.NewTicker(appliedLook)
	defer again.Stop()
	for {
		changed := n.applied.changes()
		if n.hasApplied(index) {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return notApplied(ctx, index)
		case <-n.stopping:
			return ErrStopped
		}
	}
}

func notApplied(ctx context.Context, index uint64) error {
	return fmt.Errorf("%w: entry %d is not applied here: %w", ErrNotApplied, index, context.Cause(ctx))
}

// hasApplied reports whether the state machine has applied all entries up to an
// index. Raft gives it commands and configurations alone, so what lies between
// its last one and the index is looked up.
func (n *Node) hasApplied(index uint64) bool {
	done := n.applied.index.Load()
	if done >= index {
		return true
	}
	if n.raft.AppliedIndex() < index { // given to the state machine
		return false
	}
	for at := done + 1; at <= index; at++ {
		var entry raft.Log
		if err := n.stores.log.GetLog(at, &entry); err != nil {
			return n.applied.index.Load() >= index
		}
		if entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration {
			return n.applied.index.Load() >= index
		}
	}
	n.applied.reach(index)
	return true
}
