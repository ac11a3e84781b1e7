package kv_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// letters make keys that share prefixes and hold bytes that are no text.
const letters = "aab//\x00\xff"

func randomKey(r *rand.Rand) string {
	b := make([]byte, 1+r.IntN(5))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// prefixes are all that the model looks at: every one of up to two letters, and
// some longer ones.
func prefixes(r *rand.Rand) []string {
	set := map[string]bool{"": true}
	for _, a := range letters {
		set[string(byte(a))] = true
		for _, b := range letters {
			set[string([]byte{byte(a), byte(b)})] = true
		}
	}
	for range 40 {
		set[randomKey(r)] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// randomCommand prefers what has an effect: keys and indexes that exist.
func randomCommand(r *rand.Rand, model map[string]*kv.Entry, index uint64) any {
	key := randomKey(r)
	if there := slices.Sorted(maps.Keys(model)); len(there) > 0 && r.IntN(2) == 0 {
		key = there[r.IntN(len(there))]
	}
	at := uint64(r.IntN(3))
	if e := model[key]; e != nil && r.IntN(2) == 0 {
		at = e.ModifyIndex
	}
	value := []byte{byte('0' + r.IntN(3))}
	switch r.IntN(20) {
	case 0, 1, 2:
		return &kv.CAS{Key: key, Value: value, Index: at}
	case 3, 4, 5:
		return &kv.Delete{Key: key}
	case 6, 7:
		return &kv.DeleteCAS{Key: key, Index: at}
	case 8:
		return &kv.DeleteTree{Prefix: key[:1+r.IntN(len(key))]}
	case 9:
		if r.IntN(6) > 0 {
			return &kv.DeleteTree{Prefix: key}
		}
		return &kv.DeleteTree{}
	case 10, 11:
		return &kv.Reap{Index: uint64(r.Int64N(int64(index) + 1))}
	default:
		return &kv.Set{Key: key, Value: value, Flags: uint64(r.IntN(2))}
	}
}

// naive carries out a command on a Go map, by the letter of the rules.
func naive(model map[string]*kv.Entry, cmd any, index uint64) bool {
	write := func(key string, value []byte, flags uint64) {
		e := &kv.Entry{Key: key, Value: value, Flags: flags, Version: 1, CreateIndex: index, ModifyIndex: index}
		if old := model[key]; old != nil {
			if string(old.Value) == string(value) && old.Flags == flags {
				return
			}
			e.Version, e.CreateIndex = old.Version+1, old.CreateIndex
		}
		model[key] = e
	}
	switch c := cmd.(type) {
	case *kv.Set:
		write(c.Key, c.Value, c.Flags)
	case *kv.CAS:
		old := model[c.Key]
		if (old == nil) != (c.Index == 0) || (old != nil && old.ModifyIndex != c.Index) {
			return false
		}
		write(c.Key, c.Value, c.Flags)
	case *kv.Delete:
		delete(model, c.Key)
	case *kv.DeleteCAS:
		if old := model[c.Key]; old != nil && old.ModifyIndex != c.Index {
			return false
		}
		delete(model, c.Key)
	case *kv.DeleteTree:
		maps.DeleteFunc(model, func(key string, _ *kv.Entry) bool { return strings.HasPrefix(key, c.Prefix) })
	}
	return true
}

// differ returns the keys that two models do not hold alike.
func differ(a, b map[string]*kv.Entry) []string {
	var keys []string
	for key := range a {
		if a[key] != b[key] {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if a[key] == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestModel drives a table with random commands beside a naive map, and looks at
// many prefixes after each: they list the same entries, their index never falls,
// it is that of the command whenever something below the prefix changed, and
// whoever waited for it is woken.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 2)), 250) })
		})
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	table, model := kv.NewTable(), map[string]*kv.Entry{}
	watched := prefixes(r)
	last, lastOfKey := map[string]uint64{}, map[string]uint64{}
	var sum mvcc.Sum
	var index uint64
	for range steps {
		index += 1 + uint64(r.IntN(3))
		cmd := randomCommand(r, model, index)
		next := maps.Clone(model)
		want := naive(next, cmd, index)
		changed := differ(model, next)

		watches := make([]mvcc.Watch, len(watched))
		for i, p := range watched {
			table.List(&kv.List{Prefix: p}, &watches[i])
		}
		j := newJournal()
		tx := table.Txn(j, index, int64(index))
		if got := do(tx, cmd); got != want {
			t.Fatalf("%#v came to %v, want %v", cmd, got, want)
		}
		before := table
		table = tx.Commit()
		tx.Notify()
		sum = sum.Add(j.Delta())
		checkReplay(t, before, table, j, sum)

		for i, p := range watched {
			moved := slices.ContainsFunc(changed, func(key string) bool { return strings.HasPrefix(key, p) })
			now := checkPrefix(t, table, next, p)
			switch {
			case now < last[p]:
				t.Fatalf("after %#v at %d the index of %q fell from %d to %d", cmd, index, p, last[p], now)
			case moved && now != index:
				t.Fatalf("after %#v at %d the index of %q is %d", cmd, index, p, now)
			case now > index && now > 1:
				t.Fatalf("the index of %q is %d, before its time %d", p, now, index)
			case moved && !woken(t, &watches[i]):
				t.Fatalf("after %#v the reader of %q sleeps on", cmd, p)
			}
			last[p] = now

			e, keyIndex := table.Get(&kv.Get{Key: p}, nil)
			if !reflect.DeepEqual(e, next[p]) {
				t.Fatalf("after %#v entry %q is %+v, want %+v", cmd, p, e, next[p])
			}
			if e != nil && keyIndex != e.ModifyIndex {
				t.Fatalf("the index of entry %+v is %d", e, keyIndex)
			}
			if keyIndex < lastOfKey[p] || (slices.Contains(changed, p) && keyIndex != index) {
				t.Fatalf("after %#v at %d the index of key %q went from %d to %d", cmd, index, p, lastOfKey[p], keyIndex)
			}
			lastOfKey[p] = keyIndex
		}
		// Entries of the model are made anew only by what changes them.
		model = next
	}
}

// checkPrefix compares a list and the keys of a prefix with the model, and
// returns their index.
func checkPrefix(t *testing.T, table kv.Table, model map[string]*kv.Entry, prefix string) uint64 {
	t.Helper()
	var want []*kv.Entry
	var cut []string
	for _, key := range slices.Sorted(maps.Keys(model)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		want = append(want, model[key])
		if i := strings.Index(key[len(prefix):], "/"); i >= 0 {
			key = key[:len(prefix)+i+1]
		}
		if !slices.Contains(cut, key) {
			cut = append(cut, key)
		}
	}
	list, index := table.List(&kv.List{Prefix: prefix}, nil)
	if len(list) != len(want) || (len(want) > 0 && !reflect.DeepEqual(list, want)) {
		t.Fatalf("under %q are %+v, want %+v", prefix, list, want)
	}
	keys, keysIndex := table.Keys(&kv.Keys{Prefix: prefix, Separator: "/"}, nil)
	if !slices.Equal(keys, cut) || keysIndex != index {
		t.Fatalf("the keys of %q are %q at %d, want %q at %d", prefix, keys, keysIndex, cut, index)
	}
	return index
}

// checkReplay makes the table anew, from its rows as a snapshot does and from
// the changed rows as a history does, and compares every row, the table's index
// and the sum.
func checkReplay(t *testing.T, before, table kv.Table, j *mvcc.Journal, sum mvcc.Sum) {
	t.Helper()
	restored := kv.NewTable().Txn(newJournal(), 0, 0)
	var recount mvcc.Sum
	for _, row := range rowsOf(table) {
		recount = recount.Add(mvcc.HashRow(encode(nil, row)))
		restored.Load(nil, row)
	}
	if recount != sum {
		t.Fatalf("the kept sum is %v, a recount says %v", sum, recount)
	}
	replayed := before.Txn(newJournal(), 0, 0)
	for _, c := range j.Changes() {
		replayed.Load(c.Before, c.After)
	}
	_, index := table.List(&kv.List{}, nil)
	for how, again := range map[string]kv.Table{"restored": restored.Commit(), "replayed": replayed.Commit()} {
		if got, want := rowsOf(again), rowsOf(table); !reflect.DeepEqual(got, want) {
			t.Fatalf("the %s table holds %+v, want %+v", how, got, want)
		}
		if _, got := again.List(&kv.List{}, nil); got != index {
			t.Fatalf("the %s table's index is %d, want %d", how, got, index)
		}
	}
}

func rowsOf(table kv.Table) []any {
	var rows []any
	table.Rows(func(row any) bool { rows = append(rows, row); return true })
	return rows
}
