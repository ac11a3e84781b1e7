package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// goldenView is the state that the golden snapshot holds: one row in each table
// with every field set, and the cluster's ID.
func goldenView(tb testing.TB) *View {
	tx := newView().begin(newRowEncoder(), 42, 1_700_000_000_123)
	for _, table := range tableOrder {
		row := newRow(table)
		fill(tb, row)
		if f, ok := row.(*Fact); ok {
			f.Name, f.Value = factCluster, bytes.Repeat([]byte{7}, 16)
		}
		tx.load(nil, row)
	}
	return tx.commit()
}

// TestGoldenSnapshot holds the snapshot's format: what was once written is read
// for ever, and written the same.
func TestGoldenSnapshot(t *testing.T) {
	path := filepath.Join("testdata", "snapshot-1.golden")
	var b bytes.Buffer
	if err := WriteSnapshot(&b, goldenView(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), golden) {
		t.Errorf("the snapshot is written as %d bytes that differ from the golden %d", b.Len(), len(golden))
	}
	v, err := ReadSnapshot(bytes.NewReader(golden))
	if err != nil {
		t.Fatal(err)
	}
	const hash = "37c91d62f272ff0de795d30c30e05bc7"
	if v.Hash().String() != hash || v.Index != 42 || v.Cluster()[0] != 7 {
		t.Errorf("golden snapshot: hash %s index %d cluster %x, want hash %s", v.Hash(), v.Index, v.Cluster(), hash)
	}
	if v.Recount() != v.Hash() {
		t.Errorf("recount %s", v.Recount())
	}
}

func TestDamagedSnapshotIsNeverRead(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, goldenView(t)); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for i := range whole {
		bent := append([]byte{}, whole...)
		bent[i] ^= 0x10
		if _, err := ReadSnapshot(bytes.NewReader(bent)); err == nil {
			t.Errorf("a snapshot with a bit changed in byte %d was read", i)
		}
		if _, err := ReadSnapshot(bytes.NewReader(whole[:i])); err == nil || !strings.Contains(err.Error(), "snapshot") {
			t.Errorf("a snapshot cut off after %d bytes: %v", i, err)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(whole, 0))); err == nil {
		t.Error("a snapshot with a byte behind its end was read")
	}
}

func TestSnapshotOfManyBlocks(t *testing.T) {
	m := NewMachine()
	for i, l := range randomLog(t, 1, 200) {
		l.Index = uint64(i + 1)
		m.Apply(l)
	}
	for i := range 2000 {
		m.Apply(entry(t, uint64(1000+i), registration(i, 80)))
	}
	var b bytes.Buffer
	if err := WriteSnapshot(&b, m.View()); err != nil {
		t.Fatal(err)
	}
	if b.Len() < 4*blockSize {
		t.Fatalf("%d bytes are too few to try several blocks", b.Len())
	}
	v, err := ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "many blocks", v, m.View())
}

// brokenSink is a snapshot store whose disk is full after some bytes.
type brokenSink struct {
	raft.SnapshotSink
	room      int
	cancelled bool
	closed    bool
}

var errFull = errors.New("no space left on device")

func (s *brokenSink) Write(b []byte) (int, error) {
	if s.room -= len(b); s.room < 0 {
		return 0, errFull
	}
	return len(b), nil
}
func (s *brokenSink) Cancel() error { s.cancelled = true; return nil }
func (s *brokenSink) Close() error  { s.closed = true; return nil }

func TestPersistCancelsWhatItCannotFinish(t *testing.T) {
	m := NewMachine()
	for i := range 2000 {
		m.Apply(entry(t, uint64(1+i), registration(i, 80)))
	}
	for _, room := range []int{0, 10, blockSize, 3 * blockSize} {
		snap, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		sink := &brokenSink{room: room}
		if err := snap.Persist(sink); !errors.Is(err, errFull) || !sink.cancelled || sink.closed {
			t.Errorf("room for %d bytes: %v, cancelled %v, closed %v", room, err, sink.cancelled, sink.closed)
		}
	}
}

func FuzzReadSnapshot(f *testing.F) {
	var b bytes.Buffer
	if err := WriteSnapshot(&b, goldenView(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	b.Reset()
	if err := WriteSnapshot(&b, newView()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ReadSnapshot(bytes.NewReader(in))
		if err == nil && v.Recount() != v.Hash() {
			t.Error("a snapshot was read whose hash does not hold")
		}
	})
}
