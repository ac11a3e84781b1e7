package state

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Machine applies the log: it is the state machine of Raft (raft.BatchingFSM).
// Its readers hold a [View] for as long as they like and take no lock.
type Machine struct {
	// OnMismatch is called when this server's state turns out not to be what the
	// server that proposed a [CheckHash] has: once, until the state is replaced. It
	// runs while the log waits and must be quick. It is set before the log runs.
	OnMismatch func(index uint64, want, have mvcc.Sum)

	view     atomic.Pointer[View]
	mismatch atomic.Pointer[Mismatch]
	history  History

	// For whoever replaces the view: the goroutine that applies, and Adopt.
	mu      sync.Mutex
	rows    *rowEncoder
	body    *decoder
	hashes  hashMemory
	applied uint64 // the index of the last log entry, zero after a restore
}

var _ raft.BatchingFSM = (*Machine)(nil)

// NewMachine returns a machine that has applied nothing yet.
func NewMachine() *Machine {
	m := &Machine{rows: newRowEncoder(), body: newDecoder(), hashes: hashMemory{limit: maxHashes}}
	v := newView()
	v.history = &m.history
	m.view.Store(v)
	m.history.reset(v)
	m.hashes.reset(v)
	return m
}

// View is the newest view.
func (m *Machine) View() *View { return m.view.Load() }

// History is the memory of the last views.
func (m *Machine) History() *History { return &m.history }

// Apply applies one log entry and returns its [Result].
func (m *Machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies log entries in order and returns a [Result] for each. The
// new view is seen, and its watchers are woken, once for the whole batch. An
// entry that cannot be decoded panics with its index: to stop is better than to
// diverge. Entries that the view already holds, because it was adopted from a
// server that was further, are passed over.
func (m *Machine) ApplyBatch(logs []*raft.Log) []any {
	results, done, mismatch := m.applyBatch(logs)
	for _, tx := range done {
		tx.notify()
	}
	if mismatch != nil && m.OnMismatch != nil {
		m.OnMismatch(mismatch.Index, mismatch.Want, mismatch.Have)
	}
	return results
}

// applyBatch returns the results, the transactions whose watchers are to be
// woken, and what a check found.
func (m *Machine) applyBatch(logs []*raft.Log) (results []any, done []*Txn, mismatch *Mismatch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	results = make([]any, len(logs))
	view := m.view.Load()
	for i, l := range logs {
		m.hashes.begin(l.Index)
		m.applied = max(m.applied, l.Index)
		if l.Type != raft.LogCommand {
			results[i] = Result{OK: true}
			continue
		}
		e, cmd, err := m.body.entry(l.Data)
		if errors.Is(err, errSkip) {
			results[i] = Result{}
			continue
		}
		if err != nil {
			panic(fmt.Sprintf("state: cannot apply log entry %d: %v", l.Index, err))
		}
		if l.Index <= view.Index {
			results[i] = Result{Err: &mvcc.Error{Code: mvcc.Timeout, Text: fmt.Sprintf(
				"log entry %d came with the leader's state, which stands at index %d: what it came to is not known", l.Index, view.Index)}}
			continue
		}
		if check, ok := cmd.(*CheckHash); ok {
			results[i] = Result{OK: true}
			if found := m.check(check, l.Index); found != nil {
				mismatch = found
			}
			continue
		}
		tx := view.begin(m.rows, l.Index, e.At)
		result := tx.apply(cmd)
		results[i] = result
		if result.refused() {
			continue
		}
		view = tx.commit()
		m.hashes.add(view.Index, view.sum)
		if changes := tx.journal.Changes(); len(changes) > 0 {
			m.history.add(Record{View: view, Changes: changes, Origin: e.Origin}, tx.journal.Bytes())
		}
		done = append(done, tx)
	}
	m.view.Store(view)
	return results, done, mismatch
}

// Snapshot captures the newest view.
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) { return snapshot{m.View()}, nil }

// Restore replaces the state by that of a snapshot. All who wait are woken.
func (m *Machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	view, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replace(view)
	m.applied = 0
	return nil
}

// replace puts a view in place of the whole line of views. All who wait on the
// old one are woken. The lock is held.
func (m *Machine) replace(view *View) {
	old := m.view.Load()
	view.line, view.history = old.line+1, &m.history
	m.view.Store(view)
	m.history.reset(view)
	m.hashes.reset(view)
	m.mismatch.Store(nil)
	close(old.gone)
}

// snapshot is a view on its way to a snapshot store.
type snapshot struct{ view *View }

// Persist writes the view to the sink.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := WriteSnapshot(sink, s.view); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release does nothing: the view lives as long as somebody holds it.
func (s snapshot) Release() {}

// Replay returns the view that a list of steps makes of v. It is how a history
// is checked: the result has the rows and the hash of the last step's view.
func (v *View) Replay(steps []Record) *View {
	rows := newRowEncoder()
	for _, r := range steps {
		tx := v.begin(rows, r.View.Index, r.View.At)
		for _, c := range r.Changes {
			tx.load(c.Before, c.After)
		}
		v = tx.commit()
	}
	return v
}

// Recount returns the state hash, taken anew from every row.
func (v *View) Recount() mvcc.Sum {
	var sum mvcc.Sum
	rows := newRowEncoder()
	var buf []byte
	v.Rows(func(row any) bool {
		buf = rows.append(buf[:0], row)
		sum = sum.Add(mvcc.HashRow(buf))
		return true
	})
	return sum
}
