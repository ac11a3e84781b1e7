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

// reapGroup collects processes of a killed group that have become children of
// this one, which happens where this process is the first of its container.
func reapGroup(group int) {
	for range reapLooks {
		pid, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR) || pid > 0:
		case err != nil: // none of them is ours
			return
		default:
			time.Sleep(reapPause)
		}
	}
}
