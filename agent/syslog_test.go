package agent

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// fakeSyslog is a system's log that takes nothing while it is held.
type fakeSyslog struct {
	hold chan struct{}

	mu     sync.Mutex
	lines  []string
	closed bool
}

func (f *fakeSyslog) write(level slog.Level, text string) error {
	<-f.hold
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, level.String()+" "+text)
	return nil
}

func (f *fakeSyslog) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func TestSyslogGetsLevelsAndNoTimes(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		f := &fakeSyslog{hold: make(chan struct{})}
		close(f.hold)
		s := newSyslog(f)
		logger := NewLogger(Tee(io.Discard, s), slog.LevelInfo, asJSON).With(ComponentKey, "http")
		logger.Info("hello", "a", "b c")
		logger.Warn("look out")
		logger.Debug("left out")
		logger.Error("oh")
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		logger.Error("too late")
		want := []string{`INFO [INFO]  agent.http: hello: a="b c"`, "WARN [WARN]  agent.http: look out", "ERROR [ERROR] agent.http: oh"}
		if asJSON {
			for i, line := range f.lines {
				level, object, _ := strings.Cut(line, " ")
				if !strings.HasPrefix(object, "{") || !strings.HasSuffix(object, "}") || !strings.HasPrefix(want[i], level+" ") {
					t.Errorf("got %s", line)
				}
			}
		} else if !slices.Equal(f.lines, want) {
			t.Errorf("got %q, want %q", f.lines, want)
		}
		if !f.closed || len(f.lines) != 3 {
			t.Errorf("closed %v with %d lines", f.closed, len(f.lines))
		}
	}
}

func TestASyslogThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSyslog{hold: make(chan struct{})}
		s := newSyslog(f)
		logger := NewLogger(Tee(io.Discard, s), slog.LevelInfo, false)
		logger.Info("0")
		synctest.Wait() // it is being written
		for i := range maxSyslogLines + 5 {
			logger.Info(fmt.Sprint(i + 1))
		}
		close(f.hold)
		synctest.Wait()
		logger.Info("again")
		synctest.Wait()
		n := len(f.lines)
		if n != 1+maxSyslogLines+2 || f.lines[n-2] != "WARN "+PhraseLinesDropped+": lines=5" || !strings.HasSuffix(f.lines[n-1], "agent: again") {
			t.Errorf("%d lines, the last ones %q", n, f.lines[max(0, n-3):])
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}

		stuck := newSyslog(&fakeSyslog{hold: make(chan struct{})})
		hold := stuck.to.(*fakeSyslog).hold
		NewLogger(Tee(io.Discard, stuck), slog.LevelInfo, false).Info("1")
		if err := stuck.Close(); err != nil { // it comes back
			t.Error(err)
		}
		close(hold)
	})
}

func TestTeeWritesToAllWhateverFails(t *testing.T) {
	var one, two strings.Builder
	w := Tee(&one, failing{}, &two)
	if n, err := w.Write([]byte("abc")); n != 3 || err == nil || one.String() != "abc" || two.String() != "abc" {
		t.Errorf("%d, %v, %q, %q", n, err, one.String(), two.String())
	}
	if only := Tee(&one); only != io.Writer(&one) {
		t.Error("one needs no tee")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
