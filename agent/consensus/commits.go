package consensus

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// commits tells the followers of a leader how far the log is committed.
//
// A follower learns that with the next call that the leader makes to it, so nothing
// has to be said while entries flow. After the last one Raft says it when its
// CommitTimeout is over, again and again whether there is news or not; until then
// who waits for a change at a follower, or reads there what was just written, waits.
// So the leader says it as soon as a follower has all that it was sent, in a call as
// Raft makes it: one without entries, after an entry that the follower has.
type commits struct {
	transport *transport
	wake      chan struct{} // holds one when a follower has answered

	mu       sync.Mutex
	term     uint64 // in which the followers were sent what stands here
	followed map[raft.ServerID]*followed
	answered time.Duration // when the last one answered, on the clock of the node
}

// followed is what a leader knows of one follower in its term.
type followed struct {
	target  raft.ServerAddress
	sent    uint64        // the last entry that it was sent
	match   uint64        // the last entry that it is known to have
	told    uint64        // up to where it was told that the log is committed
	asked   time.Duration // when commits last called it
	calling bool          // it does now
}

func newCommits(t *transport) *commits {
	return &commits{transport: t, wake: make(chan struct{}, 1), followed: make(map[raft.ServerID]*followed)}
}

// of returns what is known of a follower in a term, or nil if there is a newer one.
// c.mu is held.
func (c *commits) of(id raft.ServerID, term uint64) *followed {
	if term < c.term {
		return nil
	}
	if term > c.term {
		c.term = term
		clear(c.followed)
	}
	f := c.followed[id]
	if f == nil {
		f = &followed{asked: never}
		c.followed[id] = f
		c.stir()
	}
	return f
}

// sends notes a call to a follower.
func (c *commits) sends(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.of(id, request.Term)
	if f == nil {
		return
	}
	last := request.PrevLogEntry + uint64(len(request.Entries))
	f.target = target
	f.sent = max(f.sent, last)
	f.told = max(f.told, min(request.LeaderCommitIndex, last))
}

// has notes that a follower has all that it was sent with a call.
func (c *commits) has(id raft.ServerID, request *raft.AppendEntriesRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.of(id, request.Term)
	if f == nil {
		return
	}
	f.match = max(f.match, request.PrevLogEntry+uint64(len(request.Entries)))
	c.answered = c.transport.clock()
	c.stir()
}

// run tells followers what is committed until stopping is closed. The channel that
// changes returns is closed when more may be.
func (c *commits) run(changes func() <-chan struct{}, stopping <-chan struct{}) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		var changed <-chan struct{}
		if c.leads() {
			changed = changes()
		}
		if wait := c.tell(); wait > 0 {
			again.Reset(wait)
		}
		select {
		case <-changed:
		case <-c.wake:
		case <-again.C:
		case <-stopping:
			return
		}
	}
}

// leads reports whether this server leads others.
func (c *commits) leads() bool {
	if c.transport.raft.State() != raft.Leader {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.followed) > 0
}

// stir wakes run.
func (c *commits) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// tell tells those followers what is committed that do not know it, and to which
// nothing is on its way. It returns after which time to look again; zero is when
// there is news.
func (c *commits) tell() (again time.Duration) {
	if !c.leads() {
		return 0
	}
	r := c.transport.raft
	term, committed := r.CurrentTerm(), r.CommitIndex()
	now := c.transport.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if term != c.term {
		return 0
	}
	for id, f := range c.followed {
		if f.match > committed && now-c.answered < commitLooks*commitLook {
			again = commitLook // Raft has yet to count the last answers
		}
		index := min(committed, f.match)
		if index <= f.told || f.sent > f.match || f.calling {
			continue
		}
		if wait := f.asked + commitPause - now; f.asked != never && wait > 0 {
			again = max(again, wait)
			continue
		}
		f.asked, f.calling = now, true
		go c.call(id, f.target, f, term, index)
	}
	return again
}

// call tells a follower that the log is committed up to an index that it has. If
// that fails, Raft says so later.
func (c *commits) call(id raft.ServerID, target raft.ServerAddress, f *followed, term, index uint64) {
	t := c.transport
	var entry raft.Log
	err := t.stores.log.GetLog(index, &entry)
	// Who leads a term at one moment after it was committed may always say so.
	if err == nil && t.stores.halted() == nil && t.raft.State() == raft.Leader && t.raft.CurrentTerm() == term {
		_ = t.once(id, target, &raft.AppendEntriesRequest{
			RPCHeader: t.header(), Term: term,
			PrevLogEntry: index, PrevLogTerm: entry.Term, LeaderCommitIndex: index,
		}, new(raft.AppendEntriesResponse))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.calling = false
	f.told = max(f.told, index)
	c.stir()
}
