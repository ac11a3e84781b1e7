package local

import (
	"context"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// Names and remarks of the checks that take something out of service.
const (
	nodeMaintenanceName    = "Node Maintenance Mode"
	serviceMaintenanceName = "Service Maintenance Mode"
	nodeNoReason           = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
	serviceNoReason        = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
)

// SetNodeMaintenance takes the node with all its instances out of service, or
// puts it back. To ask for what is so already changes nothing, not even the
// reason. It survives a restart.
func (r *Registry) SetNodeMaintenance(ctx context.Context, on bool, reason string) error {
	if reason == "" {
		reason = nodeNoReason
	}
	return r.setMaintenance(ctx, on, check.Definition{ID: health.NodeMaintenance, Name: nodeMaintenanceName, Notes: reason})
}

// SetServiceMaintenance does for one instance what [Registry.SetNodeMaintenance]
// does for all.
func (r *Registry) SetServiceMaintenance(ctx context.Context, id string, on bool, reason string) error {
	if reason == "" {
		reason = serviceNoReason
	}
	return r.setMaintenance(ctx, on, check.Definition{
		ID: health.ServiceMaintenancePrefix + id, Name: serviceMaintenanceName, Notes: reason, ServiceID: id,
	})
}

func (r *Registry) setMaintenance(ctx context.Context, on bool, d check.Definition) error {
	changed, err := r.switchMaintenance(ctx, on, d)
	if err == nil && changed {
		r.awaitSync(ctx)
	}
	return err
}

func (r *Registry) switchMaintenance(ctx context.Context, on bool, d check.Definition) (changed bool, err error) {
	r.change.Lock()
	defer r.change.Unlock()
	row, err := r.serviceOf(&d)
	if err != nil {
		return false, unknownService(d.ServiceID)
	}
	if on == (r.checks[d.ID] != nil) {
		return false, nil
	}
	p := newPlan()
	if !on {
		p.goneChecks = []string{d.ID}
		r.dropCheckFiles(p, d.ID)
		return true, r.carryOutAsked(ctx, p, d.ID)
	}
	c := r.newMaintenance(d, row)
	p.checks[d.ID] = c
	if err := r.room(p); err != nil {
		return false, err
	}
	if err := r.store.put(&p.files, checksFolder, d.ID, newCheckRecord(c.row, &d)); err != nil {
		return false, err
	}
	return true, r.carryOutAsked(ctx, p, d.ID)
}

// newMaintenance is a check that nobody runs: it is critical until it is removed.
func (r *Registry) newMaintenance(d check.Definition, s *catalog.Service) *localCheck {
	d.Normalize()
	c := r.newCheck(d, s, true, false)
	c.row.Type = check.Maintenance
	return c
}
