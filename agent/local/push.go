package local

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// push writes to the catalog what is marked as different: the node, then
// services with their checks, then other checks, then what is gone. What is new
// goes first, so that an instance which takes another's place leaves no gap. It
// stops at the first call that failed for reasons that may pass.
func (r *Registry) push(ctx context.Context, cat Catalog) error {
	defer release(r.takeWaiting())
	for _, step := range []func(context.Context, Catalog) error{
		r.pushNode, r.pushServices, r.pushChecks, r.pushGoneServices, r.pushGoneChecks,
	} {
		if err := step(ctx, cat); err != nil {
			return err
		}
	}
	r.forgetAnswered()
	return nil
}

// refused reports whether the catalog will not take an entry however often it is
// offered. Such an entry rests until the next full sync.
func refused(err error) bool {
	switch mvcc.CodeOf(err) {
	case mvcc.Invalid, mvcc.TooLarge, mvcc.Unknown:
		return true
	}
	return false
}

func (r *Registry) pushNode(ctx context.Context, cat Catalog) error {
	r.mu.Lock()
	node, synced := r.node, r.nodeSync
	r.mu.Unlock()
	if synced {
		return nil
	}
	// Were the node refused, its services would stand on another's.
	if err := register(ctx, cat, &health.Register{Registration: catalog.Registration{Node: node}}); err != nil {
		return fmt.Errorf("cannot register node %q: %w", node.Name, err)
	}
	r.mu.Lock()
	r.nodeSync = r.node.Equal(&node)
	r.mu.Unlock()
	r.cfg.Logger.Info(logSyncedNode, "node", node.Name)
	return nil
}

func (r *Registry) pushServices(ctx context.Context, cat Catalog) error {
	services, checks := r.dirty()
	checksOf := map[string][]*health.Check{}
	for _, row := range checks {
		checksOf[row.ServiceID] = append(checksOf[row.ServiceID], row)
	}
	for _, row := range services {
		checks := checksOf[row.ID]
		if err := r.pushService(ctx, cat, row, checks[:min(len(checks), MaxChecksPerCall)]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) pushService(ctx context.Context, cat Catalog, row *catalog.Service, checks []*health.Check) error {
	asked, done := r.byAsker(ctx, instance(row.ID))
	err := register(asked, cat, r.registration(row, checks))
	switch {
	case err == nil:
	case !refused(err):
		return fmt.Errorf("cannot register service %q: %w", row.ID, err)
	case len(checks) > 0: // perhaps a check is at fault
		return r.pushService(ctx, cat, row, nil)
	}
	done()
	r.mu.Lock()
	if s := r.services[row.ID]; s != nil && s.row == row {
		s.synced, s.refused = true, err != nil
	}
	r.mu.Unlock()
	if err != nil {
		r.cfg.Logger.Error(logRefused, "service", row.ID, "error", err)
		return nil
	}
	r.cfg.Logger.Info(logSyncedService, "service", row.ID)
	r.settle(checks)
	return nil
}

func (r *Registry) pushChecks(ctx context.Context, cat Catalog) error {
	origins, groups := r.byOrigin(r.settledChecks())
	for _, origin := range origins {
		asked := ctx
		if origin != (mvcc.Origin{}) {
			asked = mvcc.WithOrigin(ctx, origin)
		}
		for batch := range slices.Chunk(groups[origin], MaxChecksPerCall) {
			if err := r.pushBatch(asked, cat, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// pushBatch registers checks in one call. If that is refused, each is offered
// alone, to find the one that is at fault.
func (r *Registry) pushBatch(ctx context.Context, cat Catalog, batch []*health.Check) error {
	err := register(ctx, cat, r.registration(nil, batch))
	switch {
	case err == nil:
		r.settle(batch)
		return nil
	case !refused(err):
		return fmt.Errorf("cannot register check %q: %w", batch[0].ID, err)
	case len(batch) == 1:
		r.cfg.Logger.Error(logRefused, "check", batch[0].ID, "error", err)
		r.markSynced(batch, true)
		r.doubtCatalog(batch[0])
		return nil
	}
	for _, row := range batch {
		if err := r.pushBatch(ctx, cat, []*health.Check{row}); err != nil {
			return err
		}
	}
	return nil
}

// doubtCatalog notes that the catalog refused a check of an instance that it was
// thought to have: it may have lost the instance, or the whole node.
func (r *Registry) doubtCatalog(row *health.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.services[row.ServiceID]; s != nil && s.synced && !s.refused {
		r.doubt = true
	}
}

// takeDoubt reports whether there was such a doubt since it was asked last.
func (r *Registry) takeDoubt() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	doubt := r.doubt
	r.doubt = false
	return doubt
}

// settle notes that the catalog knows of checks.
func (r *Registry) settle(checks []*health.Check) {
	r.markSynced(checks, false)
	for _, row := range checks {
		r.cfg.Logger.Info(logSyncedCheck, "check", row.ID)
	}
}

// markSynced marks checks that have not changed since they were sent.
func (r *Registry) markSynced(checks []*health.Check, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range checks {
		if c := r.checks[row.ID]; c != nil && c.row == row {
			c.noLonger()
			c.synced, c.refused = true, refused
			delete(r.askers, checkOf(row.ID))
		}
	}
}

func (r *Registry) pushGoneServices(ctx context.Context, cat Catalog) error {
	for id, removal := range r.copyGone(r.goneServices) {
		asked, done := r.byAsker(ctx, instance(id))
		if err := r.deregister(asked, cat, &catalog.Deregister{Node: r.cfg.Node.Name, ServiceID: id}); err != nil {
			return fmt.Errorf("cannot deregister service %q: %w", id, err)
		}
		done()
		r.forget(r.goneServices, id, removal)
		r.cfg.Logger.Info(logGoneService, "service", id)
	}
	return nil
}

func (r *Registry) pushGoneChecks(ctx context.Context, cat Catalog) error {
	for id, removal := range r.copyGone(r.goneChecks) {
		asked, done := r.byAsker(ctx, checkOf(id))
		if err := r.deregister(asked, cat, &catalog.Deregister{Node: r.cfg.Node.Name, CheckID: id}); err != nil {
			return fmt.Errorf("cannot deregister check %q: %w", id, err)
		}
		done()
		r.forget(r.goneChecks, id, removal)
		r.cfg.Logger.Info(logGoneCheck, "check", id)
	}
	return nil
}

func (r *Registry) copyGone(gone map[string]int) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(gone)
}

// forget takes a removal off the list, unless the entry came back and was
// removed again meanwhile.
func (r *Registry) forget(gone map[string]int, id string, removal int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone[id] == removal {
		delete(gone, id)
	}
}

// dirty returns the instances and the checks that the catalog does not know as
// they are, by ID. They are of one moment, so that an instance never goes with
// the checks of a later registration.
func (r *Registry) dirty() ([]*catalog.Service, []*health.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var services []*catalog.Service
	for _, s := range r.services {
		if !s.synced {
			services = append(services, s.row)
		}
	}
	slices.SortFunc(services, func(a, b *catalog.Service) int { return strings.Compare(a.ID, b.ID) })
	return services, r.dirtyChecks(func(*health.Check) bool { return true })
}

// settledChecks returns the checks that the catalog does not know as they are
// and whose instance it does know. An instance that was registered a moment ago
// takes its checks along at the next push: alone, they would be refused.
func (r *Registry) settledChecks() []*health.Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dirtyChecks(func(row *health.Check) bool {
		s := r.services[row.ServiceID]
		return s == nil || s.synced
	})
}

// dirtyChecks returns those of the checks that the catalog does not know as they
// are which fit, by ID. The lock is held.
func (r *Registry) dirtyChecks(fit func(*health.Check) bool) []*health.Check {
	var out []*health.Check
	for _, c := range r.checks {
		if !c.synced && fit(c.row) {
			out = append(out, c.row)
		}
	}
	slices.SortFunc(out, func(a, b *health.Check) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// registration is the command for an instance and checks. The catalog may write
// to what it is given, so it gets copies.
func (r *Registry) registration(row *catalog.Service, checks []*health.Check) *health.Register {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &health.Register{
		Registration: catalog.Registration{Node: r.node, SkipNodeUpdate: r.nodeSync},
		Checks:       make([]health.Check, len(checks)),
	}
	if row != nil {
		s := *row
		c.Service = &s
	}
	for i, check := range checks {
		c.Checks[i] = *check
	}
	return c
}

func register(ctx context.Context, cat Catalog, c *health.Register) error {
	ctx, cancel := context.WithTimeout(ctx, CatalogTimeout)
	defer cancel()
	return cat.Register(ctx, "", c)
}

// deregister removes an entry. One that the catalog will never let go is given
// up until the next full sync finds it again.
func (r *Registry) deregister(ctx context.Context, cat Catalog, c *catalog.Deregister) error {
	ctx, cancel := context.WithTimeout(ctx, CatalogTimeout)
	defer cancel()
	err := cat.Deregister(ctx, "", c)
	if err != nil && refused(err) {
		r.cfg.Logger.Error(logRefused, "service", c.ServiceID, "check", c.CheckID, "error", err)
		return nil
	}
	return err
}
