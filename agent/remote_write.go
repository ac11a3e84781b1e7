package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// apply has any server carry out a command. One that may have been carried out is
// not tried again.
func (r *remote) apply(ctx context.Context, command []byte) (state.Result, error) {
	var body []byte
	err := r.carryOut(ctx, func(id string) (undone bool, err error) {
		body, err = r.applyAt(ctx, id, command)
		return rpc.Unsent(err) || again(err), err
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
		return rpc.Unsent(err) || leaderless(err), err
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
		servers := r.servers()
		if len(servers) > 1 && r.router.doubtful(servers[0]) {
			servers, last = r.ledFirst(ctx, servers)
		}
		for _, id := range servers {
			r.router.begin(id)
			undone, err := try(id)
			r.router.end(id, err == nil)
			switch {
			case err == nil:
				return nil
			case undone && ctx.Err() != nil:
				return endedBefore("a server could do what was asked for: nothing was done")
			case undone:
				r.putBehind(id, err)
				last = err
				if time.Since(began) > r.limit() {
					return r.none(last) // the next request goes to another one
				}
			default:
				if ctx.Err() == nil {
					r.doubt(id, err)
				}
				return r.uncertain(ctx, id, err)
			}
		}
		if time.Since(began) > r.limit() {
			return r.none(last)
		}
		if pause(ctx) != nil {
			return endedBefore("a server could do what was asked for: nothing was done")
		}
	}
}

// ledFirst returns servers with one first that has a leader; none of them, and why, if
// those that answer have not. All who want to know share one question.
func (r *remote) ledFirst(ctx context.Context, servers []string) ([]string, error) {
	id, err := r.router.led.join(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.Index(servers, id)
	if i < 0 {
		return servers, nil
	}
	r.router.suspect(servers[:i])
	return slices.Concat(servers[i:i+1], servers[:i], servers[i+1:]), nil
}

// putBehind puts a server behind the others that did not do what it was asked for.
func (r *remote) putBehind(id string, err error) {
	r.failed(id)
	if leaderless(err) {
		r.router.leaderless(id)
		r.router.doubts()
	}
}

// doubt notes that nobody knows what came of a change: the server did not answer, or
// had no answer of its leader or of the other voters.
func (r *remote) doubt(id string, err error) {
	var known *mvcc.Error
	switch {
	case !errors.As(err, &known):
		r.failed(id)
		r.router.doubts()
	case known.Code == mvcc.Timeout:
		r.router.doubts()
	}
}

// hasLeader asks a server for something that it cannot answer without a leader, and
// says why it could not.
func (r *remote) hasLeader(ctx context.Context, id string) error {
	query, err := state.EncodeQuery(&kv.Get{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	q := rpc.QueryRequest{From: r.self, Short: true, Options: mvcc.ReadOptions{Mode: mvcc.Default}, Query: query}
	return r.calls.Query(ctx, id, &q, func(rpc.Reply) error { return nil })
}

// leaderless reports whether something that was asked for was certainly not done, by
// reason of a leader that does not lead.
func leaderless(err error) bool {
	code := mvcc.CodeOf(err)
	return code == mvcc.NoLeader || code == mvcc.NotReady
}

// applyAt has one server carry out a command.
func (r *remote) applyAt(ctx context.Context, id string, command []byte) ([]byte, error) {
	ctx, cancel := r.bound(ctx, 0)
	defer cancel()
	return r.calls.Apply(ctx, id, &rpc.ApplyRequest{From: r.self, Command: command})
}

// uncertain is the error of a change that was sent to a server, and whose answer
// did not come.
func (r *remote) uncertain(ctx context.Context, id string, err error) error {
	var known *mvcc.Error
	if errors.As(err, &known) {
		return known
	}
	return &mvcc.Error{Code: mvcc.Timeout, Text: r.why(ctx, id, err) + ": the change may still take effect, so read it back before you repeat it"}
}

// why says in words why an answer of a server did not come.
func (r *remote) why(ctx context.Context, id string, err error) string {
	server := "the server"
	if id != "" {
		server = "server " + r.router.name(id)
	}
	var silence *rpc.Silence
	switch {
	case errors.As(err, &silence):
		return fmt.Sprintf("%s has given no sign of life for %v", server, silence.For.Round(100*time.Millisecond))
	case ctx.Err() != nil:
		return fmt.Sprintf("the request ended before %s answered", server)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("%s did not answer in time", server)
	case errors.Is(err, context.Canceled):
		return fmt.Sprintf("%s has not answered, and leads no more or was not heard of for too long", server)
	}
	return strings.ReplaceAll(err.Error(), "server "+strconv.Quote(id), server)
}

// endedBefore is the error of a request whose client is gone, or whose agent stops.
func endedBefore(what string) error {
	return &mvcc.Error{Code: mvcc.Timeout, Text: "the request ended before " + what}
}
