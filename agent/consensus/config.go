package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Stream connects servers, which it names by their IDs.
type Stream interface {
	// Accept waits for the next connection from another server. After Close
	// it fails.
	Accept() (net.Conn, error)
	// Close ends all accepts. The node calls it when it stops.
	Close() error
	// Dial connects to the server with an ID.
	Dial(id string, timeout time.Duration) (net.Conn, error)
}

// Config is what a [Node] is made of.
type Config struct {
	// ID is the node ID of this server, for all time.
	ID string
	// Name is what people know this server by, for messages. Empty leaves it out.
	Name string
	// Dir is the folder of the log and the snapshots, made if it is missing.
	// Empty keeps all in memory.
	Dir string
	// FSM is the state machine that commands are applied to.
	FSM raft.BatchingFSM
	// CheckEntry reports why the state machine could not apply a command; nil
	// passes all. Open asks it about each stored entry that may still be applied,
	// from several goroutines, so that nothing is served, and nothing panics, on a
	// log that cannot be read.
	CheckEntry func(data []byte) error
	// Stream reaches the other servers. The node closes it.
	Stream Stream
	// Multiplier scales the heartbeat and election timeouts, from
	// MinMultiplier to MaxMultiplier. Zero is DefaultMultiplier.
	Multiplier int
	// PreVoteDisabled lets a server stand for election without asking first
	// whether it could win.
	PreVoteDisabled bool
	// SnapshotThreshold, in entries, SnapshotInterval and TrailingLogs, in
	// entries, say when a snapshot is taken and how much log stays behind it.
	// Zeros are the defaults.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64
	// Reserve is how many bytes of Dir's file system are kept for Raft's own
	// records: a command that would touch them is refused. Zero is
	// DefaultReserve.
	Reserve int64
	// Logger takes Raft's log and this package's; nil drops it.
	Logger *slog.Logger
	// Faults stand between the node and its stores, for tests.
	Faults Faults

	faults faults
}

// Faults are called before something is stored. An error is what storing
// returns then, in its place, as if the disk had failed; and for as long as the
// call does not return, the disk hangs. Both may be called at the same time.
type Faults struct {
	// Log is called before entries are stored in the log, or removed from it.
	Log func() error
	// Stable is called before a term or a vote is stored.
	Stable func() error
}

// faults puts tests between a node and its disk.
type faults struct {
	// log and stable, if they are not nil, replace the stores by others.
	log    func(raft.LogStore) raft.LogStore
	stable func(raft.StableStore) raft.StableStore
	// space, if it is not nil, is asked for the free space.
	space func(dir string) (space, error)
	// freeMemory, if it is not nil, is called for debug.FreeOSMemory.
	freeMemory func()
}

// withDefaults returns cfg with defaults for zeros, or an error that names the
// field which cannot be used.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Multiplier == 0 {
		cfg.Multiplier = DefaultMultiplier
	}
	if cfg.SnapshotThreshold == 0 {
		cfg.SnapshotThreshold = DefaultSnapshotThreshold
	}
	if cfg.SnapshotInterval == 0 {
		cfg.SnapshotInterval = DefaultSnapshotInterval
	}
	if cfg.TrailingLogs == 0 {
		cfg.TrailingLogs = DefaultTrailingLogs
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = DefaultReserve
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.ID == "":
		return cfg, errors.New("the Raft node has no ID")
	case cfg.FSM == nil:
		return cfg, errors.New("the Raft node has no state machine")
	case cfg.Stream == nil:
		return cfg, errors.New("the Raft node has no stream")
	case cfg.Multiplier < MinMultiplier || cfg.Multiplier > MaxMultiplier:
		return cfg, fmt.Errorf("the Raft multiplier is %d, %d to %d are possible", cfg.Multiplier, MinMultiplier, MaxMultiplier)
	case cfg.Reserve < 0:
		return cfg, fmt.Errorf("the reserve of disk space is %d bytes, it cannot be negative", cfg.Reserve)
	case cfg.SnapshotInterval < 0:
		return cfg, fmt.Errorf("the Raft snapshot interval is %v, it cannot be negative", cfg.SnapshotInterval)
	}
	return cfg, nil
}

// timeout is the heartbeat timeout and the election timeout.
func (cfg Config) timeout() time.Duration {
	return time.Duration(cfg.Multiplier) * BaseTimeout
}

// raftConfig translates cfg for Raft.
func (cfg Config) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.ID)
	c.HeartbeatTimeout = cfg.timeout()
	c.ElectionTimeout = cfg.timeout()
	// A leader without a quorum steps down as its followers stop waiting for
	// it. This is not the lease that reads rely on.
	c.LeaderLeaseTimeout = cfg.timeout()
	c.CommitTimeout = commitTimeout
	c.SnapshotThreshold = cfg.SnapshotThreshold
	c.SnapshotInterval = cfg.SnapshotInterval
	c.TrailingLogs = cfg.TrailingLogs
	c.PreVoteDisabled = cfg.PreVoteDisabled
	c.NoLegacyTelemetry = true
	// A server that is removed becomes a follower of nobody. Whether it ends
	// is for the agent to say.
	c.ShutdownOnRemove = false
	c.Logger = newLogger(cfg.Logger)
	return c
}
