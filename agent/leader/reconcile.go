package leader

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// reconcileMembers brings the catalog in line with the members at once, after
// each change of them, and now and then in case something slipped by.
func (d *Deps) reconcileMembers(ctx context.Context) {
	d.onChange(ctx, "cannot bring the catalog in line with the members", func() (time.Duration, error) {
		return ReconcileInterval, d.reconcile(ctx)
	})
}

// onChange takes a step at once, after each change of the members, and when the time
// is over that the step returns: soon, if it failed, which the log is told as trouble.
func (d *Deps) onChange(ctx context.Context, trouble string, step func() (again time.Duration, err error)) {
	changed, cancel := d.Pool.Subscribe()
	defer cancel()
	for {
		wait, err := step()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			d.Logger.Warn(trouble, "error", err)
			wait = min(wait, retryInterval)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// reconcile goes through all members, and then through the nodes that were
// members once. One that cannot be written does not keep the others waiting.
func (d *Deps) reconcile(ctx context.Context) error {
	errs := []error{d.keepAutopilotConfig(ctx)}
	members := map[string]bool{strings.ToLower(d.Self().Name): true}
	living := map[string]bool{}
	all := d.Pool.Members()
	for _, m := range all {
		living[strings.ToLower(m.Name)] = living[strings.ToLower(m.Name)] || m.Status == gossip.Alive
	}
	for _, m := range all {
		members[strings.ToLower(m.Name)] = true
		d.seen[strings.ToLower(m.Name)] = true
		d.meet(m.ID)
		if m.Status != gossip.Alive && living[strings.ToLower(m.Name)] {
			continue // it lives on, in other capital letters
		}
		errs = append(errs, d.reconcileMember(ctx, &m))
	}
	view := d.View()
	checks, _ := view.Health.StateChecks(view.Catalog, &health.StateChecks{State: health.AnyState}, nil)
	for _, c := range checks {
		// Nodes without this check were never members: others registered them.
		name := strings.ToLower(c.Node)
		if c.ID == health.SerfHealth && !members[name] && (d.seen[name] || d.settled()) {
			errs = append(errs, d.Apply(ctx, &catalog.Deregister{Node: c.Node}))
		}
	}
	return errors.Join(errs...)
}

// meet notes the ID of a member, or of one that was.
func (d *Deps) meet(id string) {
	if d.Autopilot != nil {
		d.Autopilot.Meet(id)
	}
}

func (d *Deps) reconcileMember(ctx context.Context, m *gossip.Member) error {
	switch m.Status {
	case gossip.Alive:
		return d.memberAlive(ctx, m)
	case gossip.Failed:
		return d.memberFailed(ctx, m)
	case gossip.Left:
		return d.memberLeft(ctx, m)
	default:
		return nil
	}
}

// memberAlive writes the member's node, its liveness and, for a server, the
// service that stands for it. The node's addresses and metadata beyond what
// gossip knows belong to the member's own agent and are left as they are.
func (d *Deps) memberAlive(ctx context.Context, m *gossip.Member) error {
	var service *catalog.Service
	if m.IsServer() {
		service = serverService(m)
	}
	if err := d.releaseName(ctx, m); err != nil {
		return err
	}
	return d.write(ctx, m, service, liveness(m.Name, health.Passing, health.SerfAlive))
}

// releaseName lets a member have the name of a node with another ID. That one is
// no member any more: it may have been replaced so soon that nobody missed it. One
// that lives, and writes its name in other capital letters, keeps it.
func (d *Deps) releaseName(ctx context.Context, m *gossip.Member) error {
	view := d.View()
	n, _ := view.Catalog.Node(&catalog.NodeQuery{Name: m.Name}, nil)
	if n == nil || n.ID == "" || m.ID == "" || strings.EqualFold(n.ID, m.ID) {
		return nil
	}
	for _, other := range d.Pool.Members() {
		if other.Status == gossip.Alive && strings.EqualFold(other.ID, n.ID) && strings.EqualFold(other.Name, n.Name) {
			return fmt.Errorf("the members %q (id %s at %s) and %q (id %s at %s) have one name in the catalog: start one of them with another, by -node",
				other.Name, other.ID, other.Addr, m.Name, m.ID, m.Addr)
		}
	}
	// Nobody else has that name, so the ID is not waited for, whoever led when it was
	// lost.
	d.meet(n.ID)
	gone := *m
	gone.ID = n.ID
	return d.memberFailed(ctx, &gone)
}

// memberFailed marks the node, if it is known, and keeps all that stands on it.
func (d *Deps) memberFailed(ctx context.Context, m *gossip.Member) error {
	if n, _ := d.View().Catalog.Node(&catalog.NodeQuery{Name: m.Name}, nil); n == nil {
		return nil // somebody removed it, and it did not come back since
	}
	return d.write(ctx, m, nil, liveness(m.Name, health.Critical, health.SerfFailed))
}

// write registers a member's node, instance and liveness, unless the catalog
// has them all.
func (d *Deps) write(ctx context.Context, m *gossip.Member, service *catalog.Service, alive health.Check) error {
	r := &health.Register{
		Registration: catalog.Registration{Node: d.nodeOf(m), Service: service},
		Checks:       []health.Check{alive},
	}
	if err := r.Normalize(); err != nil {
		return err
	}
	r.SkipNodeUpdate = d.standsAs(&r.Node)
	if r.SkipNodeUpdate && d.holds(r) {
		return nil
	}
	return d.Apply(ctx, r)
}

// memberLeft removes the node and all that stands on it. The leader never
// removes itself.
func (d *Deps) memberLeft(ctx context.Context, m *gossip.Member) error {
	if strings.EqualFold(m.Name, d.Self().Name) {
		return nil
	}
	view := d.View()
	if n, _ := view.Catalog.Node(&catalog.NodeQuery{Name: m.Name}, nil); n == nil {
		return nil
	}
	return d.Apply(ctx, &catalog.Deregister{Node: m.Name})
}

// nodeOf is a member's node as far as gossip knows it; of itself the leader
// knows everything.
func (d *Deps) nodeOf(m *gossip.Member) catalog.Node {
	if strings.EqualFold(m.Name, d.Self().Name) {
		return d.Self()
	}
	return catalog.Node{ID: m.ID, Name: m.Name, Address: m.Addr.String()}
}

// standsAs reports whether the catalog has the node with this ID and address.
// Of the leader's own node all must be equal.
func (d *Deps) standsAs(n *catalog.Node) bool {
	has, _ := d.View().Catalog.Node(&catalog.NodeQuery{Name: n.Name}, nil)
	if has == nil {
		return false
	}
	if strings.EqualFold(n.Name, d.Self().Name) {
		return has.Equal(n)
	}
	return has.ID == n.ID && has.Address == n.Address
}

// holds reports whether the catalog already has the instance and the checks of
// r, so that nothing needs to go through the log.
func (d *Deps) holds(r *health.Register) bool {
	view := d.View()
	detail, _ := view.Catalog.NodeServices(&catalog.NodeServices{Node: r.Node.Name}, nil)
	if detail == nil {
		return false
	}
	if r.Service != nil {
		want, found := *r.Service, false
		want.Node = detail.Node.Name
		for _, s := range detail.Services {
			found = found || s.Equal(&want)
		}
		if !found {
			return false
		}
	}
	has, _ := view.Health.NodeChecks(&health.NodeChecks{Node: r.Node.Name}, nil)
	for _, want := range r.Checks {
		want.Node = detail.Node.Name
		found := false
		for _, c := range has {
			found = found || c.Equal(&want)
		}
		if !found {
			return false
		}
	}
	return true
}

func liveness(node string, status health.Status, output string) health.Check {
	return health.Check{Node: node, ID: health.SerfHealth, Name: health.SerfHealthName, Status: status, Output: output}
}

// serverService is the service that stands for a server agent: its port, and
// what its tags say about versions.
func serverService(m *gossip.Member) *catalog.Service {
	port, _ := strconv.Atoi(m.Tags["port"]) // a tag of ours; without one the port is unknown
	return &catalog.Service{
		ID:   catalog.ServerService,
		Name: catalog.ServerService,
		Port: port,
		Meta: map[string]string{
			"non_voter":             "false",
			"raft_version":          m.Tags["raft_vsn"],
			"read_replica":          "false",
			"serf_protocol_current": strconv.Itoa(gossip.ProtocolCur),
			"serf_protocol_min":     strconv.Itoa(gossip.ProtocolMin),
			"serf_protocol_max":     strconv.Itoa(gossip.ProtocolMax),
			"version":               versionOf(m),
		},
	}
}

// versionOf is the version that a member tells of itself.
func versionOf(m *gossip.Member) string {
	version, _, _ := strings.Cut(m.Tags["build"], ":")
	return version
}
