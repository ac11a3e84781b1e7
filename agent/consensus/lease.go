package consensus

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is what a leader knows of another server.
type Progress struct {
	// Voter says whether it votes.
	Voter bool
	// LastContact is the time since a call was sent that it has answered. It is
	// negative if it has answered none in this term.
	LastContact time.Duration
	// Match is the last entry that it is known to have in this term, or zero.
	Match uint64
	// Fresh says that it has no memory of what it was before, and waits to be
	// admitted. While it is a voter of the configuration, nothing that it
	// answers counts.
	Fresh bool
}

// lease is the time for which a leader may answer reads from its own state.
//
// A follower that has answered a heartbeat grants no vote for the election
// timeout after it came in. So a leader whose heartbeats a quorum has answered
// knows that there is no other for that long after they were sent. All times
// are read from the monotonic clock, which goes on while the process is
// stopped, and count from one moment.
type lease struct {
	clock   func() time.Duration // since the node was opened
	lasts   time.Duration
	self    string
	members func() []Peer

	// until is when the lease ends, forever for a lone voter, and zero if there
	// is none.
	until atomic.Int64

	mu        sync.Mutex
	term      uint64 // the term in which peers have answered
	peers     map[string]*answered
	suspended uint64 // the term in which the lease is given up for a hand-over
	// renewed is called without the lock, when a lease begins that had run out.
	renewed func()
}

// answered is what a server has answered in the term.
type answered struct {
	heartbeat time.Duration // when the newest heartbeat was sent that it answered
	any       time.Duration // when the newest call was sent that it answered
	match     uint64
	fresh     bool
}

const never = time.Duration(-1)

// holds reports whether the lease holds now.
func (l *lease) holds() bool {
	until := l.until.Load()
	return until == math.MaxInt64 || until > 0 && int64(l.clock()) < until
}

// left is for how long the lease lasts if nobody answers again.
func (l *lease) left() time.Duration {
	until := l.until.Load()
	if until == math.MaxInt64 {
		return l.lasts
	}
	return max(0, time.Duration(until)-l.clock())
}

// silence is for how long the lease has not held, and what it had lasted by
// then: the time since a quorum was heard of. It is zero while it holds.
func (l *lease) silence() time.Duration {
	until := l.until.Load()
	if l.holds() || until <= 0 {
		return 0
	}
	return l.clock() - time.Duration(until) + l.lasts
}

// inTerm returns what a server has answered in a term, or nil for a term that
// is over. The caller holds the lock.
func (l *lease) inTerm(term uint64, id string) *answered {
	if term < l.term {
		return nil
	}
	if term > l.term {
		l.term, l.peers = term, make(map[string]*answered)
		l.until.Store(0)
	}
	peer := l.peers[id]
	if peer == nil {
		peer = &answered{heartbeat: never, any: never}
		l.peers[id] = peer
	}
	return peer
}

// heard notes that a server has answered a call of a term that was sent at a
// moment.
func (l *lease) heard(term uint64, id string, sent time.Duration, heartbeat bool) {
	l.note(term, id, func(peer *answered) {
		peer.any = max(peer.any, sent)
		peer.fresh = false
		if heartbeat {
			peer.heartbeat = max(peer.heartbeat, sent)
		}
	})
}

// matched notes that a server has the entries up to an index.
func (l *lease) matched(term uint64, id string, sent time.Duration, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if peer := l.inTerm(term, id); peer != nil {
		peer.any, peer.match = max(peer.any, sent), max(peer.match, index)
	}
}

// forgetful notes that a server says that it is fresh.
func (l *lease) forgetful(term uint64, id string, sent time.Duration) {
	l.note(term, id, func(peer *answered) {
		peer.any, peer.fresh, peer.heartbeat = max(peer.any, sent), true, never
	})
}

func (l *lease) note(term uint64, id string, change func(*answered)) {
	l.mu.Lock()
	peer := l.inTerm(term, id)
	began := false
	if peer != nil {
		change(peer)
		began = l.judge()
	}
	renewed := l.renewed
	l.mu.Unlock()
	if began && renewed != nil {
		renewed()
	}
}

// look computes the lease anew, when the configuration or the term may have
// changed.
func (l *lease) look(term uint64) {
	l.mu.Lock()
	l.inTerm(term, l.self)
	began := l.judge()
	renewed := l.renewed
	l.mu.Unlock()
	if began && renewed != nil {
		renewed()
	}
}

// judge computes when the lease ends, and reports whether it had run out and
// holds now. The caller holds the lock.
func (l *lease) judge() (began bool) {
	held := l.holds()
	l.until.Store(int64(l.end()))
	return !held && l.holds()
}

// end is when the lease ends. The caller holds the lock.
func (l *lease) end() time.Duration {
	if l.suspended == l.term {
		return 0
	}
	var sent []time.Duration
	voter := false
	for _, member := range l.members() {
		switch peer := l.peers[member.ID]; {
		case !member.Voter:
		case member.ID == l.self:
			voter = true
			sent = append(sent, math.MaxInt64)
		case peer == nil:
			sent = append(sent, never)
		default:
			sent = append(sent, peer.heartbeat)
		}
	}
	if !voter {
		return 0
	}
	slices.Sort(sent)
	// The newest moment at which a majority was still to answer.
	oldest := sent[(len(sent)-1)/2]
	switch oldest {
	case never:
		return 0
	case math.MaxInt64:
		return math.MaxInt64
	}
	return oldest + l.lasts
}

// suspend gives the lease up in a term.
func (l *lease) suspend(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inTerm(term, l.self)
	l.suspended = term
	l.judge()
}

// resume takes the lease up again. Only what is sent from now on counts: a
// server that was to take over may have forgotten what it answered before.
func (l *lease) resume(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspended != term || l.term != term {
		return
	}
	l.suspended = 0
	for id, peer := range l.peers {
		if id != l.self {
			peer.heartbeat = never
		}
	}
	l.judge()
}

// progress returns what was answered in a term.
func (l *lease) progress(term uint64) map[string]Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	known := make(map[string]Progress)
	for _, member := range l.members() {
		if member.ID == l.self {
			continue
		}
		p := Progress{Voter: member.Voter, LastContact: never}
		if peer := l.peers[member.ID]; peer != nil && l.term == term {
			p.Match, p.Fresh = peer.match, peer.fresh
			if peer.any != never {
				p.LastContact = now - peer.any
			}
		}
		known[member.ID] = p
	}
	return known
}
