package mvcc

import "reflect"

// Change is one row that a transaction created, replaced or removed. Rows are
// shared with every view that holds them: nobody may write to them.
type Change struct {
	// Key is the row's key in its map.
	Key string
	// Before is the row as it was, or nil if it was not there.
	Before any
	// After is the row as it is now, or nil if it is gone.
	After any
}

// Journal collects the persisted rows that one transaction changes, over all
// its tables, and keeps the sum of their hashes.
type Journal struct {
	// Encode appends the canonical encoding of a row, which begins with the
	// number of its table.
	Encode func(dst []byte, row any) []byte

	buf     []byte
	changes []Change
	sum     Sum
	bytes   int
}

// stamp returns what a map keeps beside a new row.
func (j *Journal) stamp(row any) stamp {
	j.buf = j.Encode(j.buf[:0], row)
	return stamp{sum: HashRow(j.buf), size: uint32(len(j.buf))}
}

// add notes a change, with what the map kept beside the old row and keeps beside
// the new one.
func (j *Journal) add(c Change, old, now stamp) {
	j.sum = j.sum.Add(now.sum).Sub(old.sum)
	j.bytes += int(now.size) + int(old.size)
	j.changes = append(j.changes, c)
}

// Delta is how the state hash changes by this transaction.
func (j *Journal) Delta() Sum { return j.sum }

// Bytes is the encoded size of all rows before and after, which bounds what it
// costs to remember the changes.
func (j *Journal) Bytes() int { return j.bytes }

// Changes returns each changed row once, in the order of first touch, with the
// row as it was before the transaction and as it is after it. Rows that were
// created and removed again are left out.
func (j *Journal) Changes() []Change {
	if len(j.changes) < 2 {
		return j.changes
	}
	type place struct {
		key  string
		kind reflect.Type
	}
	seen := make(map[place]int, len(j.changes))
	out := make([]Change, 0, len(j.changes))
	for _, c := range j.changes {
		row := c.After
		if row == nil {
			row = c.Before
		}
		at := place{c.Key, reflect.TypeOf(row)}
		if i, ok := seen[at]; ok {
			out[i].After = c.After
			continue
		}
		seen[at] = len(out)
		out = append(out, c)
	}
	kept := out[:0]
	for _, c := range out {
		if c.Before != nil || c.After != nil {
			kept = append(kept, c)
		}
	}
	return kept
}
