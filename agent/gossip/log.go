package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// limiter lets few lines of a kind through, so that whoever can send a packet
// cannot fill a disk.
type limiter struct {
	mu    sync.Mutex
	kinds map[string]*kindCount
}

type kindCount struct {
	until      time.Time
	lines      int
	suppressed int
}

// allow reports whether a line may be written, and how many like it were not
// since the last.
func (l *limiter) allow(kind string, now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.kinds[kind]
	if c == nil {
		if len(l.kinds) >= maxLogKinds || l.kinds == nil {
			l.kinds = map[string]*kindCount{}
		}
		c = &kindCount{until: now.Add(logInterval)}
		l.kinds[kind] = c
	}
	if now.After(c.until) {
		suppressed = c.suppressed
		*c = kindCount{until: now.Add(logInterval)}
	}
	if c.lines++; c.lines > logBurst {
		c.suppressed++
		return false, 0
	}
	return true, suppressed
}

// limitedHandler passes few lines of each text on.
type limitedHandler struct {
	slog.Handler
	limit *limiter
}

// Handle passes the line on unless many like it were.
func (h limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	ok, suppressed := h.limit.allow(r.Message, r.Time)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler that adds attrs.
func (h limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitedHandler{h.Handler.WithAttrs(attrs), h.limit}
}

// WithGroup returns a handler that puts name before the keys that follow.
func (h limitedHandler) WithGroup(name string) slog.Handler {
	return limitedHandler{h.Handler.WithGroup(name), h.limit}
}

// libraryLog takes memberlist's lines. Most of what it calls an error is what
// networks do, and what this package says in its own words is left out.
type libraryLog struct {
	logger *slog.Logger
	limit  *limiter
}

func newLibraryLog(logger *slog.Logger, limit *limiter) *log.Logger {
	return log.New(&libraryLog{logger: logger, limit: limit}, "", 0)
}

// Write takes one line.
func (l *libraryLog) Write(b []byte) (int, error) {
	level, text := libraryLevel(string(bytes.TrimSpace(b)))
	if l.logger.Enabled(context.Background(), level) {
		kind, _, _ := strings.Cut(text, ":")
		kind, _, _ = strings.Cut(kind, "from=")
		if ok, suppressed := l.limit.allow(strings.Map(withoutDigits, kind), time.Now()); ok {
			args := []any{"library", "memberlist"}
			if suppressed > 0 {
				args = append(args, "suppressed", suppressed)
			}
			l.logger.Log(context.Background(), level, text, args...)
		}
	}
	return len(b), nil
}

func withoutDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

// quieted are parts of memberlist's lines that are about what networks do, or
// that this package says itself.
var quieted = []string{
	"Failed fallback TCP ping", "Push/Pull with", "Failed UDP ping", "Conflicting address for",
	"ignoring alive message for", "Failed push/pull merge: " + refusalMark, "Stream connection", "Initiating push/pull",
	"Failed to send gossip to", "Failed to send UDP ping", "Failed to send indirect", "Failed to send ack",
	"Failed to send UDP compound ping", "Got ping for unexpected node", "Suspect ", "Marking ", "Refuting an alive message",
	"Failed to push local state", "Failed to send error", "Failed to send nack", "Failed to forward ack",
}

// libraryLevel returns the level at which a line of memberlist's is worth
// reading, and the line without its own.
func libraryLevel(line string) (slog.Level, string) {
	level := slog.LevelInfo
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if word, text, ok := strings.Cut(rest, "] "); ok {
			line = text
			switch word {
			case "DEBUG", "TRACE":
				level = slog.LevelDebug
			case "INFO":
				level = slog.LevelInfo
			default:
				level = slog.LevelWarn
			}
		}
	}
	line = strings.TrimPrefix(line, "memberlist: ")
	for _, part := range quieted {
		if strings.Contains(line, part) {
			return min(level, slog.LevelDebug), line
		}
	}
	switch {
	case strings.Contains(line, undecipherable):
		line = "refused what another member sent: it is encrypted with another gossip key: " + line
	case strings.Contains(line, "encryption is configured but remote state is not encrypted"),
		strings.Contains(line, "Decrypt packet failed"):
		line = "refused what another member sent: it is not encrypted with this pool's gossip key: " + line
	case strings.Contains(line, "remote state is encrypted and encryption is not configured"):
		line = "refused what another member sent: it is encrypted, and this agent has no gossip key: " + line
	}
	return level, line
}

// undecipherable is part of memberlist's error about a key it does not have.
const undecipherable = "no installed keys could decrypt the message"
