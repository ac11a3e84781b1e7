package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// AddVoter adds a server to the configuration, or gives it its vote. Only the
// leader can; the errors are those of Apply, or say why the configuration that
// would follow is not possible.
func (n *Node) AddVoter(ctx context.Context, id string) error {
	err := n.reconfigure(ctx, func() raft.Future {
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, QueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("cannot add server %q: %w", id, err)
	}
	return nil
}

// AddNonvoter adds a server to the configuration that follows and does not vote.
// One that votes goes on to do so. The errors are those of AddVoter.
func (n *Node) AddNonvoter(ctx context.Context, id string) error {
	err := n.reconfigure(ctx, func() raft.Future {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, QueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("cannot add server %q as a non-voter: %w", id, err)
	}
	return nil
}

// DemoteVoter takes a server's vote away; it goes on to follow. The errors are
// those of AddVoter.
func (n *Node) DemoteVoter(ctx context.Context, id string) error {
	err := n.reconfigure(ctx, func() raft.Future {
		return n.raft.DemoteVoter(raft.ServerID(id), 0, QueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("cannot take the vote of server %q: %w", id, err)
	}
	return nil
}

// RemoveServer takes a server out of the configuration; one that is not in it
// stays out. Only the leader can; the errors are those of AddVoter.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	err := n.reconfigure(ctx, func() raft.Future {
		return n.raft.RemoveServer(raft.ServerID(id), 0, QueueTimeout)
	})
	if err != nil {
		return fmt.Errorf("cannot remove server %q: %w", id, err)
	}
	return nil
}

// reconfigure changes the configuration and waits until that is committed.
func (n *Node) reconfigure(ctx context.Context, change func() raft.Future) error {
	return n.await(ctx, ApplyTimeout, func() error {
		if err := n.stores.room.admit(0, n.gate.inside()); err != nil {
			return err
		}
		changed := make(chan error, 1)
		go func() { changed <- change().Error() }()
		err, _ := outcome(n.pushed(changed))
		n.lease.look(n.raft.CurrentTerm()) // the quorum is another
		return err
	})
}

// pushed waits for a change, and puts something more into the log while that
// takes long. A new voter may have confirmed the entry of the change a moment
// before Raft counted it among the voters; it is not asked again, and its word
// would be missed until there is another entry.
func (n *Node) pushed(changed <-chan error) error {
	again := time.NewTicker(changePush)
	defer again.Stop()
	for {
		select {
		case err := <-changed:
			return err
		case <-again.C:
			if n.begin() {
				go func() {
					defer n.calls.Done()
					_ = n.raft.Barrier(QueueTimeout).Error()
				}()
			}
		}
	}
}

// ErrNoFollower says that there is no server that could lead instead of this
// one.
var ErrNoFollower = errors.New("no other server can take over")

// TransferLeadership hands leadership over to a server, or, if the ID is empty,
// to the voter that is best prepared. It returns when this server no longer
// leads; who was asked to is most likely to lead next. From the beginning of it
// this server does not count as leading. If it fails, this server goes on to
// lead, unless the other may still have been told.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.because(ErrNotLeader)
	}
	n.handingOver.Lock()
	defer n.handingOver.Unlock()
	targets := []string{id}
	if id == "" {
		targets = n.successors()
	}
	err := ErrNoFollower
	for _, target := range targets[:min(len(targets), handOverTries)] {
		if err = n.handOver(ctx, target); err == nil {
			return nil
		}
		if n.raft.State() != raft.Leader || ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("cannot hand leadership over: %w", err)
}

// successors returns the voters that could take over, the best first: those that
// have answered lately, by how much of the log they have.
func (n *Node) successors() []string {
	known := n.FollowerProgress()
	var ids []string
	for id, p := range known {
		if p.Voter && !p.Fresh && p.LastContact >= 0 && p.LastContact < n.cfg.timeout() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(-cmp.Compare(known[a].Match, known[b].Match), cmp.Compare(a, b))
	})
	return ids
}

// handOver hands leadership over to one server.
func (n *Node) handOver(ctx context.Context, id string) error {
	term := n.raft.CurrentTerm()
	// From the moment that it is told, the other may lead without this server's
	// knowledge: the election skips the check for a living leader.
	n.lease.suspend(term)
	err := n.await(ctx, ApplyTimeout, func() error {
		err := n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
		if err == nil {
			return nil
		}
		if n.transport.handedOver.Load() != term {
			n.lease.resume(term)
		} else if n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term {
			// It was told, and nobody knows when it will act on that. In another
			// term it is refused.
			n.transport.forget(term)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("to server %q: %w", id, err)
	}
	return nil
}
