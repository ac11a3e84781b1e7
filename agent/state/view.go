package state

import (
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// View is everything the cluster has agreed on, as of Index. It never changes.
type View struct {
	// Index is the Raft index of the last command in it.
	Index uint64
	// At is the leader's time of that command in Unix milliseconds. It never
	// goes back from one view to the next.
	At int64

	KV      kv.Table
	Catalog catalog.Table
	Health  health.Table
	facts   mvcc.Map[*Fact]

	sum  mvcc.Sum
	line uint64
	gone chan struct{} // closed when a snapshot replaces this line of views

	history *History // of the machine that made the view, nil if none did
}

// Fact is a row about the cluster itself.
type Fact struct {
	Name  string `codec:"Name"`
	Value []byte `codec:"Value"`
}

// factCluster names the fact that holds the cluster's ID.
const factCluster = "cluster-id"

// ClusterID tells this cluster from all others. It is made once, by the command
// that begins a cluster, and is zero before that.
type ClusterID [16]byte

// newView returns a view of nothing.
func newView() *View {
	return &View{
		KV:      kv.NewTable(),
		Catalog: catalog.NewTable(),
		Health:  health.NewTable(),
		facts:   mvcc.New[*Fact](),
		gone:    make(chan struct{}),
	}
}

// Hash is the state hash: the sum modulo 2^128 of the hashes of all rows. Two
// servers that applied the same log have the same.
func (v *View) Hash() mvcc.Sum { return v.sum }

// Cluster returns the cluster's ID, or zero while there is none.
func (v *View) Cluster() ClusterID {
	var id ClusterID
	if f, ok := v.facts.Get(factCluster, nil); ok {
		copy(id[:], f.Value)
	}
	return id
}

// Gone is closed when a snapshot has replaced the line of views that v belongs
// to. Whoever waits for a change of v then looks again at the current view.
func (v *View) Gone() <-chan struct{} { return v.gone }

// Line counts the snapshots that were restored before v, so it tells lines of
// views apart in which one index can stand for different contents.
func (v *View) Line() uint64 { return v.line }

// Rows yields every persisted row in the order of a snapshot, until yield
// returns false, and reports whether all were taken.
func (v *View) Rows(yield func(row any) bool) bool {
	return mvcc.Each(v.facts, yield) && v.KV.Rows(yield) && v.Catalog.Rows(yield) && v.Health.Rows(yield)
}
