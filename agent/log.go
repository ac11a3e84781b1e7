package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// LevelTrace is below slog.LevelDebug: what libraries say of each step.
const LevelTrace = slog.LevelDebug - 4

// ComponentKey is the attribute that names the part of the agent that speaks.
// It stands before the message, behind the agent's own name.
const ComponentKey = "component"

const rootComponent = "agent"

// NewLogger returns a logger that writes one line a message, as in
//
//	2006-01-02T15:04:05.000Z [INFO]  agent.server: text: key=value key2="two words"
//
// or, with asJSON, one object a line. Messages below level are left out; the
// level may change while the agent runs.
func NewLogger(w io.Writer, level slog.Leveler, asJSON bool) *slog.Logger {
	return slog.New(&lineHandler{out: &lockedWriter{w: w}, level: level, json: asJSON, component: rootComponent})
}

// levelWriter is a writer to whom the level of a message matters.
type levelWriter interface {
	WriteLevel(level slog.Level, b []byte) (int, error)
}

// lockedWriter keeps lines whole. All handlers of a logger share one.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) write(level slog.Level, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := writeLevel(l.w, level, b)
	return err
}

func writeLevel(w io.Writer, level slog.Level, b []byte) (int, error) {
	if leveled, ok := w.(levelWriter); ok {
		return leveled.WriteLevel(level, b)
	}
	return w.Write(b)
}

// Tee returns a writer to all of some writers. What one of them does not take,
// the others get all the same.
func Tee(all ...io.Writer) io.Writer {
	if len(all) == 1 {
		return all[0]
	}
	return tee(all)
}

type tee []io.Writer

// Write writes a message of no known level.
func (t tee) Write(b []byte) (int, error) { return t.WriteLevel(slog.LevelInfo, b) }

// WriteLevel writes a message of a level.
func (t tee) WriteLevel(level slog.Level, b []byte) (int, error) {
	var err error
	for _, w := range t {
		_, failure := writeLevel(w, level, b)
		err = errors.Join(err, failure)
	}
	return len(b), err
}

type lineHandler struct {
	out       *lockedWriter
	level     slog.Leveler
	json      bool
	component string
	group     string
	attrs     []slog.Attr
}

// Enabled reports whether messages of the level are written.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs returns a handler that adds attrs to every message.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		if a.Key == ComponentKey && h.group == "" {
			next.component = rootComponent + "." + a.Value.String()
			continue
		}
		next.attrs = flatten(next.attrs, h.group, a)
	}
	return &next
}

// WithGroup returns a handler that puts name before the keys that follow.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.group += name + "."
	return &next
}

// Handle writes one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	return h.out.write(r.Level, h.render(r, h.json))
}

// render is the line of a message, with its line end.
func (h *lineHandler) render(r slog.Record, asJSON bool) []byte {
	attrs := append([]slog.Attr(nil), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.group, a)
		return true
	})
	if asJSON {
		return h.object(r, attrs)
	}
	return h.line(r, attrs)
}

// flatten appends an attribute by its whole name, and a group by its members.
// Attributes without name and value are left out.
func flatten(attrs []slog.Attr, group string, a slog.Attr) []slog.Attr {
	if a.Equal(slog.Attr{}) {
		return attrs
	}
	a.Value = a.Value.Resolve()
	if a.Value.Kind() != slog.KindGroup {
		a.Key = group + a.Key
		return append(attrs, a)
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, member := range a.Value.Group() {
		attrs = flatten(attrs, group, member)
	}
	return attrs
}

func (h *lineHandler) line(r slog.Record, attrs []slog.Attr) []byte {
	var b bytes.Buffer
	b.WriteString(r.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
	fmt.Fprintf(&b, " %-7s ", "["+levelName(r.Level)+"]")
	b.WriteString(h.component + ": " + oneLine(r.Message))
	for i, a := range attrs {
		if i == 0 {
			b.WriteByte(':')
		}
		b.WriteString(" " + a.Key + "=" + quoted(a.Value.String()))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func (h *lineHandler) object(r slog.Record, attrs []slog.Attr) []byte {
	m := map[string]any{}
	for _, a := range attrs {
		switch a.Value.Kind() {
		case slog.KindBool, slog.KindInt64, slog.KindUint64:
			m[a.Key] = a.Value.Any()
		case slog.KindFloat64:
			if f := a.Value.Float64(); math.IsNaN(f) || math.IsInf(f, 0) {
				m[a.Key] = a.Value.String() // JSON has no such numbers
			} else {
				m[a.Key] = f
			}
		default:
			m[a.Key] = a.Value.String()
		}
	}
	m["@level"] = strings.ToLower(levelName(r.Level))
	m["@message"] = r.Message
	m["@module"] = h.component
	m["@timestamp"] = r.Time.Format("2006-01-02T15:04:05.000000Z07:00")
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // as people read it
	if err := encoder.Encode(m); err != nil {
		return h.line(r, attrs) // nothing in m can fail
	}
	return b.Bytes()
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	default:
		return "ERROR"
	}
}

// quoted puts a value in quotes where it would not read as one word, or would
// do something to the terminal.
func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \"=") || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// oneLine keeps a message from breaking its line, or from doing something to the
// terminal.
func oneLine(s string) string {
	if printable(s) {
		return s
	}
	escaped := strconv.Quote(strings.TrimRight(s, "\r\n"))
	return strings.ReplaceAll(escaped[1:len(escaped)-1], `\"`, `"`)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
