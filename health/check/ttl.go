package check

import (
	"strings"
	"sync"
	"time"

	"github.com/muster-sd/muster/health"
)

// Texts of a TTL check that nobody updated in time.
const (
	ttlExpired       = "TTL expired"
	ttlExpiredOutput = ttlExpired + " (last output before timeout follows): "
)

// ttl turns critical when nobody has updated it for its time to live.
type ttl struct {
	life   time.Duration
	limit  int
	notify func(health.Status, string)

	mu      sync.Mutex // held while notify is called, so that stop waits for it
	last    string
	timer   *time.Timer
	round   int // counts updates: an expiry of an earlier round comes too late
	stopped bool
	// updated is when it was last updated, and expires when it turns critical;
	// zero after it has.
	updated, expires time.Time
}

func startTTL(life time.Duration, limit int, o Options) *ttl {
	t := &ttl{life: life, limit: limit, notify: o.Notify, last: o.Output}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rearm()
	return t
}

// rearm begins the time to live anew. The lock is held.
func (t *ttl) rearm() {
	if t.timer != nil {
		t.timer.Stop()
	}
	t.round++
	t.expires = time.Now().Add(t.life)
	round := t.round
	t.timer = time.AfterFunc(t.life, func() { t.expire(round) })
}

func (t *ttl) expire(round int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || round != t.round {
		return
	}
	t.expires = time.Time{}
	t.notify(health.Critical, expiredText(t.last))
}

func (t *ttl) schedule() (last, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.updated, t.expires
}

func (t *ttl) update(status health.Status, output string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	t.last, t.updated = head(output, t.limit), time.Now()
	t.rearm()
	t.notify(status, t.last)
	return true
}

func (t *ttl) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.timer.Stop()
}

// expiredText is the output of a check that expired after it said last. A check
// that had expired before it was registered anew does not quote itself.
func expiredText(last string) string {
	switch {
	case last == "":
		return ttlExpired
	case strings.HasPrefix(last, ttlExpired):
		return last
	default:
		return ttlExpiredOutput + last
	}
}
