package local

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
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

// entry names an instance, or a check, in the catalog.
type entry struct {
	check bool
	id    string
}

func instance(id string) entry { return entry{id: id} }
func checkOf(id string) entry  { return entry{check: true, id: id} }

// asked remembers who asked for the next write of an entry to the catalog, so
// that the log names the caller and not only this agent. Whatever is written
// again later, nobody asked for.
func (r *Registry) asked(ctx context.Context, e entry) {
	if origin := mvcc.OriginOf(ctx); origin != (mvcc.Origin{}) {
		r.mu.Lock()
		r.askers[e] = origin
		r.mu.Unlock()
	}
}

// byAsker returns ctx with the origin of whoever asked for the next write of an
// entry. The returned function is called when that was written, or will never
// be.
func (r *Registry) byAsker(ctx context.Context, e entry) (_ context.Context, done func()) {
	r.mu.Lock()
	origin, ok := r.askers[e]
	r.mu.Unlock()
	if !ok {
		return ctx, func() {}
	}
	return mvcc.WithOrigin(ctx, origin), func() { r.forgetAsker(e, origin) }
}

// forgetAsker forgets who asked, unless somebody has asked again.
func (r *Registry) forgetAsker(e entry, origin mvcc.Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.askers[e] == origin {
		delete(r.askers, e)
	}
}

// forgetAnswered forgets who asked for what the catalog has by now, by whatever way
// it got there: the next write is none of theirs.
func (r *Registry) forgetAnswered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.askers, func(e entry, _ mvcc.Origin) bool {
		if e.check {
			_, gone := r.goneChecks[e.id]
			c := r.checks[e.id]
			return !gone && (c == nil || c.synced)
		}
		_, gone := r.goneServices[e.id]
		s := r.services[e.id]
		return !gone && (s == nil || s.synced)
	})
}

// turnedBy notes who changed the status of a TTL check: a caller, or nobody but its
// time. The lock is held.
func (r *Registry) turnedBy(c *localCheck) {
	switch {
	case c.def.Kind() != check.TTL:
	case c.caller != (mvcc.Origin{}) && c.called == c.row.Status:
		r.askers[checkOf(c.row.ID)] = c.caller
	default:
		delete(r.askers, checkOf(c.row.ID))
	}
}

// byOrigin groups checks by who asked for their next write; those that nobody asked
// for come first, under no origin.
func (r *Registry) byOrigin(checks []*health.Check) (origins []mvcc.Origin, groups map[mvcc.Origin][]*health.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	groups = map[mvcc.Origin][]*health.Check{}
	for _, row := range checks {
		origin := r.askers[checkOf(row.ID)]
		if groups[origin] == nil && origin != (mvcc.Origin{}) {
			origins = append(origins, origin)
		}
		groups[origin] = append(groups[origin], row)
	}
	return append([]mvcc.Origin{{}}, origins...), groups
}
