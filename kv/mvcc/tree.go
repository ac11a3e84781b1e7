package mvcc

import (
	"sort"
	"strings"
)

// tree is an immutable radix tree: each edge stands for one or more bytes of a
// key, and siblings differ in their first byte. A change copies the nodes from
// the root to the key and shares all others with the tree before.
type tree[V any] struct {
	root *node[V]
	size int
	// age is above that of each tree that it was made of, so that a transaction
	// can tell its own nodes from theirs.
	age uint64
}

// node is what keys with a common beginning have in common. It is not changed
// any more once the transaction of its age has committed, but for its bell.
type node[V any] struct {
	// bell rings when the node, its value or anything below is replaced.
	bell bell
	age  uint64
	// prefix is what keys have between the parent's part and the edges.
	prefix string
	value  *value[V] // of the key that ends here, or nil
	edges  []edge[V] // by label
}

type edge[V any] struct {
	label byte // the first byte of the node's prefix
	node  *node[V]
}

// value is a key with what is stored there. It is never changed.
type value[V any] struct {
	bell bell // rings when the value is replaced or removed
	key  string
	row  V
}

// manyEdges is from where halving the edges is quicker than going along them.
const manyEdges = 8

func newTree[V any]() *tree[V] { return &tree[V]{root: &node[V]{}} }

// find is the place among the edges where label is, or would be.
func (n *node[V]) find(label byte) (at int, child *node[V]) {
	edges := n.edges
	if len(edges) > manyEdges {
		at = sort.Search(len(edges), func(i int) bool { return edges[i].label >= label })
	} else {
		for at < len(edges) && edges[at].label < label {
			at++
		}
	}
	if at < len(edges) && edges[at].label == label {
		return at, edges[at].node
	}
	return at, nil
}

// get returns the value of key, if there is one, and the bell that rings when
// that changes; for a missing key that of the nearest node above.
func (n *node[V]) get(key string) (*value[V], *bell) {
	nearest := &n.bell
	for key != "" {
		if _, n = n.find(key[0]); n == nil {
			return nil, nearest
		}
		nearest = &n.bell
		if !strings.HasPrefix(key, n.prefix) {
			return nil, nearest
		}
		key = key[len(n.prefix):]
	}
	if n.value == nil {
		return nil, nearest
	}
	return n.value, &n.value.bell
}

// below returns the node above all keys that begin with prefix, or nil if there
// are none, and the bell that rings when any of them changes or comes.
func (n *node[V]) below(prefix string) (*node[V], *bell) {
	nearest := &n.bell
	for prefix != "" {
		if _, n = n.find(prefix[0]); n == nil {
			return nil, nearest
		}
		nearest = &n.bell
		switch {
		case strings.HasPrefix(prefix, n.prefix):
			prefix = prefix[len(n.prefix):]
		case strings.HasPrefix(n.prefix, prefix):
			return n, nearest
		default:
			return nil, nearest
		}
	}
	return n, nearest
}

// each yields the values at and below the node in the order of their keys until
// yield returns false, and reports whether all were taken.
func (n *node[V]) each(yield func(*value[V]) bool) bool {
	if n.value != nil && !yield(n.value) {
		return false
	}
	for i := range n.edges {
		if !n.edges[i].node.each(yield) {
			return false
		}
	}
	return true
}

// path yields the values whose keys are prefixes of key, shortest first.
func (n *node[V]) path(key string, yield func(*value[V]) bool) {
	for {
		if n.value != nil && !yield(n.value) || key == "" {
			return
		}
		if _, n = n.find(key[0]); n == nil || !strings.HasPrefix(key, n.prefix) {
			return
		}
		key = key[len(n.prefix):]
	}
}

// edit makes the next version of a tree.
type edit[V any] struct {
	tree[V]
	replaced []*bell
}

func (t *tree[V]) edit() *edit[V] {
	return &edit[V]{tree: tree[V]{root: t.root, size: t.size, age: t.age + 1}}
}

// own returns n as a node that the edit may change, with space for some edges
// more.
func (e *edit[V]) own(n *node[V], more int) *node[V] {
	if n.age == e.age {
		return n
	}
	e.replaced = append(e.replaced, &n.bell)
	owned := &node[V]{age: e.age, prefix: n.prefix, value: n.value}
	if len(n.edges)+more > 0 {
		owned.edges = append(make([]edge[V], 0, len(n.edges)+more), n.edges...)
	}
	return owned
}

// set stores a row and returns the value that stood there, or nil.
func (e *edit[V]) set(key string, row V) (old *value[V]) {
	e.root, old = e.insert(e.root, key, &value[V]{key: key, row: row})
	if old == nil {
		e.size++
	}
	return old
}

// insert puts v at the rest of its key under n, and returns what n becomes.
func (e *edit[V]) insert(n *node[V], rest string, v *value[V]) (now *node[V], old *value[V]) {
	if rest == "" {
		if old = n.value; old != nil {
			e.replaced = append(e.replaced, &old.bell)
		}
		now = e.own(n, 0)
		now.value = v
		return now, old
	}
	at, child := n.find(rest[0])
	if child == nil {
		now = e.own(n, 1)
		now.add(at, &node[V]{age: e.age, prefix: rest, value: v})
		return now, nil
	}
	common := commonPrefix(rest, child.prefix)
	if common == len(child.prefix) {
		child, old = e.insert(child, rest[common:], v)
	} else {
		child = e.split(child, common, rest, v)
	}
	now = e.own(n, 0)
	now.edges[at].node = child
	return now, old
}

// split parts a node after some bytes of its prefix, where another key goes its
// own way or ends.
func (e *edit[V]) split(n *node[V], common int, rest string, v *value[V]) *node[V] {
	lower := e.own(n, 0)
	upper := &node[V]{age: e.age, prefix: lower.prefix[:common], edges: make([]edge[V], 0, 2)}
	lower.prefix = lower.prefix[common:]
	upper.add(0, lower)
	if rest = rest[common:]; rest == "" {
		upper.value = v
		return upper
	}
	at, _ := upper.find(rest[0])
	upper.add(at, &node[V]{age: e.age, prefix: rest, value: v})
	return upper
}

// add puts a child at its place among the edges.
func (n *node[V]) add(at int, child *node[V]) {
	n.edges = append(n.edges, edge[V]{})
	copy(n.edges[at+1:], n.edges[at:])
	n.edges[at] = edge[V]{child.prefix[0], child}
}

// remove removes the row of key and returns its value, or nil.
func (e *edit[V]) remove(key string) *value[V] {
	now, old := e.cut(e.root, key)
	if old == nil {
		return nil
	}
	e.root = now
	e.size--
	return old
}

// cut removes the value at the rest of its key under n, and returns what n
// becomes: a node without value and edges, if nothing is left.
func (e *edit[V]) cut(n *node[V], rest string) (now *node[V], old *value[V]) {
	if rest == "" {
		if n.value == nil {
			return n, nil
		}
		e.replaced = append(e.replaced, &n.value.bell)
		now, old = e.own(n, 0), n.value
		now.value = nil
		e.join(now)
		return now, old
	}
	at, child := n.find(rest[0])
	if child == nil || !strings.HasPrefix(rest, child.prefix) {
		return n, nil
	}
	child, old = e.cut(child, rest[len(child.prefix):])
	if old == nil {
		return n, nil
	}
	now = e.own(n, 0)
	if child.value != nil || len(child.edges) > 0 {
		now.edges[at].node = child
		return now, old
	}
	now.edges = append(now.edges[:at], now.edges[at+1:]...)
	e.join(now)
	return now, old
}

// join makes one node of n, which the edit owns, and its child, if there is but
// one and no key ends between them. The root stays what it is.
func (e *edit[V]) join(n *node[V]) {
	if n.value != nil || len(n.edges) != 1 || n.prefix == "" {
		return
	}
	child := n.edges[0].node
	if child.age != e.age {
		e.replaced = append(e.replaced, &child.bell)
	}
	n.prefix += child.prefix
	n.value = child.value
	n.edges = append([]edge[V](nil), child.edges...)
}

// commit returns the next version. The edit can go on from there.
func (e *edit[V]) commit() *tree[V] {
	t := e.tree
	e.age++
	return &t
}

// notify rings the bells of all that the edit replaced.
func (e *edit[V]) notify() {
	for _, b := range e.replaced {
		b.ring()
	}
	e.replaced = nil
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
