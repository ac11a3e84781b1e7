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
	// retryInterval is how soon a comparison that failed is done over.
	retryInterval = 5 * time.Second
)

// Pool is what the leader asks about the members of the cluster.
type Pool interface {
	Members() []gossip.Member
	// Changed is sent a value after the members have changed.
	Changed() <-chan struct{}
}

// Deps is what the duties need.
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
}

// Run does the duties until ctx ends, and returns when all have stopped.
func Run(ctx context.Context, d Deps) error {
	var duties sync.WaitGroup
	duties.Go(func() { d.reconcileMembers(ctx) })
	duties.Go(func() { d.reapTombstones(ctx) })
	duties.Wait()
	return ctx.Err()
}
