package state

import (
	"fmt"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Answer is what a view says to a query.
type Answer struct {
	// Value has the type that the query's documentation names. It is shared:
	// nobody may write to it.
	Value any
	// Index is the Raft index of the last change of what was read; never zero.
	Index uint64
	// Missing is whether the one thing asked for does not exist. A reader who
	// waits is not woken for as long as that stays so.
	Missing bool
}

// Answer reads q, and puts what it read under watch. It is the table of
// contents of what can be asked. A query of an unknown type is a fault of the
// program and gets an error of code [mvcc.Internal].
func (v *View) Answer(q any, w *mvcc.Watch) (Answer, error) {
	switch q := q.(type) {
	case *kv.Get:
		e, index := v.KV.Get(q, w)
		return Answer{Value: e, Index: index, Missing: e == nil}, nil
	case *kv.List:
		return list(v.KV.List(q, w))
	case *kv.Keys:
		return list(v.KV.Keys(q, w))
	case *catalog.NodeQuery:
		return list(v.Catalog.Node(q, w))
	case *catalog.Nodes:
		return list(v.Catalog.Nodes(q, w))
	case *catalog.NodeServices:
		return list(v.Catalog.NodeServices(q, w))
	case *catalog.Instances:
		return list(v.Catalog.Instances(q, w))
	case *catalog.Services:
		return list(v.Catalog.Services(q, w))
	case *catalog.AddressQuery:
		return list(v.Catalog.Address(q, w))
	case *health.ServiceQuery:
		return list(v.Health.Service(v.Catalog, q, w))
	case *health.NodeChecks:
		return list(v.Health.NodeChecks(q, w))
	case *health.ServiceChecks:
		return list(v.Health.ServiceChecks(v.Catalog, q, w))
	case *health.StateChecks:
		return list(v.Health.StateChecks(v.Catalog, q, w))
	case *Autopilot:
		return v.answerAutopilot(w)
	case *Usage:
		return list(v.usage(w))
	case *Why:
		reasons, index := v.why(q, w)
		return Answer{Value: reasons, Index: index, Missing: len(reasons.Instances)+len(reasons.Gone) == 0}, nil
	case *health.Transaction:
		outcome, err := v.answerTransaction(q)
		return Answer{Value: outcome, Index: max(v.Index, 1)}, err
	}
	return Answer{}, &mvcc.Error{Code: mvcc.Internal, Text: fmt.Sprintf("no answer is known to a query of type %T", q)}
}

func list(value any, index uint64) (Answer, error) {
	return Answer{Value: value, Index: index}, nil
}
