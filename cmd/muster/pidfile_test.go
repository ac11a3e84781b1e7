package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("what was there, longer than a number\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	remove, err := writePidFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if remove(); !exists(path) {
		t.Error("the file of another was removed")
	}
	if remove, err = writePidFile(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if remove(); exists(path) {
			t.Error("the file is still there")
		}
	}
	if _, err := writePidFile(filepath.Join(path, "x", "pid")); err == nil || !strings.Contains(err.Error(), "pid file") {
		t.Errorf("no folder: %v", err)
	}
	remove, err = writePidFile("")
	if err != nil {
		t.Fatal(err)
	}
	remove()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
