package main

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhyAServerDoesNotComeBackIsRepeated(t *testing.T) {
	for _, c := range []struct {
		name    string
		signals []sent
		lines   int
		took    time.Duration
	}{
		{"for a minute", nil, 6, time.Minute},
		{"until a signal", []sent{{syscall.SIGTERM, 25 * time.Second}}, 3, 25 * time.Second},
		{"not until a hangup", []sent{{syscall.SIGHUP, time.Second}, {os.Interrupt, time.Second}}, 1, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, pendingSignals)
				go func() {
					for _, s := range c.signals {
						<-time.After(s.after)
						signals <- s.signal
					}
				}()
				var log strings.Builder
				began := time.Now()
				repeat(slog.New(slog.NewTextHandler(&log, nil)), errors.New("it was away"), signals)
				if n := strings.Count(log.String(), "it was away"); n != c.lines || time.Since(began) != c.took {
					t.Errorf("%d lines in %v, want %d in %v", n, time.Since(began), c.lines, c.took)
				}
			})
		})
	}
}
