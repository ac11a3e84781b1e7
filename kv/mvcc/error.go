package mvcc

import "errors"

// Code is the kind of an [Error]. Codes cross the wire and stand in results of
// the log: append only, never renumber, never reuse.
type Code uint8

const (
	// Internal is a fault of Muster's own.
	Internal Code = 1
	// NoLeader says that no leader was found within the hold time.
	NoLeader Code = 2
	// NoPath says that nothing is known of the datacenter that was asked for.
	NoPath Code = 3
	// NotReady says that the leader has not yet caught up with its own log.
	NotReady Code = 4
	// Compacted says that the index asked for is older than the history kept.
	Compacted Code = 5
	// DiskFull says that a write was refused to keep room for Raft's records.
	DiskFull Code = 6
	// Invalid says that the request itself cannot be carried out: what it names
	// is missing, malformed or in conflict with what is stored.
	Invalid Code = 7
	// TooLarge says that a value exceeds a named limit.
	TooLarge Code = 8
	// Timeout says that a write was handed to Raft but not confirmed in time:
	// it may still take effect.
	Timeout Code = 9
	// Unknown says that the thing named by the request does not exist.
	Unknown Code = 10
	// ShuttingDown says that the agent is stopping and takes no more work.
	ShuttingDown Code = 11
	// RetryElsewhere says that there are too many requests for this server, or
	// from this agent: another one may take it, or the same one later.
	RetryElsewhere Code = 12
	// RetryLater says that there are too many requests for the only server that
	// could take it.
	RetryLater Code = 13
)

// Error is an error whose kind survives a trip over the wire or through the
// log. Only package api turns a code into an HTTP status, and only package
// dnsserver into a response code.
type Error struct {
	Code Code   `codec:"Code"`
	Text string `codec:"Text"`
}

// Error returns the text, which is what clients see.
func (e *Error) Error() string { return e.Text }

// Is reports whether target is an Error of the same code, so that callers can
// write errors.Is(err, &Error{Code: NoLeader}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Text == "" || t.Text == e.Text)
}

// CodeOf returns the code of the first Error in err's chain, [Internal] for
// any other error, and zero for nil.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
