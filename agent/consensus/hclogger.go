package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// levelTrace is where Raft's trace level stands among slog's.
const levelTrace = slog.LevelDebug - 4

// logger is the [hclog.Logger] that Raft writes to, on a [slog.Logger].
type logger struct {
	out     *slog.Logger
	name    string
	implied []any
}

var _ hclog.Logger = (*logger)(nil)

func newLogger(out *slog.Logger) *logger { return &logger{out: out} }

// slogLevel returns where an hclog level stands.
func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return levelTrace
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Log writes one line, unless its level is not wanted.
func (l *logger) Log(level hclog.Level, message string, args ...any) {
	if level == hclog.Off || !l.enabled(level) || ofForgetting(args) {
		return
	}
	if strings.HasPrefix(message, "failed to heartbeat to") {
		level = hclog.Debug // twice a second; that a server is out of contact is said beside it
	}
	l.out.LogAttrs(context.Background(), slogLevel(level), l.prefix()+message, attributes(args)...)
}

// ofForgetting reports whether a line is about the call by which Raft is made to
// forget its leader: it names the entry that no log has, and is no news.
func ofForgetting(args []any) bool {
	return len(args) > 1 && args[0] == "previous-index" && args[1] == forgottenIndex
}

func (l *logger) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }
func (l *logger) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }
func (l *logger) Info(message string, args ...any)  { l.Log(hclog.Info, message, args...) }
func (l *logger) Warn(message string, args ...any)  { l.Log(hclog.Warn, message, args...) }
func (l *logger) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

func (l *logger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *logger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *logger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *logger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *logger) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs returns the keys and values given to With.
func (l *logger) ImpliedArgs() []any { return l.implied }

// With returns a logger that adds keys and values to each line.
func (l *logger) With(args ...any) hclog.Logger {
	values := attributes(args)
	added := make([]any, len(values))
	for i, value := range values {
		added[i] = value
	}
	return &logger{out: l.out.With(added...), name: l.name, implied: append(slices.Clip(l.implied), args...)}
}

// Name returns what Named has put together.
func (l *logger) Name() string { return l.name }

// Named returns a logger whose messages begin with name, after the names
// before it.
func (l *logger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

// ResetNamed returns a logger whose messages begin with name.
func (l *logger) ResetNamed(name string) hclog.Logger {
	return &logger{out: l.out, name: name, implied: l.implied}
}

// SetLevel does nothing: the level is the [slog.Logger]'s.
func (l *logger) SetLevel(hclog.Level) {}

// GetLevel returns the lowest level that is written.
func (l *logger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

// StandardLogger returns a logger of the standard library that writes here.
func (l *logger) StandardLogger(options *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(options), "", 0)
}

// StandardWriter returns a writer whose lines become messages, at the forced
// level of options or else as information.
func (l *logger) StandardWriter(options *hclog.StandardLoggerOptions) io.Writer {
	level := hclog.Info
	if options != nil && options.ForceLevel != hclog.NoLevel {
		level = options.ForceLevel
	}
	return &lineWriter{logger: l, level: level}
}

func (l *logger) enabled(level hclog.Level) bool {
	return l.out.Enabled(context.Background(), slogLevel(level))
}

func (l *logger) prefix() string {
	if l.name == "" {
		return ""
	}
	return l.name + ": "
}

// lineWriter logs what is written to it. The standard library's logger writes
// a whole line at a time.
type lineWriter struct {
	logger *logger
	level  hclog.Level
}

func (w *lineWriter) Write(line []byte) (int, error) {
	w.logger.Log(w.level, strings.TrimRight(string(line), " \t\r\n"))
	return len(line), nil
}

// attributes pairs hclog's alternating keys and values. A value without a key
// keeps the key that hclog has for it.
func attributes(args []any) []slog.Attr {
	result := make([]slog.Attr, 0, (len(args)+1)/2)
	for len(args) > 0 {
		if len(args) == 1 {
			return append(result, slog.Any(hclog.MissingKey, plain(args[0])))
		}
		key, ok := args[0].(string)
		if !ok {
			key = fmt.Sprint(args[0])
		}
		result = append(result, slog.Any(strings.ReplaceAll(key, "-", "_"), plain(args[1])))
		args = args[2:]
	}
	return result
}

// plain writes out what a handler could not: hclog's own formats, and values
// such as the Raft node itself, whose fields must not be looked at.
func plain(value any) any {
	switch v := value.(type) {
	case hclog.Format:
		if format, ok := first(v).(string); ok {
			return fmt.Sprintf(format, v[1:]...)
		}
		return ""
	case hclog.Hex:
		return fmt.Sprintf("0x%x", int(v))
	case hclog.Octal:
		return fmt.Sprintf("0%o", int(v))
	case hclog.Binary:
		return fmt.Sprintf("0b%b", int(v))
	case hclog.Quote:
		return fmt.Sprintf("%q", string(v))
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	return value
}

func first(format hclog.Format) any {
	if len(format) == 0 {
		return nil
	}
	return format[0]
}
