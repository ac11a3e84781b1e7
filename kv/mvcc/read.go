package mvcc

import (
	"context"
	"time"
)

// Mode is how fresh an answer has to be.
type Mode uint8

const (
	// Default asks for an answer from the leader, under its lease.
	Default Mode = iota
	// Stale takes an answer from any server, even one without a leader.
	Stale
	// Consistent asks the leader to confirm with a quorum first that it leads.
	Consistent
)

// String returns the word that clients read in X-Consul-Effective-Consistency.
func (m Mode) String() string {
	switch m {
	case Stale:
		return "stale"
	case Consistent:
		return "consistent"
	default:
		return "leader"
	}
}

// ReadOptions says how a read is to be answered. The zero value asks for an
// answer in default mode, now, from the agent's own datacenter.
type ReadOptions struct {
	// Datacenter is where to ask. Empty is the agent's own.
	Datacenter string
	// Mode is how fresh the answer has to be.
	Mode Mode
	// MaxStale bounds how far behind a stale answer may be. Zero is no bound.
	MaxStale time.Duration
	// Index, if it is above zero, holds the read back until the answer's index
	// exceeds it or Wait has passed.
	Index uint64
	// Wait is the longest time to hold the read back, with all jitter already
	// in it. It means nothing while Index is zero.
	Wait time.Duration
}

// Meta says what an answer stands on.
type Meta struct {
	// Index is the Raft index of the last change of what was read. A reader
	// who asks again with it waits for the next change. It is never zero.
	Index uint64
	// Line tells apart the lines of history in which an index can stand for
	// different contents: it changes when a snapshot replaces the state. Two
	// answers to one query with equal Index and Line are equal, if the query is
	// about one service or about all nodes.
	Line uint64
	// KnownLeader is whether the answering server knows of a leader.
	KnownLeader bool
	// LastContact is how long ago the answering server heard from the leader;
	// zero on the leader.
	LastContact time.Duration
	// Mode is how fresh the answer really is.
	Mode Mode
}

// Origin says who asked for a change. It is written into the log entry, so that
// a later reader can learn where a row came from.
type Origin struct {
	// Node is the name of the agent that took the request.
	Node string
	// Address is the caller's address, as host:port. Empty is the agent itself.
	Address string
	// Endpoint is what was called, as in "PUT /v1/kv/". Duties of the agent
	// itself write their own name, as in "anti-entropy".
	Endpoint string
}

type originKey struct{}

// WithOrigin returns a context that carries o to the log entry of each change
// that is made with it.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns the origin that ctx carries, or the zero Origin.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
