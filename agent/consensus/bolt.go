package consensus

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// logFileMode lets nobody else read the log.
const logFileMode = 0o600

// errNoKey is about a key that the stable store does not have. Raft looks at
// the text.
var errNoKey = errors.New("not found")

// boltStore keeps Raft's log and its stable store in a bolt file, in the layout
// of the raft-boltdb module: entries in msgpack under their index, in big-endian
// order. Unlike that module it keeps its encoders, which cost more to make than
// to use: a start reads each entry up to three times.
type boltStore struct{ db *bbolt.DB }

var (
	_ raft.LogStore    = (*boltStore)(nil)
	_ raft.StableStore = (*boltStore)(nil)
)

// newBoltStore opens the file at path and makes what it lacks.
func newBoltStore(path string, options *bbolt.Options) (*boltStore, error) {
	db, err := bbolt.Open(path, logFileMode, options)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{logBucket, confBucket} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &boltStore{db}, nil
}

// Close closes the file.
func (s *boltStore) Close() error { return s.db.Close() }

// FirstIndex returns the index of the oldest entry, or 0.
func (s *boltStore) FirstIndex() (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		key, _ := tx.Bucket([]byte(logBucket)).Cursor().First()
		index = indexOf(key)
		return nil
	})
	return index, err
}

// LastIndex returns the index of the newest entry, or 0.
func (s *boltStore) LastIndex() (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		key, _ := tx.Bucket([]byte(logBucket)).Cursor().Last()
		index = indexOf(key)
		return nil
	})
	return index, err
}

// GetLog reads an entry, or fails with [raft.ErrLogNotFound].
func (s *boltStore) GetLog(index uint64, log *raft.Log) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket([]byte(logBucket)).Get(logKey(index))
		if value == nil {
			return raft.ErrLogNotFound
		}
		return decodeLog(value, log)
	})
}

// StoreLog stores an entry.
func (s *boltStore) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries, all or none. They are on disk when it returns.
func (s *boltStore) StoreLogs(logs []*raft.Log) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(logBucket))
		for _, log := range logs {
			value, err := encodeLog(log)
			if err != nil {
				return err
			}
			if err := bucket.Put(logKey(log.Index), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteRange removes the entries from first to last.
func (s *boltStore) DeleteRange(first, last uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		entries := tx.Bucket([]byte(logBucket)).Cursor()
		for key, _ := entries.Seek(logKey(first)); key != nil && indexOf(key) <= last; key, _ = entries.Next() {
			if err := entries.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Set stores a value of the stable store. It is on disk when Set returns.
func (s *boltStore) Set(key, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(confBucket)).Put(key, value) })
}

// Get reads a value of the stable store; one that is not there is the error
// "not found".
func (s *boltStore) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		stored := tx.Bucket([]byte(confBucket)).Get(key)
		if stored == nil {
			return errNoKey
		}
		value = append(value, stored...)
		return nil
	})
	return value, err
}

// SetUint64 stores a number of the stable store.
func (s *boltStore) SetUint64(key []byte, value uint64) error { return s.Set(key, logKey(value)) }

// GetUint64 reads a number of the stable store.
func (s *boltStore) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != logKeyBytes {
		return 0, errors.New("a number in the stable store has not eight bytes")
	}
	return indexOf(value), nil
}

func logKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func indexOf(key []byte) uint64 {
	if key == nil {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// logHandle is shared: a handle is safe for concurrent use once it was used.
var logHandle = &codec.MsgpackHandle{}

var (
	logEncoders = sync.Pool{New: func() any { return codec.NewEncoderBytes(new([]byte), logHandle) }}
	logDecoders = sync.Pool{New: func() any { return codec.NewDecoderBytes(nil, logHandle) }}
)

func encodeLog(log *raft.Log) (value []byte, err error) {
	encoder := logEncoders.Get().(*codec.Encoder)
	value = make([]byte, 0, len(log.Data)+len(log.Extensions)+logOverhead)
	encoder.ResetBytes(&value)
	if err := encoder.Encode(log); err != nil {
		return nil, err
	}
	encoder.ResetBytes(new([]byte)) // or it would hold on to the value
	logEncoders.Put(encoder)
	return value, nil
}

// decodeLog reads an entry, which shares no memory with value.
func decodeLog(value []byte, log *raft.Log) error {
	decoder := logDecoders.Get().(*codec.Decoder)
	decoder.ResetBytes(value)
	if err := decoder.Decode(log); err != nil {
		return err // a decoder that failed is not used again
	}
	decoder.ResetBytes(nil) // or it would hold on to the file's memory
	logDecoders.Put(decoder)
	return nil
}
