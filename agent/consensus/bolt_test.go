package consensus

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
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

// newLog makes a log file with some entries.
func newLog(t testing.TB, entries []*raft.Log) (path string) {
	t.Helper()
	s := newBolt(t)
	if err := errors.Join(s.StoreLogs(entries), s.Close()); err != nil {
		t.Fatal(err)
	}
	return s.path
}

// lookThrough looks through the log file at path.
func lookThrough(path string, from uint64, check func([]byte) error) (*look, error) {
	l := newLook(from, check)
	return l, l.finish(checkPages(path, os.Getpagesize(), l.entry))
}

// encoded is an entry as raft-boltdb stores it.
func encoded(t testing.TB, e *raft.Log) (b []byte) {
	t.Helper()
	if err := codec.NewEncoderBytes(&b, &codec.MsgpackHandle{}).Encode(e); err != nil {
		t.Fatal(err)
	}
	return b
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

// What is stored is read from the pages of the file as the library reads it.
func TestEntriesAreReadAsTheLibraryReadsThem(t *testing.T) {
	all := entriesOfAllForms()
	path := newLog(t, all)
	s, err := newBoltStore(path, boltOptions(true))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := uint64(1)
	err = checkPages(path, os.Getpagesize(), func(key, value []byte) error {
		var got, want raft.Log
		if err := errors.Join(parseEntry(value, &got), s.GetLog(next, &want)); err != nil {
			return err
		}
		if !got.AppendedAt.Equal(want.AppendedAt) {
			t.Errorf("entry %d is of %v, want %v", next, got.AppendedAt, want.AppendedAt)
		}
		got.AppendedAt, want.AppendedAt = time.Time{}, time.Time{}
		if !bytes.Equal(key, number(next)) || !reflect.DeepEqual(got, want) {
			t.Errorf("entry %d is %.200q, want %.200q", next, got.Data, want.Data)
		}
		next++
		return nil
	})
	if err != nil || next != uint64(len(all)+1) {
		t.Errorf("%d entries of %d, %v", next-1, len(all), err)
	}
}

// Bytes that are no entry are an error, never something half read.
func TestBrokenEntries(t *testing.T) {
	whole := encoded(t, &raft.Log{Index: 300, Term: 70_000, Data: bytes.Repeat([]byte("d"), 40), Extensions: []byte("x"), AppendedAt: time.Unix(5, 1)})
	for n := range whole {
		if err := parseEntry(whole[:n], new(raft.Log)); err == nil {
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
		err := parseEntry([]byte(bad.text), new(raft.Log))
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%.60q: %v, want %q", bad.text, err, bad.want)
		}
	}
}

// FuzzEntry checks that no bytes make the decoder panic, and that what it takes
// the library takes for the same entry.
func FuzzEntry(f *testing.F) {
	for _, e := range entriesOfAllForms() {
		if len(e.Data) < 300 {
			f.Add(encoded(f, e))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, library raft.Log
		if parseEntry(b, &e) != nil {
			return
		}
		if err := codec.NewDecoderBytes(b, &codec.MsgpackHandle{}).Decode(&library); err != nil {
			t.Fatalf("%q is %+v, and the library cannot read it: %v", b, e, err)
		}
		if library.Index != e.Index || library.Term != e.Term || library.Type != e.Type || !bytes.Equal(library.Data, e.Data) {
			t.Errorf("%q is %+v, and %+v for the library", b, e, library)
		}
	})
}

// When Raft looks for configurations, commands are passed over; everything else
// is read, and so is all that is asked for otherwise.
func TestSearchPassesOverCommands(t *testing.T) {
	s := newBolt(t)
	for i := uint64(1); i <= 10; i++ {
		e := &raft.Log{Index: i, Term: 1, Data: []byte{byte(i)}}
		if i == 6 {
			e.Type = raft.LogConfiguration
		}
		if err := s.StoreLog(e); err != nil {
			t.Fatal(err)
		}
	}
	read := func(index uint64) bool {
		t.Helper()
		var e raft.Log
		if err := s.GetLog(index, &e); err != nil || e.Index != index || (e.Type == raft.LogConfiguration) != (index == 6) {
			t.Fatalf("entry %d is %+v, %v", index, e, err)
		}
		return len(e.Data) == 1 && e.Data[0] == byte(index) && e.Term == 1
	}
	begin := func() { s.search.Store(&search{next: 4, last: 10, others: []uint64{6}}) }
	begin()
	for i, index := range []uint64{10, 4, 5, 6, 7, 8, 9, 10, 4, 5, 10} {
		if whole := read(index); whole != (index == 6 || index == 10 || i > 7) {
			t.Errorf("read %d, of entry %d: whole is %t", i, index, whole)
		}
	}
	for _, first := range []uint64{3, 5, 6, 9, 11} {
		begin()
		if first <= 10 {
			read(first)
		} else if err := s.GetLog(first, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v", first, err)
		}
		if !read(4) || !read(5) {
			t.Errorf("entries are passed over after entry %d was asked for out of turn", first)
		}
	}
	s.search.Store(&search{next: 10, last: 10})
	if !read(10) || !read(9) {
		t.Error("a log of one entry is passed over")
	}
}

// A server that starts reads of its log, before anything is applied, the last
// entry and what is no command.
func TestStartReadsNoCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
	apply(t, n, 50)
	stop(t, n)
	cfg := alone(dir, new(counter))
	log := new(readsLog)
	cfg.faults.log = func(store raft.LogStore) raft.LogStore {
		log.LogStore = store
		return log
	}
	n = open(t, cfg)
	await(t, n)
	_, count := cfg.FSM.(*counter).state()
	last := n.raft.LastIndex()
	stop(t, n)
	if count != 50 {
		t.Errorf("%d numbers", count)
	}
	// Checks look for the last one, and so does Raft. Raft looks at all, and then
	// applies all.
	if log.empty < 50-1 || log.empty > 50 || log.whole < 50 || log.whole > int(last)+10 {
		t.Errorf("%d entries were passed over, %d read, the last is %d", log.empty, log.whole, last)
	}
}

// readsLog counts what is read of a log.
type readsLog struct {
	raft.LogStore
	mu           sync.Mutex
	empty, whole int
}

// GetLog reads an entry.
func (s *readsLog) GetLog(index uint64, into *raft.Log) error {
	err := s.LogStore.GetLog(index, into)
	s.mu.Lock()
	defer s.mu.Unlock()
	if into.Term == 0 {
		s.empty++
	} else {
		s.whole++
	}
	return err
}
