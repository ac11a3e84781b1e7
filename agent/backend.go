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
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// backend answers and applies for everybody in the agent who reads or changes
// what the cluster has agreed on. It alone decides who may answer: this server,
// if it has the state, and else one that has.
type backend struct {
	id         string
	datacenter string
	nodeName   string
	// machine and node are those of a server; a client agent has neither.
	machine *state.Machine
	node    *consensus.Node
	// remote asks other servers. It may be nil on a server that is alone.
	remote *remote
	// hold is how long a request waits for a leader before it fails.
	hold time.Duration
	now  func() time.Time
	memo memo
	// indexes are the questions to the leader for what was committed, without and
	// with a quorum that confirms that it leads.
	indexes [2]rounds[uint64]
	// caughtUp is whether this server has, since it started, applied all that was
	// committed: until then it could answer as if nothing had ever been registered.
	caughtUp atomic.Bool
	// limits bound what a server is asked for; nil bounds nothing.
	limits *requestLimits
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

// ask answers q here if this agent has the state, and otherwise has a server
// answer.
func ask[R any](ctx context.Context, b *backend, o mvcc.ReadOptions, q any) (R, mvcc.Meta, error) {
	var (
		value any
		meta  mvcc.Meta
		none  R
	)
	err := b.ours(o.Datacenter)
	switch {
	case err != nil:
	case b.node == nil:
		value, meta, err = b.remote.ask(ctx, o, q)
	default:
		if err = b.limits.admit(ctx, false); err == nil {
			value, meta, err = b.answer(ctx, o, q)
		}
	}
	if err != nil {
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
		woken   bool
		line    uint64 // of history, where the reader began to wait
	)
	if o.Index > 0 {
		watch = &mvcc.Watch{}
		timer := time.NewTimer(o.Wait)
		defer timer.Stop()
		timeout = timer.C
	}
	meta, view, err := b.fresh(ctx, o)
	for {
		if err != nil {
			return nil, meta, err
		}
		a, err := b.memo.answer(view, q, watch)
		if err != nil {
			return nil, meta, err
		}
		// What was not there, and still is not, is no news, whatever happened to
		// the table around it. Another state is: its indexes tell nothing of this one.
		news := a.Index > o.Index && !(missing && a.Missing) || woken && view.Line() != line
		if o.Index == 0 || expired || news {
			meta.Index, meta.Line = a.Index, view.Line()
			if woken {
				// What was so when the reader began to wait may be long ago.
				_, meta.KnownLeader = b.node.Leader()
				meta.LastContact = b.node.LastContact()
			}
			return a.Value, meta, nil
		}
		missing, line = a.Missing, view.Line()
		watch.Add(view.Gone())
		b.waiting.Add(1)
		expired = !watch.Wait(ctx, timeout)
		b.waiting.Add(-1)
		if ctx.Err() != nil {
			return nil, meta, ctx.Err()
		}
		watch.Reset()
		if expired {
			// Nothing came: whether that is still so is asked as at first.
			woken = false
			if meta, view, err = b.fresh(ctx, o); err != nil {
				return nil, meta, err
			}
			continue
		}
		// What a reader is woken by is newer than when it began to wait, and so
		// fresh enough.
		woken = true
		b.woken.Add(1)
		if err := b.trusted(); err != nil {
			return nil, meta, err
		}
		view = b.machine.View()
	}
}

// trusted refuses to answer from a state that is not what the others have.
func (b *backend) trusted() error {
	if b.machine.Mismatch() == nil {
		return nil
	}
	return notReady("this server's state differs from that of the others, and it is taking theirs over: ask another server")
}

// notReady is the error of a server that may not answer yet, and others may.
func notReady(why string) error {
	return &mvcc.Error{Code: mvcc.NotReady, Text: textNotReady + ": " + why}
}

// newest returns the view that is here, and says how new it is, if that is as new as
// o asks for, and else nil. It waits for nothing.
func (b *backend) newest(o mvcc.ReadOptions) (mvcc.Meta, *state.View) {
	meta := mvcc.Meta{Mode: o.Mode}
	if b.trusted() != nil {
		return meta, nil
	}
	// What is committed may have been shown by a follower before it is applied here.
	if o.Mode == mvcc.Default && b.node.Leading() && b.node.WaitCommitted(over) == nil {
		view := b.machine.View()
		// A server that was stopped in between may not lead any more.
		if b.node.Leading() {
			meta.KnownLeader = true
			return meta, view
		}
	}
	if o.Mode == mvcc.Stale && b.caughtUp.Load() {
		_, meta.KnownLeader = b.node.Leader()
		meta.LastContact = b.node.LastContact()
		if o.MaxStale == 0 || meta.LastContact <= o.MaxStale {
			return meta, b.machine.View()
		}
		meta.Mode = mvcc.Default
	}
	return meta, nil
}

// fresh returns a view that is as new as o asks for, and says how new it is.
func (b *backend) fresh(ctx context.Context, o mvcc.ReadOptions) (mvcc.Meta, *state.View, error) {
	meta, view := b.newest(o)
	if view != nil {
		return meta, view, nil
	}
	if err := b.trusted(); err != nil {
		return meta, nil, err
	}
	began := time.Now()
	confirmed := o.Mode == mvcc.Consistent
	// Nearly always the leader answers soon, and all is applied that it names: then
	// no limit has to be kept.
	if b.follows() && b.follow(ctx, confirmed, false) == nil && b.trusted() == nil {
		b.caughtUp.Store(true)
		meta.KnownLeader, meta.LastContact = true, b.node.LastContact()
		return meta, b.machine.View(), nil
	}
	held, cancel := context.WithTimeout(ctx, b.hold-time.Since(began))
	defer cancel()
	view, err := b.current(held, confirmed)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return meta, nil, err
	}
	if err := b.trusted(); err != nil { // it may have been found out while this waited
		return meta, nil, err
	}
	b.caughtUp.Store(true)
	meta.KnownLeader, meta.LastContact = true, b.node.LastContact()
	return meta, view, nil
}

// current returns a view with all that was committed when it was called: this
// server's own if it leads, or if it has applied what the leader says was
// committed. It looks for a leader until ctx ends.
func (b *backend) current(ctx context.Context, confirmed bool) (*state.View, error) {
	var last error // of the last try that had the time to fail
	for {
		if b.node.Leading() {
			var err error
			if confirmed {
				err = b.node.Verify(ctx)
			}
			if err == nil {
				err = b.node.WaitCommitted(ctx)
			}
			if errors.Is(err, consensus.ErrNotApplied) {
				return nil, notReady("this server leads, and has not applied yet what was committed")
			}
			view := b.machine.View()
			// A server that was stopped in between may not lead any more.
			if err == nil && b.node.Leading() {
				return view, nil
			}
			if err != nil && !retryable(err) {
				return nil, asReadError(err)
			}
		}
		if err := b.waitLeader(ctx); err != nil {
			if id, ok := b.node.Leader(); ok && id == b.id && mvcc.CodeOf(err) == mvcc.NoLeader {
				return nil, notReady("this server leads, and has not applied yet what was committed before")
			}
			return nil, err
		}
		if b.node.Leading() {
			continue
		}
		err := b.follow(ctx, confirmed, true)
		if err == nil {
			return b.machine.View(), nil
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		if !elsewhere(err) || pause(ctx) != nil {
			return nil, b.because(last)
		}
	}
}

// because is the error of a read for which the time was over: what was wrong last,
// or that nobody led.
func (b *backend) because(err error) error {
	var known *mvcc.Error
	if errors.As(err, &known) {
		return known
	}
	return noLeader(err)
}

// follows reports whether another server leads, as far as is known.
func (b *backend) follows() bool {
	_, err := b.livingLeader()
	return err == nil
}

// over is a context that has ended.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// follow asks the leader what was committed, and waits until that is applied
// here, or, if wait is not set, fails if it is not. All who wait share one
// question. A server that has not applied it in time is not ready: it has a leader,
// and another server may be further.
func (b *backend) follow(ctx context.Context, confirmed, wait bool) error {
	kind := 0
	if confirmed {
		kind = 1
	}
	index, err := b.indexes[kind].join(ctx)
	if err != nil {
		return err
	}
	if !wait {
		return b.node.WaitApplied(over, index)
	}
	err = b.node.WaitApplied(ctx, index)
	if errors.Is(err, consensus.ErrNotApplied) {
		return notReady(fmt.Sprintf("this server has not caught up: entry %d of the log is committed, and its state stands at %d", index, b.machine.View().Index))
	}
	return err
}

// catchUp waits until all is applied here that the leader says was committed when it
// was called, but not for long.
func (b *backend) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	index, err := b.indexes[0].join(ctx)
	if err != nil {
		return err
	}
	return b.node.WaitApplied(ctx, index)
}

// pause waits a little before a leader, or a server that answers, is looked for
// again.
func pause(ctx context.Context) error { return pauseFor(ctx, retryPause) }

// pauseFor waits, or less if ctx ends, which is its error.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryable reports whether nothing was done, and a leader may be found that does
// it.
func retryable(err error) bool {
	return errors.Is(err, consensus.ErrNotLeader) || errors.Is(err, consensus.ErrNotReady) || errors.Is(err, consensus.ErrNoLeader)
}

// ours refuses datacenters that nothing is known of.
func (b *backend) ours(datacenter string) error {
	if datacenter == "" || strings.EqualFold(datacenter, b.datacenter) {
		return nil
	}
	return &mvcc.Error{Code: mvcc.NoPath, Text: "No path to datacenter"}
}

// waitLeader waits until this server leads, or another is known to.
func (b *backend) waitLeader(ctx context.Context) error {
	if b.node.Leading() {
		return nil
	}
	if err := b.node.WaitLeader(ctx); err != nil {
		return asError(err)
	}
	return nil
}

// apply hands a command to the leader and returns what it came to once it is
// committed and applied there.
func (b *backend) apply(ctx context.Context, cmd any) (state.Result, error) {
	if b.measure != nil {
		defer b.measure(cmd, time.Now())
	}
	data, err := state.Encode(cmd, b.now().UnixMilli(), mvcc.OriginOf(ctx))
	if err != nil {
		return state.Result{}, err
	}
	var result state.Result
	if b.node == nil {
		result, err = b.remote.apply(ctx, data)
	} else if err = b.limits.admit(ctx, true); err == nil {
		result, err = b.applyBytes(ctx, data, false)
	}
	if err == nil && result.Err != nil {
		err = result.Err
	}
	return result, err
}

// applyBytes hands an encoded command to Raft, here or on the leader. What was
// certainly not done is tried again for as long as requests are held. A command
// that was forwarded goes no further.
func (b *backend) applyBytes(ctx context.Context, data []byte, forwarded bool) (state.Result, error) {
	held, cancel := context.WithTimeout(ctx, b.hold)
	defer cancel()
	for {
		// Who forwarded it looks for another leader, and may have given up by the time
		// that this server led again: it is not held here.
		if !forwarded {
			if err := b.waitLeader(held); err != nil {
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				return state.Result{}, err
			}
		}
		var (
			result state.Result
			err    error
		)
		if b.node.Leading() {
			result, err = b.applyHere(ctx, data)
			if !retryable(err) {
				return result, asError(err)
			}
		} else if forwarded {
			return state.Result{}, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
		} else if result, err = b.applyThere(ctx, data); err == nil || !again(err) {
			return result, err
		}
		if pause(held) != nil {
			if ctx.Err() != nil {
				return state.Result{}, ctx.Err()
			}
			return state.Result{}, b.because(err)
		}
	}
}

// applyHere puts a command into the log of this server.
func (b *backend) applyHere(ctx context.Context, data []byte) (state.Result, error) {
	state.Stamp(data, b.now().UnixMilli())
	value, err := b.node.Apply(ctx, data)
	if err != nil {
		return state.Result{}, err
	}
	b.caughtUp.Store(true)
	return value.(state.Result), nil
}

// applyThere hands a command to the leader. It is not sent to one that was not
// heard of for a while: whether it was carried out might then never be known.
func (b *backend) applyThere(ctx context.Context, data []byte) (state.Result, error) {
	id, err := b.livingLeader()
	if err != nil {
		return state.Result{}, err
	}
	led, cancel := b.whileLeads(ctx, id, handoverGrace)
	defer cancel()
	body, err := b.remote.calls.Apply(led, id, &rpc.ApplyRequest{From: b.id, Forwarded: true, Command: data})
	if err == nil {
		return state.DecodeResult(body)
	}
	if rpc.Unsent(err) {
		return state.Result{}, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader: " + b.remote.why(ctx, id, err)}
	}
	return state.Result{}, b.remote.uncertain(ctx, id, err)
}

// livingLeader returns the leader, if it was heard of just now.
func (b *backend) livingLeader() (string, error) {
	id, ok := b.node.Leader()
	if !ok || id == b.id || b.remote == nil || b.node.LastContact() > b.node.Silence() {
		return "", &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	return id, nil
}

// whileLeads returns a context that ends when a server is not the leader any more,
// or has not been heard of for too long, and grace has passed since: one that
// hands over still answers for what it has.
func (b *backend) whileLeads(ctx context.Context, id string, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			changed := b.node.Changed()
			if now, ok := b.node.Leader(); !ok || now != id {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// again reports whether a command that failed was certainly not carried out, by
// reason of a leader that does not lead, or of a server that stops.
func again(err error) bool { return leaderless(err) || mvcc.CodeOf(err) == mvcc.ShuttingDown }

// committed asks the leader how far the log is committed.
func (b *backend) committed(ctx context.Context, confirmed bool) (uint64, error) {
	id, err := b.livingLeader()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, indexLimit)
	defer cancel()
	ctx, cancel = b.whileLeads(ctx, id, 0)
	defer cancel()
	return b.remote.readIndex(ctx, id, confirmed)
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

// textNotReady is what clients know a server by that is not ready; why may follow.
const textNotReady = "Not ready to serve consistent reads"

// asError gives an error of Raft's the code that clients are answered by.
func asError(err error) error {
	var fault *consensus.Fault
	switch {
	case err == nil:
		return nil
	case errors.Is(err, consensus.ErrUncertain):
		return &mvcc.Error{Code: mvcc.Timeout, Text: err.Error()}
	case errors.Is(err, consensus.ErrNoLeader), errors.Is(err, consensus.ErrNotLeader):
		return noLeader(err)
	case errors.Is(err, consensus.ErrFull):
		return &mvcc.Error{Code: mvcc.DiskFull, Text: err.Error()}
	case errors.Is(err, consensus.ErrNotReady):
		return &mvcc.Error{Code: mvcc.NotReady, Text: textNotReady}
	case errors.Is(err, consensus.ErrTooLarge):
		return &mvcc.Error{Code: mvcc.TooLarge, Text: err.Error()}
	case errors.Is(err, consensus.ErrStopped):
		return &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the agent is shutting down"}
	case errors.As(err, &fault): // nothing was done
		return noLeader(err)
	case errors.Is(err, consensus.ErrBusy): // without a fault of the disk for its reason
		return &mvcc.Error{Code: mvcc.RetryLater, Text: err.Error()}
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
