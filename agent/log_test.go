package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogLines(t *testing.T) {
	for _, c := range []struct {
		name string
		log  func(l *slog.Logger)
		want string // without the time
	}{
		{"a message", func(l *slog.Logger) { l.Info("text") }, "[INFO]  agent: text"},
		{"a part of the agent", func(l *slog.Logger) { l.With(ComponentKey, "server").Info("text", "key", "value", "key2", "two words") },
			`[INFO]  agent.server: text: key=value key2="two words"`},
		{"a part of a part", func(l *slog.Logger) { l.With(ComponentKey, "server").With(ComponentKey, "server.raft").Warn("text") }, "[WARN]  agent.server.raft: text"},
		{"levels", func(l *slog.Logger) { l.Error("a"); l.Debug("b"); l.Log(t.Context(), LevelTrace, "c") },
			"[ERROR] agent: a\n[DEBUG] agent: b\n[TRACE] agent: c"},
		{"numbers and times", func(l *slog.Logger) { l.Info("m", "n", 7, "d", 1500*time.Millisecond, "yes", true) }, "[INFO]  agent: m: n=7 d=1.5s yes=true"},
		{"an error", func(l *slog.Logger) { l.Info("m", "error", errors.New("no such file")) }, `[INFO]  agent: m: error="no such file"`},
		{"no error", func(l *slog.Logger) { l.Info("m", "error", nil) }, "[INFO]  agent: m: error=<nil>"},
		{"an empty value", func(l *slog.Logger) { l.Info("m", "v", "") }, `[INFO]  agent: m: v=""`},
		{"a value with marks", func(l *slog.Logger) { l.Info("m", "v", `a="b"`) }, `[INFO]  agent: m: v="a=\"b\""`},
		{"a value of several lines", func(l *slog.Logger) { l.Info("m", "v", "a\nb") }, `[INFO]  agent: m: v="a\nb"`},
		{"a value that would colour the terminal", func(l *slog.Logger) { l.Info("m", "v", "\x1b[31m") }, `[INFO]  agent: m: v="\x1b[31m"`},
		{"a value that is no text", func(l *slog.Logger) { l.Info("m", "v", "\xff") }, `[INFO]  agent: m: v="\xff"`},
		{"letters of the world", func(l *slog.Logger) { l.Info("größe", "v", "größe") }, "[INFO]  agent: größe: v=größe"},
		{"a message of several lines", func(l *slog.Logger) { l.Info("a \"b\"\n[INFO] c\n") }, `[INFO]  agent: a "b"\n[INFO] c`},
		{"values of the logger", func(l *slog.Logger) { l.With("a", 1).Info("m", "b", 2) }, "[INFO]  agent: m: a=1 b=2"},
		{"groups", func(l *slog.Logger) {
			l.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3, slog.Group("h", "d", 4))
		},
			"[INFO]  agent: m: a=1 g.b=2 g.c=3 g.h.d=4"},
		{"a group without a name", func(l *slog.Logger) { l.WithGroup("").Info("m", slog.Group("", "d", 4)) }, "[INFO]  agent: m: d=4"},
		{"nothing", func(l *slog.Logger) { l.Info("m", slog.Attr{}) }, "[INFO]  agent: m"},
		{"a component within a group", func(l *slog.Logger) { l.WithGroup("g").With(ComponentKey, "x").Info("m") }, "[INFO]  agent: m: g.component=x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.log(NewLogger(&out, LevelTrace, false))
			stamp := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z `)
			if got := stamp.ReplaceAllString(out.String(), ""); got != c.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if lines, stamps := strings.Count(out.String(), "\n"), len(stamp.FindAllString(out.String(), -1)); lines != stamps {
				t.Errorf("%d lines have %d times:\n%s", lines, stamps, out.String())
			}
		})
	}
}

func TestLogObjects(t *testing.T) {
	var out bytes.Buffer
	l := NewLogger(&out, LevelTrace, true).With(ComponentKey, "http")
	l.Warn("a <b>\nc", "n", 7, "yes", true, "f", 0.5, "nan", math.NaN(), "d", time.Second, "error", errors.New("x"), "@level", "forged", slog.Group("g", "k", "v"))
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("more than a line: %s", out.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	stamp, _ := got["@timestamp"].(string)
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z07:00", stamp); err != nil {
		t.Error(err)
	}
	delete(got, "@timestamp")
	want := map[string]any{
		"@level": "warn", "@message": "a <b>\nc", "@module": "agent.http",
		"n": 7.0, "yes": true, "f": 0.5, "nan": "NaN", "d": "1s", "error": "x", "g.k": "v",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
		delete(got, key)
	}
	if len(got) != 0 {
		t.Errorf("there is more: %v", got)
	}
	if !strings.Contains(out.String(), "a <b>") {
		t.Errorf("not as people read it: %s", out.String())
	}
}

func TestLogLevelChangesWhileRunning(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	l := NewLogger(&out, level, false).With(ComponentKey, "x")
	l.Debug("hidden")
	level.Set(slog.LevelDebug)
	l.Debug("shown")
	level.Set(slog.LevelError)
	l.Warn("hidden")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "agent.x: shown") {
		t.Errorf("got %s", got)
	}
}

func TestLogLinesStayWhole(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	l := NewLogger(&out, level, false)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			own := l.With("writer", "w")
			for range 100 {
				own.Info("message", "key", "value")
				level.Set(slog.LevelInfo)
			}
		})
	}
	writers.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 800 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if !strings.HasSuffix(line, "[INFO]  agent: message: writer=w key=value") {
			t.Fatalf("a torn line: %q", line)
		}
	}
}
