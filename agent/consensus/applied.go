package consensus

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// applied is how far the state machine has come.
type applied struct {
	// index is the last entry that it has applied, or that its snapshot ends
	// with.
	index atomic.Uint64

	mu      sync.Mutex
	waited  bool          // whether anybody has asked for changed
	changed chan struct{} // closed, and made anew, when something was applied
}

// changes returns a channel that is closed when something was applied, or may
// soon be.
func (a *applied) changes() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	a.waited = true
	return a.changed
}

// reach notes that all up to an index is applied, unless more was known.
func (a *applied) reach(index uint64) {
	for {
		was := a.index.Load()
		if was >= index || a.index.CompareAndSwap(was, index) {
			return
		}
	}
}

// wake wakes all who wait for a change.
func (a *applied) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waited {
		close(a.changed)
		a.changed, a.waited = make(chan struct{}), false
	}
}

// watchedFSM notes how far the state machine has come, and remembers why a
// restore failed, which Raft only logs.
type watchedFSM struct {
	raft.BatchingFSM
	applied    *applied
	restoreErr error
}

// ApplyBatch hands entries to the state machine.
func (f *watchedFSM) ApplyBatch(logs []*raft.Log) []any {
	results := f.BatchingFSM.ApplyBatch(logs)
	if len(logs) > 0 {
		f.applied.index.Store(logs[len(logs)-1].Index)
		f.applied.wake()
	}
	return results
}

// Restore hands a snapshot to the state machine.
func (f *watchedFSM) Restore(source io.ReadCloser) error {
	f.restoreErr = f.BatchingFSM.Restore(source)
	if f.restoreErr != nil {
		return f.restoreErr
	}
	if index, ok := snapshotIndex(source); ok {
		f.applied.index.Store(index)
		f.applied.wake()
	}
	return nil
}

// indexedSource is an opened snapshot that knows the index it ends with.
type indexedSource struct {
	io.ReadCloser
	index uint64
}

// snapshotIndex finds the index of a snapshot under what Raft wraps around its
// source.
func snapshotIndex(source io.ReadCloser) (uint64, bool) {
	for {
		switch s := source.(type) {
		case *indexedSource:
			return s.index, true
		case raft.ReadCloserWrapper:
			source = s.WrappedReadCloser()
		default:
			return 0, false
		}
	}
}

// ErrNotApplied says that the state machine has not come as far as was waited
// for.
var ErrNotApplied = errors.New("this server has not caught up")
