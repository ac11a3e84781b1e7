package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// store is what both kinds of store can do.
type store interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

func openOwn(t *testing.T, path string) store {
	t.Helper()
	s, err := newBoltStore(path, boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openModule(t *testing.T, path string) store {
	t.Helper()
	s, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false), MsgpackUseNewTimeFormat: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is stored can be read by the raft-boltdb module, and the other way
// round: files that it wrote stay readable.
func TestBoltStoreReadsAndWritesTheModulesFiles(t *testing.T) {
	open := map[string]func(*testing.T, string) store{"own": openOwn, "module": openModule}
	var logs []*raft.Log
	for i := range 40 {
		logs = append(logs, &raft.Log{
			Index: uint64(i + 3), Term: uint64(i/10 + 1), Type: raft.LogType(i % 6),
			Data: make([]byte, i*i), AppendedAt: time.Unix(1_800_000_000, int64(i)).UTC(),
		})
	}
	logs[7].Extensions = []byte("more")
	for writer, openWriter := range open {
		for reader, openReader := range open {
			t.Run(writer+" to "+reader, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), logFile)
				s := openWriter(t, path)
				err := errors.Join(s.StoreLogs(logs[:30]), s.StoreLog(logs[30]), s.StoreLogs(logs[31:]), s.DeleteRange(3, 5), s.DeleteRange(41, 99),
					s.SetUint64(keyCurrentTerm, 1<<40), s.Set([]byte("vote"), []byte("n1")), s.Close())
				if err != nil {
					t.Fatal(err)
				}
				s = openReader(t, path)
				defer s.Close()
				first, err1 := s.FirstIndex()
				last, err2 := s.LastIndex()
				term, err3 := s.GetUint64(keyCurrentTerm)
				vote, err4 := s.Get([]byte("vote"))
				if err := errors.Join(err1, err2, err3, err4); err != nil || first != 6 || last != 40 || term != 1<<40 || string(vote) != "n1" {
					t.Errorf("entries %d to %d, term %d, vote %q, %v", first, last, term, vote, err)
				}
				for _, want := range logs[3:38] {
					got := raft.Log{Data: []byte{}}
					if err := s.GetLog(want.Index, &got); err != nil {
						t.Fatal(err)
					}
					got.AppendedAt = got.AppendedAt.UTC()
					if !reflect.DeepEqual(&got, want) {
						t.Errorf("entry %d is\n%+v, want\n%+v", want.Index, got, want)
					}
				}
			})
		}
	}
}

func TestBoltStoreLacks(t *testing.T) {
	s := openOwn(t, filepath.Join(t.TempDir(), logFile))
	defer s.Close()
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if first != 0 || last != 0 || err1 != nil || err2 != nil {
		t.Errorf("an empty log has the entries %d to %d, %v, %v", first, last, err1, err2)
	}
	if err := s.GetLog(1, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("a missing entry is %v", err)
	}
	if _, err := s.GetUint64(keyCurrentTerm); !isNotFound(err) {
		t.Errorf("a missing number is %v", err)
	}
	if err := s.Set([]byte("number"), []byte("short")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetUint64([]byte("number")); err == nil || isNotFound(err) {
		t.Errorf("a number of five bytes is %v", err)
	}
}

// FuzzDecodeLog reads damaged entries: they are errors, never panics.
func FuzzDecodeLog(f *testing.F) {
	value, err := encodeLog(&raft.Log{Index: 7, Term: 2, Data: []byte("command"), AppendedAt: time.Unix(1_800_000_000, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Add([]byte{0x86, 0xa5})
	f.Fuzz(func(t *testing.T, value []byte) {
		var log raft.Log
		if decodeLog(value, &log) != nil {
			return
		}
		again, err := encodeLog(&log)
		if err != nil {
			t.Fatal(err)
		}
		var same raft.Log
		if err := decodeLog(again, &same); err != nil || same.Index != log.Index || string(same.Data) != string(log.Data) {
			t.Errorf("%+v came back as %+v, %v", log, same, err)
		}
	})
}

func BenchmarkReadEntry(b *testing.B) {
	path := filepath.Join(b.TempDir(), logFile)
	own, err := newBoltStore(path, boltOptions(false))
	if err != nil {
		b.Fatal(err)
	}
	const entries = 1000
	for i := range entries {
		if err := own.StoreLog(&raft.Log{Index: uint64(i + 1), Term: 1, Data: make([]byte, 256), AppendedAt: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
	if err := own.Close(); err != nil {
		b.Fatal(err)
	}
	run := func(name string, s store) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var log raft.Log
			for i := uint64(0); b.Loop(); i++ {
				if err := s.GetLog(i%entries+1, &log); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if own, err = newBoltStore(path, boltOptions(false)); err != nil {
		b.Fatal(err)
	}
	run("own", own)
	module, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: boltOptions(false), MsgpackUseNewTimeFormat: true})
	if err != nil {
		b.Fatal(err)
	}
	run("raft-boltdb", module)
}

// A long log is looked through in parts; what is reported is the first entry
// that cannot be used, and none is left out.
func TestLongLogIsCheckedWhole(t *testing.T) {
	const entries = 5*checkShare + 7
	path := filepath.Join(t.TempDir(), logFile)
	db, err := newBoltStore(path, boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	logs := make([]*raft.Log, entries)
	for i := range logs {
		logs[i] = &raft.Log{Index: uint64(i + 1), Term: 1, Data: binary.BigEndian.AppendUint64(nil, uint64(i+1))}
	}
	if err := db.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	s := &stores{dir: t.TempDir(), log: db}
	for _, from := range []uint64{1, 2, entries - 1, entries, entries + 1} {
		var seen atomic.Uint64
		if err := s.checkEntries(from, entries, func([]byte) error { seen.Add(1); return nil }); err != nil || seen.Load() != entries+1-from {
			t.Errorf("from %d, %d entries were looked at, %v", from, seen.Load(), err)
		}
	}
	for _, bad := range []uint64{1, checkShare, 3 * checkShare, entries} {
		err := s.checkEntries(1, entries, func(data []byte) error {
			if binary.BigEndian.Uint64(data) >= bad {
				return errors.New("unknown")
			}
			return nil
		})
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("entry %d cannot be applied", bad)) {
			t.Errorf("bad from %d on: %v", bad, err)
		}
	}
	if err := db.DeleteRange(2000, 2000); err != nil {
		t.Fatal(err)
	}
	if err := s.checkEntries(1, entries, nil); err == nil || !strings.Contains(err.Error(), "entry 2000 cannot be read") {
		t.Errorf("with a gap: %v", err)
	}
}
