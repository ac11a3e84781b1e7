package consensus

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// watchedLog is a log store whose calls are watched. Its errors go to Raft, so
// that a leader that cannot store steps down. Where Raft would then believe in
// something that is not stored, it tries again until it can.
type watchedLog struct {
	store  raft.LogStore
	watch  *diskWatch
	logger hclog.Logger
	// fault is why entries were not stored the last time, or nil.
	fault atomic.Pointer[Fault]
	// stuck is the same while it is tried again, and Raft waits.
	stuck atomic.Pointer[Fault]
	// cutting is set between cutting off the end of the log, and storing what
	// comes in its place.
	cutting atomic.Bool

	ending <-chan struct{} // closed when there is no use in trying any more
	gaveUp func()          // called when a goroutine of Raft is ended for that

	configurations configurations
}

var _ raft.LogStore = (*watchedLog)(nil)

// configurations knows which entries of the log are configurations: the last
// one, and the one before, to which Raft goes back if the last is cut off.
type configurations struct {
	mu           sync.Mutex
	last, before uint64
}

// add notes that an entry holds the configuration.
func (c *configurations) add(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index > c.last {
		c.last, c.before = index, c.last
	}
}

// cut notes that entries are gone, from an index on.
func (c *configurations) cut(from uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last >= from {
		c.last = min(c.before, from-1)
		c.before = 0
	}
}

func (c *configurations) index() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// FirstIndex returns the index of the first entry.
func (s *watchedLog) FirstIndex() (uint64, error) {
	defer s.watch.end(s.watch.begin(storeCall{verb: "looking for the first entry"}))
	return s.store.FirstIndex()
}

// LastIndex returns the index of the last entry.
func (s *watchedLog) LastIndex() (uint64, error) {
	defer s.watch.end(s.watch.begin(storeCall{verb: "looking for the last entry"}))
	return s.store.LastIndex()
}

// GetLog reads an entry.
func (s *watchedLog) GetLog(index uint64, log *raft.Log) error {
	defer s.watch.end(s.watch.begin(storeCall{verb: "reading", first: index, last: index}))
	return s.store.GetLog(index, log)
}

// StoreLog stores an entry.
func (s *watchedLog) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs stores entries that follow the last one that was stored.
//
// Raft takes a leader's new configuration for its own whether this succeeds or
// not; and after the end of the log was cut off, it believes in the last entry of
// before until other entries are stored. So in these two cases it is tried
// again until it succeeds: Raft waits, and the server neither leads nor votes.
func (s *watchedLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	call := storeCall{verb: "storing", first: logs[0].Index, last: logs[len(logs)-1].Index}
	var err error
	if s.cutting.Load() || logs[0].Type == raft.LogConfiguration {
		s.insist(call, func() error { return s.try(call, logs) })
	} else {
		err = s.try(call, logs)
	}
	if err != nil {
		return err
	}
	s.cutting.Store(false)
	for _, log := range logs {
		if log.Type == raft.LogConfiguration {
			s.configurations.add(log.Index)
		}
	}
	return nil
}

// try stores entries once.
func (s *watchedLog) try(call storeCall, logs []*raft.Log) error {
	defer s.watch.end(s.watch.begin(call))
	var err error
	failed := s.fault.Load() != nil
	if failed {
		err = s.cut(logs[0].Index)
	}
	if err == nil {
		err = s.store.StoreLogs(logs)
	}
	switch {
	case err != nil:
		s.fault.Store(s.watch.failing(call, err))
	case failed:
		s.fault.Store(nil)
	}
	return err
}

// insist calls try until it succeeds, or the node stops: then it ends the
// goroutine of Raft that called it, as [watchedStable.insist] does.
func (s *watchedLog) insist(call storeCall, try func() error) {
	for {
		err := try()
		if err == nil {
			if s.stuck.Swap(nil) != nil {
				s.logger.Info("the disk serves again", "path", s.watch.path)
				s.watch.tell()
			}
			return
		}
		if s.stuck.Swap(s.watch.failing(call, err)) == nil {
			s.logger.Error("the disk fails, and what it was to store cannot be given up; this server tries again until it can",
				"path", s.watch.path, "call", call.String(), "error", err)
			s.watch.tell()
		}
		timer := time.NewTimer(storeRetry)
		select {
		case <-timer.C:
		case <-s.ending:
			timer.Stop()
			s.gaveUp()
			runtime.Goexit()
		}
	}
}

// cut removes the entries from an index on. A commit that failed in its last
// step, the sync, may have stored its entries all the same. Raft knows nothing
// of them, and overwrites them one by one: after a crash in between, what is
// left of them would follow an entry of a later term.
func (s *watchedLog) cut(from uint64) error {
	last, err := s.store.LastIndex()
	if err != nil || last < from {
		return err
	}
	return s.store.DeleteRange(from, last)
}

// DeleteRange removes entries. The end of the log is removed to be replaced,
// and Raft does not see whether a failed attempt has removed it; so that is
// tried again until it succeeds.
func (s *watchedLog) DeleteRange(first, last uint64) error {
	call := storeCall{verb: "removing", first: first, last: last}
	try := func() error {
		defer s.watch.end(s.watch.begin(call))
		return s.store.DeleteRange(first, last)
	}
	end, err := s.LastIndex()
	if err != nil {
		return err
	}
	if last < end {
		return try()
	}
	s.insist(call, try)
	s.cutting.Store(true)
	s.configurations.cut(first)
	return nil
}

// watchedStable is a stable store that does not fail to store: it tries again
// until it can. Raft panics when it cannot store a term; and to say that a vote
// is stored when it is not could elect two leaders.
type watchedStable struct {
	store  raft.StableStore
	watch  *diskWatch
	logger hclog.Logger
	// fault is why the value now being stored could not be stored so far, or
	// nil.
	fault atomic.Pointer[Fault]
	// begun is set by the first call that stores.
	begun atomic.Bool

	ending   chan struct{} // closed when there is no use in trying any more
	gaveUp   chan struct{} // closed when a goroutine of Raft was ended for that
	giveUp   sync.Once
	complain sync.Mutex
	last     time.Time // of the last complaint; guarded by complain
}

var _ raft.StableStore = (*watchedStable)(nil)

func newWatchedStable(store raft.StableStore, watch *diskWatch, logger hclog.Logger) *watchedStable {
	return &watchedStable{
		store: store, watch: watch, logger: logger,
		ending: make(chan struct{}), gaveUp: make(chan struct{}),
	}
}

// Get reads a value. Errors go to Raft as they are: it compares the text of one
// of them, and gives no vote after any other.
func (s *watchedStable) Get(key []byte) ([]byte, error) {
	defer s.watch.end(s.watch.begin(storeCall{verb: "reading", key: string(key)}))
	return s.store.Get(key)
}

// GetUint64 reads a number, like Get.
func (s *watchedStable) GetUint64(key []byte) (uint64, error) {
	defer s.watch.end(s.watch.begin(storeCall{verb: "reading", key: string(key)}))
	return s.store.GetUint64(key)
}

// Set stores a value, however long that takes.
func (s *watchedStable) Set(key, value []byte) error {
	s.begun.Store(true)
	return s.insist(string(key), func() error { return s.store.Set(key, value) })
}

// SetUint64 stores a number, however long that takes.
func (s *watchedStable) SetUint64(key []byte, value uint64) error {
	if s.begun.CompareAndSwap(false, true) {
		// The first is Raft's, on opening: the term that it has just read. A
		// server must be able to start on a full disk, so what is there is
		// not written again.
		stored, err := s.store.GetUint64(key)
		if err == nil && stored == value {
			return nil
		}
	}
	return s.insist(string(key), func() error { return s.store.SetUint64(key, value) })
}

// insist calls write until it succeeds. When there is no use in it any more,
// because the node stops, it ends the goroutine that called it, with all that is
// deferred there: every other answer would make Raft panic, or be a lie.
func (s *watchedStable) insist(key string, write func() error) error {
	call := storeCall{verb: "storing", key: key}
	began := time.Now()
	for {
		place := s.watch.begin(call)
		err := write()
		s.watch.end(place)
		if err == nil {
			if s.fault.Swap(nil) != nil {
				s.logger.Info("the disk serves again", "path", s.watch.path, "after", time.Since(began))
			}
			return nil
		}
		s.fault.Store(s.watch.failing(call, err))
		s.report(key, err)
		timer := time.NewTimer(storeRetry)
		select {
		case <-timer.C:
		case <-s.ending:
			timer.Stop()
			s.giveUpNow()
			runtime.Goexit()
		}
	}
}

// giveUpNow notes that a goroutine of Raft is ended.
func (s *watchedStable) giveUpNow() { s.giveUp.Do(func() { close(s.gaveUp) }) }

// report logs a failure, unless it has just logged one.
func (s *watchedStable) report(key string, err error) {
	s.complain.Lock()
	defer s.complain.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < complaintPause {
		return
	}
	s.last = time.Now()
	s.logger.Error("the disk fails, so this server cannot stand for election; it tries again until it can",
		"path", s.watch.path, "key", key, "error", err)
}
