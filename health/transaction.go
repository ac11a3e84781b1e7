package health

import (
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Transaction carries out operations on keys, nodes, instances and checks, in
// order and all or nothing. It stands here because this is the lowest package
// that knows them all. One that only reads is also a query, whose answer is a
// *[Outcome].
type Transaction struct {
	Ops []TxnOp `codec:"Ops"`
}

// TxnOp is one operation, of which at most one field is set. One without any
// does nothing.
type TxnOp struct {
	KV      *kv.TxnOp          `codec:"KV"`
	Node    *catalog.NodeOp    `codec:"Node"`
	Service *catalog.ServiceOp `codec:"Service"`
	Check   *CheckOp           `codec:"Check"`
}

// CheckOp is one operation of a transaction on a check. Its node and, if it
// speaks for one, its instance must exist, unless it is removed.
type CheckOp struct {
	Verb  catalog.Verb `codec:"Verb"`
	Check Check        `codec:"Check"`
}

// Outcome is what a transaction came to: either what it showed, or what failed.
type Outcome struct {
	// Results are in the order of the operations. Those that remove or that find
	// what shall be absent show nothing, and a tree shows each of its keys.
	Results []TxnResult `codec:"Results"`
	// Errors are those of all operations that failed, in their order. If there is
	// one, nothing was changed.
	Errors []TxnError `codec:"Errors"`
}

// TxnResult is a row that an operation showed; one field is set. Rows are
// shared: nobody may write to them.
type TxnResult struct {
	KV      *kv.Entry        `codec:"KV"`
	Node    *catalog.Node    `codec:"Node"`
	Service *catalog.Service `codec:"Service"`
	Check   *Check           `codec:"Check"`
}

// TxnError says why an operation failed, by its place among all, beginning with
// zero.
type TxnError struct {
	Op   int    `codec:"Op"`
	Text string `codec:"Text"`
}

// Normalize fills in what the operations leave out, and returns the errors of
// those that can never be carried out. If there is one, the transaction is not to
// be tried.
func (t *Transaction) Normalize() []TxnError {
	var errs []TxnError
	for i := range t.Ops {
		if err := t.Ops[i].normalize(); err != nil {
			errs = append(errs, TxnError{Op: i, Text: err.Error()})
		}
	}
	return errs
}

// ReadOnly reports whether no operation changes anything.
func (t *Transaction) ReadOnly() bool {
	for i := range t.Ops {
		if !t.Ops[i].reads() {
			return false
		}
	}
	return true
}

func (o *TxnOp) normalize() error {
	switch {
	case o.KV != nil:
		return o.KV.Check()
	case o.Node != nil:
		return o.Node.Normalize()
	case o.Service != nil:
		return o.Service.Normalize()
	case o.Check != nil:
		return o.Check.normalize()
	}
	return nil
}

func (o *TxnOp) reads() bool {
	switch {
	case o.KV != nil:
		return o.KV.Reads()
	case o.Node != nil:
		return o.Node.Verb == catalog.VerbGet
	case o.Service != nil:
		return o.Service.Verb == catalog.VerbGet
	case o.Check != nil:
		return o.Check.Verb == catalog.VerbGet
	}
	return true
}

// normalize leaves the type of the check as it is given: unlike a registration,
// a transaction does not infer it.
func (o *CheckOp) normalize() error {
	if err := o.Verb.Check("Check"); err != nil {
		return err
	}
	c := &o.Check
	if c.Node == "" {
		return &mvcc.Error{Code: mvcc.Invalid, Text: "Must provide node"}
	}
	if c.ID == "" {
		c.ID = c.Name
	}
	if c.ID == "" {
		return &mvcc.Error{Code: mvcc.Invalid, Text: "Must provide check ID"}
	}
	if c.Status == "" {
		c.Status = Critical
	}
	for _, name := range []struct{ what, text string }{
		{"node name", c.Node}, {"check ID", c.ID}, {"service ID", c.ServiceID},
	} {
		if err := catalog.CheckKey(name.what, name.text); err != nil {
			return err
		}
	}
	return nil
}
