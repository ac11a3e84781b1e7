package check

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// checker probes something once. It returns when ctx ends at the latest, and
// leaves nothing behind.
type checker interface {
	check(ctx context.Context) (health.Status, string)
}

// Options say where the results of a check go.
type Options struct {
	// Notify takes each result that the thresholds let through. It is called by
	// one goroutine at a time, and never after Stop has returned. It must not call
	// the runner.
	Notify func(status health.Status, output string)
	// Output is what the check last said, if it ran before.
	Output string
	// OutputMaxSize is the agent's limit of output in bytes; zero means
	// [DefaultOutputMaxSize].
	OutputMaxSize int
	Logger        *slog.Logger
}

// Runner carries out one check until it is stopped: a polled check on its
// interval, a TTL check by waiting for updates.
type Runner struct {
	stop func()
	ttl  *ttl
}

// Start begins to carry out a check. The first run comes after a random part of
// the interval, so that the checks of an agent spread out; each next one comes an
// interval after the one before has ended. A kind that is not supported is an
// error of code [mvcc.Invalid].
func Start(d Definition, o Options) (*Runner, error) {
	limit := d.outputLimit(o.OutputMaxSize)
	if d.Kind() == TTL {
		t := startTTL(d.TTL, limit, o)
		return &Runner{stop: t.stop, ttl: t}, nil
	}
	probe, err := newChecker(&d, limit)
	if err != nil {
		return nil, err
	}
	p := &poller{
		probe:    probe,
		interval: max(d.Interval, MinInterval),
		timeout:  DefaultTimeout,
		counter:  newCounter(&d),
		notify:   o.Notify,
	}
	if d.Timeout > 0 {
		p.timeout = d.Timeout
	}
	if d.Interval < MinInterval {
		o.Logger.Warn("check interval is below the minimum", "check", d.ID, "interval", d.Interval, "minimum", MinInterval)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	return &Runner{stop: func() { cancel(); running.Wait() }}, nil
}

// Stop ends the check and waits for a run that is under way. It may be called
// more than once.
func (r *Runner) Stop() { r.stop() }

// Update sets the status and output of a TTL check and begins its time anew. It
// reports false, and does nothing, for checks of other kinds and after Stop.
func (r *Runner) Update(status health.Status, output string) bool {
	return r.ttl != nil && r.ttl.update(status, output)
}

// newChecker is the only place that knows which kind is probed how.
func newChecker(d *Definition, limit int) (checker, error) {
	switch kind := d.Kind(); kind {
	case HTTP:
		return newHTTPChecker(d, limit), nil
	case TCP:
		return newTCPChecker(d, limit), nil
	default:
		return nil, Unsupported(kind)
	}
}

// Unsupported is the error of a kind that this build cannot carry out.
func Unsupported(kind string) error {
	return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("check kind %s is not supported yet", kind)}
}

// outputLimit is how many bytes of output the check may keep on an agent with
// the given limit.
func (d *Definition) outputLimit(agent int) int {
	if agent <= 0 {
		agent = DefaultOutputMaxSize
	}
	if d.OutputMaxSize > 0 {
		return min(d.OutputMaxSize, agent)
	}
	return agent
}

// CutOutput returns output as far as the check may keep it on an agent with the
// given limit, with a remark if that is not all.
func (d *Definition) CutOutput(output string, agent int) string {
	return head(output, d.outputLimit(agent))
}

// poller runs a checker again and again, never twice at once.
type poller struct {
	probe    checker
	interval time.Duration
	timeout  time.Duration
	counter  counter
	notify   func(health.Status, string)
}

func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(rand.N(p.interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p.once(ctx)
		timer.Reset(p.interval)
	}
}

// once makes one run. What a run says that Stop interrupted means nothing.
func (p *poller) once(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	status, output := p.probe.check(limited)
	if ctx.Err() != nil {
		return
	}
	if status, publish := p.counter.judge(status); publish {
		p.notify(status, output)
	}
}
