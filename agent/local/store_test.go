package local

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// files lists the files of a data directory, hashes cut short.
func files(t testing.TB, folder string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(folder, path)
			at := strings.LastIndex(name, "/") + 1
			out = append(out, name[:at]+name[at:min(at+4, len(name))])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// reopen starts an agent on the data directory of another that was killed.
func reopen(t *testing.T, folder string, log *strings.Builder) *Registry {
	t.Helper()
	return open(t, Config{DataDir: folder, Logger: slog.New(slog.NewTextHandler(log, nil))})
}

func TestRestart(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	full := check.Registration{Token: "secret", Service: catalog.Service{
		ID: "web-1", Name: "web", Kind: "k", Tags: []string{"b", "a"}, Address: "10.1.1.1", Port: 80,
		Meta: map[string]string{"k": "v"}, Weights: catalog.Weights{Passing: 3, Warning: 2}, EnableTagOverride: true,
		Locality: &catalog.Locality{Region: "r", Zone: "z"}, Proxy: []byte(`{"Mode":"x"}`), Native: true,
		TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "h", Port: 1}},
	}, Checks: []check.Definition{
		{TTL: time.Hour, Notes: "n"},
		{HTTP: "http://a", Method: "POST", Header: map[string][]string{"X": {"1", "2"}}, Body: "b", Interval: time.Minute, Timeout: time.Second,
			SuccessBeforePassing: 1, FailuresBeforeWarning: 2, FailuresBeforeCritical: 3, DisableRedirects: true, OutputMaxSize: 9,
			DeregisterCriticalServiceAfter: time.Hour, TLSServerName: "t", TLSSkipVerify: true, Status: "passing"},
		{TCP: "a:1", TCPUseTLS: true, Interval: time.Minute},
	}}
	add(t, r, full)
	if err := r.AddCheck(t.Context(), ttl("disk")); err != nil {
		t.Fatal(err)
	}
	if err := r.AddCheck(t.Context(), ttl("quiet")); err != nil {
		t.Fatal(err)
	}
	add(t, r, web("gone", ttl("gone")))
	if err := r.UpdateTTL(t.Context(), "gone", "passing", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveService(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateTTL(t.Context(), "disk", "warning", "half full"); err != nil {
		t.Fatal(err)
	}

	var log strings.Builder
	again := reopen(t, folder, &log)
	if !reflect.DeepEqual(again.Services(), r.Services()) {
		t.Errorf("services were\n%+v, are\n%+v", *r.Services()[0], *again.Services()[0])
	}
	expect(t, "states", states(again), "disk=warning quiet=critical service:web-1:1=critical service:web-1:2=critical service:web-1:3=critical")
	expect(t, "output", again.Checks()[0].Output, "half full")
	for i, now := range again.Checks() {
		before := *r.Checks()[i]
		before.Status = now.Status
		if !reflect.DeepEqual(*now, before) {
			t.Errorf("check was\n%+v, is\n%+v", before, *now)
		}
		if before, now := r.checks[now.ID].def, again.checks[now.ID].def; !reflect.DeepEqual(before, now) {
			t.Errorf("definition was\n%+v, is\n%+v", before, now)
		}
	}
	expect(t, "the log", log.String(), "")
}

func TestFilesOnDisk(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, check.Registration{Service: catalog.Service{Name: "api1"}, Checks: []check.Definition{{TTL: time.Minute}}})
	if err := r.UpdateTTL(t.Context(), "service:api1", "passing", "ok"); err != nil {
		t.Fatal(err)
	}
	for path, part := range map[string]map[string]any{
		"services/5dd80892943653db3a5bb990e3365ac94bea8494c2f247dd11cfc2f762c268af":     {"Source": "remote", "LocallyRegisteredAsSidecar": false, "Token": ""},
		"checks/72854add24831ed99296ed48b0addf032f75c7187cf49caf61980c2866f17bdd":       {"Source": "remote", "Token": ""},
		"checks/state/72854add24831ed99296ed48b0addf032f75c7187cf49caf61980c2866f17bdd": {"CheckID": "service:api1", "Output": "ok", "Status": "passing"},
	} {
		path = filepath.Join(folder, path)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(content, &got); err != nil {
			t.Error(err)
		}
		for key, want := range part {
			if got[key] != want {
				t.Errorf("%s: %s is %v, want %v", path, key, got[key], want)
			}
		}
		if info, _ := os.Stat(path); info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if info, _ := os.Stat(filepath.Dir(path)); info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", filepath.Dir(path), info.Mode())
		}
	}
	content, err := os.ReadFile(r.store.path(checksFolder, "service:api1"))
	if err != nil || !strings.Contains(string(content), `"TTL":60000000000`) {
		t.Errorf("the TTL is not in nanoseconds: %s", content)
	}
}

func TestDamagedFiles(t *testing.T) {
	const damaged = "level=ERROR"
	for _, c := range []struct {
		about  string
		damage func(t *testing.T, r *Registry)
		ids    string
		states string
		log    string // a part of it
	}{
		{"cut short", func(t *testing.T, r *Registry) { cut(t, r.store.path(servicesFolder, "web-1"), 10) }, "web-2", "b=critical", damaged},
		{"empty", func(t *testing.T, r *Registry) { cut(t, r.store.path(servicesFolder, "web-1"), 0) }, "web-2", "b=critical", damaged},
		{"zeros", func(t *testing.T, r *Registry) {
			write(t, r.store.path(checksFolder, "a"), strings.Repeat("\x00", 500))
		}, "web-1 web-2", "b=critical", damaged},
		{"too large", func(t *testing.T, r *Registry) {
			write(t, r.store.path(checksFolder, "a"), strings.Repeat(" ", MaxFileSize+1))
		}, "web-1 web-2", "b=critical", "it has more than 4194304 bytes"},
		{"no ID", func(t *testing.T, r *Registry) { write(t, r.store.path(servicesFolder, "web-1"), "{}") }, "web-2", "b=critical", "it has no service ID"},
		{"another's name", func(t *testing.T, r *Registry) {
			os.Rename(r.store.path(checksFolder, "a"), r.store.path(checksFolder, "z"))
		}, "web-1 web-2", "b=critical a=critical", "does not belong into a file of this name"},
		{"invalid service", func(t *testing.T, r *Registry) {
			write(t, r.store.path(servicesFolder, "web-1"), `{"Service":{"ID":"web-1"},"Source":"remote"}`)
		}, "web-2", "b=critical", "Missing service name"},
		{"unfinished write", func(t *testing.T, r *Registry) {
			write(t, r.store.path(servicesFolder, "web-3")+".tmp", "{")
		}, "web-1 web-2", "a=critical b=critical", logTemporary},
		{"unknown source", func(t *testing.T, r *Registry) {
			write(t, r.store.path(servicesFolder, "web-1"), `{"Service":{"ID":"web-1","Service":"x"},"Source":"moon"}`)
		}, "web-2", "b=critical", whySource},
		{"state cut short", func(t *testing.T, r *Registry) {
			write(t, r.store.path(stateFolder, "a"), `{"CheckID":"a`)
		}, "web-1 web-2", "a=critical b=critical", damaged},
		{"state with an unknown status", func(t *testing.T, r *Registry) {
			write(t, r.store.path(stateFolder, "a"), `{"CheckID":"a","Status":"splendid","Expires":99999999999}`)
		}, "web-1 web-2", "a=critical b=critical", logPurged},
		{"state that has expired", func(t *testing.T, r *Registry) {
			write(t, r.store.path(stateFolder, "a"), `{"CheckID":"a","Status":"passing","Expires":1000}`)
		}, "web-1 web-2", "a=critical b=critical", "it has expired"},
	} {
		t.Run(c.about, func(t *testing.T) {
			folder := t.TempDir()
			r := open(t, Config{DataDir: folder})
			add(t, r, web("web-1", ttl("a")))
			add(t, r, web("web-2", ttl("b")))
			c.damage(t, r)
			var log strings.Builder
			again := reopen(t, folder, &log)
			expect(t, "services", ids(again), c.ids)
			if got := strings.Fields(states(again)); !slices.Equal(got, slices.Sorted(slices.Values(strings.Fields(c.states)))) {
				t.Errorf("checks are %q, want %q", got, c.states)
			}
			if !strings.Contains(log.String(), c.log) {
				t.Errorf("the log has no %q: %s", c.log, log.String())
			}
			if c.log == damaged {
				add(t, again, web("web-1", ttl("a")))
				expect(t, "registered again", ids(reopen(t, folder, &log)), "web-1 web-2")
			}
		})
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedServiceKeepsItsCheck(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, web("web-1", ttl("a")))
	path := r.store.path(servicesFolder, "web-1")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut(t, path, 10)
	var log strings.Builder
	expect(t, "damaged", states(reopen(t, folder, &log)), "")
	write(t, path, string(whole))
	expect(t, "repaired by hand", states(reopen(t, folder, &log)), "a=critical")
}

func TestOldFileNames(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, web("web-1"))
	path := r.store.path(servicesFolder, "web-1")
	hash := md5.Sum([]byte("web-1"))
	if err := os.Rename(path, filepath.Join(folder, "services", hex.EncodeToString(hash[:]))); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	expect(t, "services", ids(reopen(t, folder, &log)), "web-1")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestFailedWrite(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, web("web-1", ttl("a")))
	before := files(t, folder)
	// A folder stands where the file of check b should be.
	if err := os.MkdirAll(filepath.Join(r.store.path(checksFolder, "b"), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	reg := web("web-1", ttl("a"), ttl("b"))
	reg.Service.Port = 81
	if err := r.AddService(context.Background(), reg, false); err == nil {
		t.Fatal("a registration that cannot be kept was confirmed")
	}
	expect(t, "checks", states(r), "a=critical")
	if r.Services()[0].Port != 80 {
		t.Error("the service changed")
	}
	os.RemoveAll(r.store.path(checksFolder, "b"))
	expect(t, "files", files(t, folder), before)
	var log strings.Builder
	if again := reopen(t, folder, &log); again.Services()[0].Port != 80 || states(again) != "a=critical" {
		t.Errorf("after a restart: %+v, %s", again.Services()[0], states(again))
	}
}

func FuzzRecords(f *testing.F) {
	row := &catalog.Service{ID: "a", Name: "b"}
	service, _ := json.Marshal(newServiceRecord(row, "t"))
	check1, _ := json.Marshal(newCheckRecord(&health.Check{ID: "c"}, &check.Definition{TTL: 1}))
	f.Add(service)
	f.Add(check1)
	f.Add([]byte(`{"Check":{"CheckID":"x"},"ChkType":{"TTL":"10s","Interval":""}}`))
	f.Add([]byte(`{"CheckID":"x","Expires":1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if r, err := decodeService(content); err == nil {
			reg := r.registration()
			reg.Normalize()
			if reg.ValidateService() == nil {
				again, err := json.Marshal(newServiceRecord(&reg.Service, reg.Token))
				if err != nil {
					t.Fatalf("%q: %v", content, err)
				}
				if second, err := decodeService(again); err != nil || second.Service.ID != r.Service.ID {
					t.Errorf("%q became %q: %v", content, again, err)
				}
			}
		}
		if r, err := decodeCheck(content); err == nil {
			d := r.definition()
			d.Normalize()
			_ = d.Validate()
		}
		_, _ = decodeState(content)
	})
}
