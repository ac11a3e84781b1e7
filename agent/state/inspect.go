package state

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-sd/muster/kv"
)

// InspectOptions says what is counted beside the rows of each type.
type InspectOptions struct {
	// Keys counts the keys that begin with Filter, by the first Depth parts of
	// their names between slashes. A Depth below one is one.
	Keys   bool
	Depth  int
	Filter string
}

// Inspection is what is in a view.
type Inspection struct {
	// Types are the kinds of rows, largest first. Those without rows are left out.
	Types []Amount
	// Keys are the prefixes of keys, largest first.
	Keys []Amount
	// Size is that of all rows in bytes, and KeysSize that of the keys counted.
	Size, KeysSize int64
}

// Amount is how many rows there are under a name and how many bytes of a
// snapshot they are.
type Amount struct {
	Name  string
	Count int
	Size  int64
}

// Inspect counts what is in v.
func (v *View) Inspect(o InspectOptions) Inspection {
	var in Inspection
	types, keys := tally{}, tally{}
	rows := newRowEncoder()
	v.Rows(func(row any) bool {
		size := int64(len(rows.inPlace(nil, row)) - 1 + rowHead)
		in.Size += size
		types.add(tableName(tableOf(row)), size)
		if e, ok := row.(*kv.Entry); ok && o.Keys && strings.HasPrefix(e.Key, o.Filter) {
			in.KeysSize += size
			keys.add(keyPrefix(e.Key, o.Depth), size)
		}
		return true
	})
	in.Types, in.Keys = types.sorted(), keys.sorted()
	return in
}

// keyPrefix is the first parts of a key between slashes.
func keyPrefix(key string, depth int) string {
	end := 0
	for range max(depth, 1) {
		i := strings.IndexByte(key[end:], '/')
		if i < 0 {
			return key
		}
		end += i + 1
	}
	return key[:end-1]
}

// tally counts by name.
type tally map[string]*Amount

func (t tally) add(name string, size int64) {
	a := t[name]
	if a == nil {
		a = &Amount{Name: name}
		t[name] = a
	}
	a.Count++
	a.Size += size
}

// sorted lists the largest first, and equals by name.
func (t tally) sorted() []Amount {
	out := make([]Amount, 0, len(t))
	for _, a := range t {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Amount) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// WriteJSON writes every row of v, in the order of a snapshot, as a line
//
//	{"Type":"KV","Data":{…}}
//
// in which bytes are base64. The key of an entry that is no UTF-8 stands in
// KeyBytes, as JSON has no other way to write it.
func (v *View) WriteJSON(w io.Writer) error {
	out := bufio.NewWriterSize(w, blockSize)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	var err error
	v.Rows(func(row any) bool {
		err = enc.Encode(struct {
			Type string
			Data any
		}{tableName(tableOf(row)), printable(row)})
		return err == nil
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// printable is a row as JSON can write it.
func printable(row any) any {
	switch r := row.(type) {
	case *kv.Entry:
		if !utf8.ValidString(r.Key) {
			return struct {
				*kv.Entry
				Key      *string `json:",omitempty"`
				KeyBytes []byte
			}{Entry: r, KeyBytes: []byte(r.Key)}
		}
	case *kv.Tombstone:
		if !utf8.ValidString(r.Key) {
			return struct {
				*kv.Tombstone
				Key      *string `json:",omitempty"`
				KeyBytes []byte
			}{Tombstone: r, KeyBytes: []byte(r.Key)}
		}
	}
	return row
}
