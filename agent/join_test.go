package agent

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestProvidersStandForNoAddress(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	got := known([]string{"10.0.0.1", "provider=aws tag_key=x secret_access_key=hush", "host:8301", "tag_key=y provider=nobody"}, logger)
	if !slices.Equal(got, []string{"10.0.0.1", "host:8301"}) {
		t.Errorf("got %q", got)
	}
	text := log.String()
	if strings.Count(text, "level=ERROR") != 2 || !strings.Contains(text, `unknown provider \"aws\"`) || !strings.Contains(text, `unknown provider \"nobody\"`) || strings.Contains(text, "hush") {
		t.Errorf("the log is %s", text)
	}
	if got := known([]string{"provider=aws"}, logger); got != nil {
		t.Errorf("got %q", got)
	}
}
