package kv

import (
	"bytes"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Txn makes the next [Table]. Dropping it undoes it.
type Txn struct {
	entries    mvcc.Txn[*Entry]
	tombstones mvcc.Txn[*Tombstone]
	marks      mvcc.Txn[*Mark]
	last       uint64 // the table's index
	index      uint64 // of this change
	at         int64  // of this change, in Unix milliseconds
}

// Txn begins the change of the given Raft index and leader's time in Unix
// milliseconds. Changed rows are noted in j.
func (t Table) Txn(j *mvcc.Journal, index uint64, at int64) *Txn {
	return &Txn{
		entries:    *t.entries.Txn(j),
		tombstones: *t.tombstones.Txn(j),
		marks:      *t.marks.Txn(j),
		last:       t.index,
		index:      index,
		at:         at,
	}
}

// Commit returns the next table.
func (x *Txn) Commit() Table {
	return Table{
		entries:    x.entries.Commit(),
		tombstones: x.tombstones.Commit(),
		marks:      x.marks.Commit(),
		index:      x.last,
	}
}

// Notify wakes all who watch something that changed.
func (x *Txn) Notify() {
	x.entries.Notify()
	x.tombstones.Notify()
	x.marks.Notify()
}

// Set carries out a [Set].
func (x *Txn) Set(c *Set) {
	old, ok := x.entries.Get(c.Key)
	e := &Entry{Key: c.Key, Value: c.Value, Flags: c.Flags, Version: 1, CreateIndex: x.index, ModifyIndex: x.index}
	if ok {
		// A plain write keeps the lock's holder and, as clients know it, resets
		// the count of its acquisitions.
		e.Session, e.Version, e.CreateIndex = old.Session, old.Version+1, old.CreateIndex
		if old.equal(e) {
			return
		}
	}
	x.put(e)
}

// CAS carries out a [CAS] and reports whether the entry was written.
func (x *Txn) CAS(c *CAS) bool {
	old, ok := x.entries.Get(c.Key)
	if ok != (c.Index != 0) || (ok && old.ModifyIndex != c.Index) {
		return false
	}
	x.Set(&Set{Key: c.Key, Value: c.Value, Flags: c.Flags})
	return true
}

// Delete carries out a [Delete].
func (x *Txn) Delete(c *Delete) {
	if _, ok := x.entries.Delete(c.Key); ok {
		x.bury(c.Key, false)
	}
}

// DeleteCAS carries out a [DeleteCAS] and reports whether the entry is gone.
func (x *Txn) DeleteCAS(c *DeleteCAS) bool {
	old, ok := x.entries.Get(c.Key)
	if ok && old.ModifyIndex != c.Index {
		return false
	}
	x.Delete(&Delete{Key: c.Key})
	return true
}

// DeleteTree carries out a [DeleteTree]. Deletions below the prefix that were
// remembered one by one are covered by the tree's own tombstone from then on.
func (x *Txn) DeleteTree(c *DeleteTree) {
	gone := x.entries.Prefix(c.Prefix)
	if len(gone) == 0 {
		return
	}
	for _, p := range gone {
		x.entries.Delete(p.Key)
	}
	for _, p := range x.tombstones.Prefix(c.Prefix) {
		x.tombstones.Delete(p.Key)
	}
	if c.Prefix == "" {
		x.mark(x.index)
		return
	}
	x.bury(c.Prefix, true)
}

// Reap carries out a [Reap].
func (x *Txn) Reap(c *Reap) {
	var highest uint64
	for _, p := range x.tombstones.Prefix("") {
		if p.Row.Index <= c.Index {
			x.tombstones.Delete(p.Key)
			highest = max(highest, p.Row.Index)
		}
	}
	if m, ok := x.marks.Get(markReaped); !ok || m.Index < highest {
		if highest > 0 {
			x.mark(highest)
		}
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
	case *Entry:
		mvcc.Load(&x.entries, r.Key, r, after != nil)
		x.last = max(x.last, r.ModifyIndex)
	case *Tombstone:
		mvcc.Load(&x.tombstones, r.Key, r, after != nil)
		x.last = max(x.last, r.Index)
	case *Mark:
		mvcc.Load(&x.marks, r.Name, r, after != nil)
		x.last = max(x.last, r.Index)
	default:
		return false
	}
	return true
}

// put writes e. A new entry covers the tombstone of its key, whose index it
// exceeds; a tree's tombstone stays, since it speaks for other keys too.
func (x *Txn) put(e *Entry) {
	x.entries.Set(e.Key, e)
	if e.Version == 1 {
		if d, ok := x.tombstones.Get(e.Key); ok && !d.Tree {
			x.tombstones.Delete(e.Key)
		}
	}
	x.last = x.index
}

// bury remembers a deletion. The tombstone of a tree is kept when the key that
// is its prefix goes too: the newer index holds for both.
func (x *Txn) bury(key string, tree bool) {
	if d, ok := x.tombstones.Get(key); ok && d.Tree {
		tree = true
	}
	x.tombstones.Set(key, &Tombstone{Key: key, Tree: tree, Index: x.index, At: x.at})
	x.last = x.index
}

func (x *Txn) mark(index uint64) {
	x.marks.Set(markReaped, &Mark{Name: markReaped, Index: index})
	x.last = max(x.last, index)
}

// equal reports whether a write of o over e changes nothing that a client sees.
func (e *Entry) equal(o *Entry) bool {
	return e.Flags == o.Flags && e.Session == o.Session && e.LockIndex == o.LockIndex && bytes.Equal(e.Value, o.Value)
}
