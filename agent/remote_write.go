package agent

import (
	"context"
	"errors"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
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
		for _, id := range r.servers() {
			undone, err := try(id)
			switch {
			case err == nil:
				r.router.served(id)
				return nil
			case undone:
				r.failed(id)
				last = err
				if time.Since(began) > r.limit() {
					return r.none(last) // the next request goes to another one
				}
			default:
				return uncertain(ctx, err)
			}
		}
		if time.Since(began) > r.limit() {
			return r.none(last)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
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
