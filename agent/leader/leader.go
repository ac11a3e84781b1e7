// Package leader holds the duties of the leading server. [Run] does them on a
// context that ends with leadership; nothing is set up or torn down besides.
package leader

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
)

// How often each duty is done over, whether or not anything called for it.
const (
	// ReconcileInterval is between two full comparisons of members and catalog.
	ReconcileInterval = time.Minute
	// ReapInterval is between two looks at the tombstones of deleted keys, and so
	// the grain of their age.
	ReapInterval = 30 * time.Second
	// StatsInterval is between two rounds in which servers are asked how they are.
	StatsInterval = 2 * time.Second
	// CleanupInterval is between two looks for servers that are dead.
	CleanupInterval = 10 * time.Second
	// HashInterval is between two state hashes in the log, by which a server that
	// is not what the others are finds out. None is written while nothing changes.
	HashInterval = 30 * time.Second
	// OrphanGrace is how long a leader lets nodes and servers stand that are no
	// members, and of which it does not know that they were replaced: after a restart
	// of all servers it takes a while until everybody has found each other.
	OrphanGrace = 2 * time.Minute
	// retryInterval is how soon a comparison that failed is done over.
	retryInterval = 5 * time.Second
)

// Limits of single steps.
const (
	// askAgain is how soon a server that is kept out of Raft is asked again why.
	askAgain = time.Second
	// changeLimit bounds one change of Raft's configuration.
	changeLimit = 10 * time.Second
	// statsLimit bounds how long a server may take to say how it is.
	statsLimit = time.Second
	// maxMet bounds how many IDs of servers are remembered. One beyond it is waited
	// for a little longer when it is gone.
	maxMet = 4096
)

// Pool is what the leader asks about the members of the cluster.
type Pool interface {
	Members() []gossip.Member
	// Subscribe returns a channel that is sent a value after the members have
	// changed, and a function that ends that.
	Subscribe() (changed <-chan struct{}, cancel func())
}

// Deps is what the duties need. Without Raft there is one server, and without
// Autopilot no other is looked after.
type Deps struct {
	Pool Pool
	// Self returns the leader's own node as it must stand in the catalog now.
	Self func() catalog.Node
	// View is the newest view.
	View func() *state.View
	// Apply proposes a command and waits until it is applied.
	Apply  func(ctx context.Context, cmd any) error
	Now    func() time.Time
	Logger *slog.Logger

	Raft Raft
	// Autopilot keeps the newest report on the servers.
	Autopilot *Autopilot
	// Initial is the configuration of autopilot from files.
	Initial state.AutopilotConfig
	// Stats asks a server how it is, and Admit tells one that lost its memory that
	// it has caught up.
	Stats func(ctx context.Context, id string) (ServerStats, error)
	Admit func(ctx context.Context, id, nonce string) error
	// MayAdd asks a server that joined, and says why it is not to take part in Raft:
	// it belongs to another cluster, or does not say to which.
	MayAdd func(ctx context.Context, id string) error
	// Address is where a server's port is reached.
	Address func(id string) string
	// ForceLeave makes a member that failed one that left.
	ForceLeave func(ctx context.Context, name string) error
	// Check is the command by which others compare their state with this server's,
	// or nil while that is known to be another than theirs.
	Check func() *state.CheckHash
	// MayPropose reports whether every server can apply what came in with a version
	// of the log.
	MayPropose func(version int) bool

	began time.Time
	seen  map[string]bool // names of all who were members since then; reconcileMembers' own
}

// settled reports whether this reign has lasted long enough for everybody to have
// found each other.
func (d *Deps) settled() bool { return d.Now().Sub(d.began) >= OrphanGrace }

// Run does the duties until ctx ends, and returns when all have stopped.
func Run(ctx context.Context, d Deps) error {
	d.began = d.Now()
	d.seen = map[string]bool{}
	var duties sync.WaitGroup
	duties.Go(func() { d.reconcileMembers(ctx) })
	duties.Go(func() { d.watchServers(ctx) })
	duties.Go(func() { d.reapTombstones(ctx) })
	duties.Go(func() { d.runAutopilot(ctx) })
	duties.Go(func() { d.writeHashes(ctx) })
	duties.Wait()
	return ctx.Err()
}
