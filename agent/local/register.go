package local

import (
	"context"
	"slices"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// AddService registers an instance with its checks, in place of one with the
// same ID. A check that was there before keeps its status and output. Checks of
// the instance that reg does not name stay, unless replace is set. When it
// returns without an error, the registration survives a crash; that the catalog
// knows of it by then is likely but not promised.
func (r *Registry) AddService(ctx context.Context, reg check.Registration, replace bool) error {
	reg.Normalize()
	if err := reg.Validate(); err != nil {
		return err
	}
	if err := notReserved(&reg); err != nil {
		return err
	}
	for i := range reg.Checks {
		if err := r.allow(&reg.Checks[i], false); err != nil {
			return err
		}
	}
	if err := r.addService(ctx, &reg, replace); err != nil {
		return err
	}
	r.awaitSync(ctx)
	return nil
}

func (r *Registry) addService(ctx context.Context, reg *check.Registration, replace bool) error {
	r.change.Lock()
	defer r.change.Unlock()
	p := newPlan()
	s := r.newService(reg, false)
	p.services[s.row.ID] = s
	for _, d := range reg.Checks {
		if p.checks[d.ID] != nil {
			r.cfg.Logger.Warn(logSameCheckID, "service", s.row.ID, "check", d.ID)
		}
		if d.Token == "" {
			d.Token = reg.Token
		}
		c := r.newCheck(d, s.row, true, false)
		p.checks[d.ID] = c
	}
	if replace {
		for _, id := range r.checksOf(s.row.ID) {
			if p.checks[id] == nil && !strings.HasPrefix(id, health.ServiceMaintenancePrefix) {
				p.goneChecks = append(p.goneChecks, id)
				r.dropCheckFiles(p, id)
			}
		}
	}
	if err := r.room(p); err != nil {
		return err
	}
	for id, c := range p.checks {
		if err := r.store.put(&p.files, checksFolder, id, newCheckRecord(c.row, &c.def)); err != nil {
			return err
		}
	}
	// The service comes last: a check without its service is dropped at the next
	// start, a service without its checks would look healthy.
	if err := r.store.put(&p.files, servicesFolder, s.row.ID, newServiceRecord(s.row, s.token)); err != nil {
		return err
	}
	if old := r.services[s.row.ID]; old == nil || !old.row.Equal(s.row) { // else nothing is written
		r.asked(ctx, instance(s.row.ID))
	}
	if err := r.carryOut(p); err != nil {
		r.forgetAsker(instance(s.row.ID), mvcc.OriginOf(ctx))
		return err
	}
	return nil
}

// notReserved keeps clients from what the cluster itself writes for this node.
func notReserved(reg *check.Registration) error {
	if reg.Service.ID == catalog.ServerService {
		return invalid("Invalid service ID %q: it is reserved for the servers of the cluster", reg.Service.ID)
	}
	for _, d := range reg.Checks {
		if err := checkNotReserved(d.ID); err != nil {
			return err
		}
	}
	return nil
}

func checkNotReserved(id string) error {
	switch {
	case id == health.SerfHealth:
		return invalid("Invalid check ID %q: it is reserved for the cluster", id)
	case id == health.NodeMaintenance:
		return invalid("Invalid check ID %q: it is reserved for maintenance mode, use PUT /v1/agent/maintenance", id)
	case strings.HasPrefix(id, health.ServiceMaintenancePrefix):
		return invalid("Invalid check ID %q: it is reserved for maintenance mode, use PUT /v1/agent/service/maintenance/", id)
	}
	return nil
}

// RemoveService removes an instance with its checks.
func (r *Registry) RemoveService(ctx context.Context, id string) error {
	if err := r.removeService(ctx, id); err != nil {
		return err
	}
	r.awaitSync(ctx)
	return nil
}

func (r *Registry) removeService(ctx context.Context, id string) error {
	r.change.Lock()
	defer r.change.Unlock()
	return r.removeServiceLocked(ctx, id)
}

func (r *Registry) removeServiceLocked(ctx context.Context, id string) error {
	if r.services[id] == nil && !r.hasDamaged(id) {
		return unknownService(id)
	}
	p := newPlan()
	p.goneServices = []string{id}
	p.goneChecks = r.checksOf(id)
	// The service goes first, as it came last.
	r.store.drop(&p.files, servicesFolder, id)
	for _, c := range p.goneChecks {
		r.dropCheckFiles(p, c)
	}
	r.asked(ctx, instance(id))
	if err := r.carryOut(p); err != nil {
		r.forgetAsker(instance(id), mvcc.OriginOf(ctx))
		return err
	}
	return nil
}

// AddCheck registers a check of the node or, if d names one, of an instance of
// this agent. It promises what [Registry.AddService] does.
func (r *Registry) AddCheck(ctx context.Context, d check.Definition) error {
	if err := d.ValidateRequest(); err != nil {
		return err
	}
	d.Normalize()
	if err := checkNotReserved(d.ID); err != nil {
		return err
	}
	if err := r.addCheck(ctx, d); err != nil {
		return err
	}
	r.awaitSync(ctx)
	return nil
}

func (r *Registry) addCheck(ctx context.Context, d check.Definition) error {
	r.change.Lock()
	defer r.change.Unlock()
	row, err := r.serviceOf(&d)
	if err != nil {
		return err
	}
	if err := r.allow(&d, false); err != nil {
		return err
	}
	p := newPlan()
	c := r.newCheck(d, row, false, false)
	p.checks[d.ID] = c
	if err := r.room(p); err != nil {
		return err
	}
	if err := r.store.put(&p.files, checksFolder, d.ID, newCheckRecord(c.row, &d)); err != nil {
		return err
	}
	return r.carryOutAsked(ctx, p, d.ID)
}

// carryOutAsked is carryOut, for whom ctx names as the one who asked for the change
// of a check.
func (r *Registry) carryOutAsked(ctx context.Context, p *plan, id string) error {
	r.asked(ctx, checkOf(id))
	err := r.carryOut(p)
	if err != nil {
		r.forgetAsker(checkOf(id), mvcc.OriginOf(ctx))
	}
	return err
}

// serviceOf returns the instance that a check belongs to, nil for one of the
// node.
func (r *Registry) serviceOf(d *check.Definition) (*catalog.Service, error) {
	if d.ServiceID == "" {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.services[d.ServiceID]; s != nil {
		return s.row, nil
	}
	return nil, unknown("ServiceID %q does not exist", d.ServiceID)
}

// RemoveCheck removes a check.
func (r *Registry) RemoveCheck(ctx context.Context, id string) error {
	if err := r.removeCheck(ctx, id); err != nil {
		return err
	}
	r.awaitSync(ctx)
	return nil
}

func (r *Registry) removeCheck(ctx context.Context, id string) error {
	r.change.Lock()
	defer r.change.Unlock()
	if r.checks[id] == nil {
		return unknownCheck(id)
	}
	p := newPlan()
	p.goneChecks = []string{id}
	r.dropCheckFiles(p, id)
	return r.carryOutAsked(ctx, p, id)
}

func unknownService(id string) error {
	return unknown("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
}

func unknownCheck(id string) error {
	return unknown("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}

// dropCheckFiles adds the removal of all that is on disk about a check.
func (r *Registry) dropCheckFiles(p *plan, id string) {
	r.store.drop(&p.files, checksFolder, id)
	r.store.drop(&p.files, stateFolder, id)
}

// checksOf returns the IDs of the checks of an instance, in order.
func (r *Registry) checksOf(service string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id, c := range r.checks {
		if c.row.ServiceID == service {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
