package consensus

import "github.com/hashicorp/raft"

// faultyLog is a log store with faults.
type faultyLog struct {
	raft.LogStore
	before func() error
}

// StoreLog stores an entry.
func (s *faultyLog) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries.
func (s *faultyLog) StoreLogs(logs []*raft.Log) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.LogStore.StoreLogs(logs)
}

// DeleteRange removes entries.
func (s *faultyLog) DeleteRange(first, last uint64) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.LogStore.DeleteRange(first, last)
}

// faultyStable is a stable store with faults.
type faultyStable struct {
	raft.StableStore
	before func() error
}

// Set stores a value.
func (s *faultyStable) Set(key, value []byte) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.StableStore.Set(key, value)
}

// SetUint64 stores a number.
func (s *faultyStable) SetUint64(key []byte, value uint64) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, value)
}
