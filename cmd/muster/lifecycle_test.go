package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
)

// fakeAgent is an agent that does what a test says. A nil function stands for
// an agent that behaves.
type fakeAgent struct {
	runFunc    func(ctx context.Context) error
	leaveFunc  func(ctx context.Context) error
	reloadFunc func() error

	left    bool
	reloads int
}

func (f *fakeAgent) Run(ctx context.Context) error {
	if f.runFunc != nil {
		return f.runFunc(ctx)
	}
	<-ctx.Done()
	return nil
}

func (f *fakeAgent) Leave(ctx context.Context) error {
	f.left = true
	if f.leaveFunc != nil {
		return f.leaveFunc(ctx)
	}
	return nil
}

func (f *fakeAgent) Reread() (config.Report, error) {
	f.reloads++
	if f.reloadFunc != nil {
		return config.Report{}, f.reloadFunc()
	}
	return config.Report{}, nil
}

// never is a part of an agent that hangs whatever happens around it; release
// lets it go when the test is over.
func never(release <-chan struct{}) func(context.Context) error {
	return func(context.Context) error {
		<-release
		return nil
	}
}

// sent is a signal and the moment that it comes, counted from the start.
type sent struct {
	signal os.Signal
	after  time.Duration
}

func TestLifecycle(t *testing.T) {
	server := config.Config{SkipLeaveOnInterrupt: true, LeaveOnTerminate: false}
	client := config.Config{SkipLeaveOnInterrupt: false, LeaveOnTerminate: true}
	broken := errors.New("the disk is on fire")
	for _, test := range []struct {
		name      string
		config    config.Config
		agent     fakeAgent
		hangLeave bool
		hangRun   bool
		signals   []sent
		changes   []time.Duration // between changes of the files
		code      int
		left      bool
		reloads   int
		took      time.Duration
		inErrors  string
		inTheLog  string
	}{
		{name: "server, terminated", config: server, signals: []sent{{syscall.SIGTERM, time.Second}},
			code: 1, took: time.Second, inTheLog: phraseNoLeave},
		{name: "server, interrupted", config: server, signals: []sent{{os.Interrupt, time.Second}},
			code: 1, took: time.Second, inTheLog: phraseNoLeave},
		{name: "client, terminated", config: client, signals: []sent{{syscall.SIGTERM, time.Second}},
			code: 0, left: true, took: time.Second},
		{name: "client, interrupted", config: client, signals: []sent{{os.Interrupt, time.Second}},
			code: 0, left: true, took: time.Second},
		{name: "server that leaves on terminate, interrupted",
			config: config.Config{SkipLeaveOnInterrupt: true, LeaveOnTerminate: true}, signals: []sent{{os.Interrupt, 0}}, code: 1},
		{name: "server that leaves on terminate, terminated",
			config: config.Config{SkipLeaveOnInterrupt: true, LeaveOnTerminate: true}, signals: []sent{{syscall.SIGTERM, 0}}, code: 0, left: true},

		{name: "second signal while leaving", config: client, hangLeave: true, left: true,
			signals: []sent{{syscall.SIGTERM, time.Second}, {os.Interrupt, 2 * time.Second}},
			code:    1, took: 3 * time.Second, inTheLog: "a second signal came"},
		{name: "hangup while leaving says nothing", config: client, hangLeave: true, left: true,
			signals: []sent{{syscall.SIGTERM, time.Second}, {syscall.SIGHUP, time.Second}, {os.Interrupt, time.Second}},
			code:    1, took: 3 * time.Second},
		{name: "second signal while stopping", config: server, hangRun: true,
			signals: []sent{{syscall.SIGTERM, time.Second}, {syscall.SIGTERM, time.Second}},
			code:    1, took: 2 * time.Second},
		{name: "leave that does not end", config: client, hangLeave: true, left: true,
			signals: []sent{{syscall.SIGTERM, time.Second}}, code: 1, took: time.Second + leaveTimeout, inTheLog: "not done within 15s"},
		{name: "leave that fails", config: client, left: true,
			agent:   fakeAgent{leaveFunc: func(context.Context) error { return broken }},
			signals: []sent{{syscall.SIGTERM, 0}}, code: 1, inTheLog: broken.Error()},
		{name: "stop that does not end", config: server, hangRun: true,
			signals: []sent{{syscall.SIGTERM, 0}}, code: 1, took: stopTimeout, inTheLog: "Did not stop in order"},
		{name: "stop that does not end after a leave", config: client, hangRun: true, left: true,
			signals: []sent{{syscall.SIGTERM, 0}}, code: 1, took: stopTimeout},

		{name: "reload", config: server, reloads: 2,
			signals: []sent{{syscall.SIGHUP, 0}, {syscall.SIGHUP, time.Second}, {syscall.SIGTERM, time.Second}}, code: 1, took: 2 * time.Second},
		{name: "files that change", config: server, reloads: 2, changes: []time.Duration{time.Second, time.Minute},
			signals: []sent{{syscall.SIGTERM, time.Hour}}, code: 1, took: time.Hour, inTheLog: "a file changed"},
		{name: "reload that fails", config: server, reloads: 1,
			agent:   fakeAgent{reloadFunc: func() error { return broken }},
			signals: []sent{{syscall.SIGHUP, 0}, {syscall.SIGTERM, time.Second}}, code: 1, took: time.Second, inTheLog: broken.Error()},

		{name: "agent that left on request", config: server,
			agent: fakeAgent{runFunc: func(context.Context) error { return nil }}, code: 0},
		{name: "agent that failed", config: server,
			agent: fakeAgent{runFunc: func(context.Context) error { return broken }}, code: 1, inErrors: "==> the agent failed: the disk is on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				fake := test.agent
				if test.hangLeave {
					fake.leaveFunc = never(release)
				}
				if test.hangRun {
					fake.runFunc = never(release)
				}
				signals := make(chan os.Signal, pendingSignals)
				go func() {
					for _, s := range test.signals {
						<-time.After(s.after)
						signals <- s.signal
					}
				}()
				changed := make(chan struct{}, 1)
				go func() {
					for _, after := range test.changes {
						<-time.After(after)
						changed <- struct{}{}
					}
				}()
				var log, errs bytes.Buffer
				start := time.Now()
				life := &lifecycle{
					agent:   &fake,
					config:  &test.config,
					signals: signals,
					changed: changed,
					logger:  slog.New(slog.NewTextHandler(&log, nil)),
					errors:  &errs,
				}
				if code := life.run(); code != test.code {
					t.Errorf("exit code = %d, want %d", code, test.code)
				}
				synctest.Wait() // a leave that hangs has begun, though nobody waits for it
				if took := time.Since(start); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				if fake.left != test.left || fake.reloads != test.reloads {
					t.Errorf("left = %t, reloads = %d, want %t, %d", fake.left, fake.reloads, test.left, test.reloads)
				}
				if !strings.Contains(log.String(), test.inTheLog) {
					t.Errorf("log:\n%swant %q in it", log.String(), test.inTheLog)
				}
				if got := strings.TrimSpace(errs.String()); got != test.inErrors {
					t.Errorf("standard error = %q, want %q", got, test.inErrors)
				}
			})
		})
	}
}
