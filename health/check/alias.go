package check

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-sd/muster/health"
)

// Target is what an alias check mirrors.
type Target interface {
	// Next returns the state of the target: at the first call at once, at later
	// ones when it may have changed, and after [AliasInterval] in any case. It
	// returns an error when ctx ends.
	Next(ctx context.Context) (TargetState, error)
}

// TargetState is the health of what an alias check mirrors.
type TargetState struct {
	// Found is whether the target exists. One that does not is critical.
	Found bool
	// Checks are those that decide: of the instance and of its node. They are
	// shared: nobody may write to them.
	Checks []*health.Check
}

// aliasChecker mirrors the health of an instance or a node. Its runs wait for
// something new.
type aliasChecker struct {
	node, service string
	target        Target
	failures      int // in a row
	limit         int
}

func newAliasChecker(d *Definition, target Target, limit int) *aliasChecker {
	return &aliasChecker{node: d.AliasNode, service: d.AliasService, target: target, limit: limit}
}

// check returns when the state of the target may have changed, or cannot be told
// any more. A single failure to ask is no news.
func (c *aliasChecker) check(ctx context.Context) result {
	for {
		if c.failures > 0 {
			pause(ctx, aliasPause(c.failures))
		}
		state, err := c.target.Next(ctx)
		if err == nil {
			c.failures = 0
			return c.judge(state)
		}
		c.failures++
		if ctx.Err() != nil || c.failures >= aliasFailures {
			return failed(fmt.Errorf("Failure checking the aliased node or service: %w", err), c.limit)
		}
	}
}

// aliasPause is how long to wait after so many failures in a row.
func aliasPause(failures int) time.Duration {
	wait := AliasRetry
	for range failures - aliasQuickRetries {
		if wait *= 2; wait >= AliasMaxRetry {
			return AliasMaxRetry
		}
	}
	return wait
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// judge is the worst of the target's checks.
func (c *aliasChecker) judge(state TargetState) result {
	if !state.Found {
		return failed(fmt.Errorf("Service %s could not be found on node %s", c.service, c.node), c.limit)
	}
	if len(state.Checks) == 0 {
		return result{status: health.Passing, output: "No checks found."}
	}
	for _, status := range []health.Status{health.Critical, health.Warning} {
		for _, of := range state.Checks {
			if of.Status == status {
				return result{status: status, output: head(fmt.Sprintf("Aliased check %q failing: %s", of.Name, of.Output), c.limit)}
			}
		}
	}
	return result{status: health.Passing, output: "All checks passing."}
}
