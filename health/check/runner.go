package check

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/muster-sd/muster/health"
)

// checker probes something once. It returns when ctx ends at the latest, and
// leaves nothing behind.
type checker interface {
	check(ctx context.Context) result
}

// result is what one run found.
type result struct {
	status health.Status
	output string
	// atOnce is whether the result counts whatever the thresholds say.
	atOnce bool
}

// failed is the result of a run that came to nothing.
func failed(err error, limit int) result {
	return result{status: health.Critical, output: head(err.Error(), limit)}
}

// Options say where the results of a check go.
type Options struct {
	// Notify takes each result that the thresholds let through. It is called by
	// one goroutine at a time, and never after Stop has returned. It must not call
	// the runner.
	Notify func(status health.Status, output string)
	// Ran is told of each run that ended, before the thresholds judge it, with how
	// long it took. It may be nil, and is called as Notify is. TTL and alias checks
	// have no runs.
	Ran func(status health.Status, took time.Duration)
	// Alias is what an alias check mirrors; other kinds need none.
	Alias Target
	// TLS is what checks with TLS stand on: the authorities that they trust and
	// the certificate that they show. Nil means the system's and none.
	TLS *tls.Config
	// Output is what the check last said, if it ran before.
	Output string
	// OutputMaxSize is the agent's limit of output in bytes; zero means
	// [DefaultOutputMaxSize].
	OutputMaxSize int
	Logger        *slog.Logger
}

// Runner carries out one check until it is stopped: a polled check on its
// interval, a TTL check by waiting for updates, an alias check by following what
// it mirrors.
type Runner struct {
	stop func()
	ttl  *ttl
	poll *poller
}

// Schedule is when the last run of a polled check ended and when the next begins;
// for a TTL check when it was last updated and when it expires. Last is zero if
// there was none yet, and next is zero during a run, after a TTL has expired, and
// for checks that have no schedule.
func (r *Runner) Schedule() (last, next time.Time) {
	switch {
	case r.poll != nil:
		return r.poll.schedule()
	case r.ttl != nil:
		return r.ttl.schedule()
	}
	return time.Time{}, time.Time{}
}

// Start begins to carry out a check. The first run comes after a random part of
// the interval, so that the checks of an agent spread out; each next one comes an
// interval after the one before has ended. Between its runs a check is a timer
// and no more. A kind that cannot be carried out is an error of code
// [mvcc.Invalid].
func Start(d Definition, o Options) (*Runner, error) {
	limit := d.outputLimit(o.OutputMaxSize)
	switch d.Kind() {
	case TTL:
		t := startTTL(d.TTL, limit, o)
		return &Runner{stop: t.stop, ttl: t}, nil
	case Alias:
		return &Runner{stop: follow(newAliasChecker(&d, o.Alias, limit), o.Notify)}, nil
	}
	probe, err := newChecker(&d, o.TLS, limit)
	if err != nil {
		return nil, err
	}
	p := &poller{
		probe:    probe,
		interval: max(d.Interval, MinInterval),
		timeout:  d.timeout(),
		counter:  newCounter(&d),
		notify:   o.Notify,
		ran:      o.Ran,
	}
	if d.Interval < MinInterval {
		o.Logger.Warn("check interval is below the minimum", "check", d.ID, "interval", d.Interval, "minimum", MinInterval)
	}
	p.start()
	return &Runner{stop: p.stop, poll: p}, nil
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
func newChecker(d *Definition, base *tls.Config, limit int) (checker, error) {
	switch kind := d.Kind(); kind {
	case HTTP:
		return newHTTPChecker(d, base, limit), nil
	case TCP:
		return newTCPChecker(d, base, limit), nil
	case UDP:
		return &udpChecker{address: d.UDP, limit: limit}, nil
	case GRPC:
		return newGRPCChecker(d, base, limit), nil
	case H2Ping:
		return newH2PingChecker(d, base, limit), nil
	case Script:
		return &scriptChecker{args: d.ScriptArgs, timeout: d.timeout(), limit: limit}, nil
	case Docker:
		return newDockerChecker(d, limit)
	case OSService:
		return newServiceChecker(d, limit)
	default:
		return nil, Unsupported(kind)
	}
}

// Unsupported is the error of a kind that this build cannot carry out.
func Unsupported(kind string) error {
	return invalid("check kind %s is not supported", kind)
}

// timeout is how long one run may take.
func (d *Definition) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	switch d.Kind() {
	case Script, Docker, OSService:
		return DefaultCommandTimeout
	}
	return DefaultTimeout
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

// poller runs a checker again and again, never twice at once. It has a goroutine
// during a run only.
type poller struct {
	probe    checker
	interval time.Duration
	timeout  time.Duration
	counter  counter
	notify   func(health.Status, string)
	ran      func(health.Status, time.Duration)

	ctx     context.Context // ends with the check
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	// last is when the last run ended, next when the next one begins; zero during
	// a run.
	last, next time.Time
}

func (p *poller) start() {
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	first := rand.N(p.interval)
	p.next = time.Now().Add(first)
	p.timer = time.AfterFunc(first, p.fire)
}

func (p *poller) schedule() (last, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, p.next
}

// fire makes one run and sets the time of the next.
func (p *poller) fire() {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return
	}
	p.running.Add(1)
	p.next = time.Time{}
	p.mu.Unlock()
	defer p.running.Done()
	p.once()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.last = time.Now()
		p.next = p.last.Add(p.interval)
		p.timer.Reset(p.interval)
	}
}

func (p *poller) stop() {
	p.mu.Lock()
	p.stopped = true
	p.timer.Stop()
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// once makes one run. What a run says that stop interrupted means nothing.
func (p *poller) once() {
	limited, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	began := time.Now()
	found := p.probe.check(limited)
	if p.ctx.Err() != nil {
		return
	}
	if p.ran != nil {
		p.ran(found.status, time.Since(began))
	}
	status, publish := found.status, true
	if !found.atOnce {
		status, publish = p.counter.judge(found.status)
	}
	if publish {
		p.notify(status, found.output)
	}
}

// follow calls a checker that itself waits for something new, until the
// returned function is called.
func follow(c checker, notify func(health.Status, string)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			found := c.check(ctx)
			if ctx.Err() != nil {
				return
			}
			notify(found.status, found.output)
		}
	})
	return func() { cancel(); running.Wait() }
}
