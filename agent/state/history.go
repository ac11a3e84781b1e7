package state

import (
	"fmt"
	"sort"
	"sync"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Record is one step of the history: the view after a command and the rows that
// the command changed. It is shared: nobody may write to it.
type Record struct {
	View    *View
	Changes []mvcc.Change
	Origin  mvcc.Origin

	cost int // bytes, as charged against MaxHistoryBytes
}

// History remembers the last views by their index, each with the rows that it
// changed. It is bounded by [MaxHistoryChanges] and [MaxHistoryBytes], whichever
// is reached first, and holds at least the newest record. It is not in a
// snapshot. Its methods may be called from any goroutine.
type History struct {
	mu      sync.Mutex
	records []Record // ordered by index; records[0] may have no Changes before it
	memory  []Record // where records lies
	changes int
	bytes   int
}

// reset forgets everything and begins anew with v.
func (h *History) reset(v *View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.memory = nil, nil
	h.append(Record{View: v})
	h.changes, h.bytes = 0, 0
}

// add remembers a step, and forgets the oldest ones that exceed the limits.
func (h *History) add(r Record, encoded int) {
	r.cost = encoded + changeOverhead*max(len(r.Changes), 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.append(r)
	h.changes += len(r.Changes)
	h.bytes += r.cost
	drop := 0
	for drop < len(h.records)-1 && (h.changes > MaxHistoryChanges || h.bytes > MaxHistoryBytes) {
		// The oldest record becomes a view to start from: how it came to be is
		// forgotten with the view before it.
		next := &h.records[drop+1]
		h.changes -= len(next.Changes)
		h.bytes -= next.cost
		next.Changes, next.cost = nil, 0
		drop++
	}
	// What was dropped is let go at once, its place when the others move up.
	clear(h.records[:drop])
	h.records = h.records[drop:]
}

// append puts a record behind the others. When there is no place, they move to
// the front of their memory if a quarter of it is free, else into larger memory.
func (h *History) append(r Record) {
	if n := len(h.records); n == cap(h.records) {
		if 4*n >= 3*len(h.memory) {
			h.memory = make([]Record, 3*n/2+2)
		}
		copy(h.memory, h.records)
		clear(h.memory[n:])
		h.records = h.memory[:n]
	}
	h.records = append(h.records, r)
}

// Bytes is what the history is charged with, never more than [MaxHistoryBytes]
// unless the newest change alone is larger.
func (h *History) Bytes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes
}

// Oldest is the index of the oldest view that is remembered.
func (h *History) Oldest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records[0].View.Index
}

// At returns the view as of an index: the newest one that is not above it. An
// index before the oldest view gets an error of code [mvcc.Compacted] that names
// the oldest.
func (h *History) At(index uint64) (*View, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.find(index)
	if err != nil {
		return nil, err
	}
	return h.records[i].View, nil
}

// AtTime returns the view as of a time in Unix milliseconds, likewise.
func (h *History) AtTime(at int64) (*View, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := sort.Search(len(h.records), func(i int) bool { return h.records[i].View.At > at }) - 1
	if i < 0 {
		oldest := h.records[0].View
		return nil, &mvcc.Error{Code: mvcc.Compacted, Text: fmt.Sprintf(
			"time %d is before the history, whose oldest view is index %d of time %d", at, oldest.Index, oldest.At)}
	}
	return h.records[i].View, nil
}

// Since returns every step after the view of an index, oldest first. An index
// before the oldest view gets an error of code [mvcc.Compacted], never an empty
// list.
func (h *History) Since(index uint64) ([]Record, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.find(index)
	if err != nil {
		return nil, err
	}
	return append([]Record(nil), h.records[i+1:]...), nil
}

func (h *History) find(index uint64) (int, error) {
	i := sort.Search(len(h.records), func(i int) bool { return h.records[i].View.Index > index }) - 1
	if i < 0 {
		return 0, &mvcc.Error{Code: mvcc.Compacted, Text: fmt.Sprintf(
			"index %d is before the history, whose oldest view is index %d", index, h.records[0].View.Index)}
	}
	return i, nil
}
