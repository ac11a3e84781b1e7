package catalog

import "fmt"

// Verb is what an operation of a transaction does with a node, an instance or a
// check.
type Verb string

// Verbs of operations on nodes, instances and checks. They stand in logs. Those
// with an index take it from the row that they carry: its ModifyIndex must be
// that of the row there is, or zero if there must be none.
const (
	VerbGet       Verb = "get"
	VerbSet       Verb = "set"
	VerbCAS       Verb = "cas"
	VerbDelete    Verb = "delete"
	VerbDeleteCAS Verb = "delete-cas"
)

// Check refuses a verb that there is not, where what says whose verb it is.
func (v Verb) Check(what string) error {
	switch v {
	case VerbGet, VerbSet, VerbCAS, VerbDelete, VerbDeleteCAS:
		return nil
	}
	return invalid(fmt.Sprintf("unknown %s operation: %s", what, string(v)))
}

// Writes reports whether the verb writes the row that comes with it.
func (v Verb) Writes() bool { return v == VerbSet || v == VerbCAS }

// NodeOp is one operation of a transaction on a node, which is known by its ID
// if that is given, else by its name (Consul API documentation, page
// "Transactions").
type NodeOp struct {
	Verb Verb `codec:"Verb"`
	Node Node `codec:"Node"`
}

// Normalize fills in what the operation leaves out and refuses one that can
// never be carried out.
func (o *NodeOp) Normalize() error {
	if err := o.Verb.Check("Node"); err != nil {
		return err
	}
	if o.Node.Name == "" && (o.Verb.Writes() || o.Node.ID == "") {
		return invalid("Must provide node")
	}
	if err := o.Node.normalizeID(); err != nil {
		return err
	}
	return CheckKey("node name", o.Node.Name)
}

// ServiceOp is one operation of a transaction on an instance. Its node must
// exist, unless it is removed.
type ServiceOp struct {
	Verb    Verb    `codec:"Verb"`
	Service Service `codec:"Service"`
}

// Normalize fills in what the operation leaves out and refuses one that can
// never be carried out. To read an instance its ID is enough; all else takes the
// service's name too.
func (o *ServiceOp) Normalize() error {
	if err := o.Verb.Check("Service"); err != nil {
		return err
	}
	s := &o.Service
	if s.Node == "" {
		return invalid("Must provide node")
	}
	if err := CheckKey("node name", s.Node); err != nil {
		return err
	}
	if o.Verb == VerbGet && s.ID != "" {
		return CheckKey("service ID", s.ID)
	}
	if err := s.normalize(); err != nil || !o.Verb.Writes() {
		return err
	}
	return s.checkNumbers()
}
