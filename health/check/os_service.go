package check

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/muster-sd/muster/health"
)

// systemdMark is there exactly while systemd manages the machine
// (sd_booted(3)).
const systemdMark = "/run/systemd/system"

// serviceChecker asks systemd, the machine's service manager, for the state of a
// unit.
type serviceChecker struct {
	name    string
	program string // systemctl
	timeout time.Duration
	limit   int
}

func newServiceChecker(d *Definition, limit int) (*serviceChecker, error) {
	if err := serviceManager(); err != nil {
		return nil, err
	}
	return &serviceChecker{name: d.OSService, program: "systemctl", timeout: d.timeout(), limit: limit}, nil
}

// serviceManager reports why this machine has no service manager that we could
// ask.
func serviceManager() error {
	if _, err := os.Stat(systemdMark); err != nil {
		return invalid("Invalid check: os_service checks need systemd, which does not manage this machine (%s is not there)", systemdMark)
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return invalid("Invalid check: os_service checks need the program systemctl: %v", err)
	}
	return nil
}

func (c *serviceChecker) check(ctx context.Context) result {
	output := &tail{limit: DefaultOutputMaxSize}
	args := []string{c.program, "show", "--property=LoadState,ActiveState,SubState", "--", c.name}
	code, _, err := command(ctx, args, output)
	switch {
	case ctx.Err() != nil:
		return timedOut(c.timeout, output)
	case err != nil:
		return failed(err, c.limit)
	case code != 0:
		return failed(fmt.Errorf("Service %q: systemctl ended with code %d: %s", c.name, code, output.text()), c.limit)
	}
	return c.judge(properties(output.text()))
}

// judge says what the properties of the unit mean.
func (c *serviceChecker) judge(unit map[string]string) result {
	load, active := unit["LoadState"], unit["ActiveState"]
	state := fmt.Sprintf("Service %q is %s (%s)", c.name, active, unit["SubState"])
	switch {
	case load == "" || active == "":
		return failed(fmt.Errorf("Service %q: systemctl did not tell its state", c.name), c.limit)
	case load == "not-found":
		return failed(fmt.Errorf("Service %q does not exist", c.name), c.limit)
	case active == "active":
		return result{status: health.Passing, output: fmt.Sprintf("Service %q is healthy", c.name)}
	case active == "inactive" || active == "failed":
		return result{status: health.Critical, output: head(state, c.limit)}
	default: // on its way from one to the other
		return result{status: health.Warning, output: head(state, c.limit)}
	}
}

// properties reads lines of NAME=VALUE.
func properties(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[name] = value
		}
	}
	return out
}
