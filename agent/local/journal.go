package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// journalFile holds the edit that is under way, below the data directory, if it
// replaces several files. An agent that ends in the middle of it finds the file
// at its next start and carries the edit out to its end, so that a service never
// comes back with the checks of another registration.
const journalFile = "definitions.edit"

// journaled is a file of an edit, as the journal holds it.
type journaled struct {
	Path    string // below the data directory
	Content []byte // null to remove the file
}

// needsJournal reports whether an edit that is cut short could leave a state
// that nobody asked for. New files alone cannot: a check without its service,
// which comes last, is dropped. Nor can removals, where the service goes first.
func (e *edit) needsJournal() bool {
	writes, replaces := false, false
	for _, f := range e.files {
		_, err := os.Lstat(f.path)
		replaces = replaces || !errors.Is(err, fs.ErrNotExist)
		writes = writes || f.content != nil
	}
	return len(e.files) > 1 && writes && replaces
}

// begin writes the journal. Once it has returned, the edit will be carried out
// whatever happens to this process.
func (s *store) begin(e *edit) error {
	var all []journaled
	for _, f := range e.files {
		path, err := filepath.Rel(s.folder, f.path)
		if err != nil {
			return err
		}
		all = append(all, journaled{path, f.content})
	}
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if len(content) > MaxJournalSize {
		return tooLarge("the definitions of one registration have %d bytes, the limit is %d", len(content), MaxJournalSize)
	}
	path := filepath.Join(s.folder, journalFile)
	s.stale = true
	if err := writeSynced(path+temporary, content); err != nil {
		return errors.Join(fmt.Errorf("cannot persist a definition: %w", err), os.Remove(path+temporary))
	}
	if err := os.Rename(path+temporary, path); err != nil {
		return errors.Join(fmt.Errorf("cannot persist a definition: %w", err), os.Remove(path+temporary))
	}
	return syncFolder(s.folder)
}

// end removes the journal, for good: brought back by a crash later on, it would
// undo what was written since.
func (s *store) end() error {
	err := os.Remove(filepath.Join(s.folder, journalFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = syncFolder(s.folder)
	}
	s.stale = err != nil
	if err != nil {
		return fmt.Errorf("cannot persist a definition: %w", err)
	}
	return nil
}

// finish carries out an edit that was under way when the agent ended, if there
// was one.
func (s *store) finish() error {
	path := filepath.Join(s.folder, journalFile)
	if err := os.Remove(path + temporary); err == nil {
		s.logger.Warn(logTemporary, "file", path+temporary)
	}
	content, err := readLimited(path, MaxJournalSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot finish a registration that was under way: %w", err)
	}
	e, err := s.decodeJournal(content)
	if err != nil {
		return fmt.Errorf("cannot finish a registration that was under way: %s: %w; move the file away to start without it", path, err)
	}
	s.logger.Warn(logFinished, "file", path)
	if err := s.carryOut(e); err != nil {
		return err
	}
	return s.end()
}

// decodeJournal reads a journal. Its files are below the data directory.
func (s *store) decodeJournal(content []byte) (*edit, error) {
	var all []journaled
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, err
	}
	e := &edit{}
	for _, j := range all {
		if !filepath.IsLocal(j.Path) {
			return nil, fmt.Errorf("it names a file outside of the data directory, %q", j.Path)
		}
		e.files = append(e.files, file{filepath.Join(s.folder, j.Path), j.Content})
	}
	return e, nil
}
