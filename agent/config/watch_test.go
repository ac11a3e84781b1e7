package config

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each change of the files is told of once, and only after the last step of it.
func TestWatch(t *testing.T) {
	dir := folder(t, map[string]string{"a.hcl": `datacenter = "a"`})
	other := filepath.Join(folder(t, map[string]string{"b.hcl": ""}), "b.hcl")
	age := time.Now()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		age = age.Add(time.Second) // whatever the file system's clock can tell apart
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told atomic.Int32
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Watch(ctx, Sources{Files: []string{dir, other}}, func() { told.Add(1) })
		}()
		pass := func(intervals int, want int32, what string) {
			t.Helper()
			time.Sleep(time.Duration(intervals) * WatchInterval)
			synctest.Wait()
			if got := told.Load(); got != want {
				t.Errorf("%s: told %d times, want %d", what, got, want)
			}
		}
		pass(5, 0, "nothing changed")
		write("a.hcl", `datacenter = "b"`)
		pass(1, 0, "just changed")
		write("a.hcl", `datacenter = "c"`)
		pass(1, 0, "changed again")
		pass(5, 1, "quiet since then")
		write("n.hcl", "")
		pass(5, 2, "a file came")
		if err := os.Remove(filepath.Join(dir, "n.hcl")); err != nil {
			t.Fatal(err)
		}
		pass(5, 3, "a file went")
		write("t.hcl", "")
		pass(1, 3, "a file came for a moment")
		if err := os.Remove(filepath.Join(dir, "t.hcl")); err != nil {
			t.Fatal(err)
		}
		pass(5, 3, "all is as before")
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
		pass(5, 4, "a file of its own went")
		cancel()
		<-ended
	})
}
