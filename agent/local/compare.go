package local

import (
	"maps"
	"slices"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// compare marks what differs between the catalog and the registry. What it is
// given is shared with all readers of the catalog and is not written to.
func (r *Registry) compare(detail *catalog.NodeDetail, checks []*health.Check) {
	r.report(r.compareAll(detail, checks))
}

// compareAll marks, and returns what others did that is worth telling.
func (r *Registry) compareAll(detail *catalog.NodeDetail, checks []*health.Check) []finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := &findings{before: r.reported, now: map[string]uint64{}}
	if detail != nil && !strings.EqualFold(detail.Node.Name, r.node.Name) {
		detail = nil // another node, found by its ID
	}
	var services []*catalog.Service
	before := r.nodeSync
	r.nodeSync = false
	if detail != nil {
		services = detail.Services
		r.nodeSync = detail.Node.Equal(&r.node)
		if before && !r.nodeSync {
			found.add(finding{logOverwritten, "node", detail.Node.Name, detail.Node.ModifyIndex, useConfiguration})
		}
	}
	whole := before && detail == nil // somebody took the node away with all that it has
	if whole {
		found.add(finding{logTakenAway, "node", r.node.Name, 0, "PUT /v1/agent/leave of this agent"})
	}
	r.compareServices(services, found, whole)
	r.compareChecks(checks, found, whole)
	r.reported = found.now
	return found.fresh
}

func (r *Registry) compareServices(remote []*catalog.Service, found *findings, whole bool) {
	missing := map[string]bool{} // what the catalog had and has no more
	for id, s := range r.services {
		if s.synced && !s.refused {
			missing[id] = true
		}
		s.synced, s.refused = false, false
	}
	ours := maps.Clone(r.goneServices)
	clear(r.goneServices)
	for _, there := range remote {
		here := r.services[there.ID]
		switch {
		case here != nil:
			if here.row.EnableTagOverride {
				r.takeTags(here, there.Tags)
			}
			here.synced = here.row.Equal(there)
			if missing[there.ID] && !here.synced {
				found.add(finding{logOverwritten, "service", there.ID, there.ModifyIndex, useServiceRegister})
			}
			delete(missing, there.ID)
		case there.ID == catalog.ServerService:
		case r.isDamaged(servicesFolder, there.ID):
			found.add(finding{logKeptDamaged, "service", there.ID, there.ModifyIndex, useServiceRegister})
		default:
			if _, removed := ours[there.ID]; !removed {
				r.foreignService(found, there)
				if r.cfg.KeepForeign {
					continue
				}
			}
			r.removals++
			r.goneServices[there.ID] = r.removals
		}
	}
	for id := range missing {
		if !whole {
			found.add(finding{logTakenAway, "service", id, 0, useServiceDeregister})
		}
	}
}

// takeTags gives an instance the tags that others wrote in the catalog.
func (r *Registry) takeTags(s *service, tags []string) {
	if slices.Equal(s.row.Tags, tags) {
		return
	}
	row := *s.row
	row.Tags = slices.Clone(tags)
	if row.Tags == nil {
		row.Tags = []string{}
	}
	s.row = &row
	r.bells.ring(bell{definitionOf, row.ID})
}

func (r *Registry) compareChecks(remote []*health.Check, found *findings, whole bool) {
	missing := map[string]bool{}
	for id, c := range r.checks {
		if s := r.services[c.row.ServiceID]; c.synced && !c.refused && (s == nil || s.synced) { // else it went with its service
			missing[id] = true
		}
		c.synced, c.refused = false, false
	}
	ours := maps.Clone(r.goneChecks)
	clear(r.goneChecks)
	for _, there := range remote {
		here := r.checks[there.ID]
		_, goes := r.goneServices[there.ServiceID]
		switch {
		case here != nil:
			here.synced = r.sameCheck(here, there)
			if missing[there.ID] && !here.synced {
				found.add(finding{logOverwritten, "check", there.ID, there.ModifyIndex, useCheckUpdate})
			}
			delete(missing, there.ID)
		case there.ID == health.SerfHealth, goes:
		case r.isDamaged(checksFolder, there.ID), there.ServiceID != "" && r.isDamaged(servicesFolder, there.ServiceID):
			found.add(finding{logKeptDamaged, "check", there.ID, there.ModifyIndex, useCheckRegister})
		default:
			if _, removed := ours[there.ID]; !removed {
				r.foreignCheck(found, there)
				if r.cfg.KeepForeign {
					continue
				}
			}
			r.removals++
			r.goneChecks[there.ID] = r.removals
		}
	}
	for id := range missing {
		if !whole {
			found.add(finding{logTakenAway, "check", id, 0, useCheckDeregister})
		}
	}
}

// sameCheck reports whether the catalog is right about a check. A change of
// output that waits does not count, nor do tags that others wrote.
func (r *Registry) sameCheck(here *localCheck, there *health.Check) bool {
	want := *here.row
	if here.later != nil {
		want.Output = there.Output
	}
	if s := r.services[want.ServiceID]; s != nil && s.row.EnableTagOverride {
		want.ServiceTags = there.ServiceTags
	}
	return want.Equal(there)
}
