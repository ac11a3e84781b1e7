package local

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Folders of persisted definitions, below the data directory.
const (
	servicesFolder = "services"
	checksFolder   = "checks"
	stateFolder    = "checks/state"
)

// temporary ends the name of a file that is not complete yet.
const temporary = ".tmp"

// store keeps definitions in files. Its zero folder keeps nothing.
type store struct {
	folder string
	logger *slog.Logger
	// stale is whether a journal may be left of an edit that was not confirmed.
	stale bool
}

// openStore makes the folders of definitions below the data directory.
func openStore(folder string, logger *slog.Logger) (*store, error) {
	s := &store{folder: folder, logger: logger}
	if folder == "" {
		return s, nil
	}
	for _, sub := range []string{servicesFolder, checksFolder, stateFolder} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the folder of persisted definitions: %w", err)
		}
	}
	if err := syncFolder(folder); err != nil {
		return nil, err
	}
	return s, s.finish()
}

// path is where the definition of an ID stands.
func (s *store) path(folder, id string) string {
	name, _ := fileNames(id)
	return filepath.Join(s.folder, folder, name)
}

// fileNames are the name of the file of an ID, and the one that it had in
// earlier times.
func fileNames(id string) (name, old string) {
	now, before := sha256.Sum256([]byte(id)), md5.Sum([]byte(id))
	return hex.EncodeToString(now[:]), hex.EncodeToString(before[:])
}

// edit is a set of files to write and to remove.
type edit struct {
	files []file
}

// file is a path and its content, nil to remove it.
type file struct {
	path    string
	content []byte
}

// put adds a definition to be written.
func (s *store) put(e *edit, folder, id string, record any) error {
	if s.folder == "" {
		return nil
	}
	content, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("cannot encode the definition of %q: %w", id, err)
	}
	if len(content) > MaxFileSize {
		return tooLarge("the definition of %q has %d bytes, the limit is %d", id, len(content), MaxFileSize)
	}
	e.files = append(e.files, file{s.path(folder, id), content})
	return nil
}

// drop adds a definition to be removed, if there is one.
func (s *store) drop(e *edit, folder, id string) {
	if s.folder != "" {
		e.files = append(e.files, file{path: s.path(folder, id)})
	}
}

// apply carries out an edit so that it survives a crash once it has returned,
// and is there as a whole or not at all if one comes before. If it fails, the
// files are put back as they were, as far as that goes.
func (s *store) apply(e *edit) error {
	if s.stale {
		// The next start would carry it out over whatever is confirmed from now on.
		if err := s.end(); err != nil {
			return err
		}
	}
	if !e.needsJournal() {
		return s.carryOut(e)
	}
	if err := s.begin(e); err != nil {
		return errors.Join(err, s.end())
	}
	return errors.Join(s.carryOut(e), s.end())
}

// carryOut writes and removes the files of an edit.
func (s *store) carryOut(e *edit) error {
	for i, f := range e.files {
		if f.content == nil {
			continue
		}
		if err := writeSynced(f.path+temporary, f.content); err != nil {
			removeTemporary(e.files[:i+1])
			return fmt.Errorf("cannot persist a definition: %w", err)
		}
	}
	before := make([]file, 0, len(e.files))
	for i, f := range e.files {
		old, err := os.ReadFile(f.path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			before = append(before, file{f.path, old})
			err = replace(f)
		}
		if err != nil {
			removeTemporary(e.files[i:])
			s.restore(before)
			return fmt.Errorf("cannot persist a definition: %w", err)
		}
	}
	return syncFolders(e.files)
}

// replace puts the finished file in its place, or removes it.
func replace(f file) error {
	if f.content != nil {
		return os.Rename(f.path+temporary, f.path)
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restore writes files back as they were before an edit that failed.
func (s *store) restore(before []file) {
	for _, f := range before {
		if f.content != nil {
			if err := writeSynced(f.path+temporary, f.content); err != nil {
				s.logger.Error(logDamagedFile, "file", f.path, "error", err)
				continue
			}
		}
		if err := replace(f); err != nil {
			s.logger.Error(logDamagedFile, "file", f.path, "error", err)
		}
	}
}

func removeTemporary(files []file) {
	for _, f := range files {
		if f.content != nil {
			os.Remove(f.path + temporary)
		}
	}
}

// writeQuick replaces a file at once but leaves it to the system when it reaches
// the disk: it survives the death of the process, not that of the machine.
func writeQuick(path string, content []byte) error {
	if err := os.WriteFile(path+temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+temporary, path)
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncFolders makes renames and removals last.
func syncFolders(files []file) error {
	done := map[string]bool{}
	for _, f := range files {
		folder := filepath.Dir(f.path)
		if done[folder] {
			continue
		}
		done[folder] = true
		if err := syncFolder(folder); err != nil {
			return fmt.Errorf("cannot persist a definition: %w", err)
		}
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readFolder decodes each definition of a folder by read, which returns the ID
// in it. What cannot be read is named in the log and left as it is. The names
// that such files have, or should have, are returned.
func (s *store) readFolder(folder string, read func(content []byte) (id string, err error)) (damaged []string, err error) {
	entries, err := os.ReadDir(filepath.Join(s.folder, folder))
	if err != nil {
		return nil, fmt.Errorf("cannot read persisted definitions: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(s.folder, folder, entry.Name())
		if entry.IsDir() {
			continue
		}
		if strings.HasSuffix(path, temporary) {
			s.logger.Warn(logTemporary, "file", path, "error", os.Remove(path))
			continue
		}
		id, err := s.readFile(folder, path, read)
		if err == nil {
			continue
		}
		s.logger.Error(logDamagedFile, "file", path, "error", err)
		damaged = append(damaged, entry.Name())
		if id != "" {
			name, _ := fileNames(id)
			damaged = append(damaged, name)
		}
	}
	return damaged, nil
}

// readFile decodes one definition and returns its ID as far as that is known. A
// file that is named by the older hash of its ID gets its present name.
func (s *store) readFile(folder, path string, read func([]byte) (string, error)) (id string, err error) {
	content, err := readLimited(path, MaxFileSize)
	if err != nil {
		return "", err
	}
	if id, err = read(content); err != nil {
		return id, err
	}
	want := s.path(folder, id)
	if path == want {
		return id, nil
	}
	if _, old := fileNames(id); filepath.Base(path) != old {
		return id, fmt.Errorf("it holds %q, which does not belong into a file of this name", id)
	}
	return id, os.Rename(path, want)
}

// readLimited reads a file that has at most limit bytes.
func readLimited(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return content, nil
}

// purge removes definitions that are of no more use.
func (s *store) purge(folder, id, why string) {
	if s.folder == "" {
		return
	}
	path := s.path(folder, id)
	if err := os.Remove(path); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.logger.Error(logDamagedFile, "file", path, "error", err)
		}
		return
	}
	s.logger.Info(logPurged, "file", path, "id", id, "reason", why)
}
