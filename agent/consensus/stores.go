package consensus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// logFile holds the log, the term and the vote.
	logFile = "raft.db"
	// newLogFile is a log file while it is made: it gets its name only when
	// it is whole, so that an empty or broken raft.db is never taken for a
	// fresh one.
	newLogFile = "raft.db.new"

	// recovery is what to do about data that cannot be used.
	recovery = "restore the data directory from a backup; or, if other servers hold the data, move the whole folder %s away and let this server join them anew"
)

// The keys under which Raft keeps its term and its vote in the stable store.
var (
	keyCurrentTerm  = []byte("CurrentTerm")
	keyLastVoteTerm = []byte("LastVoteTerm")
	keyLastVoteCand = []byte("LastVoteCand")
)

// stores is where a node keeps its data. This file and bolt.go alone know what
// they are made of.
type stores struct {
	dir       string
	log       raft.LogStore
	stable    raft.StableStore
	snapshots *newestSnapshot
	file      io.Closer
	faults    Faults
	fresh     *freshness
	bolt      *boltStore // what all is stored in, nil in memory
	looked    *look      // what was found in the log, nil when it is out of date

	watch   *diskWatch
	entries *watchedLog    // under log
	votes   *watchedStable // what stable is
	room    *room
}

// close closes the stores, when Raft uses them no more.
func (s *stores) close() error {
	s.watch.close()
	return s.file.Close()
}

// release gives back what is mapped of the log.
func (s *stores) release() {
	if s.bolt != nil {
		s.bolt.release()
	}
}

// openStores opens the stores of a folder, or of memory if cfg.Dir is empty.
func openStores(cfg Config, logger hclog.Logger) (*stores, error) {
	dir := cfg.Dir
	if dir == "" {
		return memoryStores(cfg, logger), nil
	}
	// What is agreed on may be secret: nobody else reads it.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the Raft folder: %w", err)
	}
	db, looked, err := openLog(dir, cfg.CheckEntry)
	if err != nil {
		return nil, err
	}
	s, err := assemble(cfg, db, looked, logger)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// memoryStores returns stores that are forgotten.
func memoryStores(cfg Config, logger hclog.Logger) *stores {
	memory := raft.NewInmemStore()
	fresh, _ := readFreshness("")
	s := &stores{
		file: io.NopCloser(nil), faults: cfg.Faults, fresh: fresh,
		snapshots: &newestSnapshot{SnapshotStore: raft.NewInmemSnapshotStore()},
	}
	s.watchOver(memory, memory, "memory", cfg.faults, logger)
	s.log, s.stable = s.entries, s.votes
	s.snapshots.configured = s.entries.configurations.add
	return s
}

// watchOver puts the watched stores on top of those given.
func (s *stores) watchOver(log raft.LogStore, stable raft.StableStore, path string, f faults, logger hclog.Logger) {
	if f.log != nil {
		log = f.log(log)
	}
	if f.stable != nil {
		stable = f.stable(stable)
	}
	if s.faults.Log != nil {
		log = &faultyLog{log, s.faults.Log}
	}
	if s.faults.Stable != nil {
		stable = &faultyStable{stable, s.faults.Stable}
	}
	s.watch = newDiskWatch(path)
	s.votes = newWatchedStable(stable, s.watch, logger)
	s.entries = &watchedLog{store: log, watch: s.watch, logger: logger, ending: s.votes.ending, gaveUp: s.votes.giveUpNow}
}

// assemble puts together the stores of a folder whose log is open, and checks
// that they fit.
func assemble(cfg Config, db *boltStore, looked *look, logger hclog.Logger) (*stores, error) {
	dir := cfg.Dir
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, RetainedSnapshots, logger)
	if err != nil {
		return nil, fmt.Errorf("cannot use the snapshot folder %s: %w", filepath.Join(dir, snapshotFolder), err)
	}
	// Raft syncs what is in the snapshot folder, but not the folder's own name.
	if err := syncFolder(dir); err != nil {
		return nil, fmt.Errorf("cannot sync the Raft folder: %w", err)
	}
	free := &room{server: cfg.Name, dir: dir, reserve: cfg.Reserve, look: lookAtSpace}
	if cfg.faults.space != nil {
		free.look = cfg.faults.space
	}
	fresh, err := readFreshness(dir)
	if err != nil {
		return nil, err
	}
	s := &stores{dir: dir, file: db, bolt: db, looked: looked, room: free, faults: cfg.Faults, fresh: fresh, snapshots: &newestSnapshot{
		SnapshotStore: &tidySnapshots{SnapshotStore: files, dir: dir, room: free},
	}}
	s.watchOver(db, db, filepath.Join(dir, logFile), cfg.faults, logger)
	if s.log, err = raft.NewLogCache(cachedEntries, s.entries); err != nil {
		return nil, err
	}
	s.stable = db // only Raft's own writes are repeated
	newest, err := checkSnapshots(dir, logger)
	if err != nil {
		return nil, err
	}
	if _, meta, err := newestMeta(dir); err == nil && meta != nil {
		s.entries.configurations.add(meta.ConfigurationIndex)
	}
	s.snapshots.configured = s.entries.configurations.add
	if err := s.checkHistory(newest); err != nil {
		return nil, err
	}
	for _, index := range looked.configurations {
		s.entries.configurations.add(index)
	}
	if err := s.undoHalfBootstrap(); err != nil {
		return nil, err
	}
	if err := s.finishBootstrap(); err != nil {
		return nil, err
	}
	s.stable = s.votes
	return s, nil
}

// openLog opens the log file of a folder, and makes it in an empty one. What is
// in it was looked through then.
func openLog(dir string, check func([]byte) error) (*boltStore, *look, error) {
	path := filepath.Join(dir, logFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := makeLog(dir); err != nil {
			return nil, nil, err
		}
	case err != nil:
		return nil, nil, fmt.Errorf("cannot open the Raft log: %w", err)
	case info.Size() == 0:
		return nil, nil, damaged(path, dir, errors.New("the file is empty"))
	}
	looked, err := checkLog(path, dir, check)
	if err != nil {
		return nil, nil, err
	}
	db, err := openBolt(path, dir, false)
	return db, looked, err
}

// makeLog makes an empty log file, if nothing else is stored that it belonged
// to.
func makeLog(dir string) error {
	path, unfinished := filepath.Join(dir, logFile), filepath.Join(dir, newLogFile)
	names, err := snapshotNames(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return damaged(path, dir, fmt.Errorf("the file is missing, but there are snapshots (%s)", names[0].text))
	}
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove a half-made Raft log: %w", err)
	}
	db, err := openBolt(unfinished, dir, false)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("cannot make the Raft log: %w", err)
	}
	// The mark is there before the log is: without a memory, no vote.
	if err := markFresh(dir); err != nil {
		return fmt.Errorf("cannot mark a fresh server: %w", err)
	}
	if err := os.Rename(unfinished, path); err != nil {
		return fmt.Errorf("cannot make the Raft log: %w", err)
	}
	return syncFolder(dir)
}

// boltOptions are those of every opening of the log.
func boltOptions(readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout: LockTimeout, // its zero waits for ever
		// The list of free pages grows with the file, and would be written on
		// every commit. It is found again when the file is opened.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		ReadOnly:       readOnly,
	}
}

// openBolt opens the log file. Every commit is synced to disk.
func openBolt(path, dir string, readOnly bool) (db *boltStore, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			db, err = nil, damaged(path, dir, fmt.Errorf("%v", cause))
		}
	}()
	db, err = newBoltStore(path, boltOptions(readOnly))
	if err != nil {
		return nil, boltError(path, dir, err)
	}
	return db, nil
}

// checkLog reads the whole structure of the log file before bolt does: bolt
// panics in a goroutine of its own, or runs into memory that is not there, when
// a page is not what it should be. In the same pass it looks through the entries
// after the newest snapshot.
func checkLog(path, dir string, check func([]byte) error) (_ *look, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = damaged(path, dir, fmt.Errorf("%v", cause))
		}
	}()
	// Opened for reading, bolt locks the file and looks at no more than its
	// head.
	lock, err := bbolt.Open(path, 0o600, boltOptions(true))
	if err != nil {
		return nil, boltError(path, dir, err)
	}
	defer lock.Close()
	names, err := snapshotNames(dir)
	if err != nil {
		return nil, err
	}
	var newest snapshotName
	if len(names) > 0 {
		newest = names[0]
	}
	looked := newLook(newest.index+1, check)
	if err := looked.finish(checkPages(path, lock.Info().PageSize, looked.entry)); err != nil {
		return nil, damaged(path, dir, err)
	}
	return looked, nil
}

// boltError says what an error of opening the log file means.
func boltError(path, dir string, err error) error {
	var pathError *os.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: cannot lock %s within %v: another process has it open; stop that process, or use another data directory", ErrLocked, path, LockTimeout)
	case errors.As(err, &pathError):
		return fmt.Errorf("cannot open the Raft log: %w", err)
	}
	return damaged(path, dir, err)
}

// damaged is the error about a file that cannot be used.
func damaged(path, dir string, cause error) error {
	return fmt.Errorf("%w: %s: %w; "+recovery, ErrDamaged, path, cause, dir)
}

// damage is the error about the log file.
func (s *stores) damage(cause error) error {
	return damaged(filepath.Join(s.dir, logFile), s.dir, cause)
}

// snapshotDamage is the error about the newest snapshot.
func (s *stores) snapshotDamage(cause error) error {
	return damaged(filepath.Join(s.dir, snapshotFolder, s.snapshots.opened), s.dir, cause)
}

// checkHistory checks that snapshot and log are of one history without a gap:
// every entry after the snapshot is there, and the term is known.
func (s *stores) checkHistory(newest snapshotName) error {
	first, err := s.log.FirstIndex()
	if err != nil {
		return s.damage(err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return s.damage(err)
	}
	term, err := s.stable.GetUint64(keyCurrentTerm)
	if err != nil && !isNotFound(err) {
		return s.damage(err)
	}
	needed := newest.term
	if last > 0 {
		var entry raft.Log
		if err := s.log.GetLog(last, &entry); err != nil {
			return s.damage(fmt.Errorf("entry %d, the last one, cannot be read: %w", last, err))
		}
		needed = max(needed, entry.Term)
	}
	switch {
	case term < needed:
		return s.damage(fmt.Errorf("it knows of term %d, but what is stored is of term %d", term, needed))
	case last > newest.index && first > newest.index+1 && newest.index == 0:
		return s.damage(fmt.Errorf("the log begins at entry %d, and there is no snapshot of what was before", first))
	case last > newest.index && first > newest.index+1:
		return s.damage(fmt.Errorf("the log begins at entry %d, and the newest snapshot, %s, ends at %d", first, newest.text, newest.index))
	}
	if last > newest.index && (s.looked.from != newest.index+1 || s.looked.last != last) {
		return s.damage(errNotLooked)
	}
	return nil
}

// undoHalfBootstrap makes a server fresh again whose bootstrap was cut short
// after it had stored the first term and before it had stored the first entry:
// Raft would then neither bootstrap nor elect. No vote was given in that term,
// so nothing is forgotten.
func (s *stores) undoHalfBootstrap() error {
	term, err := s.stable.GetUint64(keyCurrentTerm)
	if err != nil || term != 1 {
		return nil
	}
	_, err = s.stable.GetUint64(keyLastVoteTerm)
	if !isNotFound(err) {
		return nil
	}
	fresh, err := s.empty()
	if err != nil || !fresh {
		return err
	}
	return s.stable.SetUint64(keyCurrentTerm, 0)
}

// finishBootstrap removes the mark of a fresh server whose bootstrap was cut
// short before that: it has stored its first entry, but knows of no election. One
// that has its entries from a leader knows the leader's term, which is higher.
func (s *stores) finishBootstrap() error {
	term, err := s.stable.GetUint64(keyCurrentTerm)
	if err != nil || term != 1 {
		return nil
	}
	if last, err := s.log.LastIndex(); err != nil || last != 1 {
		return nil
	}
	if err := s.fresh.clear(); err != nil {
		return fmt.Errorf("cannot finish the bootstrap: %w", err)
	}
	return nil
}

// empty reports whether there is neither an entry nor a snapshot.
func (s *stores) empty() (bool, error) {
	last, err := s.log.LastIndex()
	if err != nil {
		return false, s.damage(err)
	}
	snapshots, err := s.snapshots.List()
	if err != nil {
		return false, fmt.Errorf("cannot list the snapshots: %w", err)
	}
	return last == 0 && len(snapshots) == 0, nil
}

// isNotFound reports whether a stable store has no such key. Raft looks at the
// text, so stores and their wrappers must hand that error on as it is.
func isNotFound(err error) bool { return err != nil && err.Error() == "not found" }

// newestSnapshot is a snapshot store that offers the newest snapshot alone:
// Raft would pass over one that it cannot open or restore, take the one before
// without a word, and start with a state from the past. It remembers the last
// snapshot that was opened, and why that failed.
type newestSnapshot struct {
	raft.SnapshotStore

	// configured, if it is not nil, is told which entry the configuration in a
	// finished snapshot is from.
	configured func(index uint64)

	mu      sync.Mutex
	opened  string
	openErr error
}

// List returns the newest snapshot, if there is one.
func (s *newestSnapshot) List() ([]*raft.SnapshotMeta, error) {
	snapshots, err := s.SnapshotStore.List()
	return snapshots[:min(1, len(snapshots))], err
}

// Open opens a snapshot whose checksum is right.
func (s *newestSnapshot) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, source, err := s.SnapshotStore.Open(id)
	s.mu.Lock()
	s.opened, s.openErr = id, err
	s.mu.Unlock()
	if err != nil {
		return meta, source, err
	}
	return meta, &indexedSource{source, meta.Index}, nil
}

// Create begins a snapshot. If it is a leader's, it brings the configuration.
func (s *newestSnapshot) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, transport)
	if err != nil || s.configured == nil {
		return sink, err
	}
	return &configuringSink{sink, func() { s.configured(configurationIndex) }}, nil
}

// configuringSink calls a function when the snapshot is finished.
type configuringSink struct {
	raft.SnapshotSink
	finished func()
}

// Close finishes the snapshot.
func (s *configuringSink) Close() error {
	err := s.SnapshotSink.Close()
	if err == nil {
		s.finished()
	}
	return err
}

// syncFolder makes a rename in a folder last.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
