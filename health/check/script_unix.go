//go:build unix

package check

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// Reaping what a killed command leaves to us: how often we look, and the pause
// between two looks. A process that was killed is gone in far less time, unless
// the kernel holds it.
const (
	reapLooks = 20
	reapPause = 5 * time.Millisecond
)

// ownGroup starts a command in a process group of its own, which is killed as a
// whole when the command's context ends.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// collect takes in processes of a command's group that have ended and have become
// children of this process, which happens where it is the first of its container.
// It reports whether others of them still run.
func collect(group int) (left bool) {
	for {
		pid, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return err == nil
		}
	}
}

// reapGroup collects the processes of a group that was killed.
func reapGroup(group int) {
	for range reapLooks {
		if !collect(group) {
			return
		}
		time.Sleep(reapPause)
	}
}
