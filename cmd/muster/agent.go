package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/config"
)

func agentCommand() *command {
	return &command{
		name:    "agent",
		summary: "Run the agent until a signal ends it",
		details: `Settings come from files, flags and fragments; a later source counts before an
earlier one: files in their order, then flags, then -hcl.

SIGHUP reads the settings again, and so does a change of their files with
auto_reload_config. SIGINT and SIGTERM end the agent: after a graceful
leave with exit code 0, where leave_on_terminate and skip_leave_on_interrupt ask for
one, else at once with exit code 1. A second of these signals does not wait.`,
		examples: []example{
			{"For development: in memory, on the loopback address", "muster agent -dev"},
			{"A server of its own, with its data on disk", "muster agent -server -bootstrap-expect=1 -data-dir=/var/lib/muster"},
			{"With a folder of settings", "muster agent -config-dir=/etc/muster.d"},
		},
		new: func() runner { return &agentRunner{start: startAgent} },
	}
}

// start makes an agent that is ready to run.
type start func(agent.Options) (process, error)

// startAgent makes a real one.
func startAgent(options agent.Options) (process, error) {
	made, err := agent.New(options)
	if err != nil {
		return nil, err // not the nil *agent.Agent, which would be no nil process
	}
	return made, nil
}

type agentRunner struct {
	flags *config.Flags
	start start
}

func (r *agentRunner) define(flags *flag.FlagSet) { r.flags = config.RegisterFlags(flags) }

func (r *agentRunner) run(streams streams, _ []string) error {
	paceCollector()
	signals, stop := watchSignals()
	defer stop()
	life, err := r.prepare(streams, signals)
	if err != nil {
		printStartError(streams.err, err)
		return exitStatus(exitFailed)
	}
	defer func() { _ = life.close() }() // what is said from here on is on standard error
	ctx, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	life.changed = r.watch(ctx, life.config)
	removePidFile, err := writePidFile(life.config.PidFile)
	if err != nil {
		printStartError(streams.err, err)
		return exitStatus(exitFailed)
	}
	defer removePidFile()
	if code := life.run(); code != exitOK {
		return exitStatus(code)
	}
	return nil
}

// prepare reads the configuration, says what is about to start, and makes the
// agent.
func (r *agentRunner) prepare(streams streams, signals <-chan os.Signal) (*lifecycle, error) {
	cfg, err := r.load()
	if err != nil {
		return nil, err
	}
	if !cfg.LogJSON {
		printBanner(streams.out, cfg)
	}
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	out, closeLogs, err := openLogs(cfg, streams.out, signals, openSyslog)
	if err != nil {
		return nil, err
	}
	logger := agent.NewLogger(out, level, cfg.LogJSON)
	for _, warning := range cfg.Warnings {
		logger.Warn(warning)
	}
	made, err := r.start(agent.Options{Config: cfg, Logger: logger, Level: level, Reload: r.load})
	if err != nil {
		if _, away := errors.AsType[*agent.AwayError](err); away {
			repeat(logger, err, signals)
		}
		return nil, errors.Join(err, closeLogs())
	}
	return &lifecycle{agent: made, config: cfg, signals: signals, logger: logger, errors: streams.err, close: closeLogs}, nil
}

// repeat logs for a while why the agent does not run, until a signal ends that.
func repeat(logger *slog.Logger, err error, signals <-chan os.Signal) {
	pause := time.NewTicker(awayPause)
	defer pause.Stop()
	for range awayLines {
		logger.Error(err.Error())
		if !waitUnlessTold(pause.C, signals) {
			return
		}
	}
}

// waitUnlessTold waits for a tick, and reports whether no signal asked to end.
func waitUnlessTold(tick <-chan time.Time, signals <-chan os.Signal) bool {
	for {
		select {
		case <-tick:
			return true
		case received := <-signals:
			if received != syscall.SIGHUP {
				return false
			}
		}
	}
}

// watch tells when the files of the configuration changed, if it asks for that,
// until ctx ends. Changes while one is attended to are one.
func (r *agentRunner) watch(ctx context.Context, cfg *config.Config) <-chan struct{} {
	if !cfg.AutoReload {
		return nil
	}
	changed := make(chan struct{}, 1)
	go config.Watch(ctx, r.flags.Sources(), func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	return changed
}

// load reads every source of the command line, as it is now.
func (r *agentRunner) load() (*config.Config, error) {
	return config.Load(r.flags.Sources())
}

// printStartError says why the agent does not run, in the shape that people
// look for at the end of a log.
func printStartError(w io.Writer, err error) { fmt.Fprintf(w, "==> %v\n", err) }
