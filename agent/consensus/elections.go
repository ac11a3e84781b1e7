package consensus

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// hurryElections makes a server that has lost its leader stand for election as
// soon as it may, until the node stops.
//
// Raft by itself looks at a follower's clock once in one to two timeouts, and a
// server that still knows a leader refuses to vote for another. So one that
// stands first is refused by those that have not looked yet, and waits for one
// to two timeouts more. Here each looks at the moment when the timeout is over,
// and stands again soon after it was refused.
func (n *Node) hurryElections() {
	timeout := n.cfg.timeout()
	spread := func(part time.Duration) time.Duration { return rand.N(part) }
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var lost time.Time // the last contact with the leader that was lost
	var term uint64    // when this server stood last
	tries := 0
	due := time.Duration(0) // after the end of the timeout
	for {
		select {
		case <-timer.C:
		case <-n.stopping:
			return
		}
		contact := n.raft.LastContact()
		if contact.Before(n.opened) {
			contact = n.opened
		}
		if !contact.Equal(lost) {
			lost, tries, due = contact, 0, spread(timeout/electionSpread)
		}
		if left := timeout + due - time.Since(contact); left > 0 {
			timer.Reset(left)
			continue
		}
		timer.Reset(timeout)
		now := n.raft.CurrentTerm()
		state := n.raft.State()
		switch {
		case state != raft.Follower && state != raft.Candidate, tries == electionTries, n.transport.mayStand(false) != nil:
			continue
		case tries > 0 && now != term: // an election is under way, or was
			tries = electionTries
			continue
		case !n.isVoter() || n.onlyVoter():
			continue
		}
		n.transport.forget(now)
		if err := n.hurry(); err != nil {
			n.cfg.Logger.Warn("cannot stand for election sooner", "error", err)
		}
		term = now
		tries++
		// Longer each time, so that an election is not cut off on a slow disk.
		pause := timeout / electionSpread * time.Duration(tries)
		due = time.Since(contact) - timeout + pause + spread(pause)
		timer.Reset(timeout + due - time.Since(contact))
	}
}
