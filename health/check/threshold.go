package check

import "github.com/muster-sd/muster/health"

// counter holds results back until there are enough of them in a row. Both
// counts begin full, so that the first result always counts.
type counter struct {
	successes, failures int

	beforePassing  int
	beforeWarning  int
	beforeCritical int
}

// newCounter returns the counter of a check that has not run yet.
func newCounter(d *Definition) counter {
	c := counter{
		successes:      d.SuccessBeforePassing,
		failures:       d.FailuresBeforeCritical,
		beforePassing:  d.SuccessBeforePassing,
		beforeWarning:  d.FailuresBeforeWarning,
		beforeCritical: d.FailuresBeforeCritical,
	}
	if c.beforeWarning == 0 {
		c.beforeWarning = c.beforeCritical
	}
	return c
}

// judge counts a result and returns the status to publish, if any. A warning
// counts as a success.
func (c *counter) judge(status health.Status) (health.Status, bool) {
	if status != health.Critical {
		c.successes++
		c.failures = 0
		return status, c.successes >= c.beforePassing
	}
	c.failures++
	c.successes = 0
	if c.failures >= c.beforeCritical {
		return health.Critical, true
	}
	return health.Warning, c.failures >= c.beforeWarning
}
