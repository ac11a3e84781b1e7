// Package agenttest runs agents inside of tests, on ports that the kernel
// chooses. Nothing of them is left when the test ends, which is checked.
//
// A test of a cluster does little but wait, for elections and for gossip, and so it
// begins with t.Parallel: its agents share no network, port or folder with those of
// other tests. Those of one that runs alone are left undisturbed by all others; it is
// for what a process has only one of, such as its environment and the libraries'
// metrics, and for whoever measures.
package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/consensus"
)

const (
	// readyLimit is how long an agent may take to lead and to stand in its own
	// catalog; a machine that runs many tests at once is slow.
	readyLimit = 30 * time.Second
	// stopLimit is how long it may take to stop, and then its last goroutines to
	// end. The agent's own limits are shorter.
	stopLimit = 40 * time.Second
)

// settings are what the options of a test come to.
type settings struct {
	name   string
	folder string // of the data; empty is in memory
	hcl    []string
	log    io.Writer
	// The rest is for clusters.
	client    bool
	expect    int      // how many servers begin the cluster; zero is this one alone
	join      []string // gossip addresses
	net       *Net     // nil is the real one
	faults    consensus.Faults
	clock     *Clock
	reconnect time.Duration
	ports     *fixedPorts // which an agent of a cluster keeps when it is run again
}

// fixedPorts are where an agent of a cluster is reached in all its lives.
type fixedPorts struct{ server, gossip, http, dns string }

// anyPort lets the kernel choose.
const anyPort = "127.0.0.1:0"

// Option says what an agent of a test is like.
type Option func(*settings)

// Name gives the agent's node a name other than "n1".
func Name(name string) Option { return func(s *settings) { s.name = name } }

// OnDisk keeps the agent's data in a folder, as a server in production does,
// instead of in memory. An agent that finds data there goes on with it.
func OnDisk(folder string) Option { return func(s *settings) { s.folder = folder } }

// HCL adds a fragment of configuration.
func HCL(fragment string) Option {
	return func(s *settings) { s.hcl = append(s.hcl, fragment) }
}

// Log writes the agent's log to w, which has to be safe for concurrent use only
// among its own readers. Without it, a failed test shows the log, and a
// benchmark has none.
func Log(w io.Writer) Option { return func(s *settings) { s.log = w } }

// Agent is an agent that runs in this process.
type Agent struct {
	// Agent is the running agent itself. Restart replaces it.
	*agent.Agent
	// Name is the name of its node.
	Name string
	// HTTP and DNS are where it is reached, as host:port; DNS answers by UDP and
	// TCP. Restart changes them.
	HTTP, DNS string

	t        testing.TB
	settings settings
	level    *slog.LevelVar
	label    string
	cancel   context.CancelFunc
	ended    chan struct{} // closed when Run has returned, after err is set
	err      error
}

// Start returns a running agent of a cluster of one server, in memory. It leads,
// and its node is in the catalog. It is stopped when the test ends, which then
// fails if the agent did not stop in order or left goroutines behind.
func Start(t testing.TB, options ...Option) *Agent {
	t.Helper()
	s := settings{name: "n1", log: io.Discard}
	if test, ok := t.(*testing.T); ok {
		s.log = outputOf(test)
	}
	for _, o := range options {
		o(&s)
	}
	a := &Agent{Name: s.name, t: t, settings: s}
	a.start()
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Errorf("the agent did not stop in order: %v", err)
		}
	})
	return a
}

// output is that of a test. What comes when the test has ended is dropped: to write
// it would end the whole process.
type output struct {
	mu    sync.Mutex
	to    io.Writer
	ended bool
}

// outputOf is for the logs of agents that are made, and whose end is registered,
// after it.
func outputOf(t *testing.T) io.Writer {
	o := &output{to: t.Output()}
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended = true
	})
	return o
}

// Write adds to the output.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(b), nil
	}
	return o.to.Write(b)
}

// URL is the address of a path of the HTTP interface, as in "/v1/kv/a?raw".
func (a *Agent) URL(path string) string { return "http://" + a.HTTP + path }

// Stop ends the agent in order and returns what its Run returned. The test fails
// if goroutines of the agent are left. Stopping twice does nothing.
func (a *Agent) Stop() error {
	a.t.Helper()
	a.cancel()
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		a.t.Fatalf("the agent did not stop within %s:\n%s", stopLimit, labelled(a.label))
	}
	awaitGoroutines(a.t, a.label)
	return a.err
}

// Wait waits until the agent has ended by itself and returns what its Run
// returned.
func (a *Agent) Wait() error {
	a.t.Helper()
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-a.ended:
		return a.err
	case <-timer.C:
		a.t.Fatalf("the agent did not end within %s", stopLimit)
		return nil
	}
}

// Restart stops the agent and starts it again with the options that it was made
// with. It is reached at new addresses afterwards. What it knew is there again
// if it was made with [OnDisk].
func (a *Agent) Restart() {
	a.t.Helper()
	if err := a.Stop(); err != nil {
		a.t.Fatalf("the agent did not stop in order: %v", err)
	}
	a.start()
}

// Load returns the configuration of the agent with further fragments, as for
// [agent.Agent.Reload].
func (a *Agent) Load(fragments ...string) (*config.Config, error) {
	_, port, err := net.SplitHostPort(a.HTTP)
	if err != nil {
		return nil, err
	}
	_, dns, err := net.SplitHostPort(a.DNS)
	if err != nil {
		return nil, err
	}
	_, server, err := net.SplitHostPort(a.ServerAddr())
	if err != nil {
		return nil, err
	}
	return a.settings.load(port, dns, server, fragments)
}

func (s *settings) load(http, dns, server string, fragments []string) (*config.Config, error) {
	alone := !s.client && s.expect == 0 && len(s.join) == 0
	sources := config.Sources{Dev: s.folder == "" && alone, HCL: []string{
		`node_name = ` + strconv.Quote(s.name),
		`bind_addr = "127.0.0.1"`,
		`client_addr = "127.0.0.1"`,
		`performance { raft_multiplier = 1 }`,
		fmt.Sprintf(`ports { http = %s dns = %s server = %s }`, http, dns, server),
	}}
	if s.folder != "" {
		sources.HCL = append(sources.HCL, `data_dir = `+strconv.Quote(s.folder))
	}
	switch {
	case s.client:
	case s.expect > 0:
		sources.HCL = append(sources.HCL, `server = true`, fmt.Sprintf(`bootstrap_expect = %d`, s.expect))
	case alone && s.folder != "":
		sources.HCL = append(sources.HCL, `server = true`, `bootstrap_expect = 1`)
	case !alone:
		sources.HCL = append(sources.HCL, `server = true`)
	}
	if len(s.join) > 0 {
		sources.HCL = append(sources.HCL, `retry_interval = "200ms"`, fmt.Sprintf(`retry_join = [%s]`, `"`+strings.Join(s.join, `", "`)+`"`))
	}
	sources.HCL = append(sources.HCL, s.hcl...)
	sources.HCL = append(sources.HCL, fragments...)
	return config.Load(sources)
}

// start makes and runs the agent, and waits until it is ready.
func (a *Agent) start() {
	a.t.Helper()
	a.run()
	if err := a.awaitReady(); err != nil {
		a.cancel()
		<-a.ended
		a.t.Fatalf("the agent is not ready: %v", errors.Join(err, a.err))
	}
}

// run makes and runs the agent.
func (a *Agent) run() {
	a.t.Helper()
	sockets := listen(a.t, a.settings.ports)
	a.HTTP, a.DNS = sockets.HTTP[0].Addr().String(), sockets.DNSPackets[0].LocalAddr().String()
	cfg, err := a.settings.load(port(sockets.HTTP[0]), port(sockets.DNSStreams[0]), port(sockets.Server), nil)
	if err != nil {
		a.t.Fatal(errors.Join(fmt.Errorf("cannot load the configuration: %w", err), closeAll(sockets)))
	}
	network := agent.Network{GossipAddr: netip.MustParseAddrPort("127.0.0.1:0"), Faults: a.settings.faults, Reconnect: a.settings.reconnect}
	if p := a.settings.ports; p != nil {
		network.GossipAddr = netip.MustParseAddrPort(p.gossip)
	}
	if n := a.settings.net; n != nil {
		network.Gossip, network.Dial = n, n.dialer(a.Name)
	}
	if c := a.settings.clock; c != nil {
		network.Now = c.Now
	}
	a.level = new(slog.LevelVar)
	a.level.Set(cfg.LogLevel)
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	a.ended = make(chan struct{})
	made := make(chan error, 1)
	a.label = inLabelled(func() {
		var err error
		a.Agent, err = agent.New(agent.Options{
			Config: cfg, Level: a.level, Listeners: sockets, Logger: agent.NewLogger(a.settings.log, a.level, cfg.LogJSON),
			Reload: func() (*config.Config, error) { return a.Load() }, Network: network,
		})
		made <- err
		if err == nil {
			a.err = a.Run(ctx)
		}
		close(a.ended)
	})
	if err := <-made; err != nil {
		a.cancel()
		a.t.Fatalf("cannot make the agent: %v", err)
	}
	if n := a.settings.net; n != nil {
		n.name(a.Name, a.GossipAddr(), a.ServerAddr())
	}
}

// Level is the level of the agent's log.
func (a *Agent) Level() slog.Level { return a.level.Level() }

// awaitReady waits until the catalog has the agent's node with its liveness,
// which the leader writes. Each look waits for a change at the agent.
func (a *Agent) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	index, last := "", errors.New("no answer")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", readyLimit, last)
		case <-a.ended:
			return errors.New("it ended")
		default:
		}
		var ready bool
		ready, index, last = a.look(ctx, client, index)
		if ready {
			return nil
		}
	}
}

// look asks for the checks of the agent's node, once they differ from those at
// index.
func (a *Agent) look(ctx context.Context, client *http.Client, index string) (ready bool, next string, err error) {
	query := ""
	if index != "" {
		query = "?wait=1s&index=" + index
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL("/v1/health/node/"+a.Name+query), nil)
	if err != nil {
		return false, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return false, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return false, "", err
	}
	if response.StatusCode != http.StatusOK {
		return false, "", fmt.Errorf("%s: %s", response.Status, body)
	}
	var checks []struct{ CheckID string }
	if err := json.Unmarshal(body, &checks); err != nil {
		return false, "", err
	}
	for _, c := range checks {
		if c.CheckID == "serfHealth" {
			return true, "", nil
		}
	}
	return false, response.Header.Get("X-Consul-Index"), errors.New("the node is not in the catalog")
}

// portLimit is how long to wait for a port of which something that ends lets go
// late.
const portLimit = 10 * time.Second

// listen opens the sockets of an agent on ports that the kernel chooses, or on
// fixed ones. DNS needs the same one for UDP and TCP, which takes another
// try now and then.
func listen(t testing.TB, fixed *fixedPorts) agent.Listeners {
	t.Helper()
	at := fixedPorts{server: anyPort, http: anyPort, dns: anyPort}
	if fixed != nil {
		at = *fixed
	}
	var l agent.Listeners
	retry := func(open func() error) {
		deadline := time.Now().Add(portLimit)
		for {
			err := open()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(errors.Join(err, closeAll(l)))
			}
			time.Sleep(lookInterval)
		}
	}
	retry(func() (err error) {
		l.Server, err = net.Listen("tcp", at.server)
		return err
	})
	retry(func() error {
		s, err := net.Listen("tcp", at.http)
		l.HTTP = []net.Listener{s}
		if err != nil {
			l.HTTP = nil
		}
		return err
	})
	retry(func() error {
		s, err := net.Listen("tcp", at.dns)
		if err != nil {
			return err
		}
		packets, err := net.ListenPacket("udp", s.Addr().String())
		if err != nil {
			return errors.Join(err, s.Close())
		}
		l.DNSStreams, l.DNSPackets = []net.Listener{s}, []net.PacketConn{packets}
		return nil
	})
	return l
}

func closeAll(l agent.Listeners) error {
	var errs []error
	for _, s := range append(append([]net.Listener{l.Server}, l.HTTP...), l.DNSStreams...) {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	for _, p := range l.DNSPackets {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func port(l net.Listener) string {
	address := l.Addr().String()
	return address[strings.LastIndexByte(address, ':')+1:]
}
