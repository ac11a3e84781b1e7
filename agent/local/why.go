package local

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// InstanceState is what this agent knows of one of its instances beyond what the
// catalog holds.
type InstanceState struct {
	Service *catalog.Service // shared: nobody may write to it
	// FromFile is whether a file of the configuration defines the instance.
	FromFile bool
	// Synced is whether the catalog knows of the instance as it is. Refused is
	// whether the catalog would not take it; it is offered again at times.
	Synced, Refused bool
	// Checks are those that decide its health: of the node first, then its own,
	// each ordered by ID. What the cluster itself says of the node is not among
	// them.
	Checks []CheckDetail
}

// CheckDetail is all that this agent knows of a check.
type CheckDetail struct {
	CheckState
	// Definition is how it is carried out. It is shared: nobody may write to it.
	Definition *check.Definition
	// LastRun and NextRun are as [check.Runner.Schedule] says; both are zero while
	// nobody carries the check out.
	LastRun, NextRun time.Time
	// OutputDue is when the catalog will be told what the check says now, if that
	// waits because only the output has changed; else zero.
	OutputDue time.Time
}

// InstanceState tells about an instance that is registered here.
func (r *Registry) InstanceState(id string) (state InstanceState, ok bool) {
	// Runners belong to the change lock. They have locks of their own, under which
	// they take mu: those are not taken under it.
	r.change.RLock()
	defer r.change.RUnlock()
	runners := map[string]*check.Runner{}
	r.mu.Lock()
	s := r.services[id]
	if s == nil {
		r.mu.Unlock()
		return InstanceState{}, false
	}
	state = InstanceState{Service: s.row, FromFile: s.fromFile, Synced: s.synced && !s.refused, Refused: s.refused}
	now := time.Now()
	for checkID, c := range r.checks {
		if c.row.ServiceID != "" && c.row.ServiceID != id {
			continue
		}
		state.Checks = append(state.Checks, CheckDetail{CheckState: c.state(now), Definition: &c.def, OutputDue: c.due})
		runners[checkID] = c.runner
	}
	r.mu.Unlock()
	for i := range state.Checks {
		d := &state.Checks[i]
		if runner := runners[d.Check.ID]; runner != nil {
			d.LastRun, d.NextRun = runner.Schedule()
		}
	}
	slices.SortFunc(state.Checks, func(a, b CheckDetail) int {
		if ofNode := a.Check.ServiceID == ""; ofNode != (b.Check.ServiceID == "") {
			if ofNode {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Check.ID, b.Check.ID)
	})
	return state, true
}

// sweepOrigin is what the log says of an instance that was removed because it was
// critical for too long.
const sweepOrigin = "deregister_critical_service_after"

// asked remembers who asked for the next write of an instance to the catalog, so
// that the log names the caller and not only this agent. Whatever is written
// again later, nobody asked for.
func (r *Registry) asked(ctx context.Context, id string) {
	if origin := mvcc.OriginOf(ctx); origin != (mvcc.Origin{}) {
		r.mu.Lock()
		r.askers[id] = origin
		r.mu.Unlock()
	}
}

// byAsker returns ctx with the origin of whoever asked for the next write of an
// instance. The returned function is called when that was written, or will never
// be.
func (r *Registry) byAsker(ctx context.Context, id string) (_ context.Context, done func()) {
	r.mu.Lock()
	origin, ok := r.askers[id]
	r.mu.Unlock()
	if !ok {
		return ctx, func() {}
	}
	return mvcc.WithOrigin(ctx, origin), func() { r.forgetAsker(id, origin) }
}

// forgetAsker forgets who asked, unless somebody has asked again.
func (r *Registry) forgetAsker(id string, origin mvcc.Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.askers[id] == origin {
		delete(r.askers, id)
	}
}
