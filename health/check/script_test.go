//go:build unix

package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
)

func shell(script string) Definition {
	return Definition{ScriptArgs: []string{"sh", "-c", script}, Interval: time.Second}
}

func TestScript(t *testing.T) {
	t.Setenv("PROBE_MARK", "inherited")
	for _, c := range []struct {
		about, script string
		limit         int
		status        health.Status
		output        string
	}{
		{"ends well", "echo fine", 0, "passing", "fine\n"},
		{"warns", "echo hm; exit 1", 0, "warning", "hm\n"},
		{"fails", "echo no; exit 2", 0, "critical", "no\n"},
		{"both outputs in order", "echo a; echo b >&2; echo c", 0, "passing", "a\nb\nc\n"},
		{"says nothing", "exit 0", 0, "passing", ""},
		{"killed by a signal", "kill -9 $$", 0, "critical", ""},
		{"environment", "echo $PROBE_MARK", 0, "passing", "inherited\n"},
		{"its input is empty", "cat; echo end", 0, "passing", "end\n"},
		{"exactly the limit", "printf 0123456789", 10, "passing", "0123456789"},
		{"one byte more", "printf 0123456789x", 10, "passing", "Captured 10 of 11 bytes\n...\n123456789x"},
		{"very much", "head -c 10000000 /dev/zero | tr '\\0' x; printf 0123456789", 10, "passing", "Captured 10 of 10000010 bytes\n...\n0123456789"},
	} {
		d := shell(c.script)
		d.OutputMaxSize = c.limit
		status, output := probe(t, d, nil, plenty)
		if status != c.status || output != c.output {
			t.Errorf("%s: got %s, %q, want %s, %q", c.about, status, output, c.status, c.output)
		}
	}
	status, output := probe(t, Definition{ScriptArgs: []string{"/nowhere/script"}}, nil, plenty)
	expectRun(t, "no such script", status, output, "critical", "no such file or directory")
	status, output = probe(t, Definition{ScriptArgs: []string{""}}, nil, plenty)
	expectRun(t, "no name", status, output, "critical", "exec")
}

// child is a process that a script started, told by a file.
type child struct{ file string }

func newChild(t *testing.T) child { return child{filepath.Join(t.TempDir(), "pid")} }

// spawn is a script that starts it and goes on.
func (c child) spawn() string { return "sleep 300 & echo $! > " + c.file + "; " }

// pid waits until the script has started it.
func (c child) pid(t *testing.T) int {
	t.Helper()
	deadline := time.Now().Add(plenty)
	for {
		text, _ := os.ReadFile(c.file)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatal("the script did not start")
		}
		time.Sleep(time.Millisecond)
	}
}

// gone waits until the process has ended.
func (c child) gone(t *testing.T) {
	t.Helper()
	pid := c.pid(t)
	for deadline := time.Now().Add(plenty); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d of the script is still there", pid)
		}
	}
}

// alive reports whether a process runs. A zombie that is not ours to collect
// does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !os.IsNotExist(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestScriptTimeout(t *testing.T) {
	mine := newChild(t)
	d := shell(mine.spawn() + "echo so far; wait")
	d.Timeout = 300 * time.Millisecond
	status, output := probe(t, d, nil, enough)
	if want := "Timed out (300ms) running check\n\nso far\n"; status != health.Critical || output != want {
		t.Errorf("got %s, %q, want %q", status, output, want)
	}
	mine.gone(t)

	status, output = probe(t, Definition{ScriptArgs: []string{"sleep", "300"}, Timeout: time.Minute}, nil, enough/4)
	if want := "Timed out (1m0s) running check"; status != health.Critical || output != want {
		t.Errorf("got %s, %q, want %q", status, output, want)
	}
	stubborn := shell("trap '' TERM INT HUP; sleep 300; echo still here")
	status, output = probe(t, stubborn, nil, enough/4)
	expectRun(t, "deaf to signals", status, output, "critical", "Timed out (30s) running check")
}

// TestScriptStopped ends a check in the middle of a run.
func TestScriptStopped(t *testing.T) {
	mine := newChild(t)
	d := shell(mine.spawn() + "wait")
	r, err := Start(d, Options{
		Notify: func(s health.Status, output string) { t.Errorf("a run that was stopped said %s, %q", s, output) },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mine.pid(t)
	began := time.Now()
	r.Stop()
	if took := time.Since(began); took > plenty {
		t.Errorf("to stop took %s", took)
	}
	mine.gone(t)
}

// TestScriptLeavesProcess has a script whose child keeps the output open.
func TestScriptLeavesProcess(t *testing.T) {
	mine := newChild(t)
	status, output := probe(t, shell(mine.spawn()+"echo done; exit 1"), nil, plenty)
	expectRun(t, "left behind", status, output, "warning", "done\n")
	if pid := mine.pid(t); !alive(pid) {
		t.Error("a process that a script left behind on purpose was killed")
	} else {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// TestScriptTimeoutCountsAtOnce has a script hang after it passed, with
// thresholds that would wait for more failures.
func TestScriptTimeoutCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := []result{{status: health.Passing}, {status: health.Critical}, timedOut(time.Second, &tail{}), {status: health.Critical}, {status: health.Passing}}
		var got []health.Status
		p := &poller{
			interval: time.Second, timeout: time.Second, counter: newCounter(&Definition{FailuresBeforeCritical: 3, FailuresBeforeWarning: 3}),
			notify: func(s health.Status, _ string) { got = append(got, s) },
			probe:  &script{results},
		}
		stop := start(p)
		time.Sleep(10 * time.Second)
		stop()
		if want := "[passing critical passing]"; len(got) < 3 || fmt.Sprint(got[:3]) != want {
			t.Errorf("published %v, want %s", got, want)
		}
	})
}

// script is a checker with results that are known beforehand; the last one
// stays.
type script struct{ results []result }

func (s *script) check(context.Context) result {
	next := s.results[0]
	if len(s.results) > 1 {
		s.results = s.results[1:]
	}
	return next
}
