package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// leadership is what a node knows of leading, apart from Raft itself.
type leadership struct {
	// readyTerm is the term whose first barrier was applied here, or zero.
	readyTerm atomic.Uint64

	mu      sync.Mutex
	reign   *reign        // the one under way, once its barrier is applied
	changed chan struct{} // closed, and made anew, when anything changes
}

// reign is a span of time in which this server leads.
type reign struct {
	ctx context.Context
	end context.CancelFunc
}

// Leading reports whether this server leads and has applied the first barrier
// of its term, so that its state holds all that was ever committed, and no other
// server can have committed more: its lease holds. While its disk fails or hangs
// it does not lead.
func (n *Node) Leading() bool { return n.reigns() && n.lease.holds() }

// reigns is Leading whether the lease holds or not.
func (n *Node) reigns() bool {
	// A server leads a term once at most, and terms only grow: if it leads
	// now, and the term is the one of the barrier afterwards, then it is this
	// term that it leads.
	term := n.leadership.readyTerm.Load()
	return term != 0 && n.stores.serves() && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
}

// Leader returns the ID of the leader, if one is known here. It is not this
// server while its disk hangs, or while its lease has run out.
func (n *Node) Leader() (id string, ok bool) {
	_, server := n.raft.LeaderWithID()
	if string(server) == n.cfg.ID && (n.stores.halted() != nil || !n.lease.holds()) {
		return "", false
	}
	return string(server), server != ""
}

// LastContact returns for how long nothing was heard of a leader: zero on the
// leader itself, for as long as its disk does not hang and its lease holds, and
// the time since Open if there never was one.
func (n *Node) LastContact() time.Duration {
	if n.raft.State() == raft.Leader {
		if hanging := n.stores.watch.hanging(); hanging != nil {
			return hanging.Age
		}
		return n.lease.silence()
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		last = n.opened
	}
	return time.Since(last)
}

// WaitLeader waits until this server is Leading, or another is known to lead.
// Its errors are ErrNoLeader, if ctx ends first, and ErrStopped. If it is the
// disk that keeps this server from leading, the error is also a [Fault].
func (n *Node) WaitLeader(ctx context.Context) error {
	for {
		_, changed := n.currentReign()
		if n.Leading() {
			return nil
		}
		if id, ok := n.Leader(); ok && id != n.cfg.ID {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n.because(fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx)))
		case <-n.stopping:
			return ErrStopped
		}
	}
}

// WhileLeader calls fn each time this server is Leading, with a context that
// ends with its leadership or with ctx, and waits for fn to return before it
// calls it again. If fn returns nil while leadership lasts, it is called again
// in the next one; if it returns an error while its context has not ended,
// WhileLeader returns that error. It returns nil when ctx ends, and ErrStopped
// when the node does.
func (n *Node) WhileLeader(ctx context.Context, fn func(ctx context.Context) error) error {
	var last *reign
	for ctx.Err() == nil {
		r, changed := n.currentReign()
		if r != nil && r != last {
			last = r
			if err := n.reignOver(ctx, r, fn); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-n.stopping:
			return ErrStopped
		}
	}
	return nil
}

// reignOver calls fn for one reign. The error is fn's, unless its context ended.
func (n *Node) reignOver(ctx context.Context, r *reign, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := context.AfterFunc(r.ctx, cancel)
	defer release()
	err := fn(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// currentReign returns the reign under way, or nil, and a channel that is
// closed when that may have changed.
func (n *Node) currentReign() (*reign, <-chan struct{}) {
	n.leadership.mu.Lock()
	defer n.leadership.mu.Unlock()
	return n.leadership.reign, n.leadership.changed
}

// watchLeadership turns Raft's notices into reigns, until the node stops.
func (n *Node) watchLeadership(observed <-chan raft.Observation) {
	var r *reign
	for {
		select {
		case leads := <-n.raft.LeaderCh():
			// Raft drops all notices but the last: two that say "leads" in a
			// row mean that leadership was lost in between.
			n.endReign(r)
			r = nil
			if leads {
				r = n.beginReign()
			}
		case <-n.stores.watch.news:
			// A reign ends when the disk hangs, and a new one begins when it
			// serves again and Raft still leads. If both came to pass since
			// the last look, then one ends and another begins.
			n.endReign(r)
			r = nil
			if hanging := n.stores.halted(); hanging != nil {
				n.cfg.Logger.Error("this server does not lead while its disk hangs", "error", hanging)
			} else {
				n.cfg.Logger.Info("the disk serves again")
				if n.raft.State() == raft.Leader {
					r = n.beginReign()
				}
			}
		case <-observed:
			n.leadership.mu.Lock()
			n.announce()
			n.leadership.mu.Unlock()
		case <-n.stopping:
			n.endReign(r)
			return
		}
	}
}

// tellChange wakes those who wait for a leader.
func (n *Node) tellChange() {
	n.leadership.mu.Lock()
	defer n.leadership.mu.Unlock()
	n.announce()
}

// leaseLeft is for how long this leader's lease lasts, or zero.
func (n *Node) leaseLeft() time.Duration {
	if n.raft.State() != raft.Leader {
		return 0
	}
	return n.lease.left()
}

// FollowerProgress returns what this leader knows of the other servers of its
// configuration, by their IDs. On other servers it is nil.
func (n *Node) FollowerProgress() map[string]Progress {
	term := n.raft.CurrentTerm()
	if n.raft.State() != raft.Leader {
		return nil
	}
	return n.lease.progress(term)
}

// beginReign starts to catch up with what earlier leaders committed, and
// returns the reign that is made known after that.
func (n *Node) beginReign() *reign {
	r := &reign{}
	r.ctx, r.end = context.WithCancel(context.Background())
	if n.begin() {
		go func() {
			defer n.calls.Done()
			n.catchUp(r)
		}()
	}
	return r
}

// catchUp puts a barrier through the log and makes the reign known.
func (n *Node) catchUp(r *reign) {
	for r.ctx.Err() == nil {
		term := n.raft.CurrentTerm()
		if n.raft.State() != raft.Leader {
			return // the notice is on its way
		}
		n.lease.look(term) // a lone voter needs no answers
		err := n.raft.Barrier(QueueTimeout).Error()
		switch {
		case err == nil && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term:
			n.makeKnown(r, term)
			return
		case err == nil, errors.Is(err, raft.ErrEnqueueTimeout):
			continue
		case errors.Is(err, raft.ErrLeadershipTransferInProgress):
			select {
			case <-time.After(barrierRetry):
			case <-r.ctx.Done():
			}
		default:
			n.cfg.Logger.Debug("the first barrier of the leader failed", "error", err)
			return
		}
	}
}

// makeKnown announces a reign, unless it has ended.
func (n *Node) makeKnown(r *reign, term uint64) {
	n.leadership.mu.Lock()
	defer n.leadership.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	n.leadership.readyTerm.Store(term)
	n.leadership.reign = r
	n.announce()
}

// endReign ends a reign, if there is one, and the one that is known.
func (n *Node) endReign(r *reign) {
	n.leadership.mu.Lock()
	defer n.leadership.mu.Unlock()
	for _, over := range []*reign{r, n.leadership.reign} {
		if over != nil {
			over.end()
		}
	}
	n.leadership.readyTerm.Store(0)
	n.leadership.reign = nil
	n.announce()
}

// announce wakes all who wait for a change. The caller holds the lock.
func (n *Node) announce() {
	close(n.leadership.changed)
	n.leadership.changed = make(chan struct{})
}
