package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// snapshotFolder is where Raft's file store keeps its snapshots.
	snapshotFolder = "snapshots"
	// snapshotMeta is the file of a snapshot that describes it.
	snapshotMeta = "meta.json"
	// snapshotState is the file of a snapshot with what the state machine wrote.
	snapshotState = "state.bin"
	// snapshotUnfinished ends the name of a snapshot that is being written.
	snapshotUnfinished = ".tmp"
	// maxMetaBytes is the most that is read of a description. It holds one
	// line for each server of the cluster.
	maxMetaBytes = 1 << 20
)

// snapshotName is what the name of a snapshot's folder says: the term and the
// index of its last entry, and the time in milliseconds. The zero value stands
// for no snapshot.
type snapshotName struct {
	text              string
	term, index, time uint64
}

// snapshotNames returns the finished snapshots of a folder, the newest first.
func snapshotNames(dir string) ([]snapshotName, error) {
	folder := filepath.Join(dir, snapshotFolder)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the snapshot folder: %w", err)
	}
	var names []snapshotName
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasSuffix(entry.Name(), snapshotUnfinished) {
			continue
		}
		name, err := parseSnapshotName(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("cannot use the snapshot folder: %s is not a snapshot (%w); move it elsewhere", filepath.Join(folder, entry.Name()), err)
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b snapshotName) int { return b.compare(a) })
	return names, nil
}

// parseSnapshotName reads the name of a snapshot's folder.
func parseSnapshotName(text string) (snapshotName, error) {
	name := snapshotName{text: text}
	parts := strings.Split(text, "-")
	if len(parts) != 3 {
		return name, errors.New("its name is not term-index-time")
	}
	for i, into := range []*uint64{&name.term, &name.index, &name.time} {
		number, err := strconv.ParseUint(parts[i], 10, 64)
		if err != nil || strconv.FormatUint(number, 10) != parts[i] {
			return name, fmt.Errorf("%q in its name is not a number", parts[i])
		}
		*into = number
	}
	return name, nil
}

// compare orders snapshots by age, as Raft does.
func (n snapshotName) compare(other snapshotName) int {
	for _, pair := range [][2]uint64{{n.term, other.term}, {n.index, other.index}, {n.time, other.time}} {
		if pair[0] != pair[1] {
			if pair[0] < pair[1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// checkSnapshots returns the newest snapshot, whose description must be
// readable: Raft would leave it out of its list otherwise. What lies in its
// state file is checked when Raft opens it. Of an older one, nothing is needed;
// it may be half removed. Unfinished ones, left by a crash, are removed.
func checkSnapshots(dir string, logger hclog.Logger) (snapshotName, error) {
	if err := removeUnfinished(dir, logger); err != nil {
		return snapshotName{}, err
	}
	names, err := snapshotNames(dir)
	if err != nil || len(names) == 0 {
		return snapshotName{}, err
	}
	for i, name := range names {
		path := filepath.Join(dir, snapshotFolder, name.text, snapshotMeta)
		err := checkMeta(path, name)
		if err != nil && i == 0 {
			return snapshotName{}, damaged(path, dir, err)
		}
		if err != nil {
			logger.Warn("an older snapshot cannot be used", "path", path, "error", err)
		}
	}
	return names[0], nil
}

// checkMeta checks that the description of a snapshot fits its name.
func checkMeta(path string, name snapshotName) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxMetaBytes {
		return fmt.Errorf("it has %d bytes, %d are possible", info.Size(), maxMetaBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return parseMeta(data, name)
}

// newestMeta returns the description of the newest snapshot, or nil if there is
// none.
func newestMeta(dir string) (snapshotName, *raft.SnapshotMeta, error) {
	names, err := snapshotNames(dir)
	if err != nil || len(names) == 0 {
		return snapshotName{}, nil, err
	}
	path := filepath.Join(dir, snapshotFolder, names[0].text, snapshotMeta)
	data, err := readLimited(path, maxMetaBytes)
	if err != nil {
		return names[0], nil, damaged(path, dir, err)
	}
	if err := parseMeta(data, names[0]); err != nil {
		return names[0], nil, damaged(path, dir, err)
	}
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return names[0], nil, damaged(path, dir, err)
	}
	return names[0], &meta, nil
}

// parseMeta checks the text of a snapshot's description.
func parseMeta(data []byte, name snapshotName) error {
	var meta raft.SnapshotMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return err
	}
	switch {
	case meta.ID != name.text || meta.Term != name.term || meta.Index != name.index:
		return fmt.Errorf("it describes snapshot %q of entry %d in term %d", meta.ID, meta.Index, meta.Term)
	case meta.Version < 1 || meta.Version > raft.SnapshotVersionMax:
		return fmt.Errorf("it is of version %d, 1 to %d are known", meta.Version, raft.SnapshotVersionMax)
	case len(meta.Configuration.Servers) == 0:
		return errors.New("it names no servers")
	}
	return nil
}

// removeUnfinished removes what a crash has left of a snapshot being written.
func removeUnfinished(dir string, logger hclog.Logger) error {
	folder := filepath.Join(dir, snapshotFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cannot read the snapshot folder: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasSuffix(entry.Name(), snapshotUnfinished) {
			continue
		}
		path := filepath.Join(folder, entry.Name())
		logger.Info("removing a snapshot that was not finished", "path", path)
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot remove an unfinished snapshot: %w", err)
		}
	}
	return nil
}
