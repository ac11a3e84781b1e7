package kv_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// encode writes a row so that unequal rows differ.
func encode(dst []byte, row any) []byte {
	switch r := row.(type) {
	case *kv.Entry:
		return fmt.Appendf(dst, "\x01%q", fmt.Sprintf("%+v", *r))
	case *kv.Tombstone:
		return fmt.Appendf(dst, "\x02%q", fmt.Sprintf("%+v", *r))
	case *kv.Mark:
		return fmt.Appendf(dst, "\x03%q", fmt.Sprintf("%+v", *r))
	}
	panic(fmt.Sprintf("a row of type %T", row))
}

func newJournal() *mvcc.Journal { return &mvcc.Journal{Encode: encode} }

// do carries out a command of any kind and returns its result, which is true
// for commands without a precondition.
func do(tx *kv.Txn, cmd any) bool {
	switch c := cmd.(type) {
	case *kv.Set:
		tx.Set(c)
	case *kv.CAS:
		return tx.CAS(c)
	case *kv.Delete:
		tx.Delete(c)
	case *kv.DeleteCAS:
		return tx.DeleteCAS(c)
	case *kv.DeleteTree:
		tx.DeleteTree(c)
	case *kv.Reap:
		tx.Reap(c)
	default:
		panic(fmt.Sprintf("a command of type %T", cmd))
	}
	return true
}

// step carries out one command at an index, and wakes who has to be woken.
func step(t kv.Table, index uint64, cmd any) (kv.Table, bool) {
	tx := t.Txn(newJournal(), index, int64(index)*1000)
	ok := do(tx, cmd)
	next := tx.Commit()
	tx.Notify()
	return next, ok
}

// after returns the table after commands at the indexes 1, 2, and so on.
func after(cmds ...any) kv.Table {
	t := kv.NewTable()
	for i, cmd := range cmds {
		t, _ = step(t, uint64(i+1), cmd)
	}
	return t
}

func set(key, value string) any           { return &kv.Set{Key: key, Value: []byte(value)} }
func del(key string) any                  { return &kv.Delete{Key: key} }
func delTree(prefix string) any           { return &kv.DeleteTree{Prefix: prefix} }
func delCAS(key string, i uint64) any     { return &kv.DeleteCAS{Key: key, Index: i} }
func reap(i uint64) any                   { return &kv.Reap{Index: i} }
func cas(key, value string, i uint64) any { return &kv.CAS{Key: key, Value: []byte(value), Index: i} }

// text writes an entry in short: value and flags, then version, create and
// modify index.
func text(e *kv.Entry) string {
	if e == nil {
		return "none"
	}
	return fmt.Sprintf("%s/%d v%d c%d m%d", e.Value, e.Flags, e.Version, e.CreateIndex, e.ModifyIndex)
}

func get(t kv.Table, key string) *kv.Entry {
	e, _ := t.Get(&kv.Get{Key: key}, nil)
	return e
}

// TestWrites has the rules of writes and deletions. Each case ends in the
// command that it is about.
func TestWrites(t *testing.T) {
	for _, c := range []struct {
		name  string
		cmds  []any
		ok    bool
		want  string // of key "a"
		index uint64 // of the table
	}{
		{"a new key", []any{set("a", "x")}, true, "x/0 v1 c1 m1", 1},
		{"an empty value", []any{set("a", "")}, true, "/0 v1 c1 m1", 1},
		{"another value keeps the create index", []any{set("a", "x"), set("a", "y")}, true, "y/0 v2 c1 m2", 2},
		{"an equal write is none", []any{set("a", "x"), set("a", "x")}, true, "x/0 v1 c1 m1", 1},
		{"an equal empty write is none", []any{set("a", ""), &kv.Set{Key: "a"}}, true, "/0 v1 c1 m1", 1},
		{"an equal write with other flags is one", []any{set("a", "x"), &kv.Set{Key: "a", Value: []byte("x"), Flags: 7}}, true, "x/7 v2 c1 m2", 2},
		{"a write without flags resets them", []any{&kv.Set{Key: "a", Value: []byte("x"), Flags: 7}, set("a", "x")}, true, "x/0 v2 c1 m2", 2},
		{"a key that was deleted begins anew", []any{set("a", "x"), set("a", "y"), del("a"), set("a", "y")}, true, "y/0 v1 c4 m4", 4},
		{"another key stays out of it", []any{set("a", "x"), set("b", "x"), set("aa", "x")}, true, "x/0 v1 c1 m1", 3},

		{"CAS of zero creates", []any{cas("a", "x", 0)}, true, "x/0 v1 c1 m1", 1},
		{"CAS of zero does not overwrite", []any{set("a", "x"), cas("a", "y", 0)}, false, "x/0 v1 c1 m1", 1},
		{"CAS of zero creates what was deleted", []any{set("a", "x"), del("a"), cas("a", "y", 0)}, true, "y/0 v1 c3 m3", 3},
		{"CAS of the right index writes", []any{set("a", "x"), cas("a", "y", 1)}, true, "y/0 v2 c1 m2", 2},
		{"CAS of an old index does not", []any{set("a", "x"), set("a", "y"), cas("a", "z", 1)}, false, "y/0 v2 c1 m2", 2},
		{"CAS of a later index does not", []any{set("a", "x"), cas("a", "y", 2)}, false, "x/0 v1 c1 m1", 1},
		{"CAS of the create index does not", []any{set("a", "x"), set("a", "y"), cas("a", "z", 1)}, false, "y/0 v2 c1 m2", 2},
		{"CAS of any index does not create", []any{set("b", "x"), cas("a", "y", 1)}, false, "none", 1},
		{"CAS of an equal value holds and writes nothing", []any{set("a", "x"), cas("a", "x", 1)}, true, "x/0 v1 c1 m1", 1},
		{"CAS sets flags", []any{&kv.CAS{Key: "a", Value: []byte("x"), Flags: 9}}, true, "x/9 v1 c1 m1", 1},

		{"deletion", []any{set("a", "x"), del("a")}, true, "none", 2},
		{"deletion of what is not there", []any{set("b", "x"), del("a")}, true, "none", 1},
		{"deletion of what was deleted", []any{set("a", "x"), del("a"), del("a")}, true, "none", 2},
		{"deletion of a longer key", []any{set("a", "x"), set("ab", "x"), del("ab")}, true, "x/0 v1 c1 m1", 3},

		{"DeleteCAS of the right index", []any{set("a", "x"), delCAS("a", 1)}, true, "none", 2},
		{"DeleteCAS of a wrong index", []any{set("a", "x"), set("a", "y"), delCAS("a", 1)}, false, "y/0 v2 c1 m2", 2},
		{"DeleteCAS of zero leaves what is there", []any{set("a", "x"), delCAS("a", 0)}, false, "x/0 v1 c1 m1", 1},
		{"DeleteCAS of what is not there holds", []any{set("b", "x"), delCAS("a", 5)}, true, "none", 1},
		{"DeleteCAS of zero of what is not there holds", []any{set("b", "x"), delCAS("a", 0)}, true, "none", 1},

		{"a tree with the key that is its prefix", []any{set("a", "x"), set("a/b", "x"), delTree("a")}, true, "none", 3},
		{"a tree beside the key", []any{set("a", "x"), set("a/b", "x"), delTree("a/")}, true, "x/0 v1 c1 m1", 3},
		{"a tree of nothing", []any{set("a", "x"), delTree("b")}, true, "x/0 v1 c1 m1", 1},
		{"the whole tree", []any{set("a", "x"), set("b", "x"), delTree("")}, true, "none", 3},
		{"the whole tree of nothing", []any{delTree("")}, true, "none", 1},

		{"reaping leaves entries", []any{set("a", "x"), set("b", "x"), del("b"), reap(9)}, true, "x/0 v1 c1 m1", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := len(c.cmds)
			table, ok := step(after(c.cmds[:n-1]...), uint64(n), c.cmds[n-1])
			if ok != c.ok {
				t.Errorf("the result is %v", ok)
			}
			if got := text(get(table, "a")); got != c.want {
				t.Errorf("the entry is %s, want %s", got, c.want)
			}
			if _, index := table.List(&kv.List{}, nil); index != c.index {
				t.Errorf("the table's index is %d, want %d", index, c.index)
			}
		})
	}
}

// TestLockedKeys writes to keys that are held by a session: their holder stays,
// and the count of acquisitions begins anew.
func TestLockedKeys(t *testing.T) {
	held := &kv.Entry{Key: "a", Value: []byte("x"), Session: "s", LockIndex: 3, Version: 4, CreateIndex: 1, ModifyIndex: 4}
	for _, c := range []struct {
		name string
		cmd  any
		want kv.Entry
	}{
		{"another value", set("a", "y"), kv.Entry{Key: "a", Value: []byte("y"), Session: "s", Version: 5, CreateIndex: 1, ModifyIndex: 9}},
		{"the same value resets the count", set("a", "x"), kv.Entry{Key: "a", Value: []byte("x"), Session: "s", Version: 5, CreateIndex: 1, ModifyIndex: 9}},
		{"CAS", cas("a", "y", 4), kv.Entry{Key: "a", Value: []byte("y"), Session: "s", Version: 5, CreateIndex: 1, ModifyIndex: 9}},
	} {
		tx := kv.NewTable().Txn(newJournal(), 0, 0)
		tx.Load(nil, held)
		table, _ := step(tx.Commit(), 9, c.cmd)
		if got := fmt.Sprintf("%+v", *get(table, "a")); got != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: the entry is %s, want %+v", c.name, got, c.want)
		}
		again, _ := step(table, 10, c.cmd)
		if e := get(again, "a"); e.ModifyIndex != 9 || e.Version != 5 {
			t.Errorf("%s: the same again wrote %+v", c.name, *e)
		}
		if gone, _ := step(table, 11, del("a")); get(gone, "a") != nil {
			t.Errorf("%s: a held key was not deleted", c.name)
		}
	}
}

// TestIndexes has the index of each kind of read after a few commands.
func TestIndexes(t *testing.T) {
	for _, c := range []struct {
		name string
		cmds []any
		want map[string]uint64 // "=key" reads a key, all else lists a prefix
	}{
		{"an empty table", nil, map[string]uint64{"": 1, "a": 1, "=a": 1}},
		{"writes", []any{set("a/1", "x"), set("a/2", "x"), set("b", "x")},
			map[string]uint64{"": 3, "a": 2, "a/": 2, "a/1": 1, "b": 3, "=a/1": 1, "=a/2": 2, "=a/": 3, "c": 3, "=c": 3}},
		{"a rewrite", []any{set("a/1", "x"), set("a/2", "x"), set("a/1", "y")},
			map[string]uint64{"a/": 3, "a/1": 3, "a/2": 2, "=a/2": 2}},
		{"a deletion", []any{set("a/1", "x"), set("a/2", "x"), set("b", "x"), del("a/1")},
			map[string]uint64{"": 4, "a/": 4, "a/1": 4, "a/2": 2, "b": 3, "=a/1": 4, "=b": 3}},
		{"the last key of a prefix goes", []any{set("a/1", "x"), del("a/1"), set("b", "x"), set("b", "y")},
			map[string]uint64{"a/": 2, "a/1": 2, "b": 4, "": 4, "c": 4}},
		{"a key comes back", []any{set("a/1", "x"), del("a/1"), set("a/1", "x")},
			map[string]uint64{"a/": 3, "=a/1": 3, "a/1": 3}},
		{"a tree goes", []any{set("a/1", "x"), set("a/b/2", "x"), set("c", "x"), delTree("a/")},
			map[string]uint64{"a": 4, "a/": 4, "a/1": 4, "a/b/": 4, "a/b/2": 4, "a/never": 4, "c": 3, "": 4, "=c": 3}},
		{"a tree goes after a key in it", []any{set("a/1", "x"), set("a/2", "x"), del("a/1"), set("c", "x"), delTree("a/")},
			map[string]uint64{"a/": 5, "a/1": 5, "a/2": 5, "c": 4}},
		{"a key comes back into a tree that went", []any{set("a/1", "x"), set("a/2", "x"), delTree("a/"), set("a/1", "y")},
			map[string]uint64{"a/": 4, "a/1": 4, "a/2": 3}},
		{"the key that is a tree's prefix comes and goes", []any{set("a", "x"), set("ab", "x"), delTree("a"), set("a", "x"), del("a")},
			map[string]uint64{"a": 5, "=a": 5}},
		{"the key that is a tree's prefix comes and leaves the rest of the tree alone", []any{set("a", "x"), set("ab", "x"), delTree("a"), set("a", "x"), set("c", "x")},
			map[string]uint64{"a": 4, "ab": 3, "a/": 3, "c": 5}},
		{"the key that is a tree's prefix goes, and the tree stays remembered", []any{set("a", "x"), set("ab", "x"), delTree("a"), set("a", "x"), del("a"), set("c", "x")},
			map[string]uint64{"a": 5, "ab": 5, "c": 6}},
		{"everything goes", []any{set("a/1", "x"), set("b", "x"), del("b"), delTree("")},
			map[string]uint64{"": 4, "a/": 4, "b": 4, "c": 4, "=b": 4}},
		{"everything goes and some comes back", []any{set("a/1", "x"), set("b", "x"), delTree(""), set("b", "y")},
			map[string]uint64{"": 4, "a/": 4, "b": 4}},
		{"no write of the same moves anything", []any{set("a", "x"), set("b", "x"), set("a", "x"), cas("a", "x", 1), del("c"), delTree("d"), delCAS("c", 1)},
			map[string]uint64{"": 2, "a": 1, "b": 2, "=a": 1}},
		{"reaping does not let an index fall", []any{set("a/1", "x"), set("a/2", "x"), set("b", "x"), del("a/2"), reap(4)},
			map[string]uint64{"": 4, "a/": 4, "a/2": 4}},
		{"reaping does not let the index of what never was fall", []any{set("a", "x"), del("a"), set("b", "x"), set("b", "y"), reap(2)},
			map[string]uint64{"": 4, "never": 4, "=never": 4, "a": 4}},
		{"reaping spares younger tombstones", []any{set("a", "x"), set("b", "x"), del("a"), del("b"), reap(3), set("c", "x")},
			map[string]uint64{"b": 4, "": 6}},
		{"a late reaping does not move what an earlier one did", []any{set("a", "x"), set("b", "x"), del("a"), del("b"), reap(4), reap(4), reap(3)},
			map[string]uint64{"": 4, "a": 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := after(c.cmds...)
			for what, want := range c.want {
				if key, ok := strings.CutPrefix(what, "="); ok {
					if _, got := table.Get(&kv.Get{Key: key}, nil); got != want {
						t.Errorf("the index of key %q is %d, want %d", key, got, want)
					}
					continue
				}
				_, list := table.List(&kv.List{Prefix: what}, nil)
				_, keys := table.Keys(&kv.Keys{Prefix: what, Separator: "/"}, nil)
				if list != want || keys != want {
					t.Errorf("the index of prefix %q is %d, and %d for its keys, want %d", what, list, keys, want)
				}
			}
		})
	}
}

func TestKeys(t *testing.T) {
	all := []string{"a", "a/", "a/b/1", "a/b/2", "a/c", "ab", "b//1", "b//2", "b/2", "\x00\xff", "é/x"}
	var cmds []any
	for _, key := range all {
		cmds = append(cmds, set(key, "x"))
	}
	table := after(cmds...)
	if table.Len() != len(all) {
		t.Errorf("the table has %d entries, want %d", table.Len(), len(all))
	}
	for _, c := range []struct {
		prefix, separator string
		want              []string
	}{
		{"", "", []string{"\x00\xff", "a", "a/", "a/b/1", "a/b/2", "a/c", "ab", "b//1", "b//2", "b/2", "é/x"}},
		{"", "/", []string{"\x00\xff", "a", "a/", "ab", "b/", "é/"}},
		{"a", "/", []string{"a", "a/", "ab"}},
		{"a/", "/", []string{"a/", "a/b/", "a/c"}},
		{"a/b", "/", []string{"a/b/"}},
		{"a/b/", "/", []string{"a/b/1", "a/b/2"}},
		{"b/", "/", []string{"b//", "b/2"}},
		{"b", "//", []string{"b//", "b/2"}},
		{"", "b", []string{"\x00\xff", "a", "a/", "a/b", "a/c", "ab", "b", "é/x"}},
		{"a", "\x00", []string{"a", "a/", "a/b/1", "a/b/2", "a/c", "ab"}},
		{"\x00", "\xff", []string{"\x00\xff"}},
		{"é", "/", []string{"é/"}},
		{"\xc3", "\xa9", []string{"é"}}, // bytes, not letters
		{"none", "/", []string{}},
		{"a/c/", "/", []string{}},
	} {
		got, _ := table.Keys(&kv.Keys{Prefix: c.prefix, Separator: c.separator}, nil)
		if got == nil || !slices.Equal(got, c.want) {
			t.Errorf("the keys of %q cut at %q are %q, want %q", c.prefix, c.separator, got, c.want)
		}
	}
	list, _ := table.List(&kv.List{Prefix: "none"}, nil)
	if list == nil || len(list) != 0 {
		t.Errorf("the list of nothing is %v, want an empty one", list)
	}
}

// woken reports whether w has something to wake for. It needs the time of
// synctest, in which the timer passes only when nothing else can happen.
func woken(t *testing.T, w *mvcc.Watch) bool {
	return w.Wait(t.Context(), time.After(time.Second))
}

// TestWakes has who is woken by a command: readers of a key as "=key", readers
// of a prefix without the sign.
func TestWakes(t *testing.T) {
	given := []any{set("a/1", "x"), set("a/2", "x"), set("b/1", "x"), set("b/2", "x"), set("b/3", "x"), del("b/3")}
	for _, c := range []struct {
		name          string
		cmd           any
		woken, asleep []string
	}{
		{"a write", set("a/1", "y"), []string{"", "a", "a/", "a/1", "=a/1"}, []string{"=a/2", "b/", "=b/1", "a/2"}},
		{"a new key", set("a/3", "y"), []string{"", "a/", "a/3", "=a/3"}, []string{"=a/1", "=a/2", "b/", "=b/1"}},
		{"a deletion", del("a/1"), []string{"", "a/", "a/1", "=a/1"}, []string{"=a/2", "b/", "=b/2"}},
		{"a deletion of a shorter tree", delTree("a"), []string{"", "a", "a/", "a/1", "a/2", "=a/1", "=a/2"}, []string{"b/", "=b/1"}},
		{"a deletion of everything", delTree(""), []string{"", "a/", "a/1", "=a/1", "b/", "=b/1"}, nil},
		{"the same write", set("a/1", "x"), nil, []string{"", "a/", "a/1", "=a/1", "=never"}},
		{"a CAS that fails", cas("a/1", "y", 9), nil, []string{"", "a/", "=a/1"}},
		{"a deletion of nothing", del("never"), nil, []string{"", "never", "=never"}},
		{"a tree of nothing", delTree("c/"), nil, []string{"", "c/"}},
		{"a DeleteCAS that fails", delCAS("a/1", 9), nil, []string{"", "a/", "=a/1"}},
		{"a reaping", reap(6), nil, []string{"", "b/", "b/3", "=b/3"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			table := after(given...)
			read := func(from kv.Table, what string) (*mvcc.Watch, uint64) {
				var w mvcc.Watch
				if key, ok := strings.CutPrefix(what, "="); ok {
					_, index := from.Get(&kv.Get{Key: key}, &w)
					return &w, index
				}
				_, index := from.List(&kv.List{Prefix: what}, &w)
				return &w, index
			}
			watches := map[string]*mvcc.Watch{}
			before := map[string]uint64{}
			for _, what := range slices.Concat(c.woken, c.asleep) {
				watches[what], before[what] = read(table, what)
			}
			next, _ := step(table, 10, c.cmd)
			for _, what := range c.woken {
				if !woken(t, watches[what]) {
					t.Errorf("%s: the reader of %q sleeps on", c.name, what)
				}
				if _, index := read(next, what); index != 10 || before[what] >= 10 {
					t.Errorf("%s: the index of %q went from %d to %d, want 10", c.name, what, before[what], index)
				}
			}
			for _, what := range c.asleep {
				if woken(t, watches[what]) {
					t.Errorf("%s: the reader of %q woke", c.name, what)
				}
			}
		})
	}
}

// TestDroppedTxn drops a transaction that did a bit of everything.
func TestDroppedTxn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := after(set("a", "x"), set("b", "x"), set("b/1", "x"), del("b"))
		var w mvcc.Watch
		before, index := table.List(&kv.List{}, &w)
		tx := table.Txn(newJournal(), 9, 9)
		for _, cmd := range []any{set("a", "y"), set("c", "x"), del("a"), delTree("b"), reap(9), delTree("")} {
			do(tx, cmd)
		}
		after, still := table.List(&kv.List{}, nil)
		if !slices.Equal(before, after) || still != index || woken(t, &w) {
			t.Errorf("a dropped transaction changed %v at %d to %v at %d", before, index, after, still)
		}
	})
}

// TestOneTransaction gives one index to all that a transaction changes, and lets
// each command see those before it.
func TestOneTransaction(t *testing.T) {
	table := after(set("a", "x"), set("b", "x"))
	tx := table.Txn(newJournal(), 7, 7)
	for i, c := range []struct {
		cmd  any
		want bool
	}{
		{set("a", "y"), true},
		{cas("a", "z", 1), false},
		{cas("a", "z", 7), true},
		{del("b"), true},
		{cas("b", "new", 0), true},
		{set("tmp", "x"), true},
		{delCAS("tmp", 7), true},
	} {
		if got := do(tx, c.cmd); got != c.want {
			t.Errorf("command %d came to %v", i, got)
		}
	}
	next := tx.Commit()
	for key, want := range map[string]string{"a": "z/0 v3 c1 m7", "b": "new/0 v1 c7 m7", "tmp": "none"} {
		if got := text(get(next, key)); got != want {
			t.Errorf("%q is %s, want %s", key, got, want)
		}
	}
	if text(get(table, "a")) != "x/0 v1 c1 m1" || text(get(table, "b")) != "x/0 v1 c2 m2" {
		t.Error("the table before the transaction changed")
	}
}

func TestReapable(t *testing.T) {
	// Commands are stamped 1000 ms times their index.
	table := after(set("a", "x"), set("b", "x"), set("c", "x"), del("a"), del("b"), del("c"))
	for _, c := range []struct {
		before int64
		want   uint64
	}{{0, 0}, {3999, 0}, {4000, 4}, {5999, 5}, {6000, 6}, {1 << 60, 6}} {
		if got := table.Reapable(c.before); got != c.want {
			t.Errorf("before %d, what was deleted up to index %d can be forgotten, want %d", c.before, got, c.want)
		}
	}
	table, _ = step(table, 7, reap(5))
	if got := table.Reapable(5000); got != 0 {
		t.Errorf("index %d can be forgotten again", got)
	}
	if got := table.Reapable(6000); got != 6 {
		t.Errorf("index %d can be forgotten, want 6", got)
	}
}

func TestLoadOfForeignRows(t *testing.T) {
	tx := kv.NewTable().Txn(newJournal(), 1, 1)
	for _, row := range []any{nil, "text", 7, kv.Entry{}} {
		if tx.Load(row, nil) || tx.Load(nil, row) {
			t.Errorf("a row of type %T was taken for one of this package's", row)
		}
	}
}
