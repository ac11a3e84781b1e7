package catalog

import (
	"maps"
	"slices"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Txn makes the next [Table]. Dropping it undoes it. It knows nothing of
// checks: what follows for them is the work of package agent/state.
type Txn struct {
	nodes    *mvcc.Txn[*Node]
	services *mvcc.Txn[*Service]
	marks    *mvcc.Txn[*Mark]
	ids      *mvcc.Txn[*Node]
	byName   *mvcc.Txn[*Service]
	index    uint64
}

// Txn begins the change of the given Raft index. Changed rows are noted in j.
func (t Table) Txn(j *mvcc.Journal, index uint64) *Txn {
	return &Txn{
		nodes:    t.nodes.Txn(j),
		services: t.services.Txn(j),
		marks:    t.marks.Txn(j),
		ids:      t.ids.Txn(nil),
		byName:   t.byName.Txn(nil),
		index:    index,
	}
}

// Commit returns the next table.
func (x *Txn) Commit() Table {
	return Table{
		nodes:    x.nodes.Commit(),
		services: x.services.Commit(),
		marks:    x.marks.Commit(),
		ids:      x.ids.Commit(),
		byName:   x.byName.Commit(),
	}
}

// Notify wakes all who watch something that changed. Nobody watches the derived
// maps.
func (x *Txn) Notify() {
	x.nodes.Notify()
	x.services.Notify()
	x.marks.Notify()
}

// Node returns the node of that name as the transaction has it, or nil.
func (x *Txn) Node(name string) *Node {
	n, _ := x.nodes.Get(fold(name))
	return n
}

// NodeByID returns the node with that ID as the transaction has it, or nil.
func (x *Txn) NodeByID(id string) *Node {
	if id == "" {
		return nil
	}
	n, _ := x.ids.Get(fold(id))
	return n
}

// Service returns an instance as the transaction has it, or nil.
func (x *Txn) Service(node, id string) *Service {
	s, _ := x.services.Get(serviceKey(node, id))
	return s
}

// ServicesOn returns the instances on a node, by ID.
func (x *Txn) ServicesOn(node string) []*Service {
	pairs := x.services.Prefix(fold(node) + "\x00")
	out := make([]*Service, len(pairs))
	for i, p := range pairs {
		out[i] = p.Row
	}
	return out
}

// SetNode writes a node. An equal one changes nothing.
func (x *Txn) SetNode(n Node) {
	created := x.index
	old := x.Node(n.Name)
	if old != nil {
		created = old.CreateIndex
		if old.Equal(&n) {
			return
		}
		if old.ID != n.ID {
			x.dropID(old)
		}
	}
	now := new(Node) // only here: most writes change nothing
	*now = n
	now.CreateIndex, now.ModifyIndex = created, x.index
	x.nodes.Set(fold(now.Name), now)
	if now.ID != "" {
		x.ids.Set(fold(now.ID), now)
	}
	x.touchNode(now.Name)
	if old != nil {
		x.TouchServicesOn(now.Name)
	}
}

// DeleteNode removes a node without its instances, which go first.
func (x *Txn) DeleteNode(name string) {
	old, ok := x.nodes.Delete(fold(name))
	if !ok {
		return
	}
	x.dropID(old)
	x.marks.Delete(markNode + fold(name))
	x.touch(markNodes)
	x.touch(markNodesGone)
}

// dropID forgets that n has its ID, unless another node took it over.
func (x *Txn) dropID(n *Node) {
	if holder, ok := x.ids.Get(fold(n.ID)); ok && fold(holder.Name) == fold(n.Name) {
		x.ids.Delete(fold(n.ID))
	}
}

// SetService writes an instance. An equal one changes nothing.
func (x *Txn) SetService(s Service) {
	created := x.index
	old := x.Service(s.Node, s.ID)
	if old != nil {
		created = old.CreateIndex
		if old.Equal(&s) {
			return
		}
	}
	now := new(Service) // only here: most writes change nothing
	*now = s
	now.CreateIndex, now.ModifyIndex = created, x.index
	x.share(now)
	x.services.Set(serviceKey(now.Node, now.ID), now)
	if old != nil && fold(old.Name) != fold(now.Name) {
		x.unname(old)
	}
	x.byName.Set(nameKey(now.Name, now.Node, now.ID), now)
	x.touchNode(now.Node)
	x.touch(markServices)
	x.TouchService(now.Name)
}

// share gives an instance the name, tags and metadata of the first one of its
// service where they are equal, so that they are held once.
func (x *Txn) share(s *Service) {
	first, ok := x.byName.First(fold(s.Name) + "\x00")
	if !ok {
		return
	}
	if first.Name == s.Name {
		s.Name = first.Name
	}
	if len(s.Tags) > 0 && slices.Equal(first.Tags, s.Tags) {
		s.Tags = first.Tags
	}
	if len(s.Meta) > 0 && maps.Equal(first.Meta, s.Meta) {
		s.Meta = first.Meta
	}
}

// DeleteService removes an instance without its checks, which go first, and
// returns it, or nil if it was not there.
func (x *Txn) DeleteService(node, id string) *Service {
	old, ok := x.services.Delete(serviceKey(node, id))
	if !ok {
		return nil
	}
	x.unname(old)
	x.touchNode(node)
	x.touch(markServices)
	return old
}

// unname takes an instance from its service. A service without instances loses
// its mark, and readers of it see the mark of those that are gone.
func (x *Txn) unname(s *Service) {
	x.byName.Delete(nameKey(s.Name, s.Node, s.ID))
	if x.byName.Has(fold(s.Name) + "\x00") {
		x.TouchService(s.Name)
		return
	}
	x.marks.Delete(markService + fold(s.Name))
	x.touch(markServicesGone)
}

// TouchService moves the index of a service: something that its readers see has
// changed, if only one of its checks.
func (x *Txn) TouchService(name string) { x.touch(markService + fold(name)) }

// TouchServicesOn moves the index of each service with an instance on the node.
func (x *Txn) TouchServicesOn(node string) {
	for _, s := range x.ServicesOn(node) {
		x.TouchService(s.Name)
	}
}

func (x *Txn) touchNode(name string) {
	x.touch(markNodes)
	x.touch(markNode + fold(name))
}

func (x *Txn) touch(mark string) {
	if m, ok := x.marks.Get(mark); !ok || m.Index != x.index {
		x.marks.Set(mark, &Mark{Name: mark, Index: x.index})
	}
}

// Load puts back a row of a snapshot or of the history, or removes it if it is
// gone. It reports whether the row is one of this package's.
func (x *Txn) Load(before, after any) bool {
	row := after
	if row == nil {
		row = before
	}
	switch r := row.(type) {
	case *Node:
		if old := x.Node(r.Name); old != nil {
			x.dropID(old)
		}
		mvcc.Load(x.nodes, fold(r.Name), r, after != nil)
		if after != nil && r.ID != "" {
			x.ids.Set(fold(r.ID), r)
		}
	case *Service:
		if old := x.Service(r.Node, r.ID); old != nil {
			x.byName.Delete(nameKey(old.Name, old.Node, old.ID))
		}
		mvcc.Load(x.services, serviceKey(r.Node, r.ID), r, after != nil)
		if after != nil {
			x.byName.Set(nameKey(r.Name, r.Node, r.ID), r)
		}
	case *Mark:
		mvcc.Load(x.marks, r.Name, r, after != nil)
	default:
		return false
	}
	return true
}

// Equal reports whether n and o say the same, whenever they were written.
func (n *Node) Equal(o *Node) bool {
	return n.ID == o.ID && n.Name == o.Name && n.Address == o.Address &&
		sameMap(n.TaggedAddresses, o.TaggedAddresses) && sameMap(n.Meta, o.Meta) && n.Locality.equal(o.Locality)
}

// Equal reports whether s and o say the same, whenever they were written.
func (s *Service) Equal(o *Service) bool {
	return s.Node == o.Node && s.ID == o.ID && s.Name == o.Name && s.Kind == o.Kind &&
		slices.Equal(s.Tags, o.Tags) && s.Address == o.Address &&
		sameMap(s.TaggedAddresses, o.TaggedAddresses) && sameMap(s.Meta, o.Meta) &&
		s.Port == o.Port && s.SocketPath == o.SocketPath && s.Weights == o.Weights &&
		s.EnableTagOverride == o.EnableTagOverride && s.Locality.equal(o.Locality) &&
		string(s.Proxy) == string(o.Proxy) && s.Native == o.Native
}

func (l *Locality) equal(o *Locality) bool {
	return l == o || (l != nil && o != nil && *l == *o)
}

// sameMap also tells a map that was never given from an empty one, which
// clients can see.
func sameMap[V comparable](a, b map[string]V) bool {
	return (a == nil) == (b == nil) && maps.Equal(a, b)
}
