package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/leader"
)

// A leader whose disk is full hands over to a server that has room, and to nobody if
// there is none.
func TestFullLeaderYields(t *testing.T) {
	stats := func(last uint64, full bool) peerStats {
		return peerStats{ServerStats: leader.ServerStats{LastIndex: last, Full: full}}
	}
	fresh := peerStats{ServerStats: leader.ServerStats{LastIndex: 99, Fresh: "nonce"}}
	for name, c := range map[string]struct {
		looks  []bool // whether the disk is full
		leads  bool
		others map[string]peerStats // who is not there does not answer
		fails  error
		want   []string // to whom it was given
		said   string
	}{
		"one with room":       {[]bool{true, true}, true, map[string]peerStats{"b": stats(7, true), "c": stats(5, false)}, nil, []string{"c"}, "handed leadership over"},
		"the furthest":        {[]bool{true, true}, true, map[string]peerStats{"b": stats(5, false), "c": stats(7, false)}, nil, []string{"c"}, "handed leadership over"},
		"none has room":       {[]bool{true, true, true}, true, map[string]peerStats{"b": stats(7, true), "c": stats(7, true)}, nil, nil, "no other server has room"},
		"none answers":        {[]bool{true, true}, true, nil, nil, nil, "no other server has room"},
		"one lost its memory": {[]bool{true, true}, true, map[string]peerStats{"b": fresh}, nil, nil, "no other server has room"},
		"it follows":          {[]bool{true, true}, false, map[string]peerStats{"b": stats(7, false)}, nil, nil, "it cannot lead until"},
		"only for a moment":   {[]bool{true, false, true, false}, true, map[string]peerStats{"b": stats(7, false)}, nil, nil, ""},
		"it is never full":    {[]bool{false, false}, true, map[string]peerStats{"b": stats(7, false)}, nil, nil, ""},
		"it cannot be handed": {[]bool{true, true, true}, true, map[string]peerStats{"b": stats(7, false)}, errors.New("no"), []string{"b", "b"}, "cannot be handed over"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			var given []string
			full := false
			y := &yielder{
				full: func() error {
					if full {
						return errors.New("too little disk space")
					}
					return nil
				},
				leading: func() bool { return c.leads },
				voters:  func() []string { return []string{"b", "c"} },
				stats: func(_ context.Context, id string) (peerStats, error) {
					s, ok := c.others[id]
					if !ok {
						return s, errors.New("it does not answer")
					}
					return s, nil
				},
				give: func(_ context.Context, id string) error {
					given = append(given, id)
					return c.fails
				},
				log: slog.New(slog.NewTextHandler(&log, nil)),
			}
			for _, full = range c.looks {
				y.look(t.Context())
			}
			if !slices.Equal(given, c.want) {
				t.Errorf("handed over to %q, want %q", given, c.want)
			}
			lines := strings.Count(log.String(), "\n")
			if c.said == "" && lines > 0 || c.said != "" && (lines != 1 || !strings.Contains(log.String(), c.said)) {
				t.Errorf("the log says %q, want one line with %q", log.String(), c.said)
			}
		})
	}
}

// A disk that fills, and has room again, is told of once each.
func TestRoomIsTold(t *testing.T) {
	var log bytes.Buffer
	full, leads := false, false
	y := &yielder{
		full: func() error {
			if full {
				return errors.New("too little disk space")
			}
			return nil
		},
		leading: func() bool { return leads },
		voters:  func() []string { return []string{"b"} },
		stats:   func(context.Context, string) (peerStats, error) { return peerStats{}, nil },
		give:    func(context.Context, string) error { leads = false; return nil },
		log:     slog.New(slog.NewTextHandler(&log, nil)),
	}
	said := func(when string, looks int, want string) {
		t.Helper()
		log.Reset()
		for range looks {
			y.look(t.Context())
		}
		lines := strings.Count(log.String(), "level=WARN")
		if want == "" && lines > 0 || want != "" && (lines != 1 || !strings.Contains(log.String(), want)) {
			t.Errorf("%s the log says %q, want one warning with %q", when, log.String(), want)
		}
	}
	said("at first", 3, "")
	full = true
	said("when it is full", 5, "disk is full")
	full = false
	said("after one look", 1, "")
	full = true
	said("when it is full still", 3, "")
	full = false
	said("when it has room", 5, "has room again")
	full, leads = true, true
	said("when it is full and leads", 5, "handed leadership over")
	full = false
	said("when it has room after it led", 5, "has room again")
}
