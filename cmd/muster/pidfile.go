package main

import (
	"fmt"
	"os"
	"strconv"
)

// writePidFile writes the number of this process, and nothing else, to path; the
// returned function removes the file. An empty path means no file.
func writePidFile(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write the pid file: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil // nobody is left to tell
}
