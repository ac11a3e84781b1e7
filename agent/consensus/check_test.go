package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// A long log is looked through by all processors; what is reported is the first
// entry that cannot be used, and none is left out.
func TestLongLogIsCheckedWhole(t *testing.T) {
	const entries = 5*lookEntries + 7
	var all []*raft.Log
	var others []uint64
	for i := uint64(1); i <= entries; i++ {
		e := &raft.Log{Index: i, Term: 1, Data: binary.BigEndian.AppendUint64(nil, i)}
		if i%1000 == 3 {
			e.Type = raft.LogBarrier
			others = append(others, i)
		}
		all = append(all, e)
	}
	path := newLog(t, all)
	for _, from := range []uint64{1, 2, entries - 1, entries, entries + 1} {
		var seen atomic.Uint64
		l, err := lookThrough(path, from, func([]byte) error { seen.Add(1); return nil })
		left := uint64(0)
		for _, other := range others {
			if other >= from {
				left++
			}
		}
		if err != nil || seen.Load() != entries+1-from-left || uint64(len(l.others)) != left {
			t.Errorf("from %d, %d entries were looked at, and %d were no commands, %v", from, seen.Load(), len(l.others), err)
		}
		if want := uint64(entries); from <= entries && l.last != want || from > entries && l.last != 0 {
			t.Errorf("from %d, the last is %d", from, l.last)
		}
	}
	for _, bad := range []uint64{1, lookEntries, 3 * lookEntries, entries} {
		_, err := lookThrough(path, 1, func(data []byte) error {
			if binary.BigEndian.Uint64(data) >= bad {
				return errors.New("unknown")
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("entry %d cannot be applied", bad)) {
			t.Errorf("bad from %d on: %v", bad, err)
		}
	}
}

// A command that is larger than what is handed on at once is checked whole.
func TestLargeCommandsAreChecked(t *testing.T) {
	var all []*raft.Log
	for i := range uint64(20) {
		all = append(all, &raft.Log{Index: i + 1, Data: append(make([]byte, 5*lookBytes), byte(i))})
	}
	var seen [20]atomic.Bool
	_, err := lookThrough(newLog(t, all), 1, func(data []byte) error {
		if len(data) == 5*lookBytes+1 {
			seen[data[5*lookBytes]].Store(true)
		}
		return nil
	})
	for i := range seen {
		if err != nil || !seen[i].Load() {
			t.Errorf("entry %d was not checked, %v", i+1, err)
		}
	}
}

// Entries that a file should not have are found where they are.
func TestLookFindsWrongEntries(t *testing.T) {
	good := func(index uint64) []byte { return encoded(t, &raft.Log{Index: index}) }
	for _, c := range []struct {
		name    string
		indexes []uint64
		values  [][]byte
		want    string
	}{
		{"gap", []uint64{7, 8, 10}, [][]byte{good(7), good(8), good(10)}, "entry 9 cannot be read"},
		{"order", []uint64{7, 8, 8}, [][]byte{good(7), good(8), good(8)}, "entry 8 comes after entry 8"},
		{"order before", []uint64{3, 2}, [][]byte{good(3), good(2)}, "entry 2 comes after entry 3"},
		{"index", []uint64{7, 8}, [][]byte{good(7), good(9)}, "entry 8 says that it is entry 9"},
		{"noise", []uint64{7, 8}, [][]byte{good(7), []byte("?")}, "entry 8 cannot be read: it is no Raft entry"},
		{"early noise", []uint64{2, 4, 5, 6}, [][]byte{[]byte("?"), good(4), good(5), good(6)}, ""},
		{"command before", []uint64{5, 6, 8}, [][]byte{good(5), encoded(t, &raft.Log{Index: 6, Data: []byte("bad")}), good(8)}, "entry 6 cannot be applied"},
	} {
		l := newLook(5, func(data []byte) error {
			if string(data) == "bad" {
				return errors.New("unknown")
			}
			return nil
		})
		var err error
		for i, index := range c.indexes {
			if err = l.entry(number(index), c.values[i]); err != nil {
				break
			}
		}
		err = l.finish(err)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
