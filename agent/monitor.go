package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// monitors sends what is logged to those who follow it, each at a level of its
// own. Its methods may be called from any goroutine.
type monitors struct {
	mu  sync.Mutex
	all map[*monitor]struct{}
	// least is the lowest level that anybody follows.
	least atomic.Int64
}

// monitor is one who follows the log.
type monitor struct {
	level slog.Level
	json  bool
	lines chan []byte

	mu      sync.Mutex
	dropped int // lines since the last one that found room
}

// levelNobody is a level that no message has.
const levelNobody = math.MaxInt64

func newMonitors() *monitors {
	m := &monitors{all: map[*monitor]struct{}{}}
	m.least.Store(levelNobody)
	return m
}

// follow sends the lines of a level or above it until ctx ends. Who does not
// keep up loses lines, and is told how many with the next one.
func (m *monitors) follow(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error) {
	f := &monitor{level: level, json: asJSON, lines: make(chan []byte, maxMonitorLines)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) >= maxMonitors {
		return nil, fmt.Errorf("%d clients follow the log already, as many as may at once", len(m.all))
	}
	m.all[f] = struct{}{}
	m.settle()
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.all, f)
		m.settle()
	})
	return f.lines, nil
}

// settle keeps the lowest level that is followed. The caller holds the lock.
func (m *monitors) settle() {
	least := int64(levelNobody)
	for f := range m.all {
		least = min(least, int64(f.level))
	}
	m.least.Store(least)
}

// send gives a message to all who follow its level. It never waits for them.
func (m *monitors) send(shape *lineHandler, r slog.Record) {
	var plain, object []byte
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range m.all {
		if r.Level < f.level {
			continue
		}
		line := &plain
		if f.json {
			line = &object
		}
		if *line == nil {
			*line = shape.render(r, f.json)
		}
		f.offer(*line)
	}
}

// offer puts a line into the queue if there is room.
func (f *monitor) offer(line []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped > 0 {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, PhraseLinesDropped, 0)
		r.AddAttrs(slog.Int("lines", f.dropped))
		select {
		case f.lines <- (&lineHandler{component: rootComponent}).render(r, f.json):
			f.dropped = 0
		default:
			f.dropped++
			return
		}
	}
	select {
	case f.lines <- line:
	default:
		f.dropped++
	}
}

// tee returns a logger that writes what l does, and sends it to those who follow
// the log too.
func (m *monitors) tee(l *slog.Logger) *slog.Logger {
	return slog.New(&teeHandler{base: l.Handler(), shape: &lineHandler{component: rootComponent}, to: m})
}

// teeHandler is a handler whose messages are also followed.
type teeHandler struct {
	base  slog.Handler
	shape *lineHandler // what was attached, for the lines of those who follow
	to    *monitors
}

// Enabled reports whether the agent writes messages of the level, or anybody
// follows them.
func (h *teeHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return int64(l) >= h.to.least.Load() || h.base.Enabled(ctx, l)
}

// WithAttrs returns a handler that adds attrs to every message.
func (h *teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &teeHandler{base: h.base.WithAttrs(attrs), shape: h.shape.WithAttrs(attrs).(*lineHandler), to: h.to}
}

// WithGroup returns a handler that puts name before the keys that follow.
func (h *teeHandler) WithGroup(name string) slog.Handler {
	return &teeHandler{base: h.base.WithGroup(name), shape: h.shape.WithGroup(name).(*lineHandler), to: h.to}
}

// Handle writes a message and sends it to those who follow.
func (h *teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if int64(r.Level) >= h.to.least.Load() {
		h.to.send(h.shape, r)
	}
	if !h.base.Enabled(ctx, r.Level) {
		return nil
	}
	return h.base.Handle(ctx, r)
}
