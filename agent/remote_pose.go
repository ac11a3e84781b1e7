package agent

import (
	"context"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/kv/mvcc"
)

// put asks one server, and says what it is known to have answered before.
func (r *remote) put(ctx context.Context, id string, q inquiry) answered {
	a := r.prepare(id, &q)
	var reply rpc.Reply
	reply, a.err = r.once(ctx, id, &q.QueryRequest)
	return a.with(reply)
}

// prepare makes the answer of a server, which is still to come, and says in the
// question what the server is known to have answered before.
func (r *remote) prepare(id string, q *inquiry) answered {
	a := answered{id: id}
	if q.keep {
		if a.had = r.learned.of(id, q.Query); a.had != nil {
			q.Have = a.had.stamp
		}
	}
	return a
}

// with completes an answer by the reply that came.
func (a answered) with(reply rpc.Reply) answered {
	first := lineOf(a.id, 0)
	reply.Meta.Line += first
	a.reply = reply
	if a.err == nil && reply.Same && a.had == nil {
		a.err = &mvcc.Error{Code: mvcc.Internal, Text: "server " + a.id + " says that an answer is as before, and gave none before"}
	}
	a.stamp = rpc.Stamp{Index: reply.Meta.Index, Line: reply.Meta.Line - first}
	return a
}

// asker is a caller that can put a short question without waiting for its answer.
type asker interface {
	Ask(to string, r *rpc.QueryRequest) *rpc.Asked
}

// posed is a question that one server was asked, and that may be given up.
type posed struct {
	answered            // as it is prepared
	short    *rpc.Asked // nil: it is asked by put
	// Of put: its answer is set before ended is closed.
	put    answered
	ended  chan struct{}
	cancel context.CancelFunc
}

// pose asks one server and does not wait for the answer.
func (r *remote) pose(ctx context.Context, id string, q inquiry) *posed {
	if calls, ok := r.calls.(asker); ok {
		a := &posed{answered: r.prepare(id, &q)}
		if a.short = calls.Ask(id, &q.QueryRequest); a.short != nil {
			return a
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &posed{answered: answered{id: id}, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		a.put = r.put(ctx, id, q)
	}()
	return a
}

// done is closed when the server has answered.
func (a *posed) done() <-chan struct{} {
	if a.short != nil {
		return a.short.Done()
	}
	return a.ended
}

// answer is the answer, after done.
func (a *posed) answer() answered {
	if a.short == nil {
		a.cancel()
		return a.put
	}
	out := a.answered
	var reply rpc.Reply
	reply, out.err = a.short.Reply()
	return out.with(reply)
}

// giveUp ends a question for whose answer nobody waits any more.
func (a *posed) giveUp(why error) answered {
	if a.short == nil {
		a.cancel()
		return answered{id: a.id, err: why}
	}
	return answered{id: a.id, err: a.short.GiveUp(why)}
}

// once asks one server, for as long as a server that lives may take.
func (r *remote) once(ctx context.Context, id string, q *rpc.QueryRequest) (rpc.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limitOf(q.Options))
	defer cancel()
	var reply rpc.Reply
	err := r.calls.Query(ctx, id, q, func(got rpc.Reply) error {
		reply = got
		return nil
	})
	return reply, err
}

// limitOf is how long a server that lives may take over a question.
func (r *remote) limitOf(o mvcc.ReadOptions) time.Duration {
	limit := o.Wait + r.hold + callGrace
	if most := time.Duration(r.most.Load()); most > 0 {
		limit = min(limit, o.Wait+most)
	}
	if o.Index == 0 && o.Mode == mvcc.Stale {
		// Such an answer waits for nothing: who takes longer is not there.
		limit = min(limit, staleLimit)
	}
	return limit
}
