//go:build !unix

package check

import "os/exec"

// ownGroup leaves a command as it is: this system has no process groups, so that
// only the command itself is killed when its context ends.
func ownGroup(*exec.Cmd) {}

// collect has nothing to do on this system.
func collect(int) (left bool) { return false }

// reapGroup has nothing to do on this system.
func reapGroup(int) {}
