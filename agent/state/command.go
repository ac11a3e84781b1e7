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
