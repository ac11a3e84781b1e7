package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// tidySnapshots is a snapshot store that leaves nothing behind when a snapshot
// fails. Raft's file store does, and a disk that a snapshot has filled would
// stay full until the next start.
type tidySnapshots struct {
	raft.SnapshotStore
	dir  string
	room *room
}

// Create begins a snapshot.
func (s *tidySnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	if err := s.room.admitSnapshot(); err != nil {
		return nil, err
	}
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil {
		s.sweep(fmt.Sprintf("%d-%d-", term, index))
		return nil, err
	}
	return &tidySink{SnapshotSink: sink, store: s}, nil
}

// sweep removes unfinished snapshots whose names begin with a text.
func (s *tidySnapshots) sweep(begin string) {
	folder := filepath.Join(s.dir, snapshotFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return // the next start sweeps too
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), begin) || !strings.HasSuffix(entry.Name(), snapshotUnfinished) {
			continue
		}
		path := filepath.Join(folder, entry.Name())
		// After an error, Raft keeps the file open: removed, it would still
		// take its room.
		_ = os.Truncate(filepath.Join(path, snapshotState), 0)
		_ = os.RemoveAll(path)
	}
}

// tidySink is a snapshot that is being written.
type tidySink struct {
	raft.SnapshotSink
	store    *tidySnapshots
	unlooked int // bytes written since the last look at the room
}

// Write appends to the snapshot, if there is room.
func (s *tidySink) Write(data []byte) (int, error) {
	s.unlooked += len(data)
	if s.unlooked >= snapshotLook {
		s.unlooked = 0
		if err := s.store.room.admitSnapshot(); err != nil {
			return 0, err
		}
	}
	return s.SnapshotSink.Write(data)
}

// Close finishes the snapshot, or removes it with an error.
func (s *tidySink) Close() error { return s.tidy(s.SnapshotSink.Close()) }

// Cancel removes the snapshot.
func (s *tidySink) Cancel() error { return s.tidy(s.SnapshotSink.Cancel()) }

func (s *tidySink) tidy(err error) error {
	if err != nil {
		s.store.sweep(s.ID() + snapshotUnfinished)
	}
	return err
}
