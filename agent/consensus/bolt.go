package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// boltStore keeps Raft's log and its stable values in a bolt file. The file is
// that of raft-boltdb: each can go on with what the other wrote. It is another
// program for the same form because that one looks up every entry in a
// transaction of its own, and makes a new decoder for it; at a start each
// entry is read three times.
type boltStore struct {
	db *bbolt.DB

	// encoded is where entries are encoded. It belongs to the transaction that
	// writes, of which bolt has one at a time.
	encoded []byte
	// charged is about how many bytes of the file the process has mapped since
	// release.
	charged atomic.Int64

	ahead ahead
}

var (
	_ raft.LogStore    = (*boltStore)(nil)
	_ raft.StableStore = (*boltStore)(nil)

	logBucketName  = []byte(logBucket)
	confBucketName = []byte(confBucket)

	// errNotFound says that the stable store has no such key. Raft looks at the
	// text.
	errNotFound = errors.New("not found")
)

// ahead are entries that were read before they were asked for, because those
// before them were asked for in turn.
type ahead struct {
	lock    sync.Mutex
	entries []raft.Log
	// next is the entry after the one that was asked for last.
	next uint64
	// writes counts the changes of the log: what was read before one is not kept
	// after it.
	writes uint64
}

// take returns an entry that was read ahead. If there is none it reports
// whether it is worth reading more than the one, and the number of changes so
// far.
func (a *ahead) take(index uint64, into *raft.Log) (found, inTurn bool, writes uint64) {
	a.lock.Lock()
	defer a.lock.Unlock()
	inTurn = index == a.next
	a.next = index + 1
	for len(a.entries) > 0 && a.entries[0].Index < index {
		a.entries = a.entries[1:]
	}
	if len(a.entries) == 0 || a.entries[0].Index != index {
		a.entries = nil
		return false, inTurn, a.writes
	}
	*into = a.entries[0]
	a.entries = a.entries[1:]
	return true, inTurn, a.writes
}

// keep remembers entries for the next calls, unless the log was changed since
// they were read.
func (a *ahead) keep(entries []raft.Log, writes uint64) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.writes == writes {
		a.entries = entries
	}
}

// forget drops what was read ahead: the log changes.
func (a *ahead) forget() {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.writes++
	a.entries = nil
}

// newBoltStore opens the file at path.
func newBoltStore(path string, options *bbolt.Options) (*boltStore, error) {
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		return nil, err
	}
	s := &boltStore{db: db}
	if err := s.makeBuckets(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// bolt has looked at every page, to find the free ones.
	s.release()
	return s, nil
}

// makeBuckets makes the buckets, and writes nothing if they are there.
func (s *boltStore) makeBuckets() error {
	missing := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		missing = tx.Bucket(logBucketName) == nil || tx.Bucket(confBucketName) == nil
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(logBucketName)
		if err != nil {
			return err
		}
		_, err = tx.CreateBucketIfNotExists(confBucketName)
		return err
	})
}

// Close closes the file.
func (s *boltStore) Close() error { return s.db.Close() }

// FirstIndex returns the index of the first entry, or 0 if there is none.
func (s *boltStore) FirstIndex() (uint64, error) {
	return s.end(func(c *bbolt.Cursor) ([]byte, []byte) { return c.First() })
}

// LastIndex returns the index of the last entry, or 0 if there is none.
func (s *boltStore) LastIndex() (uint64, error) {
	return s.end(func(c *bbolt.Cursor) ([]byte, []byte) { return c.Last() })
}

func (s *boltStore) end(seek func(*bbolt.Cursor) (key, value []byte)) (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if key, _ := seek(tx.Bucket(logBucketName).Cursor()); key != nil {
			index = binary.BigEndian.Uint64(key)
		}
		return nil
	})
	return index, err
}

// GetLog reads an entry. Who reads one after the other has them read in groups.
func (s *boltStore) GetLog(index uint64, into *raft.Log) error {
	found, inTurn, writes := s.ahead.take(index, into)
	if found {
		return nil
	}
	to := index
	if inTurn {
		to = index + min(readAhead, math.MaxUint64-index)
	}
	var more []raft.Log
	size := 0
	err := s.each(index, to, func(key uint64, value []byte) error {
		size += len(value)
		var entry raft.Log
		err := decodeEntry(value, &entry)
		if key == index {
			*into, found = entry, err == nil
			return err
		}
		if err != nil || size > readAheadBytes {
			return errEnough // it is told when it is asked for
		}
		if more == nil {
			more = make([]raft.Log, 0, readAhead)
		}
		more = append(more, entry)
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return err
	case !found:
		return raft.ErrLogNotFound
	}
	if len(more) > 0 {
		s.ahead.keep(more, writes)
	}
	return nil
}

// errEnough ends each early.
var errEnough = errors.New("enough")

// each calls f with the encoded entries from an index to another, in order. The
// bytes are the file's own: they are gone when f returns.
func (s *boltStore) each(from, to uint64, f func(index uint64, value []byte) error) error {
	size := 0
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(logBucketName).Cursor()
		for key, value := c.Seek(indexKey(from)); key != nil; key, value = c.Next() {
			index := binary.BigEndian.Uint64(key)
			if index > to {
				return nil
			}
			size += len(value)
			if err := f(index, value); err != nil || index == to {
				return err
			}
		}
		return nil
	})
	s.charge(size)
	return err
}

// StoreLog stores an entry.
func (s *boltStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs stores entries, all or none, and syncs them to disk.
func (s *boltStore) StoreLogs(entries []*raft.Log) error {
	s.ahead.forget()
	size := 0
	err := s.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(logBucketName)
		// Entries come in order, so a page that was filled is not touched again.
		bucket.FillPercent = 1
		for _, entry := range entries {
			size += len(entry.Data) + len(entry.Extensions) + entryOverhead
		}
		if cap(s.encoded) < size {
			s.encoded = make([]byte, 0, size)
		}
		// bolt reads the values when the transaction ends.
		buffer := s.encoded[:0]
		for _, entry := range entries {
			begin := len(buffer)
			buffer = appendEntry(buffer, entry)
			if err := bucket.Put(indexKey(entry.Index), buffer[begin:len(buffer):len(buffer)]); err != nil {
				return err
			}
		}
		return nil
	})
	if cap(s.encoded) > maxKeptEncoded {
		s.encoded = nil
	}
	s.charge(size)
	return err
}

// DeleteRange removes the entries from an index to another.
func (s *boltStore) DeleteRange(first, last uint64) error {
	s.ahead.forget()
	err := s.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(logBucketName).Cursor()
		for key, _ := c.Seek(indexKey(first)); key != nil && binary.BigEndian.Uint64(key) <= last; key, _ = c.Next() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
	s.release()
	return err
}

// Set stores a value and syncs it to disk.
func (s *boltStore) Set(key, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(confBucketName).Put(key, value) })
}

// Get reads a value.
func (s *boltStore) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		stored := tx.Bucket(confBucketName).Get(key)
		if stored == nil {
			return errNotFound
		}
		value = append(value, stored...)
		return nil
	})
	return value, err
}

// SetUint64 stores a number and syncs it to disk.
func (s *boltStore) SetUint64(key []byte, value uint64) error { return s.Set(key, indexKey(value)) }

// GetUint64 reads a number.
func (s *boltStore) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("the value of %s has %d bytes, not 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// charge counts a transaction that touched about so many bytes, and gives the
// pages of the file back now and then.
func (s *boltStore) charge(bytes int) {
	if s.charged.Add(int64(bytes)+touchedAround) >= maxMapped {
		s.release()
	}
}

// release takes the pages of the file out of this process. They stay in the
// kernel's cache, which hands them out again when they are read.
func (s *boltStore) release() {
	s.charged.Store(0)
	// A transaction keeps the mapping where it is.
	_ = s.db.View(func(tx *bbolt.Tx) error {
		unmapPages(s.db.Info().Data, int(tx.Size()))
		return nil
	})
}
