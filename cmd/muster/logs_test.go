package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
)

type closingBuffer struct {
	bytes.Buffer
	closed bool
}

func (c *closingBuffer) Close() error { c.closed = true; return nil }

func TestLogsOfAnAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	var out bytes.Buffer
	var system closingBuffer
	asked := ""
	w, closeLogs, err := openLogs(&config.Config{LogFile: path, Syslog: true, SyslogFacility: "LOCAL3"}, &out, nil, func(facility string) (leveledLog, error) {
		asked = facility
		return &system, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("line\n")); err != nil {
		t.Error(err)
	}
	if err := closeLogs(); err != nil || !system.closed {
		t.Errorf("closed %v, %v", system.closed, err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "line\n" || out.String() != "line\n" || system.String() != "line\n" || asked != "LOCAL3" {
		t.Errorf("%q, %v, %q, %q of %s", content, err, &out, &system, asked)
	}
	if w, _, err := openLogs(&config.Config{}, &out, nil, nil); err != nil || w != &out {
		t.Errorf("none: %v, %v", w, err)
	}
	if _, _, err := openLogs(&config.Config{LogFile: filepath.Dir(path)}, &out, nil, nil); err == nil || !strings.Contains(err.Error(), "log_file") {
		t.Errorf("a folder: %v", err)
	}
}

func TestSyslogMayComeLater(t *testing.T) {
	for _, c := range []struct {
		name  string
		comes int // at which try
		told  time.Duration
		tries int
		took  time.Duration
		want  string
	}{
		{"there", 1, 0, 1, 0, ""},
		{"later", 3, 0, 3, 2 * syslogPause, ""},
		{"never", 99, 0, 12, 11 * syslogPause, "tried 12 times: nobody is there"},
		{"a signal comes first", 99, 7 * time.Second, 2, 7 * time.Second, "tried 2 times"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, pendingSignals)
				if c.told > 0 {
					go func() {
						<-time.After(c.told)
						signals <- syscall.SIGTERM
					}()
				}
				tries, began := 0, time.Now()
				log, err := awaitSyslog("LOCAL0", signals, func(string) (leveledLog, error) {
					if tries++; tries < c.comes {
						return nil, errors.New("nobody is there")
					}
					return &closingBuffer{}, nil
				})
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || (log == nil) == (err == nil) {
					t.Errorf("%v, %v", log, err)
				}
				if tries != c.tries || time.Since(began) != c.took {
					t.Errorf("%d tries in %v, want %d in %v", tries, time.Since(began), c.tries, c.took)
				}
			})
		})
	}
}

// What an agent says is in the file as it is on standard output.
func TestE2ELogFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := newSettings(t, `log_file = "`+folder+`/"`)
	p := startServer(t, s)
	p.signal(t, syscall.SIGTERM)
	content, err := os.ReadFile(filepath.Join(folder, "consul.log"))
	_, logged, found := strings.Cut(p.out.String(), "as it occurs:\n\n")
	if err != nil || !found || string(content) != logged {
		t.Errorf("%v; standard output has\n%s\nthe file has\n%s", err, logged, content)
	}
}
