package state

import (
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Begin gives a cluster its ID. The first leader of a new log proposes it among
// its first commands; a second one changes nothing.
type Begin struct {
	Cluster ClusterID `codec:"Cluster"`
}

// CheckHash lets every server compare: the state of the server that proposes it
// had Hash when all entries up to and including Index were applied. It changes
// nothing. See [Machine.Check].
type CheckHash struct {
	Index uint64   `codec:"Index"`
	Hash  mvcc.Sum `codec:"Hash"`
}

// SetAutopilot writes the configuration of autopilot, in which the indexes mean
// nothing. With CAS it is written only if the ModifyIndex of the one there is, or
// zero if there is none, is Index. The result is whether it was written.
type SetAutopilot struct {
	Config AutopilotConfig `codec:"Config"`
	CAS    bool            `codec:"CAS"`
	Index  uint64          `codec:"Index"`
}

// Result is what a command came to.
type Result struct {
	// OK is whether the command's precondition held. Commands without one are
	// always OK.
	OK bool `codec:"OK"`
	// Err says why the command was refused; it then changed nothing.
	Err *mvcc.Error `codec:"Err"`
	// Txn is what a transaction came to, nil for other commands. With an error
	// among its operations it changed nothing.
	Txn *health.Outcome `codec:"Txn"`
}

// refused reports whether the command must change nothing.
func (r *Result) refused() bool { return r.Err != nil || r.Txn != nil && len(r.Txn.Errors) > 0 }
