package state

import (
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// IndexOf returns the index that the answer to q would have, without reading the
// answer, and puts the same under watch. It knows just those queries whose
// answer cannot change while that index stays what it is, and reports false for
// all others: whoever keeps an answer may use it again for as long as both IndexOf
// and [View.Line] are equal.
func (v *View) IndexOf(q any, w *mvcc.Watch) (uint64, bool) {
	switch q := q.(type) {
	case *health.ServiceQuery:
		return v.Catalog.ServiceIndex(q.Service, w), true
	case *health.ServiceChecks:
		return v.Catalog.ServiceIndex(q.Service, w), true
	case *catalog.Instances:
		if q.Service == "" {
			return 0, false
		}
		return v.Catalog.ServiceIndex(q.Service, w), true
	case *catalog.Nodes:
		return v.Catalog.NodesIndex(w), true
	}
	return 0, false
}
