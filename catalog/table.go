package catalog

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Names of marks. The mark of one node or service is its prefix and the name in
// lower case.
const (
	markNodes        = "nodes"         // any node, or the services of one, changed
	markServices     = "services"      // any instance changed
	markNode         = "node/"         // this node or an instance on it changed
	markService      = "service/"      // an instance, its node or a check of it changed
	markNodesGone    = "gone/nodes"    // a node was removed
	markServicesGone = "gone/services" // a service lost its last instance
)

// Table holds the nodes and instances of one view. It never changes;
// [Table.Txn] makes the next one.
type Table struct {
	nodes    mvcc.Map[*Node]    // by name
	services mvcc.Map[*Service] // by node, ID
	marks    mvcc.Map[*Mark]

	// Derived from the rows above, and not persisted.
	ids    mvcc.Map[*Node]    // by ID
	byName mvcc.Map[*Service] // by service name, node, ID
}

// NewTable returns an empty table.
func NewTable() Table {
	return Table{
		nodes:    mvcc.New[*Node](),
		services: mvcc.New[*Service](),
		marks:    mvcc.New[*Mark](),
		ids:      mvcc.New[*Node](),
		byName:   mvcc.New[*Service](),
	}
}

// Rows yields every persisted row, table by table in the order of their keys,
// until yield returns false.
func (t Table) Rows(yield func(row any) bool) bool {
	return mvcc.Each(t.nodes, yield) && mvcc.Each(t.services, yield) && mvcc.Each(t.marks, yield)
}

// fold brings a name to the form in which names are compared.
func fold(name string) string { return strings.ToLower(name) }

func serviceKey(node, id string) string { return fold(node) + "\x00" + id }

func nameKey(service, node, id string) string {
	return fold(service) + "\x00" + fold(node) + "\x00" + id
}

// mark puts a mark under watch and returns its index, or zero.
func (t Table) mark(name string, w *mvcc.Watch) uint64 {
	if m, ok := t.marks.Get(name, w); ok {
		return m.Index
	}
	return 0
}

// ServiceIndex is the index of all that a read of one service shows: its
// instances, their nodes and their checks.
func (t Table) ServiceIndex(service string, w *mvcc.Watch) uint64 {
	if i := t.mark(markService+fold(service), w); i > 0 {
		return i
	}
	// A service that is not there has the index of the last one that went, so
	// that whoever watched it sees the index move.
	if i := t.mark(markServicesGone, nil); i > 0 {
		return i
	}
	return max(t.mark(markServices, nil), 1)
}

// CountNodes is the number of nodes.
func (t Table) CountNodes() int { return t.nodes.Len() }

// CountInstances is the number of instances of all services.
func (t Table) CountInstances() int { return t.services.Len() }

// NodesIndex is the index of all nodes and of what stands on them, checks apart.
func (t Table) NodesIndex(w *mvcc.Watch) uint64 { return max(t.mark(markNodes, w), 1) }

func (t Table) nodeIndex(node string, w *mvcc.Watch) uint64 {
	if i := t.mark(markNode+fold(node), w); i > 0 {
		return i
	}
	if i := t.mark(markNodesGone, nil); i > 0 {
		return i
	}
	return t.NodesIndex(nil)
}

// Node answers a [NodeQuery].
func (t Table) Node(q *NodeQuery, w *mvcc.Watch) (*Node, uint64) {
	n, _ := t.nodes.Get(fold(q.Name), nil)
	return n, t.nodeIndex(q.Name, w)
}

// Nodes answers a [Nodes].
func (t Table) Nodes(q *Nodes, w *mvcc.Watch) ([]*Node, uint64) {
	out := make([]*Node, 0, t.nodes.Len())
	for _, n := range t.nodes.Prefix("", nil) {
		if hasMeta(n.Meta, q.Meta) {
			out = append(out, n)
		}
	}
	return out, t.NodesIndex(w)
}

// NodeServices answers a [NodeServices].
func (t Table) NodeServices(q *NodeServices, w *mvcc.Watch) (*NodeDetail, uint64) {
	n, ok := t.nodes.Get(fold(q.Node), nil)
	var index uint64
	if ok || !maybeID(q.Node) {
		index = t.nodeIndex(q.Node, w)
	} else {
		// Any node that comes or goes can give the prefix of an ID a meaning, or
		// take it.
		n, index = t.nodeByID(q.Node), t.NodesIndex(w)
	}
	if n == nil {
		return nil, index
	}
	d := &NodeDetail{Node: n, Services: []*Service{}}
	for _, s := range t.services.Prefix(fold(n.Name)+"\x00", nil) {
		d.Services = append(d.Services, s)
	}
	return d, index
}

// minIDPrefix is how many characters of a node's ID have to be given.
const minIDPrefix = 2

// maybeID reports whether s can be the prefix of a node's ID, which is a UUID.
func maybeID(s string) bool {
	return len(s) >= minIDPrefix && strings.Trim(s, "0123456789abcdefABCDEF-") == ""
}

// nodeByID returns the one node whose ID begins with prefix, or nil if there is
// none or more than one.
func (t Table) nodeByID(prefix string) *Node {
	var found *Node
	for _, n := range t.ids.Prefix(fold(prefix), nil) {
		if found != nil {
			return nil
		}
		found = n
	}
	return found
}

// Instances answers an [Instances].
func (t Table) Instances(q *Instances, w *mvcc.Watch) ([]*Instance, uint64) {
	var index uint64
	prefix := ""
	if q.Service == "" {
		index = max(t.mark(markServices, w), t.NodesIndex(w))
	} else {
		prefix = fold(q.Service) + "\x00"
		index = t.ServiceIndex(q.Service, w)
	}
	out := []*Instance{}
	if strings.Contains(q.Service, "\x00") {
		return out, index // no service: the byte would reach into the key's next column
	}
	var n *Node // of one instance, and often of the next
	for _, s := range t.byName.Prefix(prefix, nil) {
		if n == nil || n.Name != s.Node {
			n, _ = t.nodes.Get(fold(s.Node), nil)
		}
		if n != nil && s.HasTags(q.Tags) && hasMeta(n.Meta, q.NodeMeta) {
			out = append(out, &Instance{Node: n, Service: s})
		}
	}
	return out, index
}

// Services answers a [Services].
func (t Table) Services(q *Services, w *mvcc.Watch) (ServiceTags, uint64) {
	index := max(t.mark(markServices, w), 1)
	if len(q.NodeMeta) > 0 {
		index = max(index, t.NodesIndex(w))
	}
	out := ServiceTags{}
	for _, s := range t.byName.Prefix("", nil) {
		if len(q.NodeMeta) > 0 {
			if n, ok := t.nodes.Get(fold(s.Node), nil); !ok || !hasMeta(n.Meta, q.NodeMeta) {
				continue
			}
		}
		if len(out) == 0 || fold(out[len(out)-1].Name) != fold(s.Name) {
			out = append(out, NamedTags{Name: s.Name, Tags: []string{}})
		}
		last := &out[len(out)-1]
		for _, tag := range s.Tags {
			if !slices.Contains(last.Tags, tag) {
				last.Tags = append(last.Tags, tag)
			}
		}
	}
	return out, index
}

// Address answers an [AddressQuery].
func (t Table) Address(q *AddressQuery, w *mvcc.Watch) (*AddressOwner, uint64) {
	index := max(t.NodesIndex(w), t.mark(markServices, w))
	ip, err := netip.ParseAddr(q.Address)
	if err != nil {
		return nil, index
	}
	for _, n := range t.nodes.Prefix("", nil) {
		if isAddress(n.Address, ip) {
			return &AddressOwner{Node: n}, index
		}
	}
	for _, s := range t.byName.Prefix("", nil) {
		if isAddress(s.Address, ip) {
			n, _ := t.nodes.Get(fold(s.Node), nil)
			return &AddressOwner{Node: n, Service: s}, index
		}
	}
	return nil, index
}

// isAddress reports whether s is ip, in any of the forms that an IPv6 address can
// be written in (RFC 4291 §2.2).
func isAddress(s string, ip netip.Addr) bool {
	found, err := netip.ParseAddr(s)
	return err == nil && found == ip
}

// HasTags reports whether the instance has each of tags, without regard to
// letter case.
func (s *Service) HasTags(tags []string) bool {
	for _, want := range tags {
		if !slices.ContainsFunc(s.Tags, func(has string) bool { return strings.EqualFold(has, want) }) {
			return false
		}
	}
	return true
}

func hasMeta(meta, want map[string]string) bool {
	for k, v := range want {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}
