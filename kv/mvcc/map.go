package mvcc

import (
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Map is a persistent map from keys of arbitrary bytes to rows, in byte order
// of the keys. A Map never changes; a [Txn] makes the next one. [New] makes an
// empty one.
type Map[V any] struct {
	tree *iradix.Tree[leaf[V]]
}

// New returns an empty map.
func New[V any]() Map[V] { return Map[V]{tree: iradix.New[leaf[V]]()} }

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
func (m Map[V]) Len() int {
	return m.tree.Len()
}

// Get returns the row of key and puts it under watch. Watching a missing key
// wakes when it appears, and now and then for a neighbour.
func (m Map[V]) Get(key string, w *Watch) (V, bool) {
	if w == nil {
		l, ok := m.tree.Get([]byte(key))
		return l.row, ok
	}
	ch, l, ok := m.tree.Root().GetWatch([]byte(key))
	w.Add(ch)
	return l.row, ok
}

// Prefix yields the rows whose keys begin with prefix, in the order of their
// keys, and puts the whole range under watch. The keys are shared: nobody may
// write to them.
func (m Map[V]) Prefix(prefix string, w *Watch) iter.Seq2[[]byte, V] {
	return func(yield func([]byte, V) bool) {
		it := m.tree.Root().Iterator()
		if w == nil {
			it.SeekPrefix([]byte(prefix))
		} else {
			w.Add(it.SeekPrefixWatch([]byte(prefix)))
		}
		for key, l, ok := it.Next(); ok; key, l, ok = it.Next() {
			if !yield(key, l.row) {
				return
			}
		}
	}
}

// Txn begins a transaction. Changes of persisted rows are noted in j; a map
// that is derived from others passes nil.
func (m Map[V]) Txn(j *Journal) *Txn[V] { return &Txn[V]{base: m.tree, journal: j} }

// Txn makes the next version of a [Map]. Dropping it undoes it. One that changes
// nothing costs nothing.
type Txn[V any] struct {
	base    *iradix.Tree[leaf[V]]
	txn     *iradix.Txn[leaf[V]] // nil until the first change
	journal *Journal
}

// open is the transaction of the tree, for a change.
func (t *Txn[V]) open() *iradix.Txn[leaf[V]] {
	if t.txn == nil {
		t.txn = t.base.Txn()
		t.txn.TrackMutate(true)
	}
	return t.txn
}

// root is the tree as it is now, until the next change.
func (t *Txn[V]) root() *iradix.Node[leaf[V]] {
	if t.txn == nil {
		return t.base.Root()
	}
	return t.txn.Root()
}

// Get returns the row of key as the transaction has it now.
func (t *Txn[V]) Get(key string) (V, bool) {
	l, ok := t.root().Get([]byte(key))
	return l.row, ok
}

// Prefix returns the rows whose keys begin with prefix as they are now, in
// order. What the transaction does next does not change the list.
func (t *Txn[V]) Prefix(prefix string) []Pair[V] {
	it := t.root().Iterator()
	it.SeekPrefix([]byte(prefix))
	var out []Pair[V]
	for key, l, ok := it.Next(); ok; key, l, ok = it.Next() {
		out = append(out, Pair[V]{string(key), l.row})
	}
	return out
}

// Has reports whether any key begins with prefix.
func (t *Txn[V]) Has(prefix string) bool {
	it := t.root().Iterator()
	it.SeekPrefix([]byte(prefix))
	_, _, ok := it.Next()
	return ok
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
	old, had := t.open().Insert([]byte(key), l)
	if t.journal != nil {
		c := Change{Key: key, After: row}
		if had {
			c.Before = old.row
		}
		t.journal.add(c, old.stamp, l.stamp)
	}
	return old.row, had
}

// Delete removes the row of key and returns it, if there was one.
func (t *Txn[V]) Delete(key string) (V, bool) {
	if _, had := t.root().Get([]byte(key)); !had {
		var none V
		return none, false
	}
	old, had := t.open().Delete([]byte(key))
	if had && t.journal != nil {
		t.journal.add(Change{Key: key, Before: old.row}, old.stamp, stamp{})
	}
	return old.row, had
}

// Commit returns the next version. Nobody is woken until [Txn.Notify].
func (t *Txn[V]) Commit() Map[V] {
	if t.txn == nil {
		return Map[V]{tree: t.base}
	}
	return Map[V]{tree: t.txn.CommitOnly()}
}

// Notify wakes all who watch something that the transaction changed. It is
// called once, after the new version can be seen.
func (t *Txn[V]) Notify() {
	if t.txn != nil {
		t.txn.Notify()
	}
}

// Path yields the rows whose keys are prefixes of key, shortest first, key
// itself included.
func (m Map[V]) Path(key string) iter.Seq2[[]byte, V] {
	return func(yield func([]byte, V) bool) {
		m.tree.Root().WalkPath([]byte(key), func(k []byte, l leaf[V]) bool {
			return !yield(k, l.row)
		})
	}
}

// Each yields the rows of m in order until yield returns false, and reports
// whether all were taken.
func Each[V any](m Map[V], yield func(row any) bool) bool {
	it := m.tree.Root().Iterator()
	for _, l, ok := it.Next(); ok; _, l, ok = it.Next() {
		if !yield(l.row) {
			return false
		}
	}
	return true
}

// Load sets the row of key, or removes it if it is not there any more.
func Load[V any](t *Txn[V], key string, row V, there bool) {
	if there {
		t.Set(key, row)
	} else {
		t.Delete(key)
	}
}
