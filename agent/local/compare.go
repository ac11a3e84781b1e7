package local

import (
	"slices"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// compare marks what differs between the catalog and the registry. What it is
// given is shared with all readers of the catalog and is not written to.
func (r *Registry) compare(detail *catalog.NodeDetail, checks []*health.Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if detail != nil && !strings.EqualFold(detail.Node.Name, r.node.Name) {
		detail = nil // another node, found by its ID
	}
	var services []*catalog.Service
	r.nodeSync = false
	if detail != nil {
		services = detail.Services
		r.nodeSync = detail.Node.Equal(&r.node)
	}
	r.compareServices(services)
	r.compareChecks(checks)
}

func (r *Registry) compareServices(remote []*catalog.Service) {
	for _, s := range r.services {
		s.synced = false
	}
	clear(r.goneServices)
	for _, there := range remote {
		here := r.services[there.ID]
		switch {
		case here != nil:
			if here.row.EnableTagOverride {
				r.takeTags(here, there.Tags)
			}
			here.synced = here.row.Equal(there)
		case there.ID != catalog.ServerService:
			r.removals++
			r.goneServices[there.ID] = r.removals
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
}

func (r *Registry) compareChecks(remote []*health.Check) {
	for _, c := range r.checks {
		c.synced = false
	}
	clear(r.goneChecks)
	for _, there := range remote {
		here := r.checks[there.ID]
		_, goes := r.goneServices[there.ServiceID]
		switch {
		case here != nil:
			here.synced = r.sameCheck(here, there)
		case there.ID != health.SerfHealth && !goes:
			r.removals++
			r.goneChecks[there.ID] = r.removals
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
