package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// fakeSaver is a snapshot saver over a real folder, whose snapshots are one word.
type fakeSaver struct {
	snapshotSaver
	out, err bytes.Buffer
	index    uint64
	fail     func(index uint64) error
	at       []time.Duration // when each was tried
	began    time.Time
}

func newFakeSaver(t *testing.T, plan snapshotPlan) *fakeSaver {
	t.Helper()
	f := &fakeSaver{fail: func(uint64) error { return nil }, began: time.Now()}
	if plan.folder == "" {
		plan.folder = t.TempDir()
	}
	f.plan, f.streams = plan, streams{out: &f.out, err: &f.err}
	f.save = func(_ context.Context, folder string, name func(state.ArchiveMeta) string) (savedArchive, error) {
		f.at = append(f.at, time.Since(f.began))
		f.index++
		if err := f.fail(f.index); err != nil {
			return savedArchive{}, err
		}
		meta := state.ArchiveMeta{Index: f.index}
		path := filepath.Join(folder, name(meta))
		return savedArchive{path: path, meta: meta}, os.WriteFile(path, []byte("saved"), 0o600)
	}
	return f
}

// runFor runs the saver for a time of a test's own clock.
func (f *fakeSaver) runFor(t *testing.T, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := f.run(ctx); err != nil {
		t.Errorf("ended with %v, want nothing", err)
	}
}

func TestSnapshotAgentKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSaver(t, snapshotPlan{interval: time.Hour, retain: 2})
		foreign := []string{"consul-1.snap", "muster-20000101T000000Z-1.snap", "muster-19990101T000000Z-00000000000000000001.snap.gz", "notes"}
		for _, name := range foreign {
			if err := os.WriteFile(filepath.Join(f.plan.folder, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(f.plan.folder, "muster-19990101T000000Z-00000000000000000001.snap"), 0o700); err != nil {
			t.Fatal(err)
		}
		f.runFor(t, 4*time.Hour-time.Second)
		want := "consul-1.snap muster-19990101T000000Z-00000000000000000001.snap muster-19990101T000000Z-00000000000000000001.snap.gz " +
			"muster-20000101T000000Z-1.snap muster-20000101T020000Z-00000000000000000003.snap muster-20000101T030000Z-00000000000000000004.snap notes"
		if got := names(t, f.plan.folder); got != want {
			t.Errorf("the folder holds\n%s, want\n%s", got, want)
		}
		if got := fmt.Sprint(f.at); got != "[0s 1h0m0s 2h0m0s 3h0m0s]" {
			t.Errorf("saved at %s", got)
		}
		if got := f.out.String(); !strings.HasPrefix(got, "2000-01-01T00:00:00Z Saved and verified snapshot to index 1: ") || strings.Count(got, "\n") != 4 {
			t.Errorf("printed\n%s", got)
		}
		if f.err.Len() > 0 {
			t.Errorf("complained: %s", &f.err)
		}
	})
}

func TestSnapshotAgentKeepsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSaver(t, snapshotPlan{interval: time.Minute})
		f.runFor(t, 59*time.Minute+time.Second)
		if got := len(strings.Fields(names(t, f.plan.folder))); got != 60 {
			t.Errorf("%d files, want 60", got)
		}
	})
}

// A clock that was set back must not cost the snapshot that was just saved.
func TestSnapshotAgentKeepsWhatItJustSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSaver(t, snapshotPlan{retain: 1})
		future := filepath.Join(f.plan.folder, "muster-20300101T000000Z-00000000000000000009.snap")
		if err := os.WriteFile(future, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f.runFor(t, time.Hour)
		if got, want := names(t, f.plan.folder), "muster-20000101T000000Z-00000000000000000001.snap"; got != want {
			t.Errorf("the folder holds %s, want %s", got, want)
		}
	})
}

func TestSnapshotAgentBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSaver(t, snapshotPlan{interval: time.Hour, retain: 5})
		f.fail = func(index uint64) error {
			if index == 1 || index == 10 {
				return nil
			}
			return errors.New("no leader")
		}
		f.runFor(t, 3*time.Hour)
		want := []time.Duration{0, 3600, 3610, 3630, 3670, 3750, 3910, 4230, 4830, 5430, 9030, 9040, 9060, 9100, 9180, 9340, 9660, 10260}
		for i := range want {
			want[i] *= time.Second
		}
		if fmt.Sprint(f.at) != fmt.Sprint(want) {
			t.Errorf("tried at %v, want %v", f.at, want)
		}
		for _, line := range []string{
			"2000-01-01T01:00:00Z Error: cannot save a snapshot: no leader; failure 1 in a row, trying again in 10s\n",
			"failure 8 in a row, trying again in 10m0s\n",
			"2000-01-01T02:30:30Z Error: cannot save a snapshot: no leader; failure 1 in a row, trying again in 10s\n",
		} {
			if !strings.Contains(f.err.String(), line) {
				t.Errorf("no line %q in\n%s", line, &f.err)
			}
		}
		if got := len(strings.Fields(names(t, f.plan.folder))); got != 2 {
			t.Errorf("%d files are left, want the 2 that were saved", got)
		}
	})
}

// A pause is never longer than the interval.
func TestSnapshotAgentPause(t *testing.T) {
	s := &snapshotSaver{plan: snapshotPlan{interval: 15 * time.Second}}
	for failures, want := range map[int]time.Duration{1: 10 * time.Second, 2: 15 * time.Second, 1_000_000: 15 * time.Second} {
		if got := s.pauseAfter(failures); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
}

func TestSnapshotAgentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSaver(t, snapshotPlan{})
		f.fail = func(uint64) error { return errors.New("the disk is full") }
		if err := f.run(t.Context()); err == nil || err.Error() != "cannot save a snapshot: the disk is full" {
			t.Errorf("ended with %v", err)
		}
		if len(f.at) != 1 {
			t.Errorf("tried %d times", len(f.at))
		}
	})
}

// What a killed run left unfinished goes after a day, and not before.
func TestSnapshotAgentRemovesItsLitter(t *testing.T) {
	f := newFakeSaver(t, snapshotPlan{})
	for name, age := range map[string]time.Duration{
		".muster-snapshot-1.partial": stalePartial + time.Hour, ".muster-snapshot-2.partial": time.Hour, ".other-3.partial": 99 * time.Hour,
	} {
		path := filepath.Join(f.plan.folder, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.run(t.Context()); err != nil {
		t.Error(err)
	}
	if got := names(t, f.plan.folder); !strings.HasPrefix(got, ".muster-snapshot-2.partial .other-3.partial muster-") {
		t.Errorf("the folder holds %s", got)
	}
}

func TestSnapshotAgentCommand(t *testing.T) {
	whole := archiveOf(t, "a", "b")
	stub := newStubAgent(t, map[string]answer{
		"GET /v1/snapshot":               {body: string(whole)},
		"GET /v1/snapshot?dc=dc2&stale=": {body: string(whole)},
	})
	folder := filepath.Join(t.TempDir(), "a", "b")
	config := newFile(t, "agent.json", fmt.Appendf(nil, `{"snapshot_agent":{"http_addr":%q,"token":"secret","datacenter":"dc2",
		"snapshot":{"interval":"0s","retain":1,"stale":true},"local_storage":{"path":%q}}}`, stub.address(), folder))

	for range 2 {
		got := runLine("", "snapshot", "agent", "-config-file="+config)
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, "Saved and verified snapshot to index 2: "+folder) {
			t.Fatalf("exit code %d: %s%s", got.code, got.out, got.err)
		}
		if name := names(t, folder); !archiveName.MatchString(name) {
			t.Errorf("the folder holds %q", name)
		}
	}
	if ask := stub.last(t); ask.line != "GET /v1/snapshot?dc=dc2&stale=" || ask.header.Get("X-Consul-Token") != "secret" {
		t.Errorf("asked %s with %v", ask.line, ask.header)
	}

	// What flags say counts before the file.
	other := t.TempDir()
	got := runLine("", "snapshot", "agent", "-config-file="+config, "-interval=1h", "-once", "-local-path="+other, "-stale=false", "-datacenter=")
	if got.code != 0 || stub.last(t).line != "GET /v1/snapshot" || names(t, other) == "" {
		t.Errorf("exit code %d, asked %s: %s%s", got.code, stub.last(t).line, got.out, got.err)
	}

	// A failure of the only attempt is one of the command, and leaves nothing.
	stub.answers["GET /v1/snapshot"] = answer{body: string(whole[:100])}
	empty := t.TempDir()
	runLine("", "snapshot", "agent", "-once", "-http-addr="+stub.address(), "-local-path="+empty).
		check(t, expectation{err: "cannot save a snapshot: what was written cannot be restored", code: 1})
	if got := names(t, empty); got != "" {
		t.Errorf("the folder holds %s", got)
	}
}

func TestSnapshotAgentRefuses(t *testing.T) {
	for _, test := range []struct{ flags, file, want string }{
		{"", "", "-local-path must name the folder"},
		{"-local-path=x -interval=-1s", "", "must not be negative, and is -1s"},
		{"-local-path=x -interval=1ms", "", "at least 1s, and is 1ms"},
		{"-local-path=x -retain=-1", "", "must not be negative, and is -1"},
		{"", `{"snapshot_agent":{"snapshot":{"intervall":"1h"}}}`, `unknown field "intervall"`},
		{"", `{"snapshot_agent":{"snapshot":{"interval":"soon"}}}`, `snapshot.interval: time: invalid duration "soon"`},
		{"", `{} x`, "something follows the settings"},
		{"", `{"a":` + strings.Repeat(" ", maxSnapshotConfig), "larger than the limit of 1048576 bytes"},
	} {
		line := append([]string{"snapshot", "agent"}, strings.Fields(test.flags)...)
		if test.file != "" {
			line = append(line, "-config-file="+newFile(t, "c.json", []byte(test.file)))
		}
		runLine("", line...).check(t, expectation{err: test.want, code: 1})
	}
}

func FuzzSnapshotConfig(f *testing.F) {
	f.Add([]byte(`{"snapshot_agent":{"http_addr":"a","token":"b","datacenter":"c","snapshot":{"interval":"1h","retain":3,"stale":true},"local_storage":{"path":"d"}}}`))
	f.Add([]byte(`{"snapshot_agent":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := parseSnapshotConfig(text)
		if (config == nil) != (err != nil) {
			t.Fatalf("got %v, %v", config, err)
		}
		if err != nil {
			return
		}
		r := &snapshotAgentRunner{}
		if err := r.adopt(config, nil); err == nil && config.Agent.Snapshot.Retain != nil && r.plan.retain != *config.Agent.Snapshot.Retain {
			t.Errorf("retain is %d, want %d", r.plan.retain, *config.Agent.Snapshot.Retain)
		}
	})
}
