package api

import (
	"context"
	"io"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Operator tells about the servers of a datacenter, and changes who takes part
// and how they are looked after. Reads take the datacenter and the freshness
// from their options and never wait; an empty dc is the agent's own.
type Operator interface {
	// RaftConfiguration lists who takes part in Raft. A stale read is answered by
	// any server from what it knows.
	RaftConfiguration(ctx context.Context, o mvcc.ReadOptions) (RaftConfiguration, error)
	// RemovePeer ends the part of one server. An error of code [mvcc.Unknown] means
	// that no server of that ID, or at that address, takes part.
	RemovePeer(ctx context.Context, dc string, p PeerName) error
	// TransferLeader makes another server the leader: the one of that ID, or the
	// best follower if id is empty. It returns when the leader has handed over. An
	// error of code [mvcc.Unknown] means that there is no such server to hand over
	// to.
	TransferLeader(ctx context.Context, dc, id string) error
	// AutopilotConfig is how servers are looked after: what is stored, with its
	// indexes, or else the defaults.
	AutopilotConfig(ctx context.Context, o mvcc.ReadOptions) (AutopilotConfig, error)
	// SetAutopilot stores c, whose indexes mean nothing. With cas it does so only if
	// what is stored was last changed at *cas, and reports whether that was so;
	// otherwise it reports true.
	SetAutopilot(ctx context.Context, dc string, c AutopilotConfig, cas *uint64) (bool, error)
	// AutopilotHealth is what the leader knows of the servers' health.
	AutopilotHealth(ctx context.Context, o mvcc.ReadOptions) (AutopilotHealth, error)
	// AutopilotState is the same in more detail.
	AutopilotState(ctx context.Context, o mvcc.ReadOptions) (AutopilotState, error)
	// Usage counts what is registered, by datacenter: in the one of the options, or
	// with global in all that are known. It may be waited for.
	Usage(ctx context.Context, o mvcc.ReadOptions, global bool) (map[string]Usage, mvcc.Meta, error)
}

// Snapshots writes the whole state as an archive, and goes back to one.
type Snapshots interface {
	// Save writes an archive of the state to what begin returns. It calls begin
	// once, when nothing but the writing itself can fail any more; before that,
	// an error reaches the client as usual. A stale save is answered by any server
	// from what it has, with a leader or without.
	Save(ctx context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error
	// Restore replaces the state of a datacenter by that of the archive in r, all or
	// nothing. Whether dc is known is checked before r is read, and r is read to its
	// end and the whole archive checked before anything is replaced. Errors of code [mvcc.Invalid] mean that
	// it is no archive, or a damaged one.
	Restore(ctx context.Context, dc string, r io.Reader) error
}

// RaftConfiguration is who takes part in Raft.
type RaftConfiguration struct {
	Servers []RaftServer
	// Index is where in the log this configuration stands.
	Index uint64
}

// RaftServer is one server that takes part in Raft.
type RaftServer struct {
	ID string
	// Node is the server's name; empty means that it is not known.
	Node string
	// Address is that of the server's port, or empty if it is not known.
	Address string
	Leader  bool
	Voter   bool
	// LastIndex is the last entry that the server is known to have.
	LastIndex uint64
}

// PeerName names a server that takes part in Raft, in one of two ways.
type PeerName struct {
	ID string
	// Address is the host and port of the server.
	Address string
}

// AutopilotConfig is how servers are looked after.
type AutopilotConfig struct {
	// CleanupDeadServers removes servers that failed, as far as that is safe.
	CleanupDeadServers bool
	// LastContactThreshold is how long a healthy server may not have heard from
	// the leader.
	LastContactThreshold time.Duration
	// MaxTrailingLogs is how many entries a healthy server may be behind.
	MaxTrailingLogs uint64
	// MinQuorum is how many voters the clean-up leaves at least.
	MinQuorum uint
	// ServerStabilizationTime is how long a new server must have been healthy
	// before it gets a vote.
	ServerStabilizationTime time.Duration
	// The rest is stored and given back, and has no effect.
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	// CreateIndex and ModifyIndex say when it was stored first and last.
	CreateIndex uint64
	ModifyIndex uint64
}

// DefaultAutopilot is the configuration of a cluster that was told nothing.
func DefaultAutopilot() AutopilotConfig {
	return AutopilotConfig{
		CleanupDeadServers:      true,
		LastContactThreshold:    200 * time.Millisecond,
		MaxTrailingLogs:         250,
		ServerStabilizationTime: 10 * time.Second,
	}
}

// AutopilotHealth is the health of all servers together.
type AutopilotHealth struct {
	Healthy bool
	// FailureTolerance is how many healthy voters may fail before the cluster does.
	FailureTolerance int
	Servers          []ServerHealth
}

// ServerHealth is what the leader knows of one server.
type ServerHealth struct {
	ID      string
	Name    string
	Address string
	// Status is what gossip says: alive, leaving, left, failed or none.
	Status  string
	Version string
	Leader  bool
	Voter   bool
	Healthy bool
	// LastContact is how long ago the server heard from the leader; zero is the
	// leader itself.
	LastContact time.Duration
	LastTerm    uint64
	LastIndex   uint64
	// StableSince is when Healthy changed last.
	StableSince time.Time
	// Meta is the node's metadata.
	Meta map[string]string
}

// AutopilotState is the health of all servers with what follows from it.
type AutopilotState struct {
	AutopilotHealth
	// OptimisticFailureTolerance also counts the servers that would get a vote when
	// others fail.
	OptimisticFailureTolerance int
}

// Usage is how much is registered in a datacenter.
type Usage struct {
	Nodes int
	// Services is how many different names there are, and Instances how many
	// instances, the servers' own service among them.
	Services  int
	Instances int
	// Billable is how many instances are neither of the servers' own service nor of
	// the mesh's proxies and gateways.
	Billable int
	// Connect is how many instances belong to the mesh, by kind; a kind that is not
	// there has none.
	Connect map[string]int
}
