package kv

import (
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// markReaped names the mark that no prefix's index falls below: the highest
// index of a deletion whose tombstone is no longer kept.
const markReaped = "reaped"

// Table holds the entries of one view. It never changes; [Table.Txn] makes the
// next one.
type Table struct {
	entries    mvcc.Map[*Entry]
	tombstones mvcc.Map[*Tombstone]
	marks      mvcc.Map[*Mark]
	// index is the highest index of any entry, tombstone or mark.
	index uint64
}

// NewTable returns an empty table.
func NewTable() Table {
	return Table{
		entries:    mvcc.New[*Entry](),
		tombstones: mvcc.New[*Tombstone](),
		marks:      mvcc.New[*Mark](),
	}
}

// Len is the number of entries.
func (t Table) Len() int { return t.entries.Len() }

// Rows yields every persisted row, table by table in the order of their keys,
// until yield returns false.
func (t Table) Rows(yield func(row any) bool) bool {
	return mvcc.Each(t.entries, yield) && mvcc.Each(t.tombstones, yield) && mvcc.Each(t.marks, yield)
}

// Get answers a [Get]: the entry, or nil, and the index of the answer, which
// for a missing key is that of the whole table.
func (t Table) Get(q *Get, w *mvcc.Watch) (*Entry, uint64) {
	if e, ok := t.entries.Get(q.Key, w); ok {
		return e, e.ModifyIndex
	}
	return nil, max(t.index, 1)
}

// List answers a [List].
func (t Table) List(q *List, w *mvcc.Watch) ([]*Entry, uint64) {
	out := []*Entry{}
	var last uint64
	for _, e := range t.entries.Prefix(q.Prefix, w) {
		out = append(out, e)
		last = max(last, e.ModifyIndex)
	}
	return out, t.prefixIndex(q.Prefix, last)
}

// Keys answers a [Keys].
func (t Table) Keys(q *Keys, w *mvcc.Watch) ([]string, uint64) {
	out := []string{}
	var last uint64
	for key, e := range t.entries.Prefix(q.Prefix, w) {
		last = max(last, e.ModifyIndex)
		if q.Separator != "" {
			if i := strings.Index(key[len(q.Prefix):], q.Separator); i >= 0 {
				key = key[:len(q.Prefix)+i+len(q.Separator)]
			}
			if n := len(out); n > 0 && out[n-1] == key {
				continue
			}
		}
		out = append(out, key)
	}
	return out, t.prefixIndex(q.Prefix, last)
}

// prefixIndex is the index of all that begins with prefix, given the highest
// ModifyIndex there. It never falls: deletions below the prefix, and of trees
// that the prefix lies in, count until they are forgotten, and then the mark
// does. A prefix of which nothing is known has the index of the table, before
// and after the mark moves.
func (t Table) prefixIndex(prefix string, last uint64) uint64 {
	if prefix == "" {
		return max(t.index, 1)
	}
	for _, d := range t.tombstones.Prefix(prefix, nil) {
		last = max(last, d.Index)
	}
	for _, d := range t.tombstones.Path(prefix) {
		if d.Tree {
			last = max(last, d.Index)
		}
	}
	if last == 0 {
		return max(t.index, 1)
	}
	if m, ok := t.marks.Get(markReaped, nil); ok {
		last = max(last, m.Index)
	}
	return last
}

// Reapable returns the index of the newest tombstone that was made at or before
// the given time in Unix milliseconds, or zero if there is none: what a [Reap]
// of that index forgets.
func (t Table) Reapable(before int64) uint64 {
	var index uint64
	for _, d := range t.tombstones.Prefix("", nil) {
		if d.At <= before {
			index = max(index, d.Index)
		}
	}
	return index
}
