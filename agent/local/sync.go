package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Run carries out the checks and keeps the catalog true until ctx ends. Then it
// stops every check and waits for what is under way.
func (r *Registry) Run(ctx context.Context, cat Catalog) error {
	r.begin(cat)
	defer r.end()
	ctx = mvcc.WithOrigin(ctx, mvcc.Origin{Node: r.cfg.Node.Name, Endpoint: "anti-entropy"})
	var parts sync.WaitGroup
	parts.Go(func() { r.syncLoop(ctx, cat) })
	parts.Go(func() { r.sweepLoop(ctx) })
	parts.Wait()
	return nil
}

func (r *Registry) begin(cat Catalog) {
	r.change.Lock()
	defer r.change.Unlock()
	r.running, r.catalog = true, cat
	for _, c := range r.checks {
		r.startRunner(c)
	}
	r.mu.Lock()
	r.syncing = true
	r.mu.Unlock()
}

func (r *Registry) end() {
	r.mu.Lock()
	r.syncing = false
	r.mu.Unlock()
	release(r.takeWaiting())
	r.change.Lock()
	defer r.change.Unlock()
	r.running = false
	for id := range r.checks {
		r.stopRunner(id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.checks {
		c.noLonger()
	}
}

// ServersUp says that servers can be reached again, so that a comparison with
// the catalog is worth while soon.
func (r *Registry) ServersUp() { nudge(r.serverUp) }

// Moved says that this agent belongs to another cluster than before, or knows for
// the first time which it is. The catalog of another knows nothing of what is
// registered here: it is written at once.
func (r *Registry) Moved() { nudge(r.moved) }

// Replaced says that the catalog was replaced by an older one of the same cluster,
// or by another's: what was registered here since it was kept may be missing, so it
// is compared soon.
func (r *Registry) Replaced() { nudge(r.replaced) }

func (r *Registry) wakeSyncer() { nudge(r.wake) }

func nudge(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // somebody did already
	}
}

// awaitSync waits a little for the catalog to know what was changed.
func (r *Registry) awaitSync(ctx context.Context) {
	r.mu.Lock()
	if !r.syncing {
		r.mu.Unlock()
		return
	}
	pushed := make(chan struct{})
	r.waiting = append(r.waiting, pushed)
	r.mu.Unlock()
	r.wakeSyncer()
	limit := time.NewTimer(SyncWait)
	defer limit.Stop()
	select {
	case <-pushed:
	case <-limit.C:
	case <-ctx.Done():
	}
}

func (r *Registry) takeWaiting() []chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.waiting
	r.waiting = nil
	return waiting
}

func release(waiting []chan struct{}) {
	for _, pushed := range waiting {
		close(pushed)
	}
}

// syncLoop is the only writer to the catalog, so that what it reads there is
// what it wrote.
func (r *Registry) syncLoop(ctx context.Context, cat Catalog) {
	full := newAlarm()
	defer full.stop()
	compared := false // the catalog was read at least once
	retrying := false // full is due soon because something failed
	starting := StartRetryInterval
	lately := time.Time{} // when the last comparison began
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-r.serverUp:
			full.within(r.spread(ServerUpStagger))
			continue
		case <-r.replaced:
			full.within(max(r.spreadMove(), ReplacedInterval-time.Since(lately)))
			continue
		case <-r.moved:
			r.forgetSynced() // a comparison may just have been that with the old catalog
			compared, retrying, starting = false, false, StartRetryInterval
			full.in(r.spreadMove())
			continue
		case <-full.C:
			due = true
		case <-r.wake:
			// The catalog may have tags to keep, or be another than the one that was
			// written to.
			due = !compared || r.elsewhere()
		}
		var err error
		if due {
			retrying, lately = false, time.Now()
			if err = r.fullSync(ctx, cat); err == nil {
				compared = true
				full.in(FullSyncInterval + r.spread(FullSyncInterval))
			}
		} else if err = r.push(ctx, cat); r.takeDoubt() {
			full.within(max(r.spreadMove(), RetryInterval-time.Since(lately)))
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Error(logSyncFailed, "error", err)
			if !retrying {
				retrying = true
				pause := RetryInterval
				if !compared {
					pause = starting
					starting = longer(starting, err)
				}
				full.in(pause + r.spread(pause))
			}
		}
	}
}

// alarm is a timer that knows when it is due.
type alarm struct {
	*time.Timer
	at time.Time
}

// newAlarm returns one that is due now.
func newAlarm() *alarm { return &alarm{time.NewTimer(0), time.Now()} }

func (a *alarm) stop() { a.Timer.Stop() }

// in sets the alarm anew.
func (a *alarm) in(wait time.Duration) {
	a.at = time.Now().Add(wait)
	a.Reset(wait)
}

// within sets the alarm anew unless it is due before.
func (a *alarm) within(wait time.Duration) {
	if time.Now().Add(wait).Before(a.at) {
		a.in(wait)
	}
}

// longer is the pause after the next failure of an agent that has not reached the
// catalog yet. A server that waits for a leader answers when it likes to be asked
// again; everything else is left more and more time.
func longer(pause time.Duration, err error) time.Duration {
	if mvcc.CodeOf(err) == mvcc.NoLeader {
		return StartRetryInterval
	}
	return min(2*pause, RetryInterval)
}

// spread is a random time below base, or a multiple of it in a large cluster,
// so that its servers do not hear from all agents at once.
func (r *Registry) spread(base time.Duration) time.Duration {
	return rand.N(time.Duration(scale(r.members())) * base)
}

// spreadMove is a random time that a handful of agents take no notice of, and
// that keeps thousands from a new cluster's servers at once.
func (r *Registry) spreadMove() time.Duration {
	members := max(r.members(), 1)
	return rand.N(min(time.Duration(members)*MoveStagger, time.Duration(scale(members))*ServerUpStagger))
}

func (r *Registry) members() int {
	if r.cfg.Members == nil {
		return 0
	}
	return r.cfg.Members()
}

// scale is by how much the work of a cluster is spread further apart.
func scale(members int) int {
	if members <= scaleFrom {
		return 1
	}
	return int(math.Ceil(math.Log2(float64(members)/scaleFrom))) + 1
}

// fullSync compares all that the catalog has of this node with the registry and
// corrects the catalog.
func (r *Registry) fullSync(ctx context.Context, cat Catalog) error {
	defer release(r.takeWaiting())
	limited, cancel := context.WithTimeout(ctx, CatalogTimeout)
	defer cancel()
	name := r.cfg.Node.Name
	detail, _, err := cat.NodeServices(limited, mvcc.ReadOptions{}, &catalog.NodeServices{Node: name})
	if err != nil {
		return fmt.Errorf("cannot read the services of the node: %w", err)
	}
	checks, _, err := cat.NodeChecks(limited, mvcc.ReadOptions{}, &health.NodeChecks{Node: name})
	if err != nil {
		return fmt.Errorf("cannot read the checks of the node: %w", err)
	}
	if err := r.settleIn(); err != nil {
		return err
	}
	r.compare(detail, checks)
	err = r.push(ctx, cat)
	r.takeDoubt() // what is refused now is not so for want of a comparison
	return err
}

// errBetween says that this agent's servers are gone, and that those who answered
// may be another cluster's.
var errBetween = errors.New("it is not known yet to which cluster the servers that answered belong")

// elsewhere reports whether the servers may be those of another cluster than the
// one whose catalog was compared last.
func (r *Registry) elsewhere() bool {
	return r.cfg.Cluster != nil && r.cfg.Cluster() != r.home
}

// settleIn forgets what the catalog of another cluster knew, once this agent
// belongs to a new one.
func (r *Registry) settleIn() error {
	if !r.elsewhere() {
		return nil
	}
	now := r.cfg.Cluster()
	if now == "" {
		return errBetween
	}
	r.forgetSynced()
	r.home = now
	return nil
}

// forgetSynced has the catalog know nothing, so that nothing in it is missed.
func (r *Registry) forgetSynced() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeSync, r.reported = false, nil
	for _, s := range r.services {
		s.synced, s.refused = false, false
	}
	for _, c := range r.checks {
		c.noLonger()
		c.synced, c.refused = false, false
	}
}

// sweepLoop removes instances that have been critical for too long.
func (r *Registry) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(SweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.sweep(mvcc.WithOrigin(ctx, mvcc.Origin{Node: r.cfg.Node.Name, Endpoint: sweepOrigin}))
		}
	}
}

func (r *Registry) sweep(ctx context.Context) {
	r.change.Lock()
	defer r.change.Unlock()
	for service, id := range r.criticalTooLong() {
		r.cfg.Logger.Warn(logReaped, "service", service, "check", id)
		if err := r.removeServiceLocked(ctx, service); err != nil {
			r.cfg.Logger.Error(logReapFailed, "service", service, "error", err)
		}
	}
}

// criticalTooLong returns the instances to remove, each with a check that is the
// reason.
func (r *Registry) criticalTooLong() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := map[string]string{}
	for id, c := range r.checks {
		if at := c.removeAt(); !at.IsZero() && time.Now().After(at) {
			due[c.row.ServiceID] = id
		}
	}
	return due
}
