package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
)

// An instance is seen in DNS while its check passes, and only then; all of it
// outlives a restart.
func TestE2EServiceLife(t *testing.T) {
	t.Parallel()
	s := newSettings(t, "")
	p := startServer(t, s)
	registerInstances(t, p, 8080, 8081)
	name := "web.service.consul."

	p.expectPorts(t, name)
	passes(t, p, "web-8080", api.HealthPassing)
	p.expectPorts(t, name, 8080)
	passes(t, p, "web-8081", api.HealthPassing)
	p.expectPorts(t, name, 8080, 8081)
	p.expectAddress(t, name, netip.MustParseAddr("127.0.0.1"))
	passes(t, p, "web-8080", api.HealthCritical)
	p.expectPorts(t, name, 8081)

	if _, err := p.client.KV().Put(&api.KVPair{Key: "greeting", Value: []byte("hello")}, nil); err != nil {
		t.Fatal(err)
	}
	if code := p.signal(t, syscall.SIGTERM); code != 1 {
		t.Errorf("a server that is terminated exits with %d, want 1", code)
	}

	p = startServer(t, s)
	pair, _, err := p.client.KV().Get("greeting", nil)
	if err != nil || pair == nil || string(pair.Value) != "hello" {
		t.Fatalf("the key after a restart: %v, %v", pair, err)
	}
	p.expectPorts(t, name, 8081)
	for _, port := range []int{8080, 8081} {
		if err := p.client.Agent().ServiceDeregister(instanceID(port)); err != nil {
			t.Fatal(err)
		}
	}
	p.expectPorts(t, name)
}

// Checks that the agent runs itself: one against the agent's own port, and one
// against a port that closes.
func TestE2ERunningChecks(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	err = p.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "db", Address: "127.0.0.1", Port: port,
		Checks: api.AgentServiceChecks{
			{TCP: listener.Addr().String(), Interval: "1s", Timeout: "1s"},
			{HTTP: fmt.Sprintf("http://%s/v1/status/leader", p.settings.address()), Interval: "1s", Timeout: "1s"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.expectPorts(t, "db.service.consul.", uint16(port))
	listener.Close()
	p.expectPorts(t, "db.service.consul.")
}

func instanceID(port int) string { return "web-" + strconv.Itoa(port) }

// registerInstances registers instances of web, each with a check that waits to be told.
func registerInstances(t *testing.T, p *agentProcess, ports ...int) {
	t.Helper()
	for _, port := range ports {
		err := p.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: instanceID(port), Name: "web", Address: "127.0.0.1", Port: port,
			Check: &api.AgentServiceCheck{TTL: "1h"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// passes tells the state of an instance's check.
func passes(t *testing.T, p *agentProcess, id, status string) {
	t.Helper()
	if err := p.client.Agent().UpdateTTL("service:"+id, "", status); err != nil {
		t.Fatal(err)
	}
}

// The commands of the binary against a running agent.
func TestE2ECommands(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	for _, step := range []struct {
		line string
		want expectation
	}{
		{"kv put app/limit 100", expectation{out: "Success! Data written to: app/limit\n"}},
		{"kv get app/limit", expectation{out: "100\n"}},
		{"kv put -cas app/limit 200", expectation{err: "it exists already", code: 1}},
		{"kv get -keys", expectation{out: "app/\n"}},
		{"kv get -recurse app", expectation{out: "app/limit:100\n"}},
		{"kv get nope", expectation{err: "there is no key nope", code: 1}},
		{"kv delete -recurse app/", expectation{out: "Success! Deleted keys with prefix: app/\n"}},
		{"kv delete app/limit", expectation{out: "Success! Deleted key: app/limit\n"}},
		{"services register -name=web -port=80 -tag=v1", expectation{out: "Registered service: web\n"}},
		{"services deregister -id=web", expectation{out: "Deregistered service: web\n"}},
		{"services deregister -id=web", expectation{err: "web", code: 1}},
		{"catalog datacenters", expectation{out: "dc1\n"}},
		{"members -status=failed", expectation{code: 2}},
	} {
		t.Run(step.line, func(t *testing.T) {
			p.muster(t, strings.Fields(step.line)...).check(t, step.want)
		})
	}
	for line, want := range map[string]string{
		"members":          "n1    127.0.0.1:" + strconv.Itoa(p.settings.ports.lan) + "  alive   server  1.21.4",
		"catalog nodes":    "127.0.0.1  dc1",
		"catalog services": "consul",
		"health -leader":   "The leader is 127.0.0.1:" + strconv.Itoa(p.settings.ports.server),
	} {
		if got := p.muster(t, strings.Fields(line)...); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit code %d, %s%s want %q in it", line, got.code, got.out, got.err, want)
		}
	}
}

func TestE2ESignals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		extra  string
		signal syscall.Signal
		code   int
	}{
		{"server, terminated", "", syscall.SIGTERM, 1},
		{"server, interrupted", "", syscall.SIGINT, 1},
		{"server that leaves, terminated", "leave_on_terminate = true", syscall.SIGTERM, 0},
		{"server that leaves, interrupted", "skip_leave_on_interrupt = false", syscall.SIGINT, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSettings(t, test.extra)
			pidFile := filepath.Join(s.dir, "pid")
			p := startServer(t, s, "-pid-file="+pidFile)
			if pid, err := os.ReadFile(pidFile); err != nil || string(pid) != strconv.Itoa(p.command.Process.Pid) {
				t.Errorf("the pid file holds %q (%v), want %d", pid, err, p.command.Process.Pid)
			}
			if code := p.signal(t, test.signal); code != test.code {
				t.Errorf("exit code = %d, want %d", code, test.code)
			}
			if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
				t.Errorf("the pid file is still there: %v", err)
			}
		})
	}
}

// SIGHUP takes over a changed file; a broken one changes nothing.
func TestE2EReload(t *testing.T) {
	t.Parallel()
	s := newSettings(t, "")
	p := startServer(t, s)
	hangup := func(extra string) {
		t.Helper()
		s.extra = extra
		s.write(t)
		if err := p.command.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangup(`service { name = "web" port = 80 }`)
	p.expectPorts(t, "web.service.consul.", 80)
	hangup(`nonsense = 1`)
	eventually(t, settleLimit, "the log tells of the broken file", func(context.Context) error {
		if !strings.Contains(p.out.String(), "Failed to reload configuration") {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	p.expectPorts(t, "web.service.consul.", 80)
	hangup("")
	p.expectPorts(t, "web.service.consul.")
}

// What keeps an agent from starting is said on standard error, with exit code 1.
func TestE2EStartErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenPort := taken.Addr().(*net.TCPAddr).Port
	other := startServer(t, newSettings(t, ""))
	for _, test := range []struct {
		name  string
		flags []string
		want  string // contained in standard error
	}{
		{"unknown key", []string{"-hcl=nonsense = 1"}, "nonsense"},
		{"missing file", []string{"-config-file=/nonexistent.hcl"}, "==> "},
		{"taken port", []string{"-http-port=" + strconv.Itoa(takenPort)}, strconv.Itoa(takenPort)},
		{"taken data", []string{"-data-dir=" + filepath.Join(other.settings.dir, "data")}, "==> "},
		{"pid file in a missing folder", []string{"-pid-file=/nonexistent/pid"}, "==> cannot write the pid file"},
		{"argument", []string{"-dev", "now"}, "too many arguments"},
		{"unknown flag", []string{"-nope"}, "-nope"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := launch(t, newSettings(t, ""), test.flags...)
			if code := p.exit(t); code != 1 {
				t.Errorf("exit code = %d, want 1", code)
			}
			if !strings.Contains(p.err.String(), test.want) {
				t.Errorf("standard error = %q, want %q in it", p.err, test.want)
			}
		})
	}
}
