package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/muster-sd/muster/agent/agenttest"
)

const (
	// readyLimit is how long a started agent may take to know a leader; a busy
	// machine runs several of them beside the tests of other packages.
	readyLimit = time.Minute
	// settleLimit is how long a change may take to be seen.
	settleLimit = 45 * time.Second
	// exitLimit is how long a signalled agent may take to end.
	exitLimit = time.Minute
	// pollInterval is the pause between two looks.
	pollInterval = 20 * time.Millisecond
)

// settings are what a test tells an agent beside its ports.
type settings struct {
	dir   string // holds the configuration and the data; survives a restart
	ports ports
	extra string // HCL
}

// ports of one agent.
type ports struct{ http, dns, server, lan, wan int }

// newSettings are those of a server of its own, with its data on disk.
func newSettings(t testing.TB, extra string) *settings {
	t.Helper()
	s := &settings{dir: t.TempDir(), ports: freePorts(t), extra: extra}
	s.write(t)
	return s
}

// write puts the settings where the agent finds them.
func (s *settings) write(t testing.TB) {
	t.Helper()
	text := fmt.Sprintf(`
node_name = "n1"
server = true
bootstrap_expect = 1
bind_addr = "127.0.0.1"
data_dir = %q
performance { raft_multiplier = 1 }
ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = %d }
%s
`, filepath.Join(s.dir, "data"), s.ports.http, s.ports.dns, s.ports.server, s.ports.lan, s.ports.wan, s.extra)
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *settings) file() string { return filepath.Join(s.dir, "agent.hcl") }

// freePorts are for one agent, in all its lives.
func freePorts(t testing.TB) ports {
	t.Helper()
	numbers := agenttest.Ports(t, 5)
	return ports{http: numbers[0], dns: numbers[1], server: numbers[2], lan: numbers[3], wan: numbers[4]}
}

// agentProcess is a running binary.
type agentProcess struct {
	settings *settings
	client   *api.Client
	command  *exec.Cmd
	out, err *lockedBuffer
	ended    chan struct{} // closed when the process is gone
}

// launch starts the binary on settings, without waiting for anything. The
// process is killed, by its number, when the test ends.
func launch(t testing.TB, s *settings, flags ...string) *agentProcess {
	t.Helper()
	return launchBinary(t, binary(t), s, nil, flags...)
}

// launchBinary is launch for another build of the binary, whose standard output
// may go elsewhere.
func launchBinary(t testing.TB, path string, s *settings, stdout io.Writer, flags ...string) *agentProcess {
	t.Helper()
	args := append([]string{"agent", "-config-file=" + s.file()}, flags...)
	p := &agentProcess{
		settings: s,
		command:  exec.Command(path, args...),
		out:      &lockedBuffer{},
		err:      &lockedBuffer{},
		ended:    make(chan struct{}),
	}
	p.command.Stdout, p.command.Stderr = p.out, p.err
	if stdout != nil {
		p.command.Stdout = stdout
	}
	client, err := api.NewClient(&api.Config{Address: s.address()})
	if err != nil {
		t.Fatal(err)
	}
	p.client = client
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // the exit code is looked at where it matters
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("standard output of the agent:\n%s\nstandard error:\n%s", p.out, p.err)
		}
	})
	return p
}

// startServer starts the binary and waits until it leads.
func startServer(t testing.TB, s *settings, flags ...string) *agentProcess {
	t.Helper()
	p := launch(t, s, flags...)
	p.awaitLeader(t)
	return p
}

func (p *agentProcess) awaitLeader(t testing.TB) {
	t.Helper()
	eventually(t, readyLimit, "the agent knows a leader", func(ctx context.Context) error {
		select {
		case <-p.ended:
			t.Fatalf("the agent ended with %d before it knew a leader:\n%s%s", p.command.ProcessState.ExitCode(), p.out, p.err)
		default:
		}
		leader, err := p.client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		if err == nil && leader == "" {
			err = fmt.Errorf("there is no leader")
		}
		return err
	})
}

func (s *settings) address() string { return fmt.Sprintf("127.0.0.1:%d", s.ports.http) }

// exit waits for the end of the process and returns its code.
func (p *agentProcess) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.command.ProcessState.ExitCode()
	case <-time.After(exitLimit):
		t.Fatalf("the agent did not end within %s", exitLimit)
		return -1
	}
}

// signal sends a signal and returns the exit code that follows.
func (p *agentProcess) signal(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return p.exit(t)
}

// muster runs another command of the binary against the agent.
func (p *agentProcess) muster(t testing.TB, args ...string) outcome {
	t.Helper()
	command := exec.Command(binary(t), args...)
	command.Env = append(os.Environ(), "MUSTER_HTTP_ADDR="+p.settings.address())
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err := command.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{out: out.String(), err: errs.String(), code: command.ProcessState.ExitCode()}
}

// lookup asks the agent's DNS, over UDP.
func (p *agentProcess) lookup(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(name, kind)
	client := &dns.Client{Timeout: time.Second}
	reply, _, err := client.ExchangeContext(ctx, question, fmt.Sprintf("127.0.0.1:%d", p.settings.ports.dns))
	return reply, err
}

// expectPorts waits until the SRV records of a name have these ports; without
// any, until the name does not exist.
func (p *agentProcess) expectPorts(t testing.TB, name string, want ...uint16) {
	t.Helper()
	eventually(t, settleLimit, fmt.Sprintf("%s has the ports %v", name, want), func(ctx context.Context) error {
		reply, err := p.lookup(ctx, name, dns.TypeSRV)
		if err != nil {
			return err
		}
		wantCode := dns.RcodeSuccess
		if len(want) == 0 {
			wantCode = dns.RcodeNameError
		}
		if reply.Rcode != wantCode || len(reply.Answer) != len(want) {
			return fmt.Errorf("got %s with %d answers", dns.RcodeToString[reply.Rcode], len(reply.Answer))
		}
		for _, record := range reply.Answer {
			srv, ok := record.(*dns.SRV)
			if !ok || !contains(want, srv.Port) {
				return fmt.Errorf("got %s", record)
			}
		}
		return nil
	})
}

func contains(ports []uint16, port uint16) bool {
	for _, p := range ports {
		if p == port {
			return true
		}
	}
	return false
}

// expectAddress waits until the A records of a name are this address.
func (p *agentProcess) expectAddress(t testing.TB, name string, want netip.Addr) {
	t.Helper()
	eventually(t, settleLimit, fmt.Sprintf("%s has the address %s", name, want), func(ctx context.Context) error {
		reply, err := p.lookup(ctx, name, dns.TypeA)
		if err != nil {
			return err
		}
		if len(reply.Answer) != 1 || !strings.HasSuffix(reply.Answer[0].String(), want.String()) {
			return fmt.Errorf("got %s with %v", dns.RcodeToString[reply.Rcode], reply.Answer)
		}
		return nil
	})
}

// eventually looks again and again until a condition holds.
func eventually(t testing.TB, limit time.Duration, what string, look func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := look(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		case <-ticker.C:
		}
	}
}

// lockedBuffer is a buffer that a process may write to while a test reads it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write adds to the buffer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

// String is all that was written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
