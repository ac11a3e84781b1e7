//go:build unix

package agent_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

const (
	// patience bounds every wait of these tests; most take milliseconds.
	patience = time.Minute
	// maxWaiterBytes is what a reader who waits may cost in heap and stacks, with
	// the connection, its buffers and the test's own end of it. Some 20 KiB are
	// measured, of which Go's HTTP server takes most.
	maxWaiterBytes = 32 << 10
	// maxIdleBytes is the same for a connection without a request.
	maxIdleBytes = 24 << 10
)

// client is one keep-alive connection without goroutines or buffers of its own,
// so that thousands of them say little about the memory of the agent.
type client struct{ net.Conn }

func connect(t testing.TB, a *agenttest.Agent) client {
	t.Helper()
	c, err := net.Dial("tcp", a.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return client{c}
}

// send begins a request.
func (c client) send(t testing.TB, method, target, body string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: muster\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body); err != nil {
		t.Fatal(err)
	}
}

// receive reads an answer, which must be a success, and its index.
func (c client) receive(t testing.TB) (index, body string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s %v", response.StatusCode, content, err)
	}
	return response.Header.Get("X-Consul-Index"), string(content)
}

func (c client) do(t testing.TB, method, target, body string) (index, answer string) {
	t.Helper()
	c.send(t, method, target, body)
	return c.receive(t)
}

// change gives a service another port, and so a change.
func (c client) change(t testing.TB, service string, port int) {
	t.Helper()
	c.do(t, http.MethodPut, "/v1/catalog/register", fmt.Sprintf(
		`{"Node":"node-of-%s","Address":"10.0.0.1","Service":{"Service":%q,"Port":%d},"Check":{"CheckID":"c","ServiceID":%q,"Status":"passing"}}`,
		service, service, port, service))
}

// until waits until a condition holds of which nothing tells.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-limit.C:
			t.Fatalf("waited %v for this: %s", patience, what)
		}
	}
}

// memory is what the process has on its heap and in its stacks.
func memory() int {
	var m runtime.MemStats
	runtime.GC() // the first may only move what pools hold
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// waiters are clients that wait for services, each for one.
type waiters struct {
	a       *agenttest.Agent
	clients []client
}

// wait makes all of them wait, each for the service that it is told to.
func (w *waiters) wait(t testing.TB, writer client, service func(int) string) {
	t.Helper()
	index := map[string]string{}
	for i, c := range w.clients {
		name := service(i)
		if index[name] == "" {
			index[name], _ = writer.do(t, http.MethodGet, "/v1/health/service/"+name, "")
		}
		c.send(t, http.MethodGet, "/v1/health/service/"+name+"?wait=10m&index="+index[name], "")
	}
	until(t, "all wait", func() bool { return w.a.Waiting() == len(w.clients) })
}

// answered reads the answers of all, which must have the port.
func (w *waiters) answered(t testing.TB, port int) {
	t.Helper()
	for _, c := range w.clients {
		if _, body := c.receive(t); !strings.Contains(body, fmt.Sprintf(`"Port": %d,`, port)) {
			t.Fatalf("the answer %s does not have port %d", body, port)
		}
	}
}

// startFor starts an agent for many connections.
func startFor(t testing.TB, connections int) *agenttest.Agent {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(2*connections+200) {
		t.Skipf("%d connections with both ends in this process need more open files than the %d that it may have (%v)", connections, files.Cur, err)
	}
	return agenttest.Start(t, agenttest.HCL(fmt.Sprintf(`log_level = "WARN", limits { http_max_conns_per_client = %d }`, connections+20)))
}

// TestThousandsWait holds many readers and idle connections, and looks at what
// they cost, whom a change wakes, and what is left when they go.
func TestThousandsWait(t *testing.T) {
	count, idle, services, slack := 5000, 1000, 100, 1
	if testing.Short() || raceDetector {
		count, idle, services, slack = 300, 60, 10, 3 // what else the agent does counts for more
	}
	a := startFor(t, count+idle)
	writer := connect(t, a)
	name := func(i int) string { return fmt.Sprintf("service-%d", i%services) }
	for i := range services {
		writer.change(t, name(i), 1)
	}
	writer.change(t, "busy", 1)
	goroutines := runtime.NumGoroutine()

	before := memory()
	for range idle {
		connect(t, a).do(t, http.MethodGet, "/v1/status/leader", "")
	}
	perIdle := (memory() - before) / idle
	w := &waiters{a: a}
	for range count {
		w.clients = append(w.clients, connect(t, a))
	}
	before = memory()
	w.wait(t, writer, name)
	perWaiter := (memory() - before) / count
	t.Logf("%d B for an idle connection, and %d B for a waiting reader beside the bare connection", perIdle, perWaiter)
	if perIdle > slack*maxIdleBytes || perWaiter > slack*maxWaiterBytes {
		t.Errorf("limits are %d B and %d B", slack*maxIdleBytes, slack*maxWaiterBytes)
	}

	woken := a.Woken()
	for port := range 20 {
		writer.change(t, "busy", 100+port)
	}
	writer.do(t, http.MethodPut, "/v1/kv/a", "b")
	if got := a.Woken() - woken; got != 0 || a.Waiting() != count {
		t.Errorf("changes of another service woke %d readers, and %d of %d wait", got, a.Waiting(), count)
	}

	encoded := a.Encoded()
	for i := range services {
		writer.change(t, name(i), 2)
	}
	w.answered(t, 2)
	if got := a.Woken() - woken; got < uint64(count) {
		t.Errorf("%d readers were woken, of %d", got, count)
	}
	if got := a.Encoded() - encoded; got > uint64(2*services) {
		t.Errorf("a change of each of %d services was encoded %d times", services, got)
	}

	w.wait(t, writer, func(int) string { return "busy" })
	woken, encoded = a.Woken(), a.Encoded()
	writer.change(t, "busy", 3)
	w.answered(t, 3)
	if got := a.Woken() - woken; got != uint64(count) {
		t.Errorf("one change woke %d readers, of %d", got, count)
	}
	if got := a.Encoded() - encoded; got != 1 {
		t.Errorf("one change was encoded %d times", got)
	}

	w.wait(t, writer, name)
	for _, c := range w.clients {
		_ = c.Close()
	}
	until(t, "those who are gone do not wait", func() bool { return a.Waiting() == 0 })
	until(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines+idle })
}

// processorTime is what the process has used of the processors.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkFanOut changes a service for which many wait. Each round takes one
// change, and an answer over loopback to each of them, which this process reads
// too. The time of the processors tells more than the clock where others work on
// the machine.
func BenchmarkFanOut(b *testing.B) {
	for _, count := range []int{100, 1000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a := startFor(b, count)
			writer := connect(b, a)
			writer.change(b, "web", 1)
			w := &waiters{a: a}
			for range count {
				w.clients = append(w.clients, connect(b, a))
			}
			var took []time.Duration
			var used time.Duration
			port := 1
			for b.Loop() {
				b.StopTimer()
				w.wait(b, writer, func(int) string { return "web" })
				port++
				b.StartTimer()
				began, usedBefore := time.Now(), processorTime(b)
				writer.change(b, "web", port)
				w.answered(b, port)
				took, used = append(took, time.Since(began)), used+processorTime(b)-usedBefore
			}
			slices.Sort(took)
			b.ReportMetric(float64(used.Nanoseconds())/float64(len(took)*count), "cpu-ns/waiter")
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "median-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
		})
	}
}
