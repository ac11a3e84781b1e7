package state

import "github.com/muster-sd/muster/kv/mvcc"

// Begin makes a cluster out of a server that has none. It is the first command
// of every log; a second one changes nothing.
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
}
