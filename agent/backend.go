package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/local"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// backend answers and applies for everybody in the agent who reads or changes
// what the cluster has agreed on. It alone decides who may answer: today that
// is always this server.
type backend struct {
	datacenter string
	nodeName   string
	machine    *state.Machine
	node       *consensus.Node
	// hold is how long a request waits for a leader before it fails.
	hold time.Duration
	now  func() time.Time
	memo memo
	// measure notes that a command was carried out; it may be nil.
	measure func(cmd any, began time.Time)
	// waiting is how many readers wait now, and woken how often one of them was
	// woken by a change.
	waiting atomic.Int64
	woken   atomic.Uint64
}

var (
	_ api.Keys         = (*backend)(nil)
	_ api.Catalog      = (*backend)(nil)
	_ api.Health       = (*backend)(nil)
	_ api.Transactor   = (*backend)(nil)
	_ dnsserver.Lookup = (*backend)(nil)
	_ local.Catalog    = (*backend)(nil)
)

// ask answers q here if this agent may, and says what the answer stands on.
func ask[R any](ctx context.Context, b *backend, o mvcc.ReadOptions, q any) (R, mvcc.Meta, error) {
	value, meta, err := b.answer(ctx, o, q)
	if err != nil {
		var none R
		return none, meta, err
	}
	return value.(R), meta, nil
}

// answer reads q from a view as new as o asks for, and waits for a change if o
// says so. It is the only place in the program where a read waits.
func (b *backend) answer(ctx context.Context, o mvcc.ReadOptions, q any) (any, mvcc.Meta, error) {
	var (
		watch   *mvcc.Watch
		timeout <-chan time.Time
		missing bool
		expired bool
	)
	if o.Index > 0 {
		watch = &mvcc.Watch{}
		timer := time.NewTimer(o.Wait)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		meta, err := b.fresh(ctx, o)
		if err != nil {
			return nil, meta, err
		}
		view := b.machine.View()
		a, err := b.memo.answer(view, q, watch)
		if err != nil {
			return nil, meta, err
		}
		// What was not there, and still is not, is no news, whatever happened to
		// the table around it.
		news := a.Index > o.Index && !(missing && a.Missing)
		if o.Index == 0 || expired || news {
			meta.Index, meta.Line = a.Index, view.Line()
			return a.Value, meta, nil
		}
		missing = a.Missing
		watch.Add(view.Gone())
		b.waiting.Add(1)
		expired = !watch.Wait(ctx, timeout)
		b.waiting.Add(-1)
		if ctx.Err() != nil {
			return nil, meta, ctx.Err()
		}
		if !expired {
			b.woken.Add(1)
		}
		watch.Reset()
	}
}

// fresh makes sure that the newest view is as new as o asks for, and says how
// new it is.
func (b *backend) fresh(ctx context.Context, o mvcc.ReadOptions) (mvcc.Meta, error) {
	if err := b.ours(o.Datacenter); err != nil {
		return mvcc.Meta{}, err
	}
	meta := mvcc.Meta{Mode: o.Mode}
	if o.Mode == mvcc.Stale {
		_, meta.KnownLeader = b.node.Leader()
		meta.LastContact = b.node.LastContact()
		if o.MaxStale == 0 || meta.LastContact <= o.MaxStale {
			return meta, nil
		}
		meta.Mode = mvcc.Default
	}
	if err := b.waitLeader(ctx); err != nil {
		return meta, err
	}
	if o.Mode == mvcc.Consistent {
		if err := b.node.Verify(ctx); err != nil {
			return meta, asReadError(err)
		}
	}
	meta.KnownLeader, meta.LastContact = true, 0
	return meta, nil
}

// ours refuses datacenters that nothing is known of.
func (b *backend) ours(datacenter string) error {
	if datacenter == "" || strings.EqualFold(datacenter, b.datacenter) {
		return nil
	}
	return &mvcc.Error{Code: mvcc.NoPath, Text: "No path to datacenter"}
}

// waitLeader waits until this server leads and knows all that was ever
// committed, for as long as requests are held.
func (b *backend) waitLeader(ctx context.Context) error {
	if b.node.Leading() {
		return nil
	}
	held, cancel := context.WithTimeout(ctx, b.hold)
	defer cancel()
	if err := b.node.WaitLeader(held); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return asError(err)
	}
	return nil
}

// apply hands a command to Raft and returns what it came to once it is
// committed and applied.
func (b *backend) apply(ctx context.Context, cmd any) (state.Result, error) {
	if b.measure != nil {
		defer b.measure(cmd, time.Now())
	}
	if err := b.waitLeader(ctx); err != nil {
		return state.Result{}, err
	}
	data, err := state.Encode(cmd, b.now().UnixMilli(), mvcc.OriginOf(ctx))
	if err != nil {
		return state.Result{}, err
	}
	value, err := b.node.Apply(ctx, data)
	if err != nil {
		return state.Result{}, asError(err)
	}
	result := value.(state.Result)
	if result.Err != nil {
		return result, result.Err
	}
	return result, nil
}

// asReadError is asError for what changes nothing, and so has no effect if it is
// not confirmed in time.
func asReadError(err error) error {
	if errors.Is(err, consensus.ErrTimeout) {
		return noLeader(err)
	}
	return asError(err)
}

// noLeader is the error of having no leader. It says what is wrong with the disk,
// if that is why.
func noLeader(err error) error {
	text := "No cluster leader"
	var fault *consensus.Fault
	if errors.As(err, &fault) {
		text += ": " + fault.Error()
	}
	return &mvcc.Error{Code: mvcc.NoLeader, Text: text}
}

// asError gives an error of Raft's the code that clients are answered by.
func asError(err error) error {
	var fault *consensus.Fault
	switch {
	case errors.Is(err, consensus.ErrNoLeader), errors.Is(err, consensus.ErrNotLeader):
		return noLeader(err)
	case errors.Is(err, consensus.ErrFull):
		return &mvcc.Error{Code: mvcc.DiskFull, Text: err.Error()}
	case errors.Is(err, consensus.ErrNotReady):
		return &mvcc.Error{Code: mvcc.NotReady, Text: "Not ready to serve consistent reads"}
	case errors.Is(err, consensus.ErrTooLarge):
		return &mvcc.Error{Code: mvcc.TooLarge, Text: err.Error()}
	case errors.Is(err, consensus.ErrUncertain):
		return &mvcc.Error{Code: mvcc.Timeout, Text: err.Error()}
	case errors.Is(err, consensus.ErrStopped):
		return &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the agent is shutting down"}
	case errors.As(err, &fault): // nothing was done
		return noLeader(err)
	}
	return err
}

// ApplyKey carries out a command of package kv.
func (b *backend) ApplyKey(ctx context.Context, cmd any) (bool, error) {
	r, err := b.apply(ctx, cmd)
	return r.OK, err
}

// Register validates and carries out a registration.
func (b *backend) Register(ctx context.Context, dc string, r *health.Register) error {
	if err := b.ours(dc); err != nil {
		return err
	}
	if err := r.Normalize(); err != nil {
		return err
	}
	_, err := b.apply(ctx, r)
	return err
}

// Deregister validates and carries out a deregistration.
func (b *backend) Deregister(ctx context.Context, dc string, d *catalog.Deregister) error {
	if err := b.ours(dc); err != nil {
		return err
	}
	if d.Node == "" {
		return &mvcc.Error{Code: mvcc.Invalid, Text: "Must provide node"}
	}
	_, err := b.apply(ctx, d)
	return err
}

// Transact carries out a transaction, or answers one that changes nothing
// without Raft. What can never be carried out is refused before anything is
// tried.
func (b *backend) Transact(ctx context.Context, o mvcc.ReadOptions, t *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
	if err := b.ours(o.Datacenter); err != nil {
		return nil, mvcc.Meta{}, err
	}
	if errs := t.Normalize(); len(errs) > 0 {
		return &health.Outcome{Errors: errs}, mvcc.Meta{}, nil
	}
	if t.ReadOnly() {
		return ask[*health.Outcome](ctx, b, o, t)
	}
	r, err := b.apply(ctx, t)
	return r.Txn, mvcc.Meta{}, err
}

// Key answers a [kv.Get].
func (b *backend) Key(ctx context.Context, o mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error) {
	return ask[*kv.Entry](ctx, b, o, q)
}

// List answers a [kv.List].
func (b *backend) List(ctx context.Context, o mvcc.ReadOptions, q *kv.List) ([]*kv.Entry, mvcc.Meta, error) {
	return ask[[]*kv.Entry](ctx, b, o, q)
}

// Keys answers a [kv.Keys].
func (b *backend) Keys(ctx context.Context, o mvcc.ReadOptions, q *kv.Keys) ([]string, mvcc.Meta, error) {
	return ask[[]string](ctx, b, o, q)
}

// Nodes answers a [catalog.Nodes].
func (b *backend) Nodes(ctx context.Context, o mvcc.ReadOptions, q *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
	return ask[[]*catalog.Node](ctx, b, o, q)
}

// Node answers a [catalog.NodeQuery].
func (b *backend) Node(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error) {
	return ask[*catalog.Node](ctx, b, o, q)
}

// NodeServices answers a [catalog.NodeServices].
func (b *backend) NodeServices(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
	return ask[*catalog.NodeDetail](ctx, b, o, q)
}

// Instances answers a [catalog.Instances].
func (b *backend) Instances(ctx context.Context, o mvcc.ReadOptions, q *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error) {
	return ask[[]*catalog.Instance](ctx, b, o, q)
}

// Services answers a [catalog.Services].
func (b *backend) Services(ctx context.Context, o mvcc.ReadOptions, q *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error) {
	return ask[catalog.ServiceTags](ctx, b, o, q)
}

// Address answers a [catalog.AddressQuery].
func (b *backend) Address(ctx context.Context, o mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error) {
	return ask[*catalog.AddressOwner](ctx, b, o, q)
}

// Service answers a [health.ServiceQuery].
func (b *backend) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	return ask[[]health.Entry](ctx, b, o, q)
}

// NodeChecks answers a [health.NodeChecks].
func (b *backend) NodeChecks(ctx context.Context, o mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
	return ask[[]*health.Check](ctx, b, o, q)
}

// ServiceChecks answers a [health.ServiceChecks].
func (b *backend) ServiceChecks(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error) {
	return ask[[]*health.Check](ctx, b, o, q)
}

// StateChecks answers a [health.StateChecks].
func (b *backend) StateChecks(ctx context.Context, o mvcc.ReadOptions, q *health.StateChecks) ([]*health.Check, mvcc.Meta, error) {
	return ask[[]*health.Check](ctx, b, o, q)
}

// beginCluster gives a cluster that has none its ID.
func (b *backend) beginCluster(ctx context.Context) error {
	if b.machine.View().Cluster() != (state.ClusterID{}) {
		return nil
	}
	_, err := b.apply(ctx, &state.Begin{Cluster: newClusterID()})
	if err != nil {
		return fmt.Errorf("cannot begin a cluster: %w", err)
	}
	return nil
}
