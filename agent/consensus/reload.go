package consensus

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Tuning is what may change of a [Config] while the node runs. Zeros stand for
// defaults, as they do there.
//
// The multiplier is not part of it: the lease of a leader holds only if none of
// its followers waits for less than the leader was opened with.
type Tuning struct {
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64
}

// Tune takes over other settings, all or none. The interval counts from the next
// look whether a snapshot is due, the others from the next snapshot.
func (n *Node) Tune(t Tuning) error {
	cfg := n.cfg
	cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = t.SnapshotThreshold, t.SnapshotInterval, t.TrailingLogs
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := n.reload(func(c *raft.ReloadableConfig) {
		c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs = cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs
	}); err != nil {
		return fmt.Errorf("cannot change the settings of Raft: %w", err)
	}
	return nil
}

// Tuning returns the settings that are in effect.
func (n *Node) Tuning() Tuning {
	c := n.raft.ReloadableConfig()
	return Tuning{SnapshotThreshold: c.SnapshotThreshold, SnapshotInterval: c.SnapshotInterval, TrailingLogs: c.TrailingLogs}
}

// reload puts each of some changes into effect, one after the other, while
// nobody else changes anything.
func (n *Node) reload(changes ...func(*raft.ReloadableConfig)) error {
	n.tuning.Lock()
	defer n.tuning.Unlock()
	for _, change := range changes {
		c := n.raft.ReloadableConfig()
		change(&c)
		if err := n.raft.ReloadConfig(c); err != nil {
			return err
		}
	}
	return nil
}
