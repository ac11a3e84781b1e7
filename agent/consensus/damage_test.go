package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// stored makes a folder with 60 numbers in two snapshots and a log, of which
// the first entries are cut, and returns it with the names of its snapshots,
// the newest first.
func stored(t testing.TB) (dir string, snapshots []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "raft")
	cfg := alone(dir, new(counter))
	cfg.TrailingLogs = 5
	n := open(t, cfg)
	bootstrap(t, n)
	for range 2 {
		apply(t, n, 20)
		if err := n.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, n, 20)
	stop(t, n)
	names, err := snapshotNames(dir)
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	return dir, []string{names[0].text, names[1].text}
}

// copied returns a copy of a folder.
func copied(t testing.TB, dir string) string {
	t.Helper()
	result := filepath.Join(t.TempDir(), "raft")
	if err := os.CopyFS(result, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return result
}

// reopen opens a folder, and returns how many numbers its state machine then
// has.
func reopen(t testing.TB, dir string) (uint64, error) {
	t.Helper()
	machine := new(counter)
	n, err := Open(alone(dir, machine))
	if err != nil {
		return 0, err
	}
	defer stop(t, n)
	await(t, n)
	_, count := machine.state()
	return count, nil
}

// edit changes a file.
func edit(t testing.TB, path string, change func(data []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(data []byte) []byte { data[len(data)/2] ^= 0xFF; return data }

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsRefused(t *testing.T) {
	whole, snapshots := stored(t)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, db, newest, older string) // paths
		file   string                                       // what the error names, below the folder
		says   string
	}{
		{"log is not a log", func(t *testing.T, db, _, _ string) {
			edit(t, db, func(data []byte) []byte { return []byte(strings.Repeat("not a log\n", 5000)) })
		}, "raft.db", "invalid database"},
		{"log is empty", func(t *testing.T, db, _, _ string) {
			edit(t, db, func([]byte) []byte { return nil })
		}, "raft.db", "empty"},
		{"log is cut short", func(t *testing.T, db, _, _ string) {
			edit(t, db, func(data []byte) []byte { return data[:len(data)/4] })
		}, "raft.db", "page"},
		{"log is cut to its head", func(t *testing.T, db, _, _ string) {
			edit(t, db, func(data []byte) []byte { return data[:100] })
		}, "raft.db", ""},
		{"log is gone", func(t *testing.T, db, _, _ string) { remove(t, db) }, "raft.db", "missing"},
		{"log was made anew", func(t *testing.T, db, _, _ string) {
			remove(t, db)
			fresh := t.TempDir()
			if err := makeLog(fresh); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(fresh, logFile), db); err != nil {
				t.Fatal(err)
			}
		}, "raft.db", "term 0"},
		{"log is another database", func(t *testing.T, db, _, _ string) {
			remove(t, db)
			other, err := bbolt.Open(db, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
		}, "raft.db", "not a Raft log"},
		{"log misses entries", func(t *testing.T, db, _, _ string) {
			alter(t, db, func(logs *bbolt.Bucket) error { return logs.Delete(number(50)) })
		}, "raft.db", "entry 50"},
		{"entry cannot be read", func(t *testing.T, db, _, _ string) {
			alter(t, db, func(logs *bbolt.Bucket) error { return logs.Put(number(50), []byte("?")) })
		}, "raft.db", "entry 50"},
		{"snapshots are gone", func(t *testing.T, _, newest, older string) {
			remove(t, newest)
			remove(t, older)
		}, "raft.db", "no snapshot"},
		{"newest snapshot is gone", func(t *testing.T, _, newest, _ string) { remove(t, newest) }, "raft.db", "newest snapshot"},
		{"newest snapshot is damaged", func(t *testing.T, _, newest, _ string) {
			edit(t, filepath.Join(newest, "state.bin"), flip)
		}, "snapshots", "CRC"},
		{"newest snapshot is cut short", func(t *testing.T, _, newest, _ string) {
			edit(t, filepath.Join(newest, "state.bin"), func(data []byte) []byte { return data[:len(data)-1] })
		}, "snapshots", "CRC"},
		{"newest snapshot has no state", func(t *testing.T, _, newest, _ string) {
			remove(t, filepath.Join(newest, "state.bin"))
		}, "snapshots", "no such file"},
		{"newest snapshot has no description", func(t *testing.T, _, newest, _ string) {
			remove(t, filepath.Join(newest, "meta.json"))
		}, "meta.json", "no such file"},
		{"description is not one", func(t *testing.T, _, newest, _ string) {
			edit(t, filepath.Join(newest, "meta.json"), func(data []byte) []byte { return data[1:] })
		}, "meta.json", "invalid"},
		{"description is of another", func(t *testing.T, _, newest, older string) {
			data, err := os.ReadFile(filepath.Join(older, "meta.json"))
			if err != nil {
				t.Fatal(err)
			}
			edit(t, filepath.Join(newest, "meta.json"), func([]byte) []byte { return data })
		}, "meta.json", "describes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copied(t, whole)
			folder := filepath.Join(dir, snapshotFolder)
			c.damage(t, filepath.Join(dir, logFile), filepath.Join(folder, snapshots[0]), filepath.Join(folder, snapshots[1]))
			for range 2 { // it stays refused
				_, err := reopen(t, dir)
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("error %v, want damage", err)
				}
				for _, part := range []string{dir, c.file, c.says, "restore the data directory from a backup"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
			}
		})
	}
}

// alter changes the entries of a log file.
func alter(t *testing.T, path string, change func(logs *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(logBucket))) }); err != nil {
		t.Fatal(err)
	}
}

func TestStateMachineRefusesSnapshot(t *testing.T) {
	dir, snapshots := stored(t)
	_, err := Open(alone(dir, &counter{failing: errors.New("written by a later version")}))
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "later version") || !strings.Contains(err.Error(), snapshots[0]) {
		t.Errorf("error %v", err)
	}
}

func TestHarmlessLeftovers(t *testing.T) {
	whole, snapshots := stored(t)
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, dir, older string)
	}{
		{"older snapshot is half removed", func(t *testing.T, dir, older string) { remove(t, filepath.Join(older, "meta.json")) }},
		{"older snapshot is damaged", func(t *testing.T, dir, older string) { edit(t, filepath.Join(older, "state.bin"), flip) }},
		{"older snapshot is gone", func(t *testing.T, dir, older string) { remove(t, older) }},
		{"snapshot was not finished", func(t *testing.T, dir, older string) {
			if err := os.Rename(older, older+snapshotUnfinished); err != nil {
				t.Fatal(err)
			}
		}},
		{"log was half made", func(t *testing.T, dir, older string) {
			if err := os.WriteFile(filepath.Join(dir, newLogFile), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file lies among the snapshots", func(t *testing.T, dir, older string) {
			if err := os.WriteFile(filepath.Join(dir, snapshotFolder, "notes"), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copied(t, whole)
			c.leave(t, dir, filepath.Join(dir, snapshotFolder, snapshots[1]))
			if count, err := reopen(t, dir); err != nil || count != 60 {
				t.Errorf("%d numbers, %v", count, err)
			}
			unfinished, _ := filepath.Glob(filepath.Join(dir, snapshotFolder, "*"+snapshotUnfinished))
			if len(unfinished) > 0 {
				t.Errorf("left: %v", unfinished)
			}
		})
	}
}

func TestForeignSnapshotFolder(t *testing.T) {
	dir, _ := stored(t)
	if err := os.Mkdir(filepath.Join(dir, snapshotFolder, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen(t, dir); err == nil || !strings.Contains(err.Error(), filepath.Join(snapshotFolder, "old")) {
		t.Errorf("error %v", err)
	}
}

// A bootstrap that was cut short between its two writes can be done again.
func TestHalfBootstrap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s, err := openStores(Config{Dir: dir}, newLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.stable.SetUint64(keyCurrentTerm, 1), s.close()); err != nil {
		t.Fatal(err)
	}
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
}

func TestLocked(t *testing.T) {
	dir, _ := stored(t)
	n := open(t, alone(dir, new(counter)))
	await(t, n)
	_, err := Open(alone(dir, new(counter)))
	if !errors.Is(err, ErrLocked) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, logFile)) {
		t.Errorf("a second Open: %v", err)
	}
	apply(t, n, 1) // the first is not disturbed
}

func TestUnwritable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everything")
	}
	dir, _ := stored(t)
	for _, path := range []string{filepath.Join(dir, logFile), filepath.Join(dir, snapshotFolder)} {
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
		if _, err := reopen(t, dir); err == nil || !strings.Contains(err.Error(), path) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s cannot be written: %v", path, err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever page of the log is lost, the folder opens whole or is refused; it
// never crashes and never opens with less.
func TestEveryLostPage(t *testing.T) {
	dir, _ := stored(t)
	path := filepath.Join(dir, logFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for number := range len(whole) / page {
		for _, loss := range []string{"zeros", "noise"} {
			data := append([]byte(nil), whole...)
			lost := data[number*page : (number+1)*page]
			noise := rand.New(rand.NewPCG(1, uint64(number)))
			for i := range lost {
				lost[i] = 0
				if loss == "noise" {
					lost[i] = byte(noise.Uint32())
				}
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			// Losing the head of the last commit is like a crash before it:
			// the last number may be missing.
			count, err := reopen(t, dir)
			if err == nil && count < 59 || err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("page %d of %s: %d numbers, %v", number, loss, count, err)
			}
		}
	}
}

func FuzzCheckPages(f *testing.F) {
	dir, _ := stored(f)
	whole, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		f.Fatal(err)
	}
	page := os.Getpagesize()
	path := filepath.Join(f.TempDir(), "raft.db")
	f.Add(uint16(0), uint16(16), []byte{0})
	f.Add(uint16(3), uint16(8), []byte{1, 0, 255})
	f.Add(uint16(4), uint16(16), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, number, offset uint16, patch []byte) {
		data := append([]byte(nil), whole...)
		at := min(int(number)*page+int(offset)%page, len(data))
		copy(data[at:], patch)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if checkPages(path, page, nil) != nil {
			return
		}
		// What passes can be read by bolt, which panics otherwise.
		db, err := bbolt.Open(path, 0o600, boltOptions(false))
		if err != nil {
			t.Fatalf("bolt: %v", err)
		}
		defer db.Close()
		if err := db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(logBucket)).ForEach(func(key, _ []byte) error {
				if len(key) != logKeyBytes {
					return fmt.Errorf("key %x", key)
				}
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzSnapshotName(f *testing.F) {
	for _, text := range []string{"1-2-3", "2-40-1700000000000", "", "--", "01-2-3", "1-2-3.tmp", "-1-2-3", "99999999999999999999-1-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseSnapshotName(text)
		if err == nil && fmt.Sprintf("%d-%d-%d", name.term, name.index, name.time) != text {
			t.Errorf("%q was read as %+v", text, name)
		}
	})
}

func FuzzSnapshotMeta(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"1-2-3","Index":2,"Term":1,"Configuration":{"Servers":[{"ID":"a"}]}}`))
	f.Add([]byte(`{"Version":1,"ID":"1-2-3","Index":3}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = parseMeta(data, snapshotName{text: "1-2-3", term: 1, index: 2, time: 3})
	})
}

// A command that the state machine cannot apply, as one of a later program, is
// found before anything is served.
func TestOpenRefusesCommandsOfALaterProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
	apply(t, n, 3)
	stop(t, n)

	cfg := alone(dir, new(counter))
	seen := 0
	cfg.CheckEntry = func([]byte) error {
		if seen++; seen == 2 {
			return errors.New("kind 99 needs a newer Muster")
		}
		return nil
	}
	_, err := Open(cfg)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "kind 99 needs a newer Muster") || !strings.Contains(err.Error(), "raft.db") {
		t.Fatalf("Open: %v", err)
	}
}

// A log file that lost only free pages is cut off all the same: who cut it may
// have cut more.
func TestLogThatLostFreePages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
	apply(t, n, 200)
	stop(t, n)
	path := filepath.Join(dir, logFile)
	pageSize := os.Getpagesize()
	if err := checkPages(path, pageSize, nil); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	head, err := (&pageChecker{file: file, pageSize: pageSize}).meta()
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(head.pages-1)*int64(pageSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(alone(dir, new(counter))); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "cut off") || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v", err)
	}
}
