package consensus

import (
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// boltStore is raft-boltdb's store, of which two things are made lighter: what
// bolt has mapped of the file is given back now and then, and Raft's search for
// configurations, when it starts, does not read again what was just checked.
type boltStore struct {
	*raftboltdb.BoltStore
	path string // absolute, and without links

	// mapping is held by calls after which bolt may have mapped the file
	// elsewhere: those that write. Who holds it knows that the mapping stays.
	mapping sync.Mutex
	// charged is about how many bytes of the file the process has mapped since
	// release.
	charged atomic.Int64
	// next is the entry after the one that was read last.
	next atomic.Uint64

	// search is not nil while Raft starts.
	search atomic.Pointer[search]
}

var (
	_ raft.LogStore    = (*boltStore)(nil)
	_ raft.StableStore = (*boltStore)(nil)
)

// newBoltStore opens the file at path.
func newBoltStore(path string, options *bbolt.Options) (*boltStore, error) {
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return nil, err
	}
	s := &boltStore{BoltStore: db, path: path}
	if absolute, err := filepath.Abs(path); err == nil {
		s.path = absolute
	}
	if real, err := filepath.EvalSymlinks(s.path); err == nil {
		s.path = real
	}
	// bolt has looked at every page, to find the free ones.
	s.release()
	return s, nil
}

// GetLog reads an entry.
func (s *boltStore) GetLog(index uint64, into *raft.Log) error {
	if search := s.search.Load(); search != nil && search.passes(index) {
		*into = raft.Log{Index: index, Type: raft.LogCommand}
		return nil
	}
	err := s.BoltStore.GetLog(index, into)
	if s.next.Swap(index+1) == index {
		s.charge(halfFull * (len(into.Data) + len(into.Extensions) + entryOverhead))
	} else {
		s.charge(touchedAround)
	}
	return err
}

// StoreLog stores an entry, and syncs it to disk.
func (s *boltStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries, all or none, and syncs them to disk.
func (s *boltStore) StoreLogs(entries []*raft.Log) error {
	size := 0
	for _, entry := range entries {
		size += len(entry.Data) + len(entry.Extensions) + entryOverhead
	}
	return s.write(size, func() error { return s.BoltStore.StoreLogs(entries) })
}

// DeleteRange removes the entries from an index to another.
func (s *boltStore) DeleteRange(first, last uint64) error {
	// bolt reads all that it removes.
	return s.write(maxMapped, func() error { return s.BoltStore.DeleteRange(first, last) })
}

// Set stores a value and syncs it to disk.
func (s *boltStore) Set(key, value []byte) error {
	return s.write(len(value), func() error { return s.BoltStore.Set(key, value) })
}

// SetUint64 stores a number and syncs it to disk.
func (s *boltStore) SetUint64(key []byte, value uint64) error {
	return s.write(8, func() error { return s.BoltStore.SetUint64(key, value) })
}

// Close closes the file.
func (s *boltStore) Close() error {
	s.mapping.Lock()
	defer s.mapping.Unlock()
	return s.BoltStore.Close()
}

// write calls a function that stores about so many bytes.
func (s *boltStore) write(size int, do func() error) error {
	s.mapping.Lock()
	err := do()
	s.mapping.Unlock()
	s.charge(halfFull*size + touchedAround)
	return err
}

// charge counts a transaction that touched about so many bytes, and gives the
// pages of the file back now and then.
func (s *boltStore) charge(bytes int) {
	if s.charged.Add(int64(bytes)) >= maxMapped {
		s.release()
	}
}

// release takes the pages of the file out of this process. They stay in the
// kernel's cache, which hands them out again when they are read. While somebody
// writes, nothing is done: that may take as long as the disk hangs.
func (s *boltStore) release() {
	if !s.mapping.TryLock() {
		return
	}
	defer s.mapping.Unlock()
	s.charged.Store(0)
	unmapPages(s.path)
}

// search is what Raft's search for configurations need not read: it goes
// through its log when it starts, entry by entry, and of those that are no
// configuration it looks at nothing but their kind. What is passed over was read
// and checked just before.
type search struct {
	mu sync.Mutex
	// next is the entry that Raft will ask for, and last the last one.
	next, last uint64
	// others are the entries that are no commands, in order, from next on.
	others []uint64
	over   bool
}

// passes reports whether an entry is a command, and the one that the search has
// come to. Raft asks for the last entry first, which is read; the search is over
// when it gets there again, or when any other is asked for out of turn.
func (s *search) passes(index uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over || index == s.last && index != s.next:
		return false
	case index != s.next || index == s.last:
		s.over = true
		return false
	}
	s.next++
	if len(s.others) > 0 && s.others[0] == index {
		s.others = s.others[1:]
		return false
	}
	return true
}
