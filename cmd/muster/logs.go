package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/config"
)

// leveledLog is a log that wants to be closed.
type leveledLog interface {
	io.Writer
	io.Closer
}

// openSyslog is how the system's log is reached.
func openSyslog(facility string) (leveledLog, error) {
	made, err := agent.OpenSyslog(facility)
	if err != nil {
		return nil, err // not the nil *agent.Syslog, which would be no nil log
	}
	return made, nil
}

// openLogs returns what writes to all the logs that the configuration names,
// beside standard output.
func openLogs(cfg *config.Config, out io.Writer, signals <-chan os.Signal, syslog func(string) (leveledLog, error)) (io.Writer, func() error, error) {
	all, opened := []io.Writer{out}, []io.Closer{}
	closeAll := func() error {
		var err error
		for _, l := range opened {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	if cfg.LogFile != "" {
		file, err := agent.OpenLogFile(agent.LogFileConfig{
			Path: cfg.LogFile, MaxBytes: cfg.LogRotateBytes, MaxAge: cfg.LogRotateDuration, MaxFiles: cfg.LogRotateMaxFiles,
		})
		if err != nil {
			return nil, nil, err
		}
		all, opened = append(all, file), append(opened, file)
	}
	if cfg.Syslog {
		log, err := awaitSyslog(cfg.SyslogFacility, signals, syslog)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		all, opened = append(all, log), append(opened, log)
	}
	return agent.Tee(all...), closeAll, nil
}

// awaitSyslog looks for the system's log until it is there, a signal asks to end,
// or it took too long.
func awaitSyslog(facility string, signals <-chan os.Signal, open func(string) (leveledLog, error)) (leveledLog, error) {
	pause := time.NewTicker(syslogPause)
	defer pause.Stop()
	for try := 1; ; try++ {
		log, err := open(facility)
		if err == nil {
			return log, nil
		}
		if try == syslogTries || !waitUnlessTold(pause.C, signals) {
			return nil, fmt.Errorf("cannot write to syslog (see enable_syslog), tried %d times: %w", try, err)
		}
	}
}
