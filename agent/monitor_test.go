package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged is a logger whose lines at INFO and above are written to b, and all of
// whose messages can be followed.
func logged(b *bytes.Buffer) (*slog.Logger, *monitors) {
	m := newMonitors()
	return m.tee(NewLogger(b, slog.LevelInfo, false)), m
}

func TestFollowersHaveLevelsOfTheirOwn(t *testing.T) {
	var own bytes.Buffer
	l, m := logged(&own)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if l.Enabled(ctx, slog.LevelDebug) {
		t.Error("messages are made that nobody sees")
	}
	debug, err := m.follow(ctx, slog.LevelDebug, false)
	if err != nil {
		t.Fatal(err)
	}
	warn, err := m.follow(ctx, slog.LevelWarn, true)
	if err != nil {
		t.Fatal(err)
	}
	l = l.With(ComponentKey, "http").WithGroup("g").With("a", 1)
	l.Log(ctx, LevelTrace, "no")
	l.Debug("small", "b", "x y")
	l.Warn("large")
	for _, want := range []string{`[DEBUG] agent.http: small: g.a=1 g.b="x y"`, "[WARN]  agent.http: large: g.a=1"} {
		if got := string(<-debug); !strings.HasSuffix(got, " "+want+"\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var object map[string]any
	if err := json.Unmarshal(<-warn, &object); err != nil || object["@message"] != "large" || object["@module"] != "agent.http" || object["g.a"] != 1.0 {
		t.Errorf("got %v, %v", object, err)
	}
	if len(debug) != 0 || len(warn) != 0 {
		t.Error("more lines than there should be")
	}
	if got := own.String(); strings.Contains(got, "small") || strings.Count(got, "\n") != 1 {
		t.Errorf("the agent's own log is %q", got)
	}
}

func TestFollowersWhoGoAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := logged(&bytes.Buffer{})
		ctx, cancel := context.WithCancel(t.Context())
		lines, err := m.follow(ctx, LevelTrace, false)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		l.Error("late")
		if len(lines) != 0 || len(m.all) != 0 || m.least.Load() != math.MaxInt64 {
			t.Error("a follower who is gone is still sent to")
		}
	})
}

func TestFollowersAreBounded(t *testing.T) {
	_, m := logged(&bytes.Buffer{})
	for range maxMonitors {
		if _, err := m.follow(t.Context(), slog.LevelInfo, false); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.follow(t.Context(), slog.LevelInfo, false)
	if want := "64 clients follow the log already, as many as may at once"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSlowFollowersAreToldWhatTheyMissed(t *testing.T) {
	l, m := logged(&bytes.Buffer{})
	lines, err := m.follow(t.Context(), slog.LevelInfo, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxMonitorLines + 5 {
		l.Info(fmt.Sprint("line ", i))
	}
	<-lines
	l.Info("takes the room of the note") // itself dropped
	for range maxMonitorLines - 1 {
		<-lines
	}
	if got := string(<-lines); !strings.Contains(got, "[WARN]  agent: "+PhraseLinesDropped+": lines=5\n") {
		t.Errorf("got %q", got)
	}
	l.Info("next")
	if got := string(<-lines); !strings.Contains(got, "lines=1\n") {
		t.Errorf("got %q", got)
	}
	if got := string(<-lines); !strings.HasSuffix(got, "agent: next\n") {
		t.Errorf("got %q", got)
	}
}

// count is how many follow the log.
func (m *monitors) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all)
}

func TestFollowersWhileEverybodyLogs(t *testing.T) {
	l, m := logged(&bytes.Buffer{})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for range 200 {
				l.With("writer", i).Info("text")
			}
		})
		work.Go(func() {
			for range 20 {
				part, stop := context.WithTimeout(ctx, time.Minute)
				lines, err := m.follow(part, slog.LevelDebug, i%2 == 0)
				if err != nil {
					t.Error(err)
				}
				select {
				case <-lines:
				default:
				}
				stop()
				for m.count() > maxMonitors/2 {
					runtime.Gosched() // places become free a moment after the end
				}
			}
		})
	}
	work.Wait()
	cancel()
}
