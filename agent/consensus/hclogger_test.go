package consensus

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		name string
		log  func(l hclog.Logger)
		want string // empty: nothing is written
	}{
		{"level and values", func(l hclog.Logger) { l.Warn("failed to contact", "server-id", "b", "time", 5) }, `level=WARN msg="failed to contact" server_id=b time=5`},
		{"error", func(l hclog.Logger) { l.Error("failed", "error", errors.New("no route")) }, `level=ERROR msg=failed error="no route"`},
		{"debug", func(l hclog.Logger) { l.Debug("small") }, `level=DEBUG msg=small`},
		{"trace is below", func(l hclog.Logger) { l.Trace("smaller") }, ""},
		{"off", func(l hclog.Logger) { l.Log(hclog.Off, "silent") }, ""},
		{"format", func(l hclog.Logger) { l.Info("initial", "servers", hclog.Fmt("%d of %d", 1, 2)) }, `level=INFO msg=initial servers="1 of 2"`},
		{"empty format", func(l hclog.Logger) { l.Info("initial", "servers", hclog.Format{}) }, `level=INFO msg=initial servers=""`},
		{"numbers", func(l hclog.Logger) { l.Info("n", "a", hclog.Hex(17), "b", hclog.Octal(8), "c", hclog.Binary(2)) }, `level=INFO msg=n a=0x11 b=010 c=0b10`},
		{"stringer", func(l hclog.Logger) { l.Info("level", "is", hclog.Warn) }, `level=INFO msg=level is=warn`},
		{"value without key", func(l hclog.Logger) { l.Info("odd", "a", 1, "b") }, `level=INFO msg=odd a=1 EXTRA_VALUE_AT_END=b`},
		{"key that is no text", func(l hclog.Logger) { l.Info("odd", 7, 1) }, `level=INFO msg=odd 7=1`},
		{"with", func(l hclog.Logger) { l.With("peer", "b").With("term", 3).Info("added") }, `level=INFO msg=added peer=b term=3`},
		{"named", func(l hclog.Logger) { l.Named("net").Named("pipe").Info("closed") }, `level=INFO msg="net.pipe: closed"`},
		{"standard logger", func(l hclog.Logger) { l.StandardLogger(nil).Printf("%d bytes\n", 3) }, `level=INFO msg="3 bytes"`},
		{"standard logger, forced", func(l hclog.Logger) {
			l.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error}).Print("bad")
		}, `level=ERROR msg=bad`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Value.Kind() == slog.KindTime {
					return slog.Attr{}
				}
				return a
			}})
			c.log(newLogger(slog.New(handler)))
			if got := strings.TrimSpace(out.String()); got != c.want {
				t.Errorf("wrote %s\nwant  %s", got, c.want)
			}
		})
	}
}

func TestLoggerLevel(t *testing.T) {
	for level, want := range map[slog.Level]hclog.Level{
		levelTrace: hclog.Trace, slog.LevelDebug: hclog.Debug, slog.LevelInfo: hclog.Info,
		slog.LevelWarn: hclog.Warn, slog.LevelError: hclog.Error, slog.LevelError + 1: hclog.Off,
	} {
		l := newLogger(slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: level})))
		l.SetLevel(hclog.Trace)
		got := []bool{l.IsTrace(), l.IsDebug(), l.IsInfo(), l.IsWarn(), l.IsError()}
		for i, is := range got {
			if is != (hclog.Level(i+1) >= want) {
				t.Errorf("at %v, level %v is wanted: %v", level, hclog.Level(i+1), is)
			}
		}
		if l.GetLevel() != want {
			t.Errorf("at %v: level %v, want %v", level, l.GetLevel(), want)
		}
	}
}
