package check

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
)

// probeFunc is a checker made of a function.
type probeFunc func(ctx context.Context) (health.Status, string)

func (f probeFunc) check(ctx context.Context) result {
	status, output := f(ctx)
	return result{status: status, output: output}
}

// start runs p until the returned function is called.
func start(p *poller) (stop func()) {
	p.start()
	return p.stop
}

func TestSchedule(t *testing.T) {
	const interval, runTime = 10 * time.Second, 3 * time.Second
	spread := map[time.Duration]bool{}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var starts []time.Time
			running := 0
			p := &poller{interval: interval, timeout: time.Minute, notify: func(health.Status, string) {}}
			p.probe = probeFunc(func(context.Context) (health.Status, string) {
				if running++; running > 1 {
					t.Error("two runs at once")
				}
				starts = append(starts, time.Now())
				time.Sleep(runTime)
				running--
				return health.Passing, ""
			})
			stop := start(p)
			time.Sleep(2 * time.Minute)
			stop()
			first := starts[0].Sub(began)
			if first < 0 || first >= interval {
				t.Errorf("the first run came after %s, want less than %s", first, interval)
			}
			spread[first] = true
			for i := 1; i < len(starts); i++ {
				if gap := starts[i].Sub(starts[i-1]); gap != interval+runTime {
					t.Errorf("run %d began %s after the one before, want %s", i, gap, interval+runTime)
				}
			}
		})
	}
	if len(spread) < 10 {
		t.Errorf("20 checks began at only %d different times", len(spread))
	}
}

func TestStopEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &poller{interval: time.Second, timeout: time.Minute}
		p.notify = func(s health.Status, _ string) { t.Errorf("notified of %s by a run that was stopped", s) }
		ended := false
		p.probe = probeFunc(func(ctx context.Context) (health.Status, string) {
			<-ctx.Done()
			ended = true
			return health.Critical, "stopped"
		})
		stop := start(p)
		time.Sleep(5 * time.Second)
		stop()
		if !ended {
			t.Error("stop did not wait for the run")
		}
	})
}

func TestRunTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		p := &poller{interval: time.Second, timeout: 2 * time.Second, notify: func(health.Status, string) {}}
		p.probe = probeFunc(func(ctx context.Context) (health.Status, string) {
			began := time.Now()
			<-ctx.Done()
			took = max(took, time.Since(began))
			return health.Critical, ""
		})
		stop := start(p)
		time.Sleep(10 * time.Second)
		stop()
		if took != p.timeout {
			t.Errorf("a run took %s, want %s", took, p.timeout)
		}
	})
}

func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		about                      string
		passing, warning, critical int
		results, published         string // one letter a run: p, w, c; "-" keeps
	}{
		{"every result at once", 0, 0, 0, "pcwpc", "pcwpc"},
		{"the first failure counts", 0, 0, 4, "cpcccc", "cp---c"},
		{"the first success counts", 5, 0, 0, "pcppppp", "pc----p"},
		{"a warning is a success", 2, 0, 0, "cwwc", "c-wc"},
		{"a failure begins the successes anew", 3, 0, 0, "cppcppp", "c--c--p"},
		{"a success begins the failures anew", 0, 0, 3, "pccpccc", "p--p--c"},
		{"warning first", 0, 2, 4, "pcccccp", "p-wwccp"},
		{"warning as critical", 0, 0, 2, "pcc", "p-c"},
	} {
		counter := newCounter(&Definition{SuccessBeforePassing: c.passing, FailuresBeforeWarning: c.warning, FailuresBeforeCritical: c.critical})
		letters := map[byte]health.Status{'p': health.Passing, 'w': health.Warning, 'c': health.Critical}
		var got strings.Builder
		for i := range len(c.results) {
			if status, ok := counter.judge(letters[c.results[i]]); ok {
				got.WriteByte(status[0])
			} else {
				got.WriteByte('-')
			}
		}
		if got.String() != c.published {
			t.Errorf("%s: %s published %s, want %s", c.about, c.results, got.String(), c.published)
		}
	}
}

func TestTTL(t *testing.T) {
	type event struct {
		after  time.Duration
		status health.Status
		output string
	}
	for _, c := range []struct {
		about   string
		last    string
		updates []event
		want    []event
	}{
		{"never updated", "", nil, []event{{10 * time.Second, "critical", "TTL expired"}}},
		{"never updated since it was restored", "old", nil, []event{
			{10 * time.Second, "critical", "TTL expired (last output before timeout follows): old"}}},
		{"expired before", "TTL expired", nil, []event{{10 * time.Second, "critical", "TTL expired"}}},
		{"an update begins the time anew", "", []event{{6 * time.Second, "passing", "fine"}, {15 * time.Second, "warning", "hm"}}, []event{
			{6 * time.Second, "passing", "fine"}, {15 * time.Second, "warning", "hm"},
			{25 * time.Second, "critical", "TTL expired (last output before timeout follows): hm"}}},
		{"revived", "", []event{{12 * time.Second, "passing", ""}}, []event{
			{10 * time.Second, "critical", "TTL expired"}, {12 * time.Second, "passing", ""}, {22 * time.Second, "critical", "TTL expired"}}},
		{"long output keeps its head", "", []event{{time.Second, "passing", "0123456789abcdef"}}, []event{
			{time.Second, "passing", "0123456789 ... (captured 10 of 16 bytes)"},
			{11 * time.Second, "critical", "TTL expired (last output before timeout follows): 0123456789 ... (captured 10 of 16 bytes)"}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var got []event
			r, err := Start(Definition{TTL: 10 * time.Second, OutputMaxSize: 10}, Options{
				Output: c.last,
				Notify: func(s health.Status, output string) { got = append(got, event{time.Since(began), s, output}) },
				Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range c.updates {
				time.Sleep(u.after - time.Since(began))
				if !r.Update(u.status, u.output) {
					t.Errorf("%s: the update was refused", c.about)
				}
			}
			time.Sleep(time.Minute)
			r.Stop()
			if len(got) != len(c.want) {
				t.Fatalf("%s: got %v, want %v", c.about, got, c.want)
			}
			for i, e := range got {
				if e != c.want[i] {
					t.Errorf("%s: event %d is %v, want %v", c.about, i, e, c.want[i])
				}
			}
			if r.Update(health.Passing, "") {
				t.Errorf("%s: an update after the end was taken", c.about)
			}
		})
	}
}

func TestTTLStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Start(Definition{TTL: time.Second}, Options{
			Notify: func(health.Status, string) { t.Error("a stopped check expired") },
		})
		if err != nil {
			t.Fatal(err)
		}
		r.Stop()
		r.Stop()
		time.Sleep(time.Minute)
	})
}

func TestStart(t *testing.T) {
	silent := Options{Notify: func(health.Status, string) {}, Logger: slog.New(slog.DiscardHandler)}
	if _, err := Start(Definition{Interval: time.Second}, silent); err == nil || err.Error() != "check kind  is not supported" {
		t.Errorf("no kind: got %v", err)
	}
	r, err := Start(Definition{TCP: "127.0.0.1:1", Interval: time.Hour}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if r.Update(health.Passing, "") {
		t.Error("a TCP check took an update")
	}
	r.Stop()
	r.Stop()
}

func TestShortInterval(t *testing.T) {
	var log strings.Builder
	r, err := Start(Definition{ID: "quick", TCP: "127.0.0.1:1", Interval: 10 * time.Millisecond},
		Options{Notify: func(health.Status, string) {}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if !strings.Contains(log.String(), "check=quick interval=10ms minimum=1s") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestOutputLimit(t *testing.T) {
	for _, c := range []struct{ check, agent, want int }{
		{0, 0, 4096}, {0, 100, 100}, {10, 100, 10}, {200, 100, 100}, {5000, 0, 4096}, {0, 9000, 9000},
	} {
		d := Definition{OutputMaxSize: c.check}
		if got := d.outputLimit(c.agent); got != c.want {
			t.Errorf("check %d, agent %d: limit is %d, want %d", c.check, c.agent, got, c.want)
		}
	}
}
