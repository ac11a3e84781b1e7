package mvcc_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-sd/muster/kv/mvcc"
)

// mapOf returns a map with a row for each key, numbered from zero.
func mapOf(keys ...string) mvcc.Map[*row] {
	tx := mvcc.New[*row]().Txn(newJournal())
	for i, key := range keys {
		tx.Set(key, &row{key, i})
	}
	return tx.Commit()
}

func keysOf(m mvcc.Map[*row], prefix string) []string {
	var out []string
	for key := range m.Prefix(prefix, nil) {
		out = append(out, string(key))
	}
	return out
}

func TestPrefixIsInByteOrder(t *testing.T) {
	m := mapOf("b", "a/2", "", "a", "a/10", "a\x00", "a\xff", "A")
	for _, c := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"", "A", "a", "a\x00", "a/10", "a/2", "a\xff", "b"}},
		{"a", []string{"a", "a\x00", "a/10", "a/2", "a\xff"}},
		{"a/", []string{"a/10", "a/2"}},
		{"a/1", []string{"a/10"}},
		{"a/10", []string{"a/10"}},
		{"a/100", nil},
		{"c", nil},
	} {
		if got := keysOf(m, c.prefix); !slices.Equal(got, c.want) {
			t.Errorf("keys under %q are %q, want %q", c.prefix, got, c.want)
		}
	}
}

func TestIterationEndsWhenAsked(t *testing.T) {
	m := mapOf("", "a", "ab", "abc")
	for name, walk := range map[string]func(yield func() bool){
		"Prefix": func(yield func() bool) { m.Prefix("", nil)(func(string, *row) bool { return yield() }) },
		"Path":   func(yield func() bool) { m.Path("abc")(func(string, *row) bool { return yield() }) },
		"Each": func(yield func() bool) {
			if mvcc.Each(m, func(any) bool { return yield() }) {
				t.Error("Each says that all rows were taken")
			}
		},
	} {
		calls := 0
		walk(func() bool { calls++; return calls < 2 })
		if calls != 2 {
			t.Errorf("%s went on for %d rows after it was to end at 2", name, calls)
		}
	}
	if !mvcc.Each(m, func(any) bool { return true }) {
		t.Error("Each says that not all rows were taken")
	}
}

func TestTxnReadsItsOwnWrites(t *testing.T) {
	tx := mapOf("a/1", "a/2", "b").Txn(newJournal())
	list := tx.Prefix("a/")
	for _, p := range list {
		tx.Delete(p.Key)
	}
	tx.Set("a", &row{"a", 9})
	if len(list) != 2 || list[0].Key != "a/1" || list[1].Key != "a/2" || list[1].Row.n != 1 {
		t.Errorf("the list taken before the changes is %+v", list)
	}
	for prefix, want := range map[string]bool{"a/": false, "a": true, "": true, "b": true, "bb": false} {
		if got := tx.Has(prefix); got != want {
			t.Errorf("Has(%q) is %v", prefix, got)
		}
		if _, got := tx.First(prefix); got != want {
			t.Errorf("First(%q) finds one: %v", prefix, got)
		}
	}
	for prefix, want := range map[string]int{"": 9, "a": 9, "b": 2} {
		if got, _ := tx.First(prefix); got == nil || got.n != want {
			t.Errorf("First(%q) is %+v, want row %d", prefix, got, want)
		}
	}
	if got := keysOf(tx.Commit(), ""); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the next version holds %q", got)
	}
}

func TestLoad(t *testing.T) {
	tx := mapOf("a", "b").Txn(nil)
	mvcc.Load(tx, "a", nil, false)
	mvcc.Load(tx, "gone", nil, false)
	mvcc.Load(tx, "c", &row{"c", 3}, true)
	if got := keysOf(tx.Commit(), ""); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the map holds %q", got)
	}
}

// TestManyChangesWake changes more rows in one transaction than the tree tracks
// one by one (8,192 nodes), after which it finds who to wake by comparing the
// versions.
func TestManyChangesWake(t *testing.T) {
	const rows = 12_000
	key := func(i int) string { return fmt.Sprintf("k/%02d/%05d", i%50, i) }
	tx := mvcc.New[*row]().Txn(nil)
	for i := range rows {
		tx.Set(key(i), &row{key(i), i})
	}
	m := tx.Commit()

	for name, touch := range map[string]func(tx *mvcc.Txn[*row], i int){
		"replaced": func(tx *mvcc.Txn[*row], i int) { tx.Set(key(i), &row{key(i), -i}) },
		"deleted":  func(tx *mvcc.Txn[*row], i int) { tx.Delete(key(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			// A tree of its own for each case: a version is notified but once.
			tx := mvcc.New[*row]().Txn(nil)
			for k, r := range m.Prefix("", nil) {
				tx.Set(string(k), r)
			}
			m := tx.Commit()
			var watchers []*watcher
			for i := range 200 {
				watchers = append(watchers, newWatcher(m, key(i*17), false), newWatcher(m, key(i*17)+"x", false))
			}
			for i := range 50 {
				watchers = append(watchers, newWatcher(m, fmt.Sprintf("k/%02d/", i), true))
			}
			watchers = append(watchers, newWatcher(m, "", true), newWatcher(m, "new", false), newWatcher(m, "n", true))

			changed := map[string]bool{"new": true}
			change := m.Txn(newJournal())
			change.Set("new", &row{"new", 1})
			for i := range rows {
				if i%50 < 45 && i%7 != 0 { // whole folders and single rows stay as they are
					touch(change, i)
					changed[key(i)] = true
				}
			}
			if len(changed) <= 8192 {
				t.Fatalf("%d changes are too few for this test", len(changed))
			}
			next := change.Commit()
			change.Notify()
			for _, w := range watchers {
				w.check(t, changed)
			}
			if name == "deleted" && next.Len() != rows+2-len(changed) {
				t.Errorf("%d rows are left, want %d", next.Len(), rows+2-len(changed))
			}
			for i := 45; i < 50; i++ {
				if w := newWatcher(m, fmt.Sprintf("k/%02d/", i), true); w.watch.Fired() {
					t.Errorf("the watch of the untouched %q woke", w.what)
				}
			}
		})
	}
}

// TestNotifyWakesOnlyNeighbours is what blocking queries live on: readers of one
// folder sleep while another one is written to.
func TestNotifyWakesOnlyNeighbours(t *testing.T) {
	m := mapOf("app/a/1", "app/a/2", "app/b/1", "app/b/2")
	a, b := newWatcher(m, "app/a/", true), newWatcher(m, "app/b/", true)
	all, row1 := newWatcher(m, "app/", true), newWatcher(m, "app/a/1", false)
	tx := m.Txn(nil)
	tx.Set("app/a/2", &row{"app/a/2", 7})
	tx.Set("app/a/3", &row{"app/a/3", 8})
	tx.Commit()
	tx.Notify()
	for _, c := range []struct {
		who  *watcher
		want bool
	}{{a, true}, {all, true}, {b, false}, {row1, false}} {
		if got := c.who.watch.Fired(); got != c.want {
			t.Errorf("the watch of %q woke: %v, want %v", c.who.what, got, c.want)
		}
	}
}

// TestMissingKeyWakes covers the ways in which a row can appear in a radix tree:
// as a new branch, by splitting an edge, and on an inner node.
func TestMissingKeyWakes(t *testing.T) {
	for _, c := range []struct {
		there   []string
		missing string
	}{
		{nil, "a"},
		{nil, ""},
		{[]string{"a"}, ""},
		{[]string{"abc"}, "ab"},
		{[]string{"abc"}, "abd"},
		{[]string{"abc"}, "abcd"},
		{[]string{"abc"}, "x"},
		{[]string{"abc", "abd"}, "ab"},
		{[]string{"abc", "abd"}, "abe"},
	} {
		m := mapOf(c.there...)
		key, prefix := newWatcher(m, c.missing, false), newWatcher(m, c.missing, true)
		tx := m.Txn(nil)
		tx.Set(c.missing, &row{c.missing, 1})
		tx.Commit()
		tx.Notify()
		if !key.watch.Fired() || !prefix.watch.Fired() {
			t.Errorf("%q appeared beside %q, and woke the key's watch: %v, the prefix's: %v", c.missing, c.there, key.watch.Fired(), prefix.watch.Fired())
		}
	}
}

func TestNotifyOfNothing(t *testing.T) {
	m := mapOf("a", "b")
	w := newWatcher(m, "", true)
	tx := m.Txn(newJournal())
	tx.Delete("c")
	tx.Commit()
	tx.Notify()
	tx.Notify()
	if w.watch.Fired() {
		t.Error("the deletion of a missing row woke a watch")
	}
}
