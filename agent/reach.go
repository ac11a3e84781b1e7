package agent

import (
	"context"
	"errors"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// whileReachable is a [dnsserver.Lookup] that looks for a server, and waits for a
// leader, only while there is a server that could be reached: resolvers give up soon,
// and what they ask piles up until then. Each question is put all the same, so that a
// server that is back is found.
type whileReachable struct {
	lookup dnsserver.Lookup
	remote *remote
}

var _ dnsserver.Lookup = whileReachable{}

// Service returns all instances that the query matches.
func (w whileReachable) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	return reach(ctx, w.remote, o, q, w.lookup.Service)
}

// Node returns the node of that name, or nil.
func (w whileReachable) Node(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error) {
	return reach(ctx, w.remote, o, q, w.lookup.Node)
}

// Address returns who has an IP address, or nil.
func (w whileReachable) Address(ctx context.Context, o mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error) {
	return reach(ctx, w.remote, o, q, w.lookup.Address)
}

// errUnreachable ends a question while no server can be reached.
var errUnreachable = errors.New("no server can be reached")

// reach asks for as long as a server can be reached. What waits for a change waits
// for long anyway.
func reach[Q, V any](ctx context.Context, r *remote, o mvcc.ReadOptions, q Q, ask asking[Q, V]) (V, mvcc.Meta, error) {
	if o.Index > 0 {
		return ask(ctx, o, q)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		look := time.NewTicker(reachLook)
		defer look.Stop()
		for out := 0; out < reachLooks; {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			if out++; r.reachesAny() {
				out = 0
			}
		}
		end(errUnreachable)
	}()
	value, meta, err := ask(ctx, o, q)
	if err != nil && errors.Is(context.Cause(ctx), errUnreachable) {
		err = &mvcc.Error{Code: mvcc.NoLeader, Text: "no server can be reached: all that are known failed, or take no connection"}
	}
	return value, meta, err
}

// reachesAny reports whether there is a server that could be asked, as far as is
// known. An agent that never met one is looking for the first.
func (r *remote) reachesAny() bool {
	calls, ok := r.calls.(interface{ Reachable(id string) bool })
	if !ok {
		return true
	}
	for _, id := range r.servers() {
		if calls.Reachable(id) {
			return true
		}
	}
	return !r.router.metAny()
}
