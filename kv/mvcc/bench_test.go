package mvcc_test

import (
	"fmt"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-sd/muster/kv/mvcc"
)

const benchRows = 100_000

func benchKeys() []string {
	keys := make([]string, benchRows)
	for i := range keys {
		keys[i] = fmt.Sprintf("app/%d/key", i)
	}
	return keys
}

// BenchmarkGet reads one of 100,000 rows, beside the bare tree.
func BenchmarkGet(b *testing.B) {
	keys := benchKeys()
	m := mapOf(keys...)
	tree := bareTree(keys)
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m.Get(keys[i*7919%benchRows], nil)
		}
	})
	b.Run("map watched", func(b *testing.B) {
		b.ReportAllocs()
		var w mvcc.Watch
		for i := 0; b.Loop(); i++ {
			w.Reset()
			m.Get(keys[i*7919%benchRows], &w)
		}
	})
	b.Run("ceiling", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			tree.Get([]byte(keys[i*7919%benchRows]))
		}
	})
}

// BenchmarkSet replaces one of 100,000 rows in a transaction of its own and
// notifies, beside the bare tree doing the same. A derived map keeps no journal.
func BenchmarkSet(b *testing.B) {
	keys := benchKeys()
	set := func(b *testing.B, journal func() *mvcc.Journal) {
		m := mapOf(keys...)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			key := keys[i*7919%benchRows]
			tx := m.Txn(journal())
			tx.Set(key, &row{key, i})
			m = tx.Commit()
			tx.Notify()
		}
	}
	b.Run("map", func(b *testing.B) { set(b, newJournal) })
	b.Run("derived", func(b *testing.B) { set(b, func() *mvcc.Journal { return nil }) })
	b.Run("ceiling", func(b *testing.B) {
		tree := bareTree(keys)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			key := keys[i*7919%benchRows]
			tx := tree.Txn()
			tx.TrackMutate(true)
			tx.Insert([]byte(key), &row{key, i})
			tree = tx.CommitOnly()
			tx.Notify()
		}
	})
}

func bareTree(keys []string) *iradix.Tree[*row] {
	tx := iradix.New[*row]().Txn()
	for i, key := range keys {
		tx.Insert([]byte(key), &row{key, i})
	}
	return tx.Commit()
}
