package consensus

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Fault says why the disk under the log does not serve: a call into a store
// failed, or has not returned for longer than HangLimit.
type Fault struct {
	// Call is what was tried, in words.
	Call string
	// Path is the file that it was tried on.
	Path string
	// Err is why it failed, and nil if it hangs.
	Err error
	// Age is for how long it has not returned, if it hangs.
	Age time.Duration
}

// Error names the call, and why it failed or for how long it hangs.
func (f *Fault) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("the disk hangs: %s in %s has not returned for %v", f.Call, f.Path, f.Age.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("the disk fails: %s in %s: %v", f.Call, f.Path, f.Err)
}

// Unwrap returns why the call failed.
func (f *Fault) Unwrap() error { return f.Err }

// storeCall is a call into a store.
type storeCall struct {
	verb        string
	first, last uint64 // the entries it is about, if any
	key         string // or the key
	began       time.Time

	// Its neighbours among the calls under way.
	before, after *storeCall
}

// String says in words what the call does.
func (c *storeCall) String() string {
	switch {
	case c.key != "":
		return c.verb + " " + c.key
	case c.first == 0:
		return c.verb
	case c.first == c.last:
		return fmt.Sprintf("%s entry %d", c.verb, c.first)
	}
	return fmt.Sprintf("%s entries %d to %d", c.verb, c.first, c.last)
}

// diskWatch knows the calls into the stores that are under way, and notices
// when the oldest of them gets older than HangLimit.
type diskWatch struct {
	path string
	// hung is the oldest call while it is older than HangLimit, else nil.
	hung atomic.Pointer[storeCall]
	// news has something in it after hung became nil, or not nil.
	news chan struct{}

	mu             sync.Mutex
	oldest, newest *storeCall // of the calls under way
	timer          *time.Timer
	armed          bool // whether the timer will fire
}

func newDiskWatch(path string) *diskWatch {
	return &diskWatch{path: path, news: make(chan struct{}, 1)}
}

// begin notes that a call begins. What it returns is given to end.
func (w *diskWatch) begin(call storeCall) *storeCall {
	call.began = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arm(HangLimit)
	call.before, call.after = w.newest, nil
	if w.newest == nil {
		w.oldest = &call
	} else {
		w.newest.after = &call
	}
	w.newest = &call
	return &call
}

// end notes that a call has returned.
func (w *diskWatch) end(call *storeCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if call.before == nil {
		w.oldest = call.after
	} else {
		call.before.after = call.after
	}
	if call.after == nil {
		w.newest = call.before
	} else {
		call.after.before = call.before
	}
	if call == w.hung.Load() {
		w.judge()
	}
}

// arm makes the timer fire after a while, unless it will fire already: then it
// is armed again for what is left of the limit. So a timer is set once in
// HangLimit at most, however many calls there are.
func (w *diskWatch) arm(after time.Duration) {
	switch {
	case w.armed:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(after, w.look)
	default:
		w.timer.Reset(after)
	}
	w.armed = true
}

// look is what the timer calls.
func (w *diskWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.judge()
}

// judge decides whether the oldest call hangs. The caller holds the lock.
func (w *diskWatch) judge() {
	var hung *storeCall
	if w.oldest != nil {
		if left := HangLimit - time.Since(w.oldest.began); left > 0 {
			w.arm(left)
		} else {
			hung = w.oldest
		}
	}
	before := w.hung.Swap(hung)
	if (before == nil) == (hung == nil) {
		return
	}
	w.tell()
}

// tell says that there is news.
func (w *diskWatch) tell() {
	select {
	case w.news <- struct{}{}:
	default: // nobody has looked at the news before
	}
}

// close stops looking.
func (w *diskWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = true // and never again
	if w.timer != nil {
		w.timer.Stop()
	}
}

// hanging returns the fault of a call that hangs, or nil.
func (w *diskWatch) hanging() *Fault {
	call := w.hung.Load()
	if call == nil {
		return nil
	}
	return &Fault{Call: call.String(), Path: w.path, Age: time.Since(call.began)}
}

// failing is the fault of a call that failed.
func (w *diskWatch) failing(call storeCall, err error) *Fault {
	return &Fault{Call: call.String(), Path: w.path, Err: err}
}

// serves reports whether a leader can go on with its disk: nothing hangs, and
// the last entries were stored. After a failure Raft answers first, and steps
// down then.
func (s *stores) serves() bool { return s.watch.hung.Load() == nil && s.entries.fault.Load() == nil }

// halted returns why Raft waits for the disk, or nil.
func (s *stores) halted() *Fault {
	if hanging := s.watch.hanging(); hanging != nil {
		return hanging
	}
	return s.entries.stuck.Load()
}

// Fault returns why the disk under the log does not serve, or nil. While it is
// not nil, this server does not lead, or is about to lose its leadership. A
// failure counts until something is stored again.
func (n *Node) Fault() *Fault {
	s := n.stores
	if halted := s.halted(); halted != nil {
		return halted
	}
	if failing := s.votes.fault.Load(); failing != nil {
		return failing
	}
	return s.entries.fault.Load()
}

// because adds to an error why the disk does not serve, if that is so.
func (n *Node) because(err error) error {
	var fault *Fault
	if errors.As(err, &fault) {
		return err
	}
	if fault = n.Fault(); fault == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, fault)
}
