package agent

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Texts of requests that are too many. Clients look for them.
const (
	textRPCRate   = "RPC rate limit exceeded"
	textElsewhere = "rate limit exceeded, try again later or against a different server"
	textLater     = "rate limit exceeded for operation that can only be performed by the leader, try again later"
)

// bucket lets so many things happen in a second, and some more at once after a
// rest. The zero one lets everything happen.
type bucket struct {
	mu    sync.Mutex
	set   bool
	rate  float64 // a second; infinite if there is no limit
	burst float64
	left  float64
	at    time.Time
}

// limit changes how much may happen. What was saved up stays, as far as it is
// allowed now; a bucket that had no limit is full.
func (b *bucket) limit(rate, burst float64, now time.Time) {
	if rate < 0 {
		rate = math.Inf(1)
	}
	burst = max(burst, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.set || math.IsInf(b.rate, 1) {
		b.left = burst
	} else {
		b.fill(now)
	}
	b.set, b.rate, b.burst, b.at = true, rate, burst, now
	b.left = min(b.left, burst)
}

// fill adds what came since the last look. The lock is held.
func (b *bucket) fill(now time.Time) {
	if past := now.Sub(b.at); past > 0 {
		b.left, b.at = min(b.burst, b.left+b.rate*past.Seconds()), now
	}
}

// take reports whether one more thing may happen, and counts it.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.set || math.IsInf(b.rate, 1) {
		return true
	}
	b.fill(now)
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// requestLimits bound what a server is asked for, by whomever: its own clients
// and other agents, but not for what it does by itself.
type requestLimits struct {
	read, write bucket
	leads       func() bool
	now         func() time.Time
	logger      *slog.Logger

	mu     sync.Mutex
	mode   string
	warned time.Time // when the log was told last
}

// Modes of request_limits.
const (
	limitsPermissive = "permissive" // tells the log, and lets everything happen
	limitsEnforcing  = "enforcing"
)

// follow takes over the limits of a configuration. A second's worth may come at
// once.
func (r *requestLimits) follow(c *config.Config) {
	now := r.now()
	r.read.limit(c.RequestReadRate, c.RequestReadRate, now)
	r.write.limit(c.RequestWriteRate, c.RequestWriteRate, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = c.RequestLimitsMode
}

// admit refuses a request that is one too many.
func (r *requestLimits) admit(ctx context.Context, write bool) error {
	if r == nil || ctx.Value(dutyKey{}) != nil {
		return nil
	}
	r.mu.Lock()
	mode := r.mode
	r.mu.Unlock()
	if mode != limitsPermissive && mode != limitsEnforcing {
		return nil
	}
	of, name := &r.read, "read_rate"
	if write {
		of, name = &r.write, "write_rate"
	}
	now := r.now()
	if of.take(now) {
		return nil
	}
	r.tell(now, name, mode)
	switch {
	case mode == limitsPermissive:
		return nil
	case write && r.leads():
		return &mvcc.Error{Code: mvcc.RetryLater, Text: textLater}
	default:
		return &mvcc.Error{Code: mvcc.RetryElsewhere, Text: textElsewhere}
	}
}

// off reports whether nothing is bounded.
func (r *requestLimits) off() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mode != limitsPermissive && r.mode != limitsEnforcing
}

// tell says in the log that there were too many requests, but not for each.
func (r *requestLimits) tell(now time.Time, limit, mode string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.warned) < rateLogInterval {
		return
	}
	r.warned = now
	r.logger.Warn("There are more requests than limits.request_limits allows", "limit", limit, "mode", mode)
}

// dutyKey marks the context of what a server does by itself.
type dutyKey struct{}
