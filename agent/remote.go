package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv/mvcc"
)

// caller is what reaches other servers, by their node IDs.
type caller interface {
	Apply(ctx context.Context, to string, r *rpc.ApplyRequest) ([]byte, error)
	Query(ctx context.Context, to string, r *rpc.QueryRequest, each func(rpc.Reply) error) error
}

// remote asks servers for an agent that may not answer itself.
type remote struct {
	self   string
	calls  caller
	router *router
	// hold is how long a request looks for a server, or a leader, that can.
	hold time.Duration
	// most is how long a server may take at most beside what it is asked to wait,
	// in nanoseconds; zero is no such limit.
	most atomic.Int64
	// rate bounds how often the servers are asked.
	rate bucket
	// learned are answers that servers gave, and shared what is being asked.
	learned learned
	shared  shared

	mu     sync.Mutex
	chosen []string // what the router said last, and when
	when   time.Time
}

// servers lists the servers to be asked, best first.
func (r *remote) servers() []string {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.when) > serversFor || len(r.chosen) == 0 {
		r.chosen, r.when = r.router.servers(), now
	}
	return r.chosen
}

// failed puts a server behind the others for a while.
func (r *remote) failed(id string) {
	r.router.failed(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chosen = nil
}

// follow takes over the limits of a configuration.
func (r *remote) follow(c *config.Config) {
	r.most.Store(int64(c.RPCClientTimeout))
	rate := c.RPCRate
	if c.Server {
		rate = -1 // what a server asks others is asked of it, and limited there
	}
	r.rate.limit(rate, float64(c.RPCMaxBurst), time.Now())
}

// admit refuses a request that is one too many.
func (r *remote) admit() error {
	if r.rate.take(time.Now()) {
		return nil
	}
	return &mvcc.Error{Code: mvcc.RetryElsewhere, Text: textRPCRate}
}

// bound is ctx for as long as a server may take at most, beside the time that it
// is asked to wait.
func (r *remote) bound(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	if most := time.Duration(r.most.Load()); most > 0 {
		return context.WithTimeout(ctx, wait+most)
	}
	return context.WithCancel(ctx)
}

// ask has a server answer q.
func (r *remote) ask(ctx context.Context, o mvcc.ReadOptions, q any) (any, mvcc.Meta, error) {
	if err := r.admit(); err != nil {
		return nil, mvcc.Meta{}, err
	}
	data, err := state.EncodeQuery(q)
	if err != nil {
		return nil, mvcc.Meta{}, err
	}
	var f fetched
	if asked := r.shared.of(o, data, func() question { return func(ctx context.Context) (fetched, error) { return r.read(ctx, o, q, data) } }); asked != nil {
		f, err = asked.join(ctx)
	} else {
		f, err = r.read(ctx, o, q, data)
	}
	return f.value, f.meta, err
}

// read is ask for one client, or for many.
func (r *remote) read(ctx context.Context, o mvcc.ReadOptions, q any, data []byte) (fetched, error) {
	keep := learns(q)
	a := r.find(ctx, o, data, keep && len(data) <= maxMemoKey)
	if a.err != nil {
		return fetched{meta: a.reply.Meta}, a.err
	}
	if a.reply.Same {
		return fetched{a.had.value, a.reply.Meta}, nil
	}
	value, err := state.DecodeAnswer(q, a.reply.Body)
	if err == nil && keep {
		r.learned.keep(data, &learnedAnswer{server: a.id, stamp: a.stamp, value: value, size: len(a.reply.Body)})
	}
	return fetched{value, a.reply.Meta}, err
}

// query has any server answer, another one if the first cannot.
func (r *remote) query(ctx context.Context, o mvcc.ReadOptions, query []byte) (rpc.Reply, error) {
	if err := r.admit(); err != nil {
		return rpc.Reply{}, err
	}
	a := r.find(ctx, o, query, false)
	return a.reply, a.err
}

// find is query for one whose answer is kept, if keep says so: a server may then
// answer that it is the one which is known.
func (r *remote) find(ctx context.Context, o mvcc.ReadOptions, query []byte, keep bool) answered {
	began := time.Now()
	wait := o.Wait
	for {
		o.Wait = max(0, wait-time.Since(began))
		a := r.round(ctx, r.servers(), inquiry{rpc.QueryRequest{From: r.self, Options: o, Short: o.Index == 0, Query: query}, keep})
		switch {
		case a.err == nil:
			return a
		case ctx.Err() != nil:
			return answered{err: ctx.Err()}
		case !errors.Is(a.err, errNoServer) && !elsewhere(a.err):
			return a
		case time.Since(began) > r.limit():
			if errors.Is(a.err, errNoServer) {
				a.err = nil
			}
			return answered{err: r.none(a.err)}
		}
		if err := pause(ctx); err != nil {
			return answered{err: err}
		}
	}
}

// limit is how long a request looks for a server: not for long on an agent that
// never met one.
func (r *remote) limit() time.Duration {
	if !r.router.metAny() {
		return min(r.hold, strangerLimit)
	}
	return r.hold
}

// errNoServer says that no server is known.
var errNoServer = errors.New("no server is known")

// inquiry is a question, and whether its answer is kept.
type inquiry struct {
	rpc.QueryRequest
	keep bool
}

// answered is what became of a question to one server.
type answered struct {
	id    string
	reply rpc.Reply
	stamp rpc.Stamp      // of the reply, as the server gave it
	had   *learnedAnswer // what the server was told that is known; may be nil
	err   error
}

// round asks servers until one of them answers: the next one when one cannot, and
// the next one as well when one lets a read wait that waits for nothing. A server
// whose machine is gone refuses nothing.
func (r *remote) round(ctx context.Context, servers []string, q inquiry) answered {
	if len(servers) == 0 {
		return answered{err: errNoServer}
	}
	if q.Options.Index > 0 {
		return r.inTurn(ctx, servers, q)
	}
	// Nearly always the first one answers soon: nothing that only the others need is
	// made before.
	began := time.Now()
	first := r.pose(ctx, servers[0], q)
	late := time.NewTimer(min(patience, r.limitOf(q.Options)))
	defer late.Stop()
	select {
	case <-first.done():
		a := first.answer()
		if a.err == nil {
			r.router.served(a.id)
			return a
		}
		if ctx.Err() != nil || !elsewhere(a.err) {
			return a
		}
		r.failed(a.id)
		return r.inTurn(ctx, servers[1:], q).or(a)
	case <-late.C:
		return r.hedged(ctx, servers, q, first, began)
	case <-ctx.Done():
		return first.giveUp(ctx.Err())
	}
}

// hedged asks other servers as well, and takes the first answer.
func (r *remote) hedged(ctx context.Context, servers []string, q inquiry, first *posed, began time.Time) answered {
	others, cancel := context.WithCancel(ctx)
	defer cancel()
	second := make(chan answered, 1)
	go func() { second <- r.inTurn(others, servers[1:], q) }()
	end := time.NewTimer(r.limitOf(q.Options) - time.Since(began))
	defer end.Stop()
	var a answered
	other := second
	for waits := true; waits; {
		select {
		case <-first.done():
			a, waits = first.answer(), false
		case <-end.C:
			a, waits = first.giveUp(context.DeadlineExceeded), false
		case <-ctx.Done():
			return first.giveUp(ctx.Err())
		case b := <-other:
			if b.err == nil {
				r.failed(first.id) // another one was asked later, and answers sooner
				first.giveUp(context.Canceled)
				return b
			}
			second <- b // for the case that the first one fails, too
			other = nil
		}
	}
	if a.err == nil {
		r.router.served(a.id)
	}
	if a.err == nil || ctx.Err() != nil || !elsewhere(a.err) {
		return a
	}
	r.failed(first.id)
	select {
	case b := <-second:
		return b.or(a)
	case <-ctx.Done():
		return answered{err: ctx.Err()}
	}
}

// or is an answer, or another one if this one is that nobody was there to be asked.
func (a answered) or(before answered) answered {
	if errors.Is(a.err, errNoServer) {
		return before
	}
	return a
}

// inTurn asks servers until one of them answers: the next one when one cannot, or
// takes long over a read that waits for nothing.
func (r *remote) inTurn(ctx context.Context, servers []string, q inquiry) answered {
	last := answered{err: errNoServer}
	for i, id := range servers {
		if i+1 < len(servers) && q.Options.Index == 0 {
			return r.round(ctx, servers[i:], q)
		}
		last = r.put(ctx, id, q)
		if last.err == nil {
			r.router.served(id)
			return last
		}
		if ctx.Err() != nil || !elsewhere(last.err) {
			return last
		}
		r.failed(id)
	}
	return last
}

// none is the error of an agent that found no server which could.
func (r *remote) none(last error) error {
	if last == nil {
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No known Consul servers"}
	}
	var known *mvcc.Error
	if errors.As(last, &known) {
		return known
	}
	return &mvcc.Error{Code: mvcc.NoLeader, Text: "No server could be reached: " + last.Error()}
}

// elsewhere reports whether another server may be able to answer what one could
// not.
func elsewhere(err error) bool {
	var known *mvcc.Error
	if !errors.As(err, &known) {
		return true // the connection, or its limit of time
	}
	return again(known)
}

// lineOf makes the lines of history of different servers different numbers: each
// server counts its own.
func lineOf(server string, line uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(server))
	return h.Sum64() + line
}
