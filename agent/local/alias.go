package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// target returns what an alias check mirrors, nil for checks of other kinds. The
// change lock is held.
func (r *Registry) target(d *check.Definition) check.Target {
	switch {
	case d.Kind() != check.Alias:
		return nil
	case d.AliasNode == "":
		return &localTarget{registry: r, self: d.ID, service: d.AliasService}
	default:
		return &remoteTarget{catalog: r.catalog, own: r.cfg.Node.Name, self: d.ID, node: d.AliasNode, service: d.AliasService}
	}
}

// decides reports whether a check counts for an instance of its node, or for the
// node if service is empty: those of the instance and those of the node do. Alias
// checks of the node do not: two of them would hold each other critical for ever.
func decides(c *health.Check, kind, service string) bool {
	if c.ServiceID == "" {
		return kind != check.Alias
	}
	return c.ServiceID == service
}

// localTarget is an instance of this agent.
type localTarget struct {
	registry *Registry
	self     string // the ID of the alias check
	service  string
	changed  [2]<-chan struct{} // of the instance and of the node, since the last look
}

// Next waits for a change, but not the first time.
func (t *localTarget) Next(ctx context.Context) (check.TargetState, error) {
	if t.changed[0] != nil {
		limit := time.NewTimer(check.AliasInterval)
		defer limit.Stop()
		select {
		case <-t.changed[0]:
		case <-t.changed[1]:
		case <-limit.C:
		case <-ctx.Done():
			return check.TargetState{}, ctx.Err()
		}
	}
	return t.look(), nil
}

func (t *localTarget) look() check.TargetState {
	r := t.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	t.changed = [2]<-chan struct{}{r.bells.on(bell{healthOf, t.service}), r.bells.on(bell{healthOf, ""})}
	state := check.TargetState{Found: r.services[t.service] != nil}
	for id, c := range r.checks {
		if id != t.self && decides(c.row, c.def.Kind(), t.service) {
			state.Checks = append(state.Checks, c.row)
		}
	}
	slices.SortFunc(state.Checks, func(a, b *health.Check) int { return strings.Compare(a.ID, b.ID) })
	return state
}

// remoteTarget is a node, or an instance on it, as the catalog knows it.
type remoteTarget struct {
	catalog       Catalog
	own           string // the name of this agent's node
	self          string
	node, service string

	detail      *catalog.NodeDetail
	detailIndex uint64
	checks      []*health.Check
	checksIndex uint64
	looked      bool
}

// Next reads the catalog, and waits for it to change if that is not the first
// time.
func (t *remoteTarget) Next(ctx context.Context) (check.TargetState, error) {
	if t.looked { // else a catalog that changes all the time would be asked all the time
		pause := time.NewTimer(AliasPause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
	if err := t.look(ctx); err != nil {
		t.detailIndex, t.checksIndex = 0, 0
		return check.TargetState{}, err
	}
	t.looked = true
	return t.state(), nil
}

// look asks for the node's services and its checks at once. The first time it
// takes both answers, later the one that changes first.
func (t *remoteTarget) look(ctx context.Context) error {
	both := t.detailIndex == 0 || t.checksIndex == 0
	ctx, cancel := context.WithTimeout(ctx, check.AliasInterval+CatalogTimeout)
	defer cancel()
	options := func(index uint64) mvcc.ReadOptions {
		return mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: check.AliasMaxStale, Index: index, Wait: check.AliasInterval}
	}
	var asked sync.WaitGroup
	var detailErr, checksErr error
	asked.Go(func() {
		detail, meta, err := t.catalog.NodeServices(ctx, options(t.detailIndex), &catalog.NodeServices{Node: t.node})
		if detailErr = err; err == nil {
			t.detail, t.detailIndex = detail, meta.Index
		}
		if !both {
			cancel()
		}
	})
	asked.Go(func() {
		checks, meta, err := t.catalog.NodeChecks(ctx, options(t.checksIndex), &health.NodeChecks{Node: t.node})
		if checksErr = err; err == nil {
			t.checks, t.checksIndex = checks, meta.Index
		}
		if !both {
			cancel()
		}
	})
	asked.Wait()
	if detailErr != nil && (both || checksErr != nil) {
		return fmt.Errorf("cannot read the services of node %q: %w", t.node, detailErr)
	}
	if checksErr != nil && both {
		return fmt.Errorf("cannot read the checks of node %q: %w", t.node, checksErr)
	}
	return nil
}

// state is what the catalog said last.
func (t *remoteTarget) state() check.TargetState {
	state := check.TargetState{}
	for _, c := range t.checks {
		if decides(c, c.Type, t.service) && (c.ID != t.self || !strings.EqualFold(c.Node, t.own)) {
			state.Checks = append(state.Checks, c)
		}
	}
	known := t.detail != nil && strings.EqualFold(t.detail.Node.Name, t.node)
	switch {
	case t.service != "":
		state.Found = known && slices.ContainsFunc(t.detail.Services, func(s *catalog.Service) bool { return s.ID == t.service })
	case known:
		state.Found = len(state.Checks) > 0
	default: // clients know it so of a node that is not there
		state = check.TargetState{Found: true}
	}
	return state
}
