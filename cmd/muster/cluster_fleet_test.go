package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/gossip"
)

// recoverLimit is how long a cluster may take to be whole again after a fault; a
// busy machine is slow.
const recoverLimit = 90 * time.Second

// fleet is a cluster of real processes.
type fleet struct {
	binary  string
	servers []*vessel
	clients []*vessel
	extra   string // HCL for all of them, which may change between starts
}

// vessel is one agent of a fleet, in all its lives.
type vessel struct {
	*agentProcess
	fleet    *fleet
	name     string
	server   bool
	settings *settings
	log      *valve // may be nil
	dead     bool   // as the test wants it
}

// valve is a pipe for what a process prints, which can be stopped up.
type valve struct {
	out, in *os.File
	text    lockedBuffer
	shut    sync.Mutex // held while nothing is read
}

// newValve returns an open one.
func newValve(t testing.TB) *valve {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{out: out, in: in}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 32<<10)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			_, _ = v.text.Write(bytes.Trim(b[:n], "\x00")) // never fails
			v.pass()
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-done
		out.Close()
	})
	return v
}

// pass waits until the valve is open.
func (v *valve) pass() {
	v.shut.Lock()
	defer v.shut.Unlock()
}

// close stops the pipe up: who prints waits, until the function that it returns is
// called.
func (v *valve) close() (open func()) {
	v.shut.Lock()
	var written atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, err := v.in.Write(make([]byte, 512))
			if err != nil {
				return
			}
			written.Add(int64(n))
		}
	}()
	for last := int64(-1); written.Load() != last; {
		last = written.Load()
		<-time.After(5 * pollInterval)
	}
	return func() {
		close(stop)
		v.shut.Unlock()
		<-done
	}
}

// newFleet makes a fleet, and starts nothing yet. The data of the servers is below
// folders of their own.
func newFleet(t testing.TB, servers, clients int, extra string) *fleet {
	t.Helper()
	f := &fleet{binary: binary(t), extra: extra}
	for i := range servers + clients {
		v := &vessel{fleet: f, name: fmt.Sprintf("s%d", i+1), server: i < servers, settings: &settings{dir: t.TempDir(), ports: freePorts(t)}}
		if v.server {
			f.servers = append(f.servers, v)
		} else {
			v.name = fmt.Sprintf("c%d", i-servers+1)
			f.clients = append(f.clients, v)
		}
	}
	return f
}

// startFleet starts a fleet and waits until all is well.
func startFleet(t testing.TB, servers, clients int, extra string) *fleet {
	t.Helper()
	f := newFleet(t, servers, clients, extra)
	f.start(t)
	return f
}

func (f *fleet) start(t testing.TB) {
	t.Helper()
	for _, v := range f.all() {
		v.start(t)
	}
	f.awaitWhole(t)
}

func (f *fleet) all() []*vessel { return append(append([]*vessel(nil), f.servers...), f.clients...) }

// data is where an agent keeps its data.
func (v *vessel) data() string { return filepath.Join(v.settings.dir, "data") }

// start starts an agent and waits for nothing.
func (v *vessel) start(t testing.TB) {
	t.Helper()
	var join []string
	for _, s := range v.fleet.servers {
		join = append(join, fmt.Sprintf(`"127.0.0.1:%d"`, s.settings.ports.lan))
	}
	expect := ""
	if v.server {
		expect = fmt.Sprintf("bootstrap_expect = %d", len(v.fleet.servers))
	}
	p := v.settings.ports
	text := fmt.Sprintf(`
node_name = %q
server = %v
%s
bind_addr = "127.0.0.1"
data_dir = %q
performance { raft_multiplier = 1 }
ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = -1 }
retry_join = [%s]
retry_interval = "200ms"
autopilot { server_stabilization_time = "500ms" }
%s
`, v.name, v.server, expect, v.data(), p.http, p.dns, p.server, p.lan, strings.Join(join, ", "), v.fleet.extra)
	if err := os.WriteFile(v.settings.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if v.log == nil {
		v.agentProcess = launchBinary(t, v.fleet.binary, v.settings, nil)
	} else {
		v.agentProcess = launchBinary(t, v.fleet.binary, v.settings, v.log.in)
		v.out = &v.log.text
	}
	v.dead = false
}

// kill ends an agent at once.
func (v *vessel) kill(t testing.TB) {
	t.Helper()
	v.dead = true
	v.agentProcess.signal(t, syscall.SIGKILL)
}

// send sends a signal and waits for nothing.
func (v *vessel) send(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := v.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// self is what the agent says of itself.
func (v *vessel) self(ctx context.Context) (map[string]map[string]any, error) {
	var out map[string]map[string]any
	_, err := v.client.Raw().Query("/v1/agent/self", &out, (&api.QueryOptions{}).WithContext(ctx))
	return out, err
}

// saysItLeads reports whether a server leads, as it sees it.
func (v *vessel) saysItLeads(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	self, err := v.self(ctx)
	if err != nil {
		return false
	}
	stats, _ := self["Stats"]["consul"].(map[string]any)
	return stats["leader"] == "true"
}

// leader waits until a server leads, other than some.
func (f *fleet) leader(t testing.TB, but ...*vessel) *vessel {
	t.Helper()
	var leader *vessel
	eventually(t, recoverLimit, "a server leads", func(ctx context.Context) error {
		for _, v := range f.servers {
			skip := v.dead
			for _, b := range but {
				skip = skip || b == v
			}
			if !skip && v.saysItLeads(ctx) {
				leader = v
				return nil
			}
		}
		return errors.New("none does")
	})
	return leader
}

// followers are all servers but one.
func (f *fleet) followers(leader *vessel) []*vessel {
	var out []*vessel
	for _, v := range f.servers {
		if v != leader {
			out = append(out, v)
		}
	}
	return out
}

// awaitWhole waits until all servers vote, and all agents answer as the cluster
// does and see each other.
func (f *fleet) awaitWhole(t testing.TB) {
	t.Helper()
	for _, v := range f.all() {
		eventually(t, recoverLimit, v.name+" is a part of a whole cluster", func(ctx context.Context) error {
			select {
			case <-v.ended:
				return fmt.Errorf("it ended with %d", v.command.ProcessState.ExitCode())
			default:
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			got, err := v.client.Operator().RaftGetConfiguration((&api.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return err
			}
			voters, leaders := 0, 0
			for _, s := range got.Servers {
				if s.Voter {
					voters++
				}
				if s.Leader {
					leaders++
				}
			}
			if voters != len(f.servers) || len(got.Servers) != voters || leaders != 1 {
				return fmt.Errorf("%d servers, %d of them vote, %d leaders", len(got.Servers), voters, leaders)
			}
			members, err := v.client.Agent().Members(false)
			if err != nil {
				return err
			}
			alive := 0
			for _, m := range members {
				if m.Status == int(gossip.Alive) {
					alive++
				}
			}
			if alive != len(f.all()) {
				return fmt.Errorf("%d members are alive", alive)
			}
			_, _, err = v.client.KV().Get("nothing", (&api.QueryOptions{}).WithContext(ctx))
			return err
		})
	}
}

// targets are the agents for clients.
func (f *fleet) targets() []agenttest.Target {
	var out []agenttest.Target
	for _, v := range f.all() {
		out = append(out, agenttest.Target{Name: v.name, Address: v.settings.address(), Server: v.server})
	}
	return out
}

// checkLogs wants no agent to have said what a sound one never says.
func (f *fleet) checkLogs(t testing.TB) {
	t.Helper()
	for _, v := range f.all() {
		for _, bad := range []string{agent.PhraseDiffers, "panic:", "fatal error:", "goroutine "} {
			if text := v.out.String() + v.err.String(); strings.Contains(text, bad) {
				t.Errorf("%s said %q:\n%s", v.name, bad, text)
			}
		}
	}
}

// impatient is for clients who measure: they wait for an answer, but not for long.
var impatient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

// put writes a key through the agent.
func (v *vessel) put(ctx context.Context, key string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+v.settings.address()+"/v1/kv/"+key, strings.NewReader("x"))
	if err != nil {
		return err
	}
	response, err := impatient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}
