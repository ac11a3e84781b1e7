package rpc

import (
	"context"
	"errors"

	"github.com/muster-sd/muster/kv/mvcc"
)

// ApplyRequest asks a server to put a command into the log.
type ApplyRequest struct {
	// From is the node ID of the agent that dialled, at most [MaxIDBytes].
	From string
	// Datacenter is where the command belongs; empty is the server's own.
	Datacenter string
	// Token is the secret of whoever asks.
	Token string
	// Forwarded says that another server passed the request on: whoever gets
	// it answers it or fails, and does not pass it on again.
	Forwarded bool
	// Command is the log entry, at most [MaxRequestBytes]. Nobody may change
	// it after the call began.
	Command []byte
}

// QueryRequest asks a server for an answer, or for a stream of them.
type QueryRequest struct {
	// From, Token and Forwarded are as in [ApplyRequest].
	From      string
	Token     string
	Forwarded bool
	// Options say how fresh the answer is to be and whether to wait for it.
	Options mvcc.ReadOptions
	// Short says that the answer is one reply, and comes soon. Such a call is
	// cheaper.
	Short bool
	// Have, if it is not zero, is what the asker has an answer of: if that is
	// still the answer, none needs to be sent.
	Have Stamp
	// Query is what is asked, at most [MaxRequestBytes]. Nobody may change it
	// after the call began.
	Query []byte
}

// Stamp is what an answer of one server stands on: while both numbers are the
// same, so is the answer.
type Stamp struct{ Index, Line uint64 }

// Reply is one answer to a query.
type Reply struct {
	// Meta says what the answer stands on.
	Meta mvcc.Meta
	// Body is the answer, at most [MaxBodyBytes]. What was given to send may
	// not be changed any more; what came out of a call belongs to the caller.
	Body []byte
	// Same says that the answer is the one that the asker has. Body is empty.
	Same bool
	// More says that the answer is not whole with this reply: more follow.
	// This package carries it and makes nothing of it.
	More bool
}

// Handler answers the calls of other agents. Both methods are called at once
// by many; they return soon after their context ends.
type Handler interface {
	// Apply carries out a command and returns its result.
	Apply(ctx context.Context, r *ApplyRequest) (result []byte, err error)
	// Query answers with any number of replies. send waits while the caller
	// does not keep up, and fails when it is gone.
	Query(ctx context.Context, r *QueryRequest, send func(Reply) error) error
}

// QuickHandler is a [Handler] that can answer some short queries without waiting
// for anything, and some that came at once after waiting for one thing.
type QuickHandler interface {
	Handler
	// Quick answers a query if it says Quick. While it runs, no other call of the
	// connection begins. The bytes of the query may be used only until it returns.
	Quick(r *QueryRequest) (Reply, Pace)
	// Together answers those that it can of some queries for which Quick said
	// Together, by their place among them; the others are asked by Query. It
	// returns soon after its context ends.
	Together(ctx context.Context, all []*QueryRequest, answer func(i int, r Reply))
}

// Pace is how a short query can be answered.
type Pace int

const (
	// Alone is a query that has to be asked by Query.
	Alone Pace = iota
	// Together is a query that waits for the same as others.
	Together
	// Quick is a query that waits for nothing.
	Quick
)

// unsent marks an error of a call that certainly did nothing on the server.
type unsent struct{ err error }

func (u *unsent) Error() string { return u.err.Error() }
func (u *unsent) Unwrap() error { return u.err }

// Unsent reports whether a call certainly did nothing on the server, and may
// do better on another one: no connection was had, the hello was refused, the
// server gave no sign of life before, or refused the call before its handler saw it. The refusal of a hello is
// a [Refusal] in the error's chain.
func Unsent(err error) bool {
	var u *unsent
	return errors.As(err, &u)
}

// lost marks an error of a call whose connection broke, or whose server fell silent.
type lost struct{ err error }

func (l *lost) Error() string { return l.err.Error() }
func (l *lost) Unwrap() error { return l.err }

// Lost reports whether the connection broke, or the server fell silent, while the
// call was under way: the server may have carried it out, or not. A query may be asked again.
func Lost(err error) bool {
	var l *lost
	return errors.As(err, &l)
}
