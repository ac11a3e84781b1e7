package kv_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// BenchmarkSet writes to one of 100,000 keys in a transaction of its own, as a
// put that arrives alone does. Its ceiling is BenchmarkSet of package mvcc. The
// encoding of the row is left out: it is that of package agent/state.
func BenchmarkSet(b *testing.B) {
	encode := func(dst []byte, row any) []byte {
		return append(dst, "a row of some fifty bytes, which is a usual length"...)
	}
	tx := kv.NewTable().Txn(&mvcc.Journal{Encode: encode}, 1, 1)
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("app/%d/key", i)
		tx.Set(&kv.Set{Key: keys[i]})
	}
	table := tx.Commit()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tx := table.Txn(&mvcc.Journal{Encode: encode}, uint64(i+2), 1)
		tx.Set(&kv.Set{Key: keys[i*7919%len(keys)], Value: strconv.AppendInt(nil, int64(i), 10)})
		table = tx.Commit()
		tx.Notify()
	}
}
