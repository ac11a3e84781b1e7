package check

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
)

func TestScheduleIsKnown(t *testing.T) {
	const interval, runTime = 10 * time.Second, 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := make(chan time.Time, 10)
		p := &poller{interval: interval, timeout: time.Minute, notify: func(health.Status, string) {}}
		p.probe = probeFunc(func(context.Context) (health.Status, string) {
			began <- time.Now()
			time.Sleep(runTime)
			return health.Passing, ""
		})
		r := &Runner{stop: p.stop, poll: p}
		p.start()
		defer r.Stop()
		last, first := r.Schedule()
		if !last.IsZero() || first.Before(time.Now()) || time.Until(first) >= interval {
			t.Errorf("before the first run: last %s, next %s", last, first)
		}
		time.Sleep(time.Until(first) + time.Second)
		if last, next := r.Schedule(); !last.IsZero() || !next.IsZero() {
			t.Errorf("during the first run: last %s, next %s", last, next)
		}
		time.Sleep(runTime)
		synctest.Wait()
		last, next := r.Schedule()
		if ran := <-began; !ran.Equal(first) || !last.Equal(first.Add(runTime)) || !next.Equal(last.Add(interval)) {
			t.Errorf("the first run began at %s, want %s; then last %s, next %s", ran, first, last, next)
		}
		time.Sleep(interval)
		synctest.Wait()
		if ran := <-began; !ran.Equal(next) {
			t.Errorf("the second run began at %s, want %s", ran, next)
		}
	})
}

func TestScheduleOfTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 10 * time.Second
		r, err := Start(Definition{TTL: life}, Options{Notify: func(health.Status, string) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stop()
		began := time.Now()
		if last, next := r.Schedule(); !last.IsZero() || !next.Equal(began.Add(life)) {
			t.Errorf("at first: last %s, next %s", last, next)
		}
		time.Sleep(4 * time.Second)
		r.Update(health.Passing, "")
		updated := time.Now()
		time.Sleep(time.Second)
		if last, next := r.Schedule(); !last.Equal(updated) || !next.Equal(updated.Add(life)) {
			t.Errorf("after an update: last %s, next %s", last, next)
		}
		time.Sleep(life)
		if last, next := r.Schedule(); !last.Equal(updated) || !next.IsZero() {
			t.Errorf("after it expired: last %s, next %s", last, next)
		}
		r.Update(health.Passing, "")
		if last, next := r.Schedule(); !last.Equal(time.Now()) || !next.Equal(time.Now().Add(life)) {
			t.Errorf("after the next update: last %s, next %s", last, next)
		}
	})
	r := &Runner{stop: func() {}}
	if last, next := r.Schedule(); !last.IsZero() || !next.IsZero() {
		t.Errorf("an alias check: last %s, next %s", last, next)
	}
}
