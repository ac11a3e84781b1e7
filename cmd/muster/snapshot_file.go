package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// savedArchive is a snapshot on disk that was read back and found whole.
type savedArchive struct {
	path    string
	meta    state.ArchiveMeta
	warning string // what may be wrong with the state itself; empty is nothing
}

// saveArchive writes a snapshot of the cluster to a file in a folder. It gets its
// name, which may depend on what it says, only after it was read back from
// disk, checked, and is safe there.
func (c *connection) saveArchive(ctx context.Context, folder string, name func(state.ArchiveMeta) string) (savedArchive, error) {
	answer, err := c.open(ctx, "/v1/snapshot", url.Values{}, streamSilence)
	if err != nil {
		return savedArchive{}, err
	}
	defer answer.Close()
	if folder == "" {
		folder = "."
	}
	file, err := os.CreateTemp(folder, partialPattern)
	if err != nil {
		return savedArchive{}, fmt.Errorf("cannot make a file: %w", err)
	}
	defer os.Remove(file.Name()) // nothing is there any more once it has its name
	defer file.Close()
	meta, err := writeVerified(file, answer)
	if err != nil {
		return savedArchive{}, err
	}
	saved := savedArchive{path: filepath.Join(folder, name(meta)), meta: meta, warning: doubt(answer.header)}
	if err := file.Close(); err != nil {
		return savedArchive{}, fmt.Errorf("cannot write the file: %w", err)
	}
	if info, err := os.Stat(saved.path); err == nil && info.IsDir() {
		return savedArchive{}, fmt.Errorf("cannot give the file its name: %s is a folder", saved.path)
	}
	if err := os.Rename(file.Name(), saved.path); err != nil {
		return savedArchive{}, fmt.Errorf("cannot give the file its name: %w", err)
	}
	if err := syncFolder(folder); err != nil {
		return savedArchive{}, fmt.Errorf("cannot tell whether the file's name is safe on disk: %w", err)
	}
	return saved, nil
}

// writeVerified writes an archive to a file, and reads it back.
func writeVerified(file *os.File, archive io.Reader) (state.ArchiveMeta, error) {
	n, err := io.Copy(file, io.LimitReader(archive, maxArchive+1))
	switch {
	case err != nil:
		return state.ArchiveMeta{}, fmt.Errorf("it broke off after %d bytes: %w", n, err)
	case n > maxArchive:
		return state.ArchiveMeta{}, fmt.Errorf("it is larger than the limit of %d bytes, and could not be restored", int64(maxArchive))
	}
	if err := file.Sync(); err != nil {
		return state.ArchiveMeta{}, fmt.Errorf("cannot write the file: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return state.ArchiveMeta{}, fmt.Errorf("cannot read the file back: %w", err)
	}
	meta, _, err := state.VerifyArchive(file, nil)
	if err != nil {
		return state.ArchiveMeta{}, fmt.Errorf("what was written cannot be restored: %w", err)
	}
	return meta, nil
}

// syncFolder makes the names in a folder safe on disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// doubt says why a state may not be the newest.
func doubt(header http.Header) string {
	if header.Get("X-Consul-Knownleader") == "false" {
		return "the server that answered knows no leader: the newest changes may be missing"
	}
	ms, err := strconv.ParseInt(header.Get("X-Consul-Lastcontact"), 10, 64)
	if behind := time.Duration(ms) * time.Millisecond; err == nil && behind > oldContact {
		return fmt.Sprintf("the server that answered last heard from the leader %s ago: newer changes are missing", behind)
	}
	return ""
}
