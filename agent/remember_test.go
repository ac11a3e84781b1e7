package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// tellingLookup answers as servers do, with what the test sets.
type tellingLookup struct {
	mu      sync.Mutex
	asked   int
	index   uint64
	entries map[string]int // how many instances a service has
	contact time.Duration  // since when the server has heard nothing of the leader
	err     error          // while no server can be reached
	changed chan struct{}  // closed when one of these changed
}

func (l *tellingLookup) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.index++
	close(l.changed)
	l.changed = make(chan struct{})
}

// times is how often it was asked.
func (l *tellingLookup) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// heldAnswers is how many answers are remembered.
func heldAnswers(r *remembering) int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

func (l *tellingLookup) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	timer := time.NewTimer(o.Wait)
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	for o.Index > 0 && l.err == nil && l.index <= o.Index {
		changed := l.changed
		l.mu.Unlock()
		late := false
		select {
		case <-changed:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			l.mu.Lock()
			return nil, mvcc.Meta{}, ctx.Err()
		}
		l.mu.Lock()
		if late {
			break
		}
	}
	if o.MaxStale > 0 && l.contact > o.MaxStale && l.err == nil {
		return nil, mvcc.Meta{}, &mvcc.Error{Code: mvcc.NoLeader, Text: "the server knows no leader"}
	}
	return make([]health.Entry, l.entries[q.Service]), mvcc.Meta{Index: l.index, KnownLeader: l.contact == 0, LastContact: l.contact, Mode: mvcc.Stale}, l.err
}

func (l *tellingLookup) Node(context.Context, mvcc.ReadOptions, *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error) {
	return nil, mvcc.Meta{Index: 1}, nil
}

func (l *tellingLookup) Address(context.Context, mvcc.ReadOptions, *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error) {
	return nil, mvcc.Meta{Index: 1}, nil
}

// remember runs a test with what a client agent remembers of some services.
func remember(t *testing.T, test func(t *testing.T, l *tellingLookup, r *remembering)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &tellingLookup{index: 1, entries: map[string]int{"web": 1}, changed: make(chan struct{})}
		test(t, l, newRemembering(ctx, l))
		cancel()
		synctest.Wait()
	})
}

// recalls asks for a service and returns how many instances it has.
func recalls(t *testing.T, r *remembering, service string, most time.Duration) (int, mvcc.Meta, error) {
	t.Helper()
	synctest.Wait()
	e, meta, err := r.Service(t.Context(), mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: most}, &health.ServiceQuery{Service: service})
	return len(e), meta, err
}

func TestRememberedAnswersFollowChanges(t *testing.T) {
	remember(t, func(t *testing.T, l *tellingLookup, r *remembering) {
		for i := range 5 {
			l.set(func() { l.entries["web"] = i })
			for range 10 {
				if n, meta, err := recalls(t, r, "web", 0); n != i || err != nil || !meta.KnownLeader {
					t.Errorf("it has %d instances, want %d: %+v %v", n, i, meta, err)
				}
			}
		}
		if asked := l.times(); asked > 10 {
			t.Errorf("the servers were asked %d times", asked)
		}
		// What nobody asks for is forgotten.
		time.Sleep(rememberFor + rememberWait + time.Second)
		synctest.Wait()
		if heldAnswers(r) != 0 {
			t.Errorf("%d answers are kept", heldAnswers(r))
		}
	})
}

func TestRememberedAnswersOutliveTheServers(t *testing.T) {
	remember(t, func(t *testing.T, l *tellingLookup, r *remembering) {
		if n, _, err := recalls(t, r, "web", time.Hour); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		l.set(func() { l.err = &mvcc.Error{Code: mvcc.NoLeader, Text: "none"} })
		time.Sleep(time.Minute)
		if n, meta, err := recalls(t, r, "web", time.Hour); n != 1 || err != nil || meta.KnownLeader || meta.LastContact < time.Minute {
			t.Errorf("after a minute: %d %+v %v", n, meta, err)
		}
		if n, _, err := recalls(t, r, "new", time.Hour); mvcc.CodeOf(err) != mvcc.NoLeader {
			t.Errorf("what was never asked for: %d %v", n, err)
		}
		if _, _, err := recalls(t, r, "web", 30*time.Second); mvcc.CodeOf(err) != mvcc.NoLeader || !strings.Contains(err.Error(), "1m0s old") {
			t.Errorf("after a minute, when half of it is the limit: %v", err)
		}
		l.set(func() { l.err, l.entries["web"] = nil, 2 })
		time.Sleep(2 * rememberRetry)
		if n, meta, err := recalls(t, r, "web", time.Hour); n != 2 || err != nil || !meta.KnownLeader {
			t.Errorf("when they are back: %d %+v %v", n, meta, err)
		}
	})
}

// A server that hears nothing of changes any more is no proof that there are none.
func TestRememberedAnswersKeepTheirBound(t *testing.T) {
	const most = 10 * time.Second
	remember(t, func(t *testing.T, l *tellingLookup, r *remembering) {
		for range 100 {
			time.Sleep(time.Second)
			if n, _, err := recalls(t, r, "web", most); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if asked := l.times(); asked > 100/5+5 {
			t.Errorf("the servers were asked %d times in 100 s", asked)
		}
		// The leader goes, and the server that is waited for says nothing of that.
		l.mu.Lock()
		l.contact = time.Hour
		l.mu.Unlock()
		failed := -1
		for i := range 20 {
			time.Sleep(time.Second)
			if _, _, err := recalls(t, r, "web", most); mvcc.CodeOf(err) == mvcc.NoLeader {
				failed = i
				break
			}
		}
		if failed < 0 || time.Duration(failed)*time.Second > most {
			t.Errorf("it answered from the past for %d s", failed)
		}
		// Where no bound is asked for, there is none.
		if n, meta, err := recalls(t, r, "web", 0); n != 1 || err != nil || meta.KnownLeader {
			t.Errorf("without a bound: %d %+v %v", n, meta, err)
		}
	})
}

func TestRememberedAnswersAreBounded(t *testing.T) {
	remember(t, func(t *testing.T, l *tellingLookup, r *remembering) {
		for i := range maxRemembered + 10 {
			if _, _, err := recalls(t, r, fmt.Sprintf("no-%d", i), 0); err != nil {
				t.Fatal(err)
			}
		}
		if heldAnswers(r) != maxRemembered {
			t.Errorf("%d answers are kept, want %d", heldAnswers(r), maxRemembered)
		}
		time.Sleep(2*rememberNothing + time.Second)
		synctest.Wait()
		if heldAnswers(r) != 0 {
			t.Errorf("of what is not there, %d answers are kept", heldAnswers(r))
		}
		if _, _, err := recalls(t, r, strings.Repeat("x", maxMemoKey), 0); err != nil || heldAnswers(r) != 0 {
			t.Errorf("a name that is too long is kept, or not answered: %v", err)
		}
	})
}
