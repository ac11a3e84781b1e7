package state

import (
	"fmt"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Txn makes the next [View]. Nothing it does is seen until it is committed;
// dropping it undoes it. A table is opened when it is first asked for.
type Txn struct {
	base    *View
	index   uint64
	at      int64
	journal mvcc.Journal

	kv      *kv.Txn
	catalog *catalog.Txn
	health  *health.Txn
	facts   *mvcc.Txn[*Fact]
}

// begin opens the transaction of a Raft index. The leader's time may have gone
// back, after a change of leader; the state's never does. Only a transaction
// that reads may do without an encoder of rows.
func (v *View) begin(rows *rowEncoder, index uint64, at int64) *Txn {
	tx := &Txn{base: v, index: index, at: max(at, v.At)}
	if rows != nil {
		tx.journal.Encode = rows.journaled
	}
	return tx
}

// KV is the table of keys within the transaction.
func (tx *Txn) KV() *kv.Txn {
	if tx.kv == nil {
		tx.kv = tx.base.KV.Txn(&tx.journal, tx.index, tx.at)
	}
	return tx.kv
}

// Catalog is the table of nodes and instances within the transaction.
func (tx *Txn) Catalog() *catalog.Txn {
	if tx.catalog == nil {
		tx.catalog = tx.base.Catalog.Txn(&tx.journal, tx.index)
	}
	return tx.catalog
}

// Health is the table of checks within the transaction.
func (tx *Txn) Health() *health.Txn {
	if tx.health == nil {
		tx.health = tx.base.Health.Txn(&tx.journal, tx.index)
	}
	return tx.health
}

// Facts is the table of facts about the cluster within the transaction.
func (tx *Txn) Facts() *mvcc.Txn[*Fact] {
	if tx.facts == nil {
		tx.facts = tx.base.facts.Txn(&tx.journal)
	}
	return tx.facts
}

// commit returns the next view. Nobody is woken until notify.
func (tx *Txn) commit() *View {
	next := *tx.base
	next.Index, next.At = tx.index, tx.at
	if tx.kv != nil {
		next.KV = tx.kv.Commit()
	}
	if tx.catalog != nil {
		next.Catalog = tx.catalog.Commit()
	}
	if tx.health != nil {
		next.Health = tx.health.Commit()
	}
	if tx.facts != nil {
		next.facts = tx.facts.Commit()
	}
	next.sum = tx.base.sum.Add(tx.journal.Delta())
	return &next
}

// notify wakes all who watch something that the transaction changed.
func (tx *Txn) notify() {
	if tx.kv != nil {
		tx.kv.Notify()
	}
	if tx.catalog != nil {
		tx.catalog.Notify()
	}
	if tx.health != nil {
		tx.health.Notify()
	}
	if tx.facts != nil {
		tx.facts.Notify()
	}
}

// apply carries out a command. It is the table of contents of what can be done.
// After an error the transaction is dropped.
func (tx *Txn) apply(cmd any) Result {
	switch c := cmd.(type) {
	case *Begin:
		tx.beginCluster(c)
	case *health.Transaction:
		outcome := tx.transact(c)
		return Result{OK: len(outcome.Errors) == 0, Txn: outcome}
	case *SetAutopilot:
		return Result{OK: tx.setAutopilot(c)}
	case *CheckHash:
		// The machine has compared it; the state stays as it is.
	case *kv.Set:
		tx.KV().Set(c)
	case *kv.CAS:
		return Result{OK: tx.KV().CAS(c)}
	case *kv.Delete:
		tx.KV().Delete(c)
	case *kv.DeleteCAS:
		return Result{OK: tx.KV().DeleteCAS(c)}
	case *kv.DeleteTree:
		tx.KV().DeleteTree(c)
	case *kv.Reap:
		tx.KV().Reap(c)
	case *health.Register:
		if err := tx.register(c); err != nil {
			return Result{Err: err}
		}
	case *catalog.Deregister:
		tx.deregister(c)
	default:
		// To answer something here would let servers diverge.
		panic(fmt.Sprintf("state: a command of type %T has no case in apply", cmd))
	}
	return Result{OK: true}
}

// beginCluster gives the cluster its ID, unless it has one.
func (tx *Txn) beginCluster(c *Begin) {
	if _, ok := tx.Facts().Get(factCluster); !ok {
		tx.Facts().Set(factCluster, &Fact{Name: factCluster, Value: c.Cluster[:]})
	}
}

// load puts back a row of a snapshot or of the history, or removes it if it is
// gone, without any rule.
func (tx *Txn) load(before, after any) {
	row := after
	if row == nil {
		row = before
	}
	if f, ok := row.(*Fact); ok {
		mvcc.Load(tx.Facts(), f.Name, f, after != nil)
		return
	}
	if !tx.KV().Load(before, after) && !tx.Catalog().Load(before, after) && !tx.Health().Load(before, after) {
		panic("state: a row that no table loads")
	}
}
