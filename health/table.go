package health

import (
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// markChecks names the mark that moves with every check.
const markChecks = "checks"

// Table holds the checks of one view. It never changes; [Table.Txn] makes the
// next one.
type Table struct {
	checks mvcc.Map[*Check] // by node, ID
	marks  mvcc.Map[*Mark]

	// byOwner is derived from checks, and not persisted: by node and instance
	// (empty for the node itself) the owner's checks, ordered by ID.
	byOwner mvcc.Map[[]*Check]
}

// NewTable returns an empty table.
func NewTable() Table {
	return Table{checks: mvcc.New[*Check](), marks: mvcc.New[*Mark](), byOwner: mvcc.New[[]*Check]()}
}

// Rows yields every persisted row, table by table in the order of their keys,
// until yield returns false.
func (t Table) Rows(yield func(row any) bool) bool {
	return mvcc.Each(t.checks, yield) && mvcc.Each(t.marks, yield)
}

func fold(name string) string { return strings.ToLower(name) }

func checkKey(node, id string) string { return fold(node) + "\x00" + id }

func ownerKey(node, service string) string { return fold(node) + "\x00" + service }

// Index is the index of all checks.
func (t Table) Index(w *mvcc.Watch) uint64 {
	if m, ok := t.marks.Get(markChecks, w); ok {
		return m.Index
	}
	return 1
}

// Service answers a [ServiceQuery] by joining the instances with their checks.
func (t Table) Service(c catalog.Table, q *ServiceQuery, w *mvcc.Watch) ([]Entry, uint64) {
	instances, index := c.Instances(&catalog.Instances{Service: q.Service, Tags: q.Tags, NodeMeta: q.NodeMeta}, w)
	out := make([]Entry, len(instances))
	var ofNode []*Check
	for i, in := range instances {
		if i == 0 || in.Node != instances[i-1].Node {
			ofNode = t.owned(in.Service.Node, "")
		}
		own := t.owned(in.Service.Node, in.Service.ID)
		checks := make([]*Check, 0, len(ofNode)+len(own))
		checks = append(append(checks, ofNode...), own...)
		out[i] = Entry{Node: in.Node, Service: in.Service, Checks: checks}
	}
	return out, index
}

// owned returns the checks of an instance, or of the node itself if service is
// empty. The list is the table's: nobody may write to it.
func (t Table) owned(node, service string) []*Check {
	checks, _ := t.byOwner.Get(ownerKey(node, service), nil)
	return checks
}

// NodeChecks answers a [NodeChecks].
func (t Table) NodeChecks(q *NodeChecks, w *mvcc.Watch) ([]*Check, uint64) {
	out := []*Check{}
	for _, c := range t.checks.Prefix(checkKey(q.Node, ""), nil) {
		out = append(out, c)
	}
	return out, t.Index(w)
}

// ServiceChecks answers a [ServiceChecks].
func (t Table) ServiceChecks(c catalog.Table, q *ServiceChecks, w *mvcc.Watch) ([]*Check, uint64) {
	instances, index := c.Instances(&catalog.Instances{Service: q.Service, NodeMeta: q.NodeMeta}, w)
	out := []*Check{}
	for _, in := range instances {
		out = append(out, t.owned(in.Service.Node, in.Service.ID)...)
	}
	return out, index
}

// AnyState is the state that every check has.
const AnyState = "any"

// StateChecks answers a [StateChecks].
func (t Table) StateChecks(c catalog.Table, q *StateChecks, w *mvcc.Watch) ([]*Check, uint64) {
	index := t.Index(w)
	matching := func(string) bool { return true }
	if len(q.NodeMeta) > 0 {
		nodes, nodesIndex := c.Nodes(&catalog.Nodes{Meta: q.NodeMeta}, w)
		index = max(index, nodesIndex)
		names := make(map[string]bool, len(nodes))
		for _, n := range nodes {
			names[fold(n.Name)] = true
		}
		matching = func(node string) bool { return names[fold(node)] }
	}
	out := []*Check{}
	for _, check := range t.checks.Prefix("", nil) {
		if (strings.EqualFold(q.State, AnyState) || strings.EqualFold(q.State, string(check.Status))) && matching(check.Node) {
			out = append(out, check)
		}
	}
	return out, index
}
