package consensus

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A value is stored when the store says so, and not before.
func TestStableStoreInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, memory := new(disk), raft.NewInmemStore()
		var lines lines
		s := newWatchedStable(&diskStable{memory, d}, newDiskWatch("raft.db"), hclog.New(&hclog.LoggerOptions{Output: &lines}))
		d.fail(nil, errors.New("broken"))
		done := begin(func() error { return s.Set([]byte("vote"), []byte("a")) })
		time.Sleep(time.Minute) // of the bubble's time
		synctest.Wait()
		select {
		case o := <-done:
			t.Fatalf("Set returned %v", o.err)
		default:
		}
		if d.tries < 50 || d.tries > 130 {
			t.Errorf("it was tried %d times in a minute", d.tries)
		}
		if n := lines.count("the disk fails"); n < 1 || n > 7 {
			t.Errorf("it was said %d times in a minute", n)
		}
		d.fail(nil, nil)
		if o := <-done; o.err != nil {
			t.Errorf("Set: %v", o.err)
		}
		if value, err := memory.Get([]byte("vote")); string(value) != "a" || err != nil {
			t.Errorf("stored is %q, %v", value, err)
		}
	})
}

// lines counts lines of a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(data)
}

func (l *lines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), words)
}

// A goroutine that stores while the node ends is ended itself, with all that it
// has deferred, and is told nothing.
func TestStableStoreGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(disk)
		s := newWatchedStable(&diskStable{raft.NewInmemStore(), d}, newDiskWatch("raft.db"), hclog.NewNullLogger())
		d.fail(nil, errors.New("broken"))
		deferred := make(chan struct{})
		go func() {
			defer close(deferred)
			err := s.SetUint64([]byte("term"), 7)
			t.Errorf("SetUint64 returned %v", err)
		}()
		synctest.Wait()
		close(s.ending)
		<-deferred
		<-s.gaveUp
	})
}

// Raft knows a key that is not there by the text of the error.
func TestStableStoreHandsErrorsOn(t *testing.T) {
	s := newWatchedStable(raft.NewInmemStore(), newDiskWatch("raft.db"), hclog.NewNullLogger())
	_, bytesErr := s.Get([]byte("x"))
	_, numberErr := s.GetUint64([]byte("y"))
	for _, err := range []error{bytesErr, numberErr} {
		if err != nil && !isNotFound(err) {
			t.Errorf("got %v", err)
		}
	}
}

// The first call writes nothing if it would change nothing; later ones do.
func TestTermIsNotStoredAgainOnOpening(t *testing.T) {
	d, memory := new(disk), raft.NewInmemStore()
	if err := memory.SetUint64(keyCurrentTerm, 7); err != nil {
		t.Fatal(err)
	}
	s := newWatchedStable(&diskStable{memory, d}, newDiskWatch("raft.db"), hclog.NewNullLogger())
	for i, want := range []int{0, 1, 2} {
		if err := s.SetUint64(keyCurrentTerm, 7); err != nil || d.tries != want {
			t.Errorf("call %d: %v, stored %d times, want %d", i+1, err, d.tries, want)
		}
	}
}

// tearing is a log store that stores, and yet fails.
type tearing struct {
	raft.LogStore
	fail bool
}

func (s *tearing) StoreLogs(logs []*raft.Log) error {
	err := s.LogStore.StoreLogs(logs)
	if s.fail {
		return errors.New("cannot sync")
	}
	return err
}

// What a failed commit has stored all the same does not outlive the next one.
func TestFailedEntriesAreCutOff(t *testing.T) {
	entries := func(term, first, last uint64) (logs []*raft.Log) {
		for index := first; index <= last; index++ {
			logs = append(logs, &raft.Log{Index: index, Term: term})
		}
		return logs
	}
	memory := raft.NewInmemStore()
	torn := &tearing{LogStore: memory}
	s := &watchedLog{store: torn, watch: newDiskWatch("raft.db")}
	for _, step := range []struct {
		logs []*raft.Log
		fail bool
		last uint64
	}{
		{entries(1, 1, 4), false, 4},
		{entries(1, 5, 9), true, 9}, // Raft believes that the last is 4
		{entries(2, 5, 5), false, 5},
		{entries(2, 6, 8), true, 8},
		{entries(3, 6, 7), true, 7}, // cut, stored and failed again
		{entries(4, 6, 6), false, 6},
	} {
		torn.fail = step.fail
		err := s.StoreLogs(step.logs)
		if last, _ := s.LastIndex(); (err != nil) != step.fail || last != step.last || (s.fault.Load() != nil) != step.fail {
			t.Errorf("storing entries %d to %d: %v, the last entry is %d, want %d", step.logs[0].Index, step.logs[len(step.logs)-1].Index, err, last, step.last)
		}
	}
	var log raft.Log
	for index, term := range map[uint64]uint64{4: 1, 5: 2, 6: 4} {
		if err := s.GetLog(index, &log); err != nil || log.Term != term {
			t.Errorf("entry %d is of term %d, %v; want term %d", index, log.Term, err, term)
		}
	}
}

// The oldest call counts, in whatever order calls begin and end.
func TestOldestCallHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDiskWatch("raft.db")
		defer w.close()
		state := func() string {
			synctest.Wait()
			news := ""
			select {
			case <-w.news:
				news = "!"
			default:
			}
			if hanging := w.hanging(); hanging != nil {
				return hanging.Call + news
			}
			return news
		}
		is := func(when, want string) {
			t.Helper()
			if got := state(); got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		first := w.begin(storeCall{verb: "one"})
		time.Sleep(HangLimit / 2) // of the bubble's time
		second := w.begin(storeCall{verb: "two"})
		is("half the limit", "")
		time.Sleep(HangLimit / 2)
		is("the first at the limit", "one!")
		time.Sleep(HangLimit / 4)
		w.end(first)
		is("the first is done", "!")
		time.Sleep(HangLimit / 4)
		is("the second at the limit", "two!")
		third := w.begin(storeCall{verb: "three"})
		time.Sleep(HangLimit)
		is("the third too", "two")
		w.end(second)
		is("the second is done", "three")
		w.end(third)
		is("the third is done", "!")
		time.Sleep(HangLimit * 3)
		is("later", "")
	})
}

// BenchmarkWatch is what watching costs a call into a store.
func BenchmarkWatch(b *testing.B) {
	w := newDiskWatch("raft.db")
	defer w.close()
	b.ReportAllocs()
	for b.Loop() {
		w.end(w.begin(storeCall{verb: "storing", first: 1, last: 2}))
	}
}
