package agent

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SyslogIdent is the name that the system's log knows the agent by, for which
// rules on servers that collect logs look.
const SyslogIdent = "consul"

// systemLog is the system's log: a message at a level.
type systemLog interface {
	write(level slog.Level, text string) error
	close() error
}

// Syslog hands messages to the system's log, without waiting for it. What it
// does not take in time is dropped, which a message tells.
type Syslog struct {
	to    systemLog
	lines chan syslogLine
	done  chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped int
}

type syslogLine struct {
	level slog.Level
	text  string
}

// OpenSyslog connects to the system's log. The facility is one of those that
// syslog_facility may have.
func OpenSyslog(facility string) (*Syslog, error) {
	to, err := dialSyslog(facility)
	if err != nil {
		return nil, err
	}
	return newSyslog(to), nil
}

func newSyslog(to systemLog) *Syslog {
	s := &Syslog{to: to, lines: make(chan syslogLine, maxSyslogLines), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for line := range s.lines {
			_ = to.write(line.level, line.text) // there is nowhere to tell it
		}
		_ = to.close()
	}()
	return s
}

// WriteLevel hands over a message of a level, without the time, which the
// system's log has itself.
func (s *Syslog) WriteLevel(level slog.Level, b []byte) (int, error) {
	text := strings.TrimSuffix(string(b), "\n")
	if first, rest, ok := strings.Cut(text, " "); ok && strings.HasSuffix(first, "Z") {
		text = rest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return len(b), nil
	}
	if s.dropped > 0 {
		select {
		case s.lines <- syslogLine{slog.LevelWarn, PhraseLinesDropped + ": lines=" + strconv.Itoa(s.dropped)}:
			s.dropped = 0
		default:
		}
	}
	select {
	case s.lines <- syslogLine{level, text}:
	default:
		s.dropped++
	}
	return len(b), nil
}

// Write hands over a message of no known level.
func (s *Syslog) Write(b []byte) (int, error) { return s.WriteLevel(slog.LevelInfo, b) }

// Close lets what waits be written, for a while. It may be called more than once.
func (s *Syslog) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.lines)
	}
	s.mu.Unlock()
	limit := time.NewTimer(syslogDrain)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
	}
	return nil
}
