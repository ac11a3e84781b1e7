package mvcc_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/muster-sd/muster/kv/mvcc"
)

// row is what the tests keep in maps.
type row struct {
	key string
	n   int
}

// encode writes a row so that rows of unequal keys or numbers differ.
func encode(dst []byte, r any) []byte {
	v := r.(*row)
	return fmt.Appendf(dst, "\x07%q=%d", v.key, v.n)
}

func newJournal() *mvcc.Journal { return &mvcc.Journal{Encode: encode} }

// recount is the sum of a naive map, taken anew.
func recount(model map[string]int) mvcc.Sum {
	var sum mvcc.Sum
	for key, n := range model {
		sum = sum.Add(mvcc.HashRow(encode(nil, &row{key, n})))
	}
	return sum
}

// randomKey makes short keys of few letters, so that they share prefixes, and
// with bytes that a tree of texts would stumble over. One in ten or so is empty.
func randomKey(r *rand.Rand) string {
	const letters = "aab/\x00\xff"
	b := make([]byte, r.IntN(7))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// version is a map with what ought to be in it.
type version struct {
	m     mvcc.Map[*row]
	model map[string]int
	sum   mvcc.Sum
}

func (v version) check(t *testing.T, r *rand.Rand) {
	t.Helper()
	if v.m.Len() != len(v.model) {
		t.Fatalf("Len is %d, want %d", v.m.Len(), len(v.model))
	}
	prefix := randomKey(r)
	prefix = prefix[:min(len(prefix), 2)]
	var got, want []string
	for key, found := range v.m.Prefix(prefix, nil) {
		if found.key != string(key) || found.n != v.model[string(key)] {
			t.Fatalf("row of %q is %+v, want number %d", key, found, v.model[string(key)])
		}
		got = append(got, string(key))
	}
	for key := range v.model {
		if strings.HasPrefix(key, prefix) {
			want = append(want, key)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("keys under %q are %q, want %q", prefix, got, want)
	}
	key := randomKey(r)
	n, has := v.model[key]
	if found, ok := v.m.Get(key, nil); ok != has || (ok && found.n != n) {
		t.Fatalf("Get(%q) is %+v, %v; want %d, %v", key, found, ok, n, has)
	}
	got, want = nil, nil
	for k := range v.m.Path(key) {
		got = append(got, string(k))
	}
	for i := range len(key) + 1 {
		if _, ok := v.model[key[:i]]; ok {
			want = append(want, key[:i])
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("keys on the path of %q are %q, want %q", key, got, want)
	}
}

// watcher watches one key or one prefix.
type watcher struct {
	what   string
	prefix bool
	there  bool // the key exists
	watch  mvcc.Watch
}

func newWatcher(m mvcc.Map[*row], what string, prefix bool) *watcher {
	w := &watcher{what: what, prefix: prefix}
	if prefix {
		for range m.Prefix(what, &w.watch) {
		}
		return w
	}
	_, w.there = m.Get(what, &w.watch)
	return w
}

func (w *watcher) concerns(changed map[string]bool) bool {
	if !w.prefix {
		return changed[w.what]
	}
	for key := range changed {
		if strings.HasPrefix(key, w.what) {
			return true
		}
	}
	return false
}

// check compares the watch with the keys that were set or deleted. A row that is
// there is watched exactly; a prefix or a missing key may wake for a neighbour.
func (w *watcher) check(t *testing.T, changed map[string]bool) {
	t.Helper()
	want, got := w.concerns(changed), w.watch.Fired()
	if want && !got {
		t.Fatalf("the watch of %q (prefix: %v) slept through a change of %q", w.what, w.prefix, slices.Sorted(maps.Keys(changed)))
	}
	if got && !want && w.there {
		t.Fatalf("the watch of the row %q woke for a change of %q", w.what, slices.Sorted(maps.Keys(changed)))
	}
}

// TestModel drives a map with random transactions beside a naive Go map: every
// version stays as it was, its sum is that of a recount, the journal holds the
// difference of two versions, and watches wake when they have to.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 1)), 150) })
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	versions := []version{{m: mvcc.New[*row](), model: map[string]int{}}}
	for step := range steps {
		last := versions[len(versions)-1]
		watchers := make([]*watcher, 12)
		for i := range watchers {
			watchers[i] = newWatcher(last.m, randomKey(r), i%2 == 0)
		}
		j := newJournal()
		tx := last.m.Txn(j)
		next := version{model: maps.Clone(last.model)}
		changed := map[string]bool{}
		for range 1 + r.IntN(12) {
			change(t, r, tx, next.model, changed, step)
		}
		if r.IntN(5) == 0 { // dropped
			for _, w := range watchers {
				w.check(t, nil)
			}
			last.check(t, r)
			continue
		}
		next.m, next.sum = tx.Commit(), last.sum.Add(j.Delta())
		for _, w := range watchers {
			if w.watch.Fired() {
				t.Fatalf("the watch of %q woke before Notify", w.what)
			}
		}
		tx.Notify()
		for _, w := range watchers {
			w.check(t, changed)
		}
		if want := recount(next.model); next.sum != want {
			t.Fatalf("the kept sum is %v, a recount says %v", next.sum, want)
		}
		checkJournal(t, j, last.model, next.model, changed)
		if versions = append(versions, next); len(versions) > 8 {
			versions = versions[1:]
		}
		for _, v := range versions {
			v.check(t, r)
		}
	}
}

// change does one random thing to a transaction and to its model.
func change(t *testing.T, r *rand.Rand, tx *mvcc.Txn[*row], model map[string]int, changed map[string]bool, step int) {
	t.Helper()
	key := randomKey(r)
	before, had := model[key]
	var old *row
	var ok bool
	if r.IntN(3) == 0 {
		if old, ok = tx.Delete(key); had {
			changed[key] = true
		}
		delete(model, key)
		if _, still := tx.Get(key); still {
			t.Fatalf("%q is still there after its deletion", key)
		}
	} else {
		n := step*100 + r.IntN(100)
		old, ok = tx.Set(key, &row{key, n})
		model[key] = n
		changed[key] = true
		if now, there := tx.Get(key); !there || now.n != n {
			t.Fatalf("%q is %+v, %v after it was set to %d", key, now, there, n)
		}
	}
	if ok != had || (ok && old.n != before) {
		t.Fatalf("the old row of %q was %+v, %v; want %d, %v", key, old, ok, before, had)
	}
}

// checkJournal compares the changes with the difference of two models.
func checkJournal(t *testing.T, j *mvcc.Journal, before, after map[string]int, changed map[string]bool) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range j.Changes() {
		if seen[c.Key] || !changed[c.Key] {
			t.Fatalf("a change of %q is noted twice or was never made", c.Key)
		}
		seen[c.Key] = true
		same := func(r any, model map[string]int) bool {
			n, ok := model[c.Key]
			return (r != nil) == ok && (r == nil || *r.(*row) == row{c.Key, n})
		}
		if !same(c.Before, before) || !same(c.After, after) {
			t.Fatalf("%q went from %+v to %+v, want %v to %v", c.Key, c.Before, c.After, before[c.Key], after[c.Key])
		}
	}
	for key := range changed {
		_, was := before[key]
		_, is := after[key]
		if (was || is) != seen[key] {
			t.Fatalf("the change of %q (was there: %v, is there: %v) is noted: %v", key, was, is, seen[key])
		}
	}
}
