package agent

import (
	"context"
	"errors"
	"hash/fnv"
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
	data, err := state.EncodeQuery(q)
	if err != nil {
		return nil, mvcc.Meta{}, err
	}
	reply, err := r.query(ctx, o, data)
	if err != nil {
		return nil, reply.Meta, err
	}
	value, err := state.DecodeAnswer(q, reply.Body)
	return value, reply.Meta, err
}

// query has any server answer, another one if the first cannot.
func (r *remote) query(ctx context.Context, o mvcc.ReadOptions, query []byte) (rpc.Reply, error) {
	if err := r.admit(); err != nil {
		return rpc.Reply{}, err
	}
	began := time.Now()
	wait := o.Wait
	for {
		o.Wait = max(0, wait-time.Since(began))
		reply, err := r.round(ctx, r.router.servers(), &rpc.QueryRequest{From: r.self, Options: o, Query: query})
		switch {
		case err == nil:
			return reply, nil
		case ctx.Err() != nil:
			return rpc.Reply{}, ctx.Err()
		case !errors.Is(err, errNoServer) && !elsewhere(err):
			return reply, err
		case time.Since(began) > r.hold:
			if errors.Is(err, errNoServer) {
				err = nil
			}
			return rpc.Reply{}, r.none(err)
		}
		if err := r.pause(ctx); err != nil {
			return rpc.Reply{}, err
		}
	}
}

// errNoServer says that no server is known.
var errNoServer = errors.New("no server is known")

// answered is what became of a question to one server.
type answered struct {
	id    string
	reply rpc.Reply
	err   error
}

// round asks servers until one of them answers: the next one when one cannot, and
// the next one as well when one lets a read wait that waits for nothing. A server
// whose machine is gone refuses nothing.
func (r *remote) round(ctx context.Context, servers []string, q *rpc.QueryRequest) (rpc.Reply, error) {
	if len(servers) == 0 {
		return rpc.Reply{}, errNoServer
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answered, len(servers))
	asked, open := 0, 0
	ask := func() {
		id := servers[asked]
		asked++
		open++
		go func() {
			reply, err := r.once(ctx, id, q)
			answers <- answered{id, reply, err}
		}()
	}
	var slow <-chan time.Time
	if q.Options.Index == 0 {
		ticker := time.NewTicker(patience)
		defer ticker.Stop()
		slow = ticker.C
	}
	ask()
	var last error
	for open > 0 {
		select {
		case a := <-answers:
			open--
			if a.err == nil {
				r.router.served(a.id)
				return a.reply, nil
			}
			if ctx.Err() != nil || !elsewhere(a.err) {
				return a.reply, a.err
			}
			r.router.failed(a.id)
			last = a.err
			if open > 0 || asked == len(servers) {
				continue
			}
		case <-slow:
			if asked == len(servers) {
				slow = nil
				continue
			}
			r.router.failed(servers[asked-1])
		}
		ask()
	}
	return rpc.Reply{}, last
}

// once asks one server, for as long as a server that lives may take.
func (r *remote) once(ctx context.Context, id string, q *rpc.QueryRequest) (rpc.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, q.Options.Wait+r.hold+callGrace)
	defer cancel()
	ctx, cancel = r.bound(ctx, q.Options.Wait)
	defer cancel()
	if q.Options.Index == 0 && q.Options.Mode == mvcc.Stale {
		// Such an answer waits for nothing: who takes longer is not there.
		ctx, cancel = context.WithTimeout(ctx, staleLimit)
		defer cancel()
	}
	var reply rpc.Reply
	err := r.calls.Query(ctx, id, q, func(got rpc.Reply) error {
		reply = got
		return nil
	})
	reply.Meta.Line = lineOf(id, reply.Meta.Line)
	return reply, err
}

// apply has any server carry out a command. One that may have been carried out is
// not tried again.
func (r *remote) apply(ctx context.Context, command []byte) (state.Result, error) {
	var body []byte
	err := r.carryOut(ctx, func(id string) (undone bool, err error) {
		body, err = r.applyAt(ctx, id, command)
		return rpc.Unsent(err) || mvcc.CodeOf(err) == mvcc.ShuttingDown, err
	})
	if err != nil {
		return state.Result{}, err
	}
	return state.DecodeResult(body)
}

// operate has any server carry out what is no command of the log, and is not tried
// again either if it may have been done.
func (r *remote) operate(ctx context.Context, query []byte) ([]byte, error) {
	var body []byte
	err := r.carryOut(ctx, func(id string) (undone bool, err error) {
		limited, cancel := r.bound(ctx, 0)
		defer cancel()
		body, err = r.call(limited, id, query)
		return rpc.Unsent(err), err
	})
	return body, err
}

// carryOut has one server after the other try something, for as long as it was
// certainly not done.
func (r *remote) carryOut(ctx context.Context, try func(id string) (undone bool, err error)) error {
	if err := r.admit(); err != nil {
		return err
	}
	began := time.Now()
	var last error
	for {
		for _, id := range r.router.servers() {
			undone, err := try(id)
			switch {
			case err == nil:
				r.router.served(id)
				return nil
			case undone:
				r.router.failed(id)
				last = err
			default:
				return uncertain(ctx, err)
			}
		}
		if time.Since(began) > r.hold {
			return r.none(last)
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// applyAt has one server carry out a command.
func (r *remote) applyAt(ctx context.Context, id string, command []byte) ([]byte, error) {
	ctx, cancel := r.bound(ctx, 0)
	defer cancel()
	return r.calls.Apply(ctx, id, &rpc.ApplyRequest{From: r.self, Command: command})
}

// pause waits a little before all servers are tried again.
func (r *remote) pause(ctx context.Context) error {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
	switch known.Code {
	case mvcc.NoLeader, mvcc.NotReady, mvcc.ShuttingDown:
		return true
	}
	return false
}

// uncertain is the error of a command that was sent, and whose answer did not
// come.
func uncertain(ctx context.Context, err error) error {
	var known *mvcc.Error
	if errors.As(err, &known) {
		return known
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &mvcc.Error{Code: mvcc.Timeout, Text: "the server did not answer, so the change may still take effect: " + err.Error()}
}

// lineOf makes the lines of history of different servers different numbers: each
// server counts its own.
func lineOf(server string, line uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(server))
	return h.Sum64() + line
}
