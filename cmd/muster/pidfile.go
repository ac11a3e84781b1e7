package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// writePidFile writes the number of this process, and nothing else, to path; the
// returned function removes the file, unless it is another's by then. An empty
// path means no file.
func writePidFile(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	// The agent may run with another working folder than it was started in.
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("cannot write the pid file: %w", err)
	}
	own := []byte(strconv.Itoa(os.Getpid()))
	err = os.WriteFile(path, own, 0o644)
	if err == nil {
		err = os.Chmod(path, 0o644) // whatever the process's mask is, and the file was
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the pid file: %w", err)
	}
	return func() {
		// Nobody is left to tell of an error.
		if content, err := os.ReadFile(path); err == nil && bytes.Equal(content, own) {
			_ = os.Remove(path)
		}
	}, nil
}
