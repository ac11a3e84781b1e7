package agent

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// written is what the files of a folder hold, with numbers left out of their
// names, the oldest first.
func written(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	digits := regexp.MustCompile(`-\d{18,19}`)
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, digits.ReplaceAllString(e.Name(), "-N")+"="+string(content))
	}
	return strings.Join(out, " ")
}

func TestLogFilesAreChanged(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    LogFileConfig
		before map[string]string
		want   string
	}{
		{"never", LogFileConfig{Path: "a.log"}, nil, "a.log=1234567"},
		{"by size", LogFileConfig{Path: "a.log", MaxBytes: 3}, nil, "a-N.log=123 a-N.log=456 a.log=7"},
		{"by age", LogFileConfig{Path: "a.log", MaxAge: 4 * time.Second}, nil, "a-N.log=1234 a.log=567"},
		{"by both", LogFileConfig{Path: "a.log", MaxAge: 4 * time.Second, MaxBytes: 3}, nil, "a-N.log=123 a-N.log=456 a.log=7"},
		{"two are kept", LogFileConfig{Path: "a.log", MaxBytes: 1, MaxFiles: 2}, nil, "a-N.log=5 a-N.log=6 a.log=7"},
		{"none is kept", LogFileConfig{Path: "a.log", MaxBytes: 3, MaxFiles: -1}, nil, "a.log=7"},
		{"a name without an end", LogFileConfig{Path: "a", MaxBytes: 6}, nil, "a=7 a-N.log=123456"},
		{"a name with two", LogFileConfig{Path: "a.b.txt", MaxBytes: 6}, nil, "a.b-N.txt=123456 a.b.txt=7"},
		{"what was there is gone on with", LogFileConfig{Path: "a.log", MaxBytes: 6}, map[string]string{"a.log": "xyz"}, "a-N.log=xyz123 a.log=4567"},
		{"what was there is too large", LogFileConfig{Path: "a.log", MaxBytes: 3}, map[string]string{"a.log": "vwxyz"}, "a-N.log=123 a-N.log=456 a-N.log=vwxyz a.log=7"},
		{"others stay", LogFileConfig{Path: "a.log", MaxBytes: 4, MaxFiles: -1},
			map[string]string{"a-.log": "", "a-x.log": "", "a--5.log": "", "a-05.log": "", "a-5.txt": "", "aa-5.log": "", "a-5.log": "old"},
			"a--5.log= a-.log= a-05.log= a-5.txt= a-x.log= a.log=567 aa-5.log="},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			for name, content := range c.before {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				c.cfg.Path = filepath.Join(folder, c.cfg.Path)
				l, err := OpenLogFile(c.cfg)
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range "1234567" {
					if _, err := l.Write([]byte(string(text))); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second)
				}
				for range 2 {
					if err := l.Close(); err != nil {
						t.Error(err)
					}
				}
				if _, err := l.Write([]byte("8")); !errors.Is(err, os.ErrClosed) {
					t.Errorf("after the end: %v", err)
				}
			})
			got, want := strings.Fields(written(t, folder)), strings.Fields(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// A file that cannot be changed is written on, and another try comes later.
func TestALogFileThatCannotBeChanged(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(folder, "a.log")
	kept := folder + ".kept"
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l, err := OpenLogFile(LogFileConfig{Path: path, MaxBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		write := func(text string, fails bool) {
			t.Helper()
			if _, err := l.Write([]byte(text)); (err != nil) != fails {
				t.Errorf("%s: %v", text, err)
			}
		}
		write("1", false)
		// Its folder is gone, but what is written reaches the open file.
		if err := os.Rename(folder, kept); err != nil {
			t.Fatal(err)
		}
		write("2", true)
		write("3", false)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(logRetry)
		write("4", false)
		// It was moved by somebody else, who wants a new one.
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		write("5", false)
		// A folder that stands there is not moved away.
		if err := errors.Join(os.Remove(path), os.Mkdir(filepath.Join(folder, "x"), 0o700), os.Rename(filepath.Join(folder, "x"), path)); err != nil {
			t.Fatal(err)
		}
		l.cfg.Path = path + "/none/a.log"
		write("6", true)
	})
	if got := written(t, kept) + " " + written(t, folder); got != "a.log=123 a.log a.log.1=4" {
		t.Errorf("got %s", got)
	}
}

func TestLogFilesThatCannotBeOpened(t *testing.T) {
	folder := t.TempDir()
	for _, path := range []string{folder, filepath.Join(folder, "none", "a.log")} {
		if _, err := OpenLogFile(LogFileConfig{Path: path}); err == nil || !strings.Contains(err.Error(), "log_file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	l, err := OpenLogFile(LogFileConfig{Path: filepath.Join(folder, "a.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(filepath.Join(folder, "a.log")); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}
