package state

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Machine applies the log: it is the state machine of Raft (raft.BatchingFSM).
// Its readers hold a [View] for as long as they like and take no lock.
type Machine struct {
	view    atomic.Pointer[View]
	history History

	// For the goroutine that applies.
	rows *rowEncoder
	body *decoder
}

var _ raft.BatchingFSM = (*Machine)(nil)

// NewMachine returns a machine that has applied nothing yet.
func NewMachine() *Machine {
	m := &Machine{rows: newRowEncoder(), body: newDecoder()}
	v := newView()
	m.view.Store(v)
	m.history.reset(v)
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
// diverge.
func (m *Machine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	view := m.view.Load()
	var done []*Txn
	for i, l := range logs {
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
		tx := view.begin(m.rows, l.Index, e.At)
		result := tx.apply(cmd)
		results[i] = result
		if result.refused() {
			continue
		}
		view = tx.commit()
		if changes := tx.journal.Changes(); len(changes) > 0 {
			m.history.add(Record{View: view, Changes: changes, Origin: e.Origin}, tx.journal.Bytes())
		}
		done = append(done, tx)
	}
	m.view.Store(view)
	for _, tx := range done {
		tx.notify()
	}
	return results
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
	old := m.view.Load()
	view.line = old.line + 1
	m.view.Store(view)
	m.history.reset(view)
	close(old.gone)
	return nil
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
