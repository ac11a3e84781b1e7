package local

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-sd/muster/health"
)

// A registration in place of another one is there as a whole after a crash at
// any step of writing it, or the other one is.
func TestCrashWhileRegisteringAgain(t *testing.T) {
	for _, test := range []struct {
		name    string
		journal bool // it was complete
		written int  // files of the edit that were in place
		port    int
	}{
		{"before the journal", false, 0, 80},
		{"after the journal", true, 0, 81},
		{"after the first check", true, 1, 81},
		{"after all checks", true, 2, 81},
		{"before the journal is removed", true, 3, 81},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			r := open(t, Config{DataDir: folder})
			add(t, r, web("web-1", ttl("a"), ttl("b")))
			before := files(t, folder)

			other := open(t, Config{DataDir: t.TempDir()})
			reg := web("web-1", ttl("a"), ttl("b"))
			reg.Service.Port = 81
			for i := range reg.Checks {
				reg.Checks[i].Notes = "81"
			}
			add(t, other, reg)
			var e edit
			for _, f := range []struct{ folder, id string }{{checksFolder, "a"}, {checksFolder, "b"}, {servicesFolder, "web-1"}} {
				content, err := os.ReadFile(other.store.path(f.folder, f.id))
				if err != nil {
					t.Fatal(err)
				}
				e.files = append(e.files, file{r.store.path(f.folder, f.id), content})
			}
			if !e.needsJournal() {
				t.Fatal("the edit has no journal")
			}
			if test.journal {
				if err := r.store.begin(&e); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(filepath.Join(folder, journalFile+temporary), []byte(`[{"Pa`), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, f := range e.files[:test.written] {
				if err := writeSynced(f.path, f.content); err != nil {
					t.Fatal(err)
				}
			}

			var log strings.Builder
			again := reopen(t, folder, &log)
			if port := again.Services()[0].Port; port != test.port {
				t.Errorf("the service has port %d, want %d", port, test.port)
			}
			notes := ""
			if test.port == 81 {
				notes = "81"
			}
			for _, c := range again.Checks() {
				if c.Notes != notes {
					t.Errorf("check %s has the notes %q, want %q", c.ID, c.Notes, notes)
				}
			}
			expect(t, "files", files(t, folder), before)
			if finished := strings.Contains(log.String(), logFinished); finished != test.journal {
				t.Errorf("it was finished: %t, the log is\n%s", finished, &log)
			}
		})
	}
}

// A journal that could not be removed must not undo, at the next start, what was
// confirmed after it.
func TestJournalLeftBehind(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, web("web-1"))
	e := edit{files: []file{{r.store.path(servicesFolder, "web-1"), nil}}}
	if err := r.store.begin(&e); err != nil {
		t.Fatal(err)
	}
	add(t, r, web("web-1"))
	var log strings.Builder
	if again := reopen(t, folder, &log); len(again.Services()) != 1 {
		t.Errorf("the service is gone, the log is\n%s", &log)
	}
}

func TestJournalThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON":              `[{"Path":"services/a"`,
		"a file somewhere else": `[{"Path":"../a","Content":"e30="}]`,
		"an absolute path":      `[{"Path":"/etc/passwd"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, journalFile)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{DataDir: folder, Node: testNode, Logger: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("err = %v, want one that names %s", err, path)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the journal is gone: %v", err)
			}
		})
	}
}

// An instance that is registered while others are on their way to the catalog
// gets there with its checks, and never by half.
func TestRegisterWhilePushing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()
		late := web("web-2", ttl("b"))
		late.Normalize()
		cat.fault = func(*health.Register) error {
			cat.fault = nil
			return r.addService(t.Context(), &late, false)
		}
		add(t, r, web("web-1", ttl("a")))
		synctest.Wait()
		expect(t, "the catalog", cat.wrote(), "+web-1,a=critical +web-2,b=critical")
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`[{"Path":"services/a","Content":"e30="},{"Path":"checks/b","Content":null}]`))
	f.Add([]byte(`[{"Path":"../a"}]`))
	s := &store{folder: "/data"}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := s.decodeJournal(content)
		if err != nil {
			return
		}
		for _, f := range e.files {
			if f.path != s.folder && !strings.HasPrefix(f.path, s.folder+"/") {
				t.Errorf("%q leads to %s", content, f.path)
			}
		}
	})
}
