package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/muster-sd/muster/agent/config"
)

// Phrases that people search the log for.
const (
	phraseLeaving = "Gracefully shutting down agent..."
	phraseNoLeave = "Graceful shutdown disabled. Exiting"
)

// process is a running agent, as much of it as signals are concerned with.
type process interface {
	// Run serves until ctx ends, the agent left on request, or a part fails.
	Run(ctx context.Context) error
	// Leave tells the cluster that this agent goes for good.
	Leave(ctx context.Context) error
	// Reread reads the configuration again, and takes over what may change while
	// the agent runs, or nothing if it fails.
	Reread() (config.Report, error)
}

// lifecycle runs an agent to its end and turns signals into what it is to do:
//
//	SIGHUP, files changed ───► Reread
//	SIGINT, SIGTERM ──┬─leave─► Leave (15 s at most) ─► stop ─► exit 0
//	                  └─stop──► stop ─────────────────────────► exit 1
//	a second one of these ────────────────────────────────────► exit 1 at once
//	Run returns by itself ────────────────────────────────────► exit 0, or 1 on an error
type lifecycle struct {
	agent   process
	config  *config.Config
	signals <-chan os.Signal
	// changed tells that the files of the configuration did; nil never does.
	changed <-chan struct{}
	logger  *slog.Logger
	errors  io.Writer
	close   func() error // closes the logs
}

// watchSignals delivers the signals that an agent heeds until stop is called.
func watchSignals() (signals <-chan os.Signal, stop func()) {
	channel := make(chan os.Signal, pendingSignals)
	ignoreSignals()
	signal.Notify(channel, syscall.SIGHUP, os.Interrupt, syscall.SIGTERM)
	return channel, func() { signal.Stop(channel) }
}

// run returns the exit code.
func (l *lifecycle) run() int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- l.agent.Run(ctx) }()
	for {
		select {
		case err := <-stopped:
			return l.ended(err)
		case <-l.changed:
			l.reload("a file changed")
		case received := <-l.signals:
			switch {
			case received == syscall.SIGHUP:
				l.reload(received.String())
			case l.leavesOn(received):
				l.logger.Info(phraseLeaving, "signal", received.String())
				return l.leave(stop, stopped)
			default:
				l.logger.Info(phraseNoLeave, "signal", received.String())
				return l.stop(stop, stopped)
			}
		}
	}
}

// ended is the exit code of an agent that stopped by itself.
func (l *lifecycle) ended(err error) int {
	if err == nil || errors.Is(err, context.Canceled) {
		return exitOK
	}
	printStartError(l.errors, fmt.Errorf("the agent failed: %w", err))
	return exitFailed
}

// leavesOn reports whether a signal asks for a graceful leave.
func (l *lifecycle) leavesOn(received os.Signal) bool {
	if received == os.Interrupt {
		return !l.config.SkipLeaveOnInterrupt
	}
	return l.config.LeaveOnTerminate
}

// reload reads the configuration again. Whatever is wrong with it, the agent
// stays up as it is.
func (l *lifecycle) reload(reason string) {
	l.logger.Info("Reloading configuration...", "reason", reason)
	if _, err := l.agent.Reread(); err != nil {
		l.logger.Error("Failed to reload configuration", "error", err)
	}
}

// leave says goodbye to the cluster, then stops.
func (l *lifecycle) leave(stop context.CancelFunc, stopped <-chan error) int {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- l.agent.Leave(ctx) }()
	switch err := l.await(left, leaveTimeout); {
	case errors.Is(err, errSecondSignal), errors.Is(err, errGaveUp):
		l.logger.Error("Did not leave gracefully", "error", err)
		return exitFailed
	case err != nil:
		l.logger.Error("Did not leave gracefully", "error", err)
		return l.stop(stop, stopped)
	}
	stop()
	if err := l.await(stopped, stopTimeout); err != nil && !errors.Is(err, context.Canceled) {
		l.logger.Error("Did not stop in order", "error", err)
		return exitFailed
	}
	return exitOK
}

// stop ends the agent in order but without a word to the cluster, which counts
// as a failure.
func (l *lifecycle) stop(stop context.CancelFunc, stopped <-chan error) int {
	stop()
	if err := l.await(stopped, stopTimeout); err != nil && !errors.Is(err, context.Canceled) {
		l.logger.Error("Did not stop in order", "error", err)
	}
	return exitFailed
}

// Why the agent was not waited for any longer.
var (
	errSecondSignal = errors.New("a second signal came")
	errGaveUp       = errors.New("it took too long")
)

// await waits for the end of something, until it takes longer than limit or a
// second signal asks to be quick.
func (l *lifecycle) await(end <-chan error, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case err := <-end:
			return err
		case <-timer.C:
			return fmt.Errorf("%w: not done within %s", errGaveUp, limit)
		case received := <-l.signals:
			if received != syscall.SIGHUP {
				return errSecondSignal
			}
		}
	}
}
