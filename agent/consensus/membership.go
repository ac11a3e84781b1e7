package consensus

import (
	"context"
	"fmt"

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
		err, _ := outcome(change().Error())
		return err
	})
}
