package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
)

func TestServersThatWereAway(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const limit = 6 * time.Hour
	at := func(t time.Time) string { return `{"last_seen_unix": ` + strconv.FormatInt(t.Unix(), 10) + `}` }
	for _, c := range []struct{ name, content, want string }{
		{"one that never ran", "", ""},
		{"one that was away for just so long", at(now.Add(-limit)), ""},
		{"one that was away for longer", at(now.Add(-limit - time.Second)), "server_rejoin_age_max = 6h0m0s"},
		{"one that is from tomorrow", at(now.Add(24 * time.Hour)), ""},
		{"a damaged file", "{", "must hold"},
		{"a file of something else", "{}", "must hold"},
		{"a file of another type", `{"last_seen_unix": "x"}`, "must hold"},
	} {
		d := &dataDir{path: t.TempDir()}
		if c.content != "" {
			if err := os.WriteFile(filepath.Join(d.path, seenFile), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := d.checkSeen(now, limit)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, away := errors.AsType[*AwayError](err); away != strings.Contains(c.want, "rejoin") {
			t.Errorf("%s: is away %v", c.name, away)
		}
	}
	unreadable := &dataDir{path: t.TempDir()}
	if err := os.Mkdir(filepath.Join(unreadable.path, seenFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unreadable.checkSeen(now, limit); err == nil || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("a folder: %v", err)
	}
}

func TestBeingSeen(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		a := &Agent{dir: &dataDir{path: folder}, config: &config.Config{}, logger: slog.New(slog.NewTextHandler(&log, nil))}
		path := filepath.Join(folder, seenFile)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.beSeen(ctx) }()
		expect := func(when string, seen time.Time) {
			t.Helper()
			content, err := os.ReadFile(path)
			if want := `{"last_seen_unix":` + strconv.FormatInt(seen.Unix(), 10) + `}`; err != nil || string(content) != want {
				t.Errorf("%s: %s, %v, want %s", when, content, err, want)
			}
		}
		synctest.Wait()
		expect("at once", time.Now())
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		began := time.Now()
		time.Sleep(seenInterval - time.Second)
		synctest.Wait()
		expect("just before an hour", began)
		// Where something stands in the way, it is tried again sooner.
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "x"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !strings.Contains(log.String(), "cannot write down") {
			t.Errorf("the log is %s", log.String())
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(seenRetry)
		synctest.Wait()
		expect("a minute later", time.Now())
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
