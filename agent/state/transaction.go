package state

import (
	"fmt"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// transact carries out every operation, also those after one that failed, so
// that all failures are named. After a failure the transaction is dropped.
func (tx *Txn) transact(t *health.Transaction) *health.Outcome {
	out := &health.Outcome{}
	for i := range t.Ops {
		shown, err := tx.operate(&t.Ops[i])
		if err != nil {
			out.Errors = append(out.Errors, health.TxnError{Op: i, Text: err.Error()})
			continue
		}
		out.Results = append(out.Results, shown...)
	}
	if len(out.Errors) > 0 {
		out.Results = nil
	}
	return out
}

// answerTransaction reads a transaction that changes nothing from a view.
func (v *View) answerTransaction(t *health.Transaction) (*health.Outcome, error) {
	if !t.ReadOnly() {
		return nil, &mvcc.Error{Code: mvcc.Internal, Text: "a transaction that writes cannot be answered as a query"}
	}
	return v.begin(nil, v.Index, v.At).transact(t), nil
}

// operate carries out one operation and returns the rows that it shows.
func (tx *Txn) operate(o *health.TxnOp) ([]health.TxnResult, error) {
	switch {
	case o.KV != nil:
		entries, err := tx.KV().Do(o.KV)
		if err != nil {
			return nil, err
		}
		shown := make([]health.TxnResult, len(entries))
		for i, e := range entries {
			shown[i].KV = e
		}
		return shown, nil
	case o.Node != nil:
		n, err := tx.operateNode(o.Node)
		return one(n != nil, health.TxnResult{Node: n}), err
	case o.Service != nil:
		s, err := tx.operateService(o.Service)
		return one(s != nil, health.TxnResult{Service: s}), err
	case o.Check != nil:
		c, err := tx.operateCheck(o.Check)
		return one(c != nil, health.TxnResult{Check: c}), err
	}
	return nil, nil
}

func one(there bool, r health.TxnResult) []health.TxnResult {
	if !there {
		return nil
	}
	return []health.TxnResult{r}
}

// current reports whether a row is the one that a verb with an index means: an
// index of zero means that there is none.
func current(there bool, modified, wanted uint64) bool {
	if !there {
		return wanted == 0
	}
	return modified == wanted
}

func (tx *Txn) operateNode(o *catalog.NodeOp) (*catalog.Node, error) {
	n := tx.nodeMeant(o)
	name := o.Node.Name
	if name == "" {
		name = o.Node.ID
	}
	switch o.Verb {
	case catalog.VerbGet:
		if n == nil {
			return nil, fmt.Errorf("node %q doesn't exist", name)
		}
		return n, nil
	case catalog.VerbCAS:
		if !current(n != nil, modifiedNode(n), o.Node.ModifyIndex) {
			return nil, fmt.Errorf("failed to set node %q, index is stale", name)
		}
	case catalog.VerbDeleteCAS:
		if n != nil && n.ModifyIndex != o.Node.ModifyIndex {
			return nil, fmt.Errorf("failed to delete node %q, index is stale", name)
		}
	}
	if !o.Verb.Writes() {
		if n != nil {
			tx.nodeGone(n.Name)
		}
		return nil, nil
	}
	if err := tx.registerNode(&health.Register{Registration: catalog.Registration{Node: o.Node}}); err != nil {
		return nil, err
	}
	return tx.Catalog().Node(o.Node.Name), nil
}

// nodeMeant is the node that an operation is about: that of the ID if one is
// given, else that of the name. A write to a node that had no ID yet is about
// the node of the name.
func (tx *Txn) nodeMeant(o *catalog.NodeOp) *catalog.Node {
	if o.Node.ID == "" {
		return tx.Catalog().Node(o.Node.Name)
	}
	n := tx.Catalog().NodeByID(o.Node.ID)
	if n == nil && o.Verb.Writes() {
		n = tx.Catalog().Node(o.Node.Name)
	}
	return n
}

func modifiedNode(n *catalog.Node) uint64 {
	if n == nil {
		return 0
	}
	return n.ModifyIndex
}

func (tx *Txn) operateService(o *catalog.ServiceOp) (*catalog.Service, error) {
	s := o.Service
	old := tx.Catalog().Service(s.Node, s.ID)
	switch o.Verb {
	case catalog.VerbGet:
		if old == nil {
			return nil, fmt.Errorf("service %q on node %q doesn't exist", s.ID, s.Node)
		}
		return old, nil
	case catalog.VerbCAS:
		if !current(old != nil, modifiedService(old), s.ModifyIndex) {
			return nil, fmt.Errorf("failed to set service %q on node %q, index is stale", s.ID, s.Node)
		}
	case catalog.VerbDeleteCAS:
		if old != nil && old.ModifyIndex != s.ModifyIndex {
			return nil, fmt.Errorf("failed to delete service %q on node %q, index is stale", s.ID, s.Node)
		}
	}
	if !o.Verb.Writes() {
		tx.serviceGone(s.Node, s.ID)
		return nil, nil
	}
	n := tx.Catalog().Node(s.Node)
	if n == nil {
		return nil, errNoNode
	}
	s.Node = n.Name
	tx.Catalog().SetService(s)
	return tx.Catalog().Service(s.Node, s.ID), nil
}

func modifiedService(s *catalog.Service) uint64 {
	if s == nil {
		return 0
	}
	return s.ModifyIndex
}

func (tx *Txn) operateCheck(o *health.CheckOp) (*health.Check, error) {
	c := o.Check
	old := tx.Health().Check(c.Node, c.ID)
	switch o.Verb {
	case catalog.VerbGet:
		if old == nil {
			return nil, fmt.Errorf("check %q on node %q doesn't exist", c.ID, c.Node)
		}
		return old, nil
	case catalog.VerbCAS:
		if !current(old != nil, modifiedCheck(old), c.ModifyIndex) {
			return nil, fmt.Errorf("failed to set check %q on node %q, index is stale", c.ID, c.Node)
		}
	case catalog.VerbDeleteCAS:
		if old != nil && old.ModifyIndex != c.ModifyIndex {
			return nil, fmt.Errorf("failed to delete check %q on node %q, index is stale", c.ID, c.Node)
		}
	}
	if !o.Verb.Writes() {
		tx.checkGone(c.Node, c.ID)
		return nil, nil
	}
	n := tx.Catalog().Node(c.Node)
	if n == nil {
		return nil, errNoNode
	}
	c.Node = n.Name
	if err := tx.registerCheck(c); err != nil {
		return nil, err
	}
	return tx.Health().Check(c.Node, c.ID), nil
}

func modifiedCheck(c *health.Check) uint64 {
	if c == nil {
		return 0
	}
	return c.ModifyIndex
}

// errNoNode says that an instance or a check was written to a node that is not
// there. Clients know the text.
var errNoNode = &mvcc.Error{Code: mvcc.Invalid, Text: "Missing node registration"}
