package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestMain keeps the developer's own settings away from the tests, and removes
// the binary that some of them build.
func TestMain(m *testing.M) {
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		if strings.HasPrefix(name, "MUSTER_") || strings.HasPrefix(name, "CONSUL_") {
			os.Unsetenv(name)
		}
	}
	folder, err := os.MkdirTemp("", "muster")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaryFolder = folder
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// binaryFolder is where the binary under test is built; TestMain sets it.
var binaryFolder string

// builtBinary builds muster once for all tests that need it, as it is released.
var builtBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryFolder, "muster")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build muster: %w\n%s", err, output)
	}
	return path, nil
})

// binary is the path of the binary under test.
func binary(t testing.TB) string {
	t.Helper()
	path, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The binary answers to another name by a link, because tools look for it under
// that one.
func TestBinaryByAnotherName(t *testing.T) {
	link := filepath.Join(t.TempDir(), "consul")
	if err := os.Symlink(binary(t), link); err != nil {
		t.Skipf("cannot make a link here: %v", err)
	}
	for _, name := range []string{binary(t), link} {
		output, err := exec.Command(name, "version", "-format=json").Output()
		if err != nil || !strings.Contains(string(output), `"Version"`) {
			t.Errorf("%s version: %v, %s", filepath.Base(name), err, output)
		}
		err = exec.Command(name, "frobnicate").Run()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitUnknownCommand {
			t.Errorf("%s frobnicate: %v, want exit status %d", filepath.Base(name), err, exitUnknownCommand)
		}
	}
}

// buildWith builds muster with some of its files replaced by other text.
func buildWith(t testing.TB, replaced map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range replaced {
		other := filepath.Join(folder, filepath.Base(path))
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = other
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, path := filepath.Join(folder, "overlay.json"), filepath.Join(folder, "muster")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-overlay="+file, "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build muster: %v\n%s", err, output)
	}
	return path
}
