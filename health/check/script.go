package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/muster-sd/muster/health"
)

// Exit codes of a command that mean something.
const (
	exitPassing = 0
	exitWarning = 1
)

// scriptChecker runs a command on this machine, without a shell.
type scriptChecker struct {
	args    []string
	timeout time.Duration // for the output; the run ends with its context
	limit   int
	// left are the groups of earlier runs that left processes behind which are
	// ours to collect once they end.
	left []int
}

func (c *scriptChecker) check(ctx context.Context) result {
	c.left = slices.DeleteFunc(c.left, func(group int) bool { return !collect(group) })
	output := &tail{limit: c.limit}
	code, group, err := command(ctx, c.args, output)
	if group != 0 && collect(group) && len(c.left) < MaxGroupsLeft {
		c.left = append(c.left, group)
	}
	switch {
	case ctx.Err() != nil:
		return timedOut(c.timeout, output)
	case err != nil:
		return failed(err, c.limit)
	}
	return exited(code, output)
}

// exited is the result of a command that ended with an exit code.
func exited(code int, output *tail) result {
	found := result{status: health.Critical, output: output.text()}
	switch code {
	case exitPassing:
		found.status = health.Passing
	case exitWarning:
		found.status = health.Warning
	}
	return found
}

// timedOut is the result of a command that took too long. It counts at once: a
// command that hangs says nothing that could be weighed against other runs.
func timedOut(limit time.Duration, output *tail) result {
	text := fmt.Sprintf("Timed out (%s) running check", limit)
	if output.total > 0 {
		text += "\n\n" + output.text()
	}
	return result{status: health.Critical, output: text, atOnce: true}
}

// command runs args until they end or ctx does, with what they write going to
// output. When ctx ends, the command is killed with all processes of its group.
// It returns the exit code, which is negative after a signal, and the process
// group; an error means that the command could not be run.
func command(ctx context.Context, args []string, output *tail) (code, group int, err error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = CommandWait
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	group = cmd.Process.Pid
	err = cmd.Wait()
	if ctx.Err() != nil {
		reapGroup(group)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, group, err
	}
	return cmd.ProcessState.ExitCode(), group, nil
}
