package agent

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestBucket(t *testing.T) {
	now := time.Unix(0, 0)
	taken := func(b *bucket) int {
		n := 0
		for n < 1000 && b.take(now) {
			n++
		}
		return n
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	b := new(bucket)
	expect("one without a limit", taken(b), 1000)
	b.limit(2, 5, now)
	expect("a full one", taken(b), 5)
	now = now.Add(1400 * time.Millisecond)
	expect("after 1.4 s", taken(b), 2)
	now = now.Add(200 * time.Millisecond)
	expect("the rest is not lost", taken(b), 1)
	now = now.Add(time.Hour)
	expect("after a long rest", taken(b), 5)
	b.limit(2, 50, now)
	expect("a larger one is not full", taken(b), 0)
	now = now.Add(time.Hour)
	b.limit(1, 3, now)
	expect("a smaller one holds less", taken(b), 3)
	now = now.Add(-time.Hour)
	expect("a clock that goes back gives nothing", taken(b), 0)
	b.limit(-1, 0, now)
	expect("without a limit again", taken(b), 1000)
	b.limit(0.5, 0.5, now)
	expect("less than one a second", taken(b), 1)
	now = now.Add(2 * time.Second)
	expect("after two seconds", taken(b), 1)
	b.limit(math.Inf(1), 1, now)
	expect("infinite", taken(b), 1000)
}

func TestRequestLimits(t *testing.T) {
	var log strings.Builder
	now, leads := time.Unix(0, 0), false
	r := &requestLimits{now: func() time.Time { return now }, leads: func() bool { return leads }, logger: slog.New(slog.NewTextHandler(&log, nil))}
	follow := func(mode string) {
		r.follow(&config.Config{RequestLimitsMode: mode, RequestReadRate: 3, RequestWriteRate: 1})
	}
	ask := func(ctx context.Context, write bool, times int) (admitted int, last error) {
		for range times {
			if err := r.admit(ctx, write); err != nil {
				last = err
			} else {
				admitted++
			}
		}
		return admitted, last
	}
	expect := func(what string, write bool, want int, code mvcc.Code, text string) {
		t.Helper()
		got, err := ask(t.Context(), write, 10)
		if got != want || mvcc.CodeOf(err) != code || err != nil && err.Error() != text {
			t.Errorf("%s: %d of 10, %v", what, got, err)
		}
	}
	none := mvcc.CodeOf(nil)
	expect("before it was told", true, 10, none, "")
	follow("disabled")
	expect("disabled", true, 10, none, "")
	follow("permissive")
	expect("permissive", true, 10, none, "")
	if n := strings.Count(log.String(), "limit=write_rate mode=permissive"); n != 1 {
		t.Errorf("the log has it %d times:\n%s", n, &log)
	}
	now = now.Add(time.Minute)
	follow("enforcing")
	expect("reads", false, 3, mvcc.RetryElsewhere, "rate limit exceeded, try again later or against a different server")
	expect("writes at a follower", true, 1, mvcc.RetryElsewhere, "rate limit exceeded, try again later or against a different server")
	leads = true
	now = now.Add(time.Second)
	expect("writes at the leader", true, 1, mvcc.RetryLater, "rate limit exceeded for operation that can only be performed by the leader, try again later")
	expect("reads at the leader", false, 3, mvcc.RetryElsewhere, "rate limit exceeded, try again later or against a different server")
	if got, err := ask(context.WithValue(t.Context(), dutyKey{}, true), true, 10); got != 10 {
		t.Errorf("duties: %d of 10, %v", got, err)
	}
	if err := (*requestLimits)(nil).admit(t.Context(), true); err != nil {
		t.Errorf("none at all: %v", err)
	}
}
