package agent

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// remembering is a [dnsserver.Lookup] of a client agent: it keeps what was asked
// for, follows its changes, and goes on answering while no server can be reached.
// What nobody asks for any more is forgotten.
type remembering struct {
	lookup dnsserver.Lookup
	ctx    context.Context // ends with the agent

	mu   sync.Mutex
	kept map[string]*remembered
}

// remembered is the newest answer to one question.
type remembered struct {
	ready chan struct{} // closed when there is a first answer, or an error

	mu      sync.Mutex
	value   any
	meta    mvcc.Meta
	err     error     // of the first question only
	sure    time.Time // when a server last said so
	current bool      // whether a server is being waited for, and would tell of a change
	asked   time.Time
	bound   time.Duration // how old an answer may be, as was asked for last; zero is no bound
}

// age is how old the answer may be by now. The lock is held.
func (it *remembered) age() time.Duration { return it.meta.LastContact + time.Since(it.sure) }

var _ dnsserver.Lookup = (*remembering)(nil)

func newRemembering(ctx context.Context, lookup dnsserver.Lookup) *remembering {
	return &remembering{lookup: lookup, ctx: ctx, kept: map[string]*remembered{}}
}

// Service returns all instances that the query matches.
func (r *remembering) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	return recall(ctx, r, o, "service", q, r.lookup.Service)
}

// Node returns the node of that name, or nil.
func (r *remembering) Node(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error) {
	return recall(ctx, r, o, "node", q, r.lookup.Node)
}

// Address returns who has an IP address, or nil.
func (r *remembering) Address(ctx context.Context, o mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error) {
	return recall(ctx, r, o, "address", q, r.lookup.Address)
}

// asking is one of the methods of the lookup underneath.
type asking[Q, V any] func(ctx context.Context, o mvcc.ReadOptions, q Q) (V, mvcc.Meta, error)

// recall answers from memory, if that may be so old, and else asks.
func recall[Q, V any](ctx context.Context, r *remembering, o mvcc.ReadOptions, kind string, q Q, fn asking[Q, V]) (V, mvcc.Meta, error) {
	if o.Mode != mvcc.Stale || o.Index > 0 {
		return fn(ctx, o, q)
	}
	name, err := json.Marshal(q)
	if err != nil || len(name) > maxMemoKey {
		return fn(ctx, o, q)
	}
	it, fresh := r.entry(kind+o.Datacenter+"/"+string(name), o.MaxStale)
	if it == nil {
		return fn(ctx, o, q)
	}
	if fresh {
		go follow(r, it, kind+o.Datacenter+"/"+string(name), o, q, fn)
	}
	var none V
	select {
	case <-it.ready:
	case <-ctx.Done():
		return none, mvcc.Meta{}, ctx.Err()
	}
	it.mu.Lock()
	it.asked, it.bound = time.Now(), o.MaxStale
	value, meta, err, current, age := it.value, it.meta, it.err, it.current, it.age()
	it.mu.Unlock()
	late := o.MaxStale > 0 && age > o.MaxStale
	switch {
	case err != nil:
		return none, meta, err
	case current && late:
		// The server that is waited for may itself not hear of changes any more.
		return fn(ctx, o, q)
	case !current:
		meta.LastContact, meta.KnownLeader = age, false
		if late {
			return none, meta, &mvcc.Error{Code: mvcc.NoLeader, Text: "no server can be reached, and what was known is " + age.Round(time.Second).String() + " old"}
		}
	}
	return value.(V), meta, nil
}

// waitFor is how long a question for a change waits. Where answers may not be old,
// the server has to say again soon that they are not.
func waitFor(nothing bool, bound time.Duration) time.Duration {
	wait := rememberWait
	if nothing {
		wait = rememberNothing
	}
	if bound > 0 {
		wait = min(wait, max(bound/2, rememberLeast))
	}
	return wait
}

// entry returns what is kept under a name, and whether it was made just now, for
// answers no older than bound; nil if no more can be kept.
func (r *remembering) entry(name string, bound time.Duration) (it *remembered, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it, ok := r.kept[name]; ok {
		return it, false
	}
	if len(r.kept) >= maxRemembered || r.ctx.Err() != nil {
		return nil, false
	}
	it = &remembered{ready: make(chan struct{}), asked: time.Now(), bound: bound}
	r.kept[name] = it
	return it, true
}

func (r *remembering) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kept, name)
}

// isNothing reports whether an answer says that there is none: anybody can ask for
// names that nobody has.
func isNothing(value any) bool {
	switch v := value.(type) {
	case []health.Entry:
		return len(v) == 0
	case *catalog.Node:
		return v == nil
	case *catalog.AddressOwner:
		return v == nil
	}
	return false
}

// follow keeps one answer true until nobody asks for it any more.
func follow[Q, V any](r *remembering, it *remembered, name string, o mvcc.ReadOptions, q Q, fn asking[Q, V]) {
	defer r.forget(name)
	first, nothing := true, false
	bound := o.MaxStale
	o.MaxStale = 0
	index := uint64(0)
	for r.ctx.Err() == nil {
		o.Index, o.Wait = index, 0
		if index > 0 {
			o.Wait = waitFor(nothing, bound)
		}
		value, meta, err := fn(r.ctx, o, q)
		it.mu.Lock()
		switch {
		case err == nil:
			it.value, it.meta, it.sure, it.current = value, meta, time.Now(), true
			if meta.Index < index {
				meta.Index = 0 // the state was replaced: begin anew
			}
			index = meta.Index
		case first:
			it.err = err
		default:
			it.current = false
			index = 0
		}
		nothing = err == nil && isNothing(value)
		keep := rememberFor
		if nothing {
			keep = rememberNothing
		}
		idle := time.Since(it.asked) > keep
		bound = it.bound
		it.mu.Unlock()
		if first {
			close(it.ready)
			if err != nil {
				return
			}
			first = false
		}
		if idle {
			return
		}
		if err != nil {
			timer := time.NewTimer(rememberRetry)
			select {
			case <-timer.C:
			case <-r.ctx.Done():
			}
			timer.Stop()
		}
	}
}
