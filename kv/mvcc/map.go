package mvcc

import "iter"

// Map is a persistent map from keys of arbitrary bytes to rows, in byte order
// of the keys. A Map never changes; a [Txn] makes the next one. [New] makes an
// empty one.
type Map[V any] struct {
	tree *tree[leaf[V]]
}

// New returns an empty map.
func New[V any]() Map[V] { return Map[V]{tree: newTree[leaf[V]]()} }

// leaf is a row with what the state hash needs to forget it again.
type leaf[V any] struct {
	row V
	stamp
}

// stamp is the hash of a row's canonical encoding and its length in bytes. It
// is zero in maps that are derived from others and not persisted.
type stamp struct {
	sum  Sum
	size uint32
}

// Len is the number of rows.
func (m Map[V]) Len() int { return m.tree.size }

// Get returns the row of key and puts it under watch. Watching a missing key
// wakes when it appears, and now and then for a neighbour.
func (m Map[V]) Get(key string, w *Watch) (V, bool) {
	found, bell := m.tree.root.get(key)
	if w != nil {
		w.Add(bell.listen())
	}
	return rowOf(found)
}

// rowOf is the row of a value that may be nil.
func rowOf[V any](found *value[leaf[V]]) (row V, ok bool) {
	if found == nil {
		return row, false
	}
	return found.row.row, true
}

// Prefix yields the rows whose keys begin with prefix, in the order of their
// keys, and puts the whole range under watch.
func (m Map[V]) Prefix(prefix string, w *Watch) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		top, bell := m.tree.root.below(prefix)
		if w != nil {
			w.Add(bell.listen())
		}
		if top != nil {
			top.each(func(v *value[leaf[V]]) bool { return yield(v.key, v.row.row) })
		}
	}
}

// Txn begins a transaction. Changes of persisted rows are noted in j; a map
// that is derived from others passes nil.
func (m Map[V]) Txn(j *Journal) *Txn[V] { return &Txn[V]{base: m.tree, journal: j} }

// Txn makes the next version of a [Map]. Dropping it undoes it. One that changes
// nothing costs nothing.
type Txn[V any] struct {
	base    *tree[leaf[V]]
	edit    *edit[leaf[V]] // nil until the first change
	journal *Journal
}

// open is the edit of the tree, for a change.
func (t *Txn[V]) open() *edit[leaf[V]] {
	if t.edit == nil {
		t.edit = t.base.edit()
	}
	return t.edit
}

// root is the tree as it is now, until the next change.
func (t *Txn[V]) root() *node[leaf[V]] {
	if t.edit == nil {
		return t.base.root
	}
	return t.edit.root
}

// Get returns the row of key as the transaction has it now.
func (t *Txn[V]) Get(key string) (V, bool) {
	found, _ := t.root().get(key)
	return rowOf(found)
}

// Prefix returns the rows whose keys begin with prefix as they are now, in
// order. What the transaction does next does not change the list.
func (t *Txn[V]) Prefix(prefix string) []Pair[V] {
	var out []Pair[V]
	if top, _ := t.root().below(prefix); top != nil {
		top.each(func(v *value[leaf[V]]) bool {
			out = append(out, Pair[V]{v.key, v.row.row})
			return true
		})
	}
	return out
}

// Has reports whether any key begins with prefix.
func (t *Txn[V]) Has(prefix string) bool {
	top, _ := t.root().below(prefix)
	return top != nil && !top.each(func(*value[leaf[V]]) bool { return false })
}

// First returns the first row whose key begins with prefix, as it is now.
func (t *Txn[V]) First(prefix string) (row V, ok bool) {
	if top, _ := t.root().below(prefix); top != nil {
		top.each(func(v *value[leaf[V]]) bool {
			row, ok = v.row.row, true
			return false
		})
	}
	return row, ok
}

// Pair is a row and its key.
type Pair[V any] struct {
	Key string
	Row V
}

// Set puts row at key and returns the row that stood there, if any.
func (t *Txn[V]) Set(key string, row V) (V, bool) {
	l := leaf[V]{row: row}
	if t.journal != nil {
		l.stamp = t.journal.stamp(row)
	}
	old := t.open().set(key, l)
	before, had := rowOf(old)
	if t.journal != nil {
		c := Change{Key: key, After: row}
		var was stamp
		if had {
			c.Before, was = before, old.row.stamp
		}
		t.journal.add(c, was, l.stamp)
	}
	return before, had
}

// Delete removes the row of key and returns it, if there was one.
func (t *Txn[V]) Delete(key string) (row V, had bool) {
	if found, _ := t.root().get(key); found == nil {
		return row, false
	}
	old := t.open().remove(key)
	if t.journal != nil {
		t.journal.add(Change{Key: key, Before: old.row.row}, old.row.stamp, stamp{})
	}
	return old.row.row, true
}

// Commit returns the next version. Nobody is woken until [Txn.Notify].
func (t *Txn[V]) Commit() Map[V] {
	if t.edit == nil {
		return Map[V]{tree: t.base}
	}
	return Map[V]{tree: t.edit.commit()}
}

// Notify wakes all who watch something that the transaction changed. It is
// called once, after the new version can be seen.
func (t *Txn[V]) Notify() {
	if t.edit != nil {
		t.edit.notify()
	}
}

// Path yields the rows whose keys are prefixes of key, shortest first, key
// itself included.
func (m Map[V]) Path(key string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		m.tree.root.path(key, func(v *value[leaf[V]]) bool { return yield(v.key, v.row.row) })
	}
}

// Each yields the rows of m in order until yield returns false, and reports
// whether all were taken.
func Each[V any](m Map[V], yield func(row any) bool) bool {
	return m.tree.root.each(func(v *value[leaf[V]]) bool { return yield(v.row.row) })
}

// Load sets the row of key, or removes it if it is not there any more.
func Load[V any](t *Txn[V], key string, row V, there bool) {
	if there {
		t.Set(key, row)
	} else {
		t.Delete(key)
	}
}
