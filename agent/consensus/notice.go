package consensus

import "time"

// Changed returns a channel that is closed when something may have changed about
// who leads.
func (n *Node) Changed() <-chan struct{} {
	_, changed := n.currentReign()
	return changed
}

// Silence is how long after it was last heard of a leader may be taken for lost:
// several heartbeats, and well before anybody stands for election.
func (n *Node) Silence() time.Duration { return n.cfg.timeout() / 2 }
