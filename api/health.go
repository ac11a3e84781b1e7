package api

import (
	"strconv"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// healthService shows the instances of a service with their checks.
func healthService(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingService)
	}
	passing, err := c.passing()
	if err != nil {
		return nil, err
	}
	o, keep, err := readFiltered[serviceEntry](c)
	if err != nil {
		return nil, err
	}
	q := &health.ServiceQuery{Service: c.rest, Tags: c.query["tag"], NodeMeta: c.nodeMeta()}
	entries, meta, err := ask(c, o, q, c.h.Health.Service)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	return shared{meta, func() any {
		out := make([]*serviceEntry, 0, len(entries))
		if c.value("peer") != "" {
			return out // Muster has no peers
		}
		for i := range entries {
			if passing && !AllPass(&entries[i]) {
				continue
			}
			if shown := newServiceEntry(&entries[i], c.shownDatacenter()); keep(shown) {
				out = append(out, shown)
			}
		}
		return out
	}}, nil
}

// AllPass reports whether every check of e passes, which is more than that none
// of them is known to be bad.
func AllPass(e *health.Entry) bool {
	for _, check := range e.Checks {
		if check.Status != health.Passing {
			return false
		}
	}
	return true
}

// passing reads whether only healthy instances are wanted.
func (c *call) passing() (bool, error) {
	text := c.value("passing")
	if text == "" {
		return c.has("passing"), nil
	}
	passing, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest(textInvalidPassing)
	}
	return passing, nil
}

// healthNode shows all checks of a node and of the instances on it.
func healthNode(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingNode)
	}
	return c.checks(func(o mvcc.ReadOptions) ([]*health.Check, mvcc.Meta, error) {
		return ask(c, o, &health.NodeChecks{Node: c.rest}, c.h.Health.NodeChecks)
	})
}

// healthChecks shows the checks of all instances of a service.
func healthChecks(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingService)
	}
	return c.checks(func(o mvcc.ReadOptions) ([]*health.Check, mvcc.Meta, error) {
		return ask(c, o, &health.ServiceChecks{Service: c.rest, NodeMeta: c.nodeMeta()}, c.h.Health.ServiceChecks)
	})
}

// healthState shows all checks with a status. One that no check has is no
// error: checkers of their own may register any.
func healthState(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingState)
	}
	return c.checks(func(o mvcc.ReadOptions) ([]*health.Check, mvcc.Meta, error) {
		return ask(c, o, &health.StateChecks{State: c.rest, NodeMeta: c.nodeMeta()}, c.h.Health.StateChecks)
	})
}

// checks answers with those checks of a read that pass the filter.
func (c *call) checks(read func(mvcc.ReadOptions) ([]*health.Check, mvcc.Meta, error)) (any, error) {
	o, keep, err := readFiltered[healthCheck](c)
	if err != nil {
		return nil, err
	}
	checks, meta, err := read(o)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	out := make([]*healthCheck, 0, len(checks))
	for _, check := range checks {
		if shown := newHealthCheck(check); keep(shown) {
			out = append(out, shown)
		}
	}
	return out, nil
}
