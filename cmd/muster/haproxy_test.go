package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// followLimit is how long a load balancer may go on after a change as before,
	// where nothing else runs. It is told, and not held against a busy machine, which
	// has settleLimit.
	followLimit = 5 * time.Second
	// sampleRequests are sent to see how they are shared out.
	sampleRequests = 1000
	// shareTolerance is how far the share of an instance may be from what its
	// weight says, as a part of that.
	shareTolerance = 0.03
)

// HAProxy with the sample configuration shares requests out by the weights that
// Muster tells, and follows what changes, without losing a request.
func TestE2EHAProxy(t *testing.T) {
	t.Parallel()
	program := findHAProxy(t)
	s := newSettings(t, "")
	agent := startServer(t, s)
	light, middle, heavy := newInstance(t, "light"), newInstance(t, "middle"), newInstance(t, "heavy")
	light.register(t, agent, 1)
	middle.register(t, agent, 3)
	heavy.register(t, agent, 6)
	proxy := startHAProxy(t, program, s.ports.dns)
	proxy.reaches(t, weights{"light": 1, "middle": 3, "heavy": 6})

	proxy.follows(t, "a changed weight", weights{"light": 6, "middle": 3, "heavy": 6}, func() {
		light.register(t, agent, 6)
	})
	proxy.follows(t, "an instance that fails its check", weights{"light": 6, "middle": 3}, func() {
		heavy.ill.Store(true)
	})
	proxy.follows(t, "an instance that is well again", weights{"light": 6, "middle": 3, "heavy": 6}, func() {
		heavy.ill.Store(false)
	})
	proxy.follows(t, "an instance in maintenance", weights{"light": 6, "heavy": 6}, func() {
		agent.muster(t, "maint", "-enable", "-service=middle", "-reason=new version").
			check(t, expectation{out: "Service maintenance is now enabled for \"middle\"\n"})
	})
	proxy.follows(t, "the end of maintenance", weights{"light": 6, "middle": 3, "heavy": 6}, func() {
		agent.muster(t, "maint", "-disable", "-service=middle").
			check(t, expectation{out: "Service maintenance is now disabled for \"middle\"\n"})
	})
	proxy.follows(t, "an instance that is removed", weights{"middle": 3, "heavy": 6}, func() {
		agent.muster(t, "services", "deregister", "-id=light").check(t, expectation{out: "Deregistered service: light\n"})
	})
	agent.signal(t, syscall.SIGKILL)
	proxy.keeps(t, weights{"middle": 3, "heavy": 6})
	// An agent that starts again takes its instances for critical until their checks
	// ran once, so requests may fail then.
	startServer(t, s)
	proxy.reaches(t, weights{"middle": 3, "heavy": 6})
}

// findHAProxy looks for the program also where users other than root do not.
func findHAProxy(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("haproxy is not on this machine")
	return ""
}

// instance is a web server that answers with its name.
type instance struct {
	name string
	port int
	ill  atomic.Bool // whether its check fails; requests are answered all the same
}

func newInstance(t *testing.T, name string) *instance {
	t.Helper()
	i := &instance{name: name}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && i.ill.Load() {
			http.Error(w, "ill", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if i.port, err = strconv.Atoi(address.Port()); err != nil {
		t.Fatal(err)
	}
	return i
}

// register tells the agent of the instance, or of its new weight, in the unit
// of HAProxy.
func (i *instance) register(t *testing.T, agent *agentProcess, weight int) {
	t.Helper()
	err := agent.client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: i.name, Name: "web", Address: "127.0.0.1", Port: i.port,
		Weights: &api.AgentWeights{Passing: 256 * weight, Warning: 1},
		Check: &api.AgentServiceCheck{
			HTTP:     fmt.Sprintf("http://127.0.0.1:%d/health", i.port),
			Interval: "1s", Timeout: "1s", Status: api.HealthPassing,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// weights are those of instances, by name.
type weights map[string]int

// haproxy is a running HAProxy.
type haproxy struct {
	address string
	client  *http.Client
}

// startHAProxy runs the sample configuration on ports of this test. The process
// is killed, by its number, when the test ends.
func startHAProxy(t *testing.T, program string, dnsPort int) *haproxy {
	t.Helper()
	sample, err := os.ReadFile("../../configs/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	p := &haproxy{address: fmt.Sprintf("127.0.0.1:%d", freePorts(t).http), client: &http.Client{Timeout: settleLimit}}
	text := replaceOnce(t, string(sample), "nameserver local 127.0.0.1:8600", fmt.Sprintf("nameserver local 127.0.0.1:%d", dnsPort))
	text = replaceOnce(t, text, "bind 127.0.0.1:8080", "bind "+p.address)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var output lockedBuffer
	command := exec.Command(program, "-db", "-f", file)
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		p.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("output of HAProxy:\n%s", &output)
		}
	})
	return p
}

func replaceOnce(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("the sample configuration has %q %d times, want once", old, n)
	}
	return strings.Replace(text, old, replacement, 1)
}

// reaches waits until requests are shared out by weights.
func (p *haproxy) reaches(t *testing.T, want weights) {
	t.Helper()
	eventually(t, settleLimit, "HAProxy knows every instance", func(ctx context.Context) error {
		_, err := p.sample(ctx, want)
		return err
	})
}

// follows makes a change and waits until requests are shared out as it says. No
// request may fail meanwhile.
func (p *haproxy) follows(t *testing.T, what string, want weights, change func()) {
	t.Helper()
	change()
	start := time.Now()
	eventually(t, settleLimit, "HAProxy follows "+what, func(ctx context.Context) error {
		failed, err := p.sample(ctx, want)
		if failed && ctx.Err() == nil {
			t.Fatalf("a request failed while HAProxy follows %s: %v", what, err)
		}
		return err
	})
	t.Logf("HAProxy followed %s within %s (the goal is %s)", what, time.Since(start).Round(10*time.Millisecond), followLimit)
}

// keeps sends requests for as long as HAProxy may take to notice something, and
// sees that nothing changes.
func (p *haproxy) keeps(t *testing.T, want weights) {
	t.Helper()
	for start := time.Now(); time.Since(start) < followLimit; {
		if _, err := p.sample(t.Context(), want); err != nil {
			t.Fatalf("without the agent: %v", err)
		}
	}
}

// sample sends requests and compares who answered with the weights. It says
// whether one failed.
func (p *haproxy) sample(ctx context.Context, want weights) (failed bool, err error) {
	answered := map[string]int{}
	for range sampleRequests {
		name, err := p.request(ctx)
		if err != nil {
			return true, err
		}
		answered[name]++
	}
	sum := 0
	for _, weight := range want {
		sum += weight
	}
	for name := range answered {
		if want[name] == 0 {
			return false, fmt.Errorf("%s answered %d requests, want none", name, answered[name])
		}
	}
	for name, weight := range want {
		expected := float64(sampleRequests*weight) / float64(sum)
		if math.Abs(float64(answered[name])-expected) > expected*shareTolerance {
			return false, fmt.Errorf("%s answered %d of %d requests, want %.0f", name, answered[name], sampleRequests, expected)
		}
	}
	return false, nil
}

// request sends one request and returns the name of the instance that answers.
func (p *haproxy) request(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address, nil)
	if err != nil {
		return "", err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("HAProxy answers %s", response.Status)
	}
	return string(body), err
}
