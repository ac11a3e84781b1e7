package consensus

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// AddVoter adds a server to the configuration, or gives it its vote. Only the
// leader can; the errors are those of Apply.
func (n *Node) AddVoter(ctx context.Context, id string) error {
	err := n.await(ctx, ApplyTimeout, func() error {
		return outcome(n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, QueueTimeout).Error())
	})
	if err != nil {
		return fmt.Errorf("cannot add server %q: %w", id, err)
	}
	return nil
}

// RemoveServer takes a server out of the configuration; one that is not in it
// stays out. Only the leader can; the errors are those of Apply.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	err := n.await(ctx, ApplyTimeout, func() error {
		return outcome(n.raft.RemoveServer(raft.ServerID(id), 0, QueueTimeout).Error())
	})
	if err != nil {
		return fmt.Errorf("cannot remove server %q: %w", id, err)
	}
	return nil
}
