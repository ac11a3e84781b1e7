package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// newBolt opens a store in a folder of its own.
func newBolt(t testing.TB) *boltStore {
	t.Helper()
	s, err := newBoltStore(filepath.Join(t.TempDir(), logFile), boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// entriesOfAllForms have every length and time that is stored in a form of its own.
func entriesOfAllForms() []*raft.Log {
	var all []*raft.Log
	add := func(e raft.Log) {
		e.Index = uint64(len(all) + 1)
		all = append(all, &e)
	}
	for _, n := range []int{0, 1, 31, 32, 255, 256, 65_535, 65_536, 200_000} {
		add(raft.Log{Term: 1, Data: bytes.Repeat([]byte("d"), n), Extensions: bytes.Repeat([]byte("e"), n/2)})
	}
	for _, term := range []uint64{0, 127, 128, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		add(raft.Log{Term: term, Type: raft.LogType(term)})
	}
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(5, 0), time.Unix(5, 1), time.Unix(math.MaxUint32, 0), time.Unix(math.MaxUint32+1, 0),
		time.Unix(1<<34-1, 999_999_999), time.Unix(1<<34, 0), time.Unix(-5, 3), time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600)),
	} {
		add(raft.Log{Type: raft.LogConfiguration, AppendedAt: at})
	}
	return all
}

// The stored form of an entry is that of raft-boltdb, to the byte.
func TestEntriesAreStoredAsRaftBoltStoresThem(t *testing.T) {
	for _, e := range entriesOfAllForms() {
		var want []byte
		if err := codec.NewEncoderBytes(&want, &codec.MsgpackHandle{}).Encode(e); err != nil {
			t.Fatal(err)
		}
		got := appendEntry(nil, e)
		if !bytes.Equal(got, want) {
			t.Errorf("%+v is stored as %.100q, want %.100q", e, got, want)
		}
		if len(got) > len(e.Data)+len(e.Extensions)+entryOverhead {
			t.Errorf("%+v takes %d bytes, more than is reckoned with", e, len(got))
		}
	}
}

// What one of the two stores wrote the other one reads and goes on with.
func TestBoltFileIsThatOfRaftBolt(t *testing.T) {
	all := entriesOfAllForms()
	path := filepath.Join(t.TempDir(), logFile)
	ours := func() store {
		s, err := newBoltStore(path, boltOptions(false))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	theirs := func() store {
		s, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false), MsgpackUseNewTimeFormat: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stored := 0
	for round, open := range []func() store{theirs, ours, theirs, ours, ours} {
		s := open()
		checkStored(t, s, all[:stored], uint64(round))
		if stored < len(all) {
			more := all[stored:min(stored+8, len(all))]
			if err := s.StoreLogs(more); err != nil {
				t.Fatal(err)
			}
			stored += len(more)
		}
		if err := s.SetUint64([]byte("term"), uint64(round+1)); err != nil {
			t.Fatal(err)
		}
		checkStored(t, s, all[:stored], uint64(round+1))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

type store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// checkStored checks that a store has just these entries, from 1 on, and a term.
func checkStored(t *testing.T, s store, want []*raft.Log, term uint64) {
	t.Helper()
	first, err := s.FirstIndex()
	if err != nil || first != uint64(min(1, len(want))) {
		t.Fatalf("the first entry is %d, %v", first, err)
	}
	last, err := s.LastIndex()
	if err != nil || last != uint64(len(want)) {
		t.Fatalf("the last entry is %d, %v, want %d", last, err, len(want))
	}
	for i, e := range want {
		var got raft.Log
		if err := s.GetLog(uint64(i+1), &got); err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
		wanted := *e
		if !got.AppendedAt.Equal(wanted.AppendedAt) {
			t.Errorf("entry %d is of %v, want %v", i+1, got.AppendedAt, wanted.AppendedAt)
		}
		got.AppendedAt, wanted.AppendedAt = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("entry %d is %.200s, want %.200s", i+1, fmt.Sprint(got), fmt.Sprint(wanted))
		}
	}
	var none raft.Log
	if err := s.GetLog(uint64(len(want)+1), &none); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry after the last: %v", err)
	}
	got, err := s.GetUint64([]byte("term"))
	if term == 0 && !isNotFound(err) || term > 0 && (err != nil || got != term) {
		t.Errorf("the term is %d, %v, want %d", got, err, term)
	}
}

// What was read ahead is never returned when the log has another entry there.
func TestReadAheadIsForgotten(t *testing.T) {
	s := newBolt(t)
	write := func(from, to, term uint64) {
		t.Helper()
		for i := from; i <= to; i++ {
			if err := s.StoreLog(&raft.Log{Index: i, Term: term, Data: []byte{byte(i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(index, term uint64) {
		t.Helper()
		var e raft.Log
		if err := s.GetLog(index, &e); err != nil || e.Index != index || e.Term != term {
			t.Fatalf("entry %d is %+v, %v, want it of term %d", index, e, err, term)
		}
	}
	write(1, 100, 1)
	read(1, 1)
	read(2, 1)
	read(3, 1)
	if len(s.ahead.entries) != readAhead-1 {
		t.Fatalf("%d entries are read ahead, want %d", len(s.ahead.entries), readAhead-1)
	}
	if err := s.DeleteRange(4, 100); err != nil {
		t.Fatal(err)
	}
	var gone raft.Log
	if err := s.GetLog(4, &gone); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 4 was removed: %+v, %v", gone, err)
	}
	write(4, 50, 2)
	read(4, 2)
	read(5, 2)
	read(6, 2)
	write(7, 7, 3) // in place of what is there
	read(7, 3)
	// Back, on, and not in turn.
	for _, index := range []uint64{1, 2, 3, 2, 3, 9, 10, 30, 31, 50} {
		var e raft.Log
		if err := s.GetLog(index, &e); err != nil || e.Index != index || e.Data[0] != byte(index) {
			t.Errorf("entry %d is %+v, %v", index, e, err)
		}
	}
	// A read that began before a change keeps nothing.
	_, _, writes := s.ahead.take(20, new(raft.Log))
	write(51, 51, 3)
	s.ahead.keep([]raft.Log{{Index: 21, Term: 9}}, writes)
	read(21, 2)
}

// Large entries are not read ahead by the dozen.
func TestReadAheadIsBounded(t *testing.T) {
	s := newBolt(t)
	for i := range uint64(20) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, readAheadBytes/4)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(20) {
		var e raft.Log
		if err := s.GetLog(i+1, &e); err != nil || e.Index != i+1 {
			t.Fatalf("entry %d is %d, %v", i+1, e.Index, err)
		}
		if n := len(s.ahead.entries); n > 3 {
			t.Fatalf("%d entries of %d bytes are read ahead", n, readAheadBytes/4)
		}
	}
}

// An open file that holds its buckets is not written to, so that a server can
// start on a full disk.
func TestOpeningWritesNothing(t *testing.T) {
	s := newBolt(t)
	path := s.db.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := newBoltStore(path, boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	stats := again.db.Stats()
	if n := stats.TxStats.GetWrite(); n != 0 {
		t.Errorf("opening wrote %d times", n)
	}
}

// Bytes that are no entry are an error, never something half read.
func TestBrokenEntries(t *testing.T) {
	whole := appendEntry(nil, &raft.Log{Index: 300, Term: 70_000, Data: bytes.Repeat([]byte("d"), 40), Extensions: []byte("x"), AppendedAt: time.Unix(5, 1)})
	for n := range whole {
		if err := decodeEntry(whole[:n], new(raft.Log)); err == nil {
			t.Errorf("cut off after %d bytes it is taken for whole", n)
		}
	}
	for _, bad := range []struct{ text, want string }{
		{string(whole) + "x", "1 bytes follow"},
		{strings.Replace(string(whole), "Term", "Turn", 1), `unknown field "Turn"`},
		{strings.Replace(string(whole), "\xa4Type", "\xa4Term", 1), "field Term twice"},
		{strings.Replace(string(whole), "Index\xcd", "Index\xca", 1), "field Index: it is of kind 0xca"},
		{strings.Replace(string(whole), "Type\x00", "Type\xcd\x01\x00", 1), "type 256 is out of range"},
		{strings.Replace(string(whole), "AppendedAt\xa8", "AppendedAt\xa7", 1), "7 bytes, which is no time"},
		{"\x85" + string(whole[1:]), "no Raft entry"},
	} {
		err := decodeEntry([]byte(bad.text), new(raft.Log))
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%.60q: %v, want %q", bad.text, err, bad.want)
		}
	}
}

// FuzzEntry checks that no bytes make the decoder panic, and that what it takes
// is an entry that is stored and read again.
func FuzzEntry(f *testing.F) {
	for _, e := range entriesOfAllForms() {
		if len(e.Data) < 300 {
			f.Add(appendEntry(nil, e))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again raft.Log
		if decodeEntry(b, &e) != nil {
			return
		}
		if err := decodeEntry(appendEntry(nil, &e), &again); err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("%+v is read again as %+v, %v", e, again, err)
		}
		var library raft.Log
		if err := codec.NewDecoderBytes(b, &codec.MsgpackHandle{}).Decode(&library); err != nil {
			return // it takes less: bytes for a time in another form
		}
		if library.Index != e.Index || library.Term != e.Term || library.Type != e.Type || !bytes.Equal(library.Data, e.Data) {
			t.Errorf("%q is %+v, and %+v for the library", b, e, library)
		}
	})
}

// BenchmarkReplayLog measures how a log is read from its beginning, as at a
// start, by this store and by raft-boltdb.
func BenchmarkReplayLog(b *testing.B) {
	const entries = 10_000
	path := filepath.Join(b.TempDir(), logFile)
	ours, err := newBoltStore(path, boltOptions(false))
	if err != nil {
		b.Fatal(err)
	}
	for from := uint64(1); from <= entries; from += 100 {
		var batch []*raft.Log
		for i := from; i < from+100; i++ {
			batch = append(batch, &raft.Log{Index: i, Term: 1, Data: make([]byte, 256), AppendedAt: time.Unix(1, 1)})
		}
		if err := ours.StoreLogs(batch); err != nil {
			b.Fatal(err)
		}
	}
	replay := func(s store) func(b *testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for n := uint64(0); b.Loop(); n++ {
				if err := s.GetLog(n%entries+1, new(raft.Log)); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("ours", replay(ours))
	if err := ours.Close(); err != nil {
		b.Fatal(err)
	}
	theirs, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false)})
	if err != nil {
		b.Fatal(err)
	}
	defer theirs.Close()
	b.Run("raft-boltdb", replay(theirs))
}
