package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What a loaded server holds.
const (
	loadedKeys      = 100_000
	loadedValue     = 128 // bytes
	loadedServices  = 5000
	loadedInstances = 20_000 // over all services
	loadedNodes     = 2000
	loadClients     = 64
	// loadLimit bounds the loading, and startLimit each start.
	loadLimit  = 5 * time.Minute
	startLimit = time.Minute
	// lookInterval is the pause between two looks at a starting agent.
	lookInterval = time.Millisecond
	// quietTime is how long an agent is left alone before its memory is looked
	// at.
	quietTime = 5 * time.Second
)

// BenchmarkStart starts the binary as it is released, and says how long it took
// from the start of the process, and what the process then weighs. All figures
// are medians.
func BenchmarkStart(b *testing.B) {
	b.Run("dev", func(b *testing.B) {
		benchmarkStarts(b, func() *settings { return devSettings(b) }, "-dev")
		b.ReportMetric(float64(sizeOf(b, binary(b)))/1e6, "binary-MB")
	})
	b.Run("fresh", func(b *testing.B) {
		benchmarkStarts(b, func() *settings { return newSettings(b, "") })
	})
}

// BenchmarkRestart restarts a server that holds much, either all of it in its
// log, or in the snapshot that it takes by itself with default settings.
func BenchmarkRestart(b *testing.B) {
	for _, bench := range []struct {
		name, extra string
		filled      func(testing.TB, *agentProcess)
	}{
		{"log", "raft_snapshot_threshold = 10000000", fill},
		{"snapshot", "", fillAndSnapshot},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := newSettings(b, bench.extra)
			p := startServer(b, s)
			bench.filled(b, p)
			full := usageOf(b, p.command.Process.Pid)
			p.signal(b, syscall.SIGTERM)
			benchmarkStarts(b, func() *settings { return s })
			b.ReportMetric(mib(full.resident), "filled-MiB")
		})
	}
}

// devSettings are for -dev, which decides all but the ports by itself.
func devSettings(b *testing.B) *settings {
	b.Helper()
	s := newSettings(b, "")
	text := fmt.Sprintf("ports { http = %d dns = %d server = %d serf_lan = %d serf_wan = %d grpc = -1 }\n",
		s.ports.http, s.ports.dns, s.ports.server, s.ports.lan, s.ports.wan)
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return s
}

// benchmarkStarts starts agents one after the other.
func benchmarkStarts(b *testing.B, next func() *settings, flags ...string) {
	var ready, write, cpu, resident, anonymous, peak []int
	for b.Loop() {
		began := time.Now()
		p := launch(b, next(), flags...)
		ready = append(ready, int(p.until(b, "GET", "/v1/status/leader", "", func(body string) bool { return len(body) > 2 }).Sub(began)))
		write = append(write, int(p.until(b, "PUT", "/v1/kv/start", "x", func(body string) bool { return body == "true" }).Sub(began)))
		b.StopTimer()
		cpu = append(cpu, int(usageOf(b, p.command.Process.Pid).cpu))
		rest := time.NewTimer(quietTime)
		<-rest.C
		now := usageOf(b, p.command.Process.Pid)
		resident, anonymous, peak = append(resident, now.resident), append(anonymous, now.anonymous), append(peak, now.peak)
		p.signal(b, syscall.SIGTERM)
		b.StartTimer()
	}
	b.ReportMetric(float64(medianOf(ready))/1e6, "ready-ms")
	b.ReportMetric(float64(medianOf(write))/1e6, "write-ms")
	b.ReportMetric(float64(medianOf(cpu))/1e6, "cpu-ms")
	b.ReportMetric(mib(medianOf(resident)), "RSS-MiB")
	b.ReportMetric(mib(medianOf(anonymous)), "anonymous-MiB")
	b.ReportMetric(mib(medianOf(peak)), "peak-MiB")
}

// until asks an agent that starts until it answers as wanted, and says when it
// did.
func (p *agentProcess) until(b testing.TB, method, path, body string, wanted func(string) bool) time.Time {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		status, answer, err := request(ctx, http.DefaultClient, method, "http://"+p.settings.address()+path, body)
		if err == nil && status == http.StatusOK && wanted(strings.TrimSpace(answer)) {
			return time.Now()
		}
		select {
		case <-p.ended:
			b.Fatalf("the agent ended while it started:\n%s%s", p.out, p.err)
		case <-ctx.Done():
			b.Fatalf("%s %s did not succeed within %s: status %d, %v", method, path, startLimit, status, err)
		case <-ticker.C:
		}
	}
}

func request(ctx context.Context, client *http.Client, method, url, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, soakMaxAnswer))
	return response.StatusCode, string(text), err
}

// fill writes keys and instances, each with a request of its own, so that the
// log has as many entries.
func fill(b testing.TB, p *agentProcess) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadClients}}
	defer client.CloseIdleConnections()
	base, value := "http://"+p.settings.address(), strings.Repeat("v", loadedValue)
	var next atomic.Int64
	var group sync.WaitGroup
	for range loadClients {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < loadedKeys+loadedInstances; i = int(next.Add(1)) - 1 {
				path, body := fmt.Sprintf("/v1/kv/filled/%06d", i), value
				if i >= loadedKeys {
					path, body = "/v1/catalog/register", filledInstance(i-loadedKeys)
				}
				if status, answer, err := request(ctx, client, "PUT", base+path, body); err != nil || status != http.StatusOK {
					b.Errorf("%s: status %d %s %v", path, status, answer, err)
					return
				}
			}
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// fillAndSnapshot fills a server and waits for the first snapshot after that.
func fillAndSnapshot(b testing.TB, p *agentProcess) {
	b.Helper()
	fill(b, p)
	full := time.Now()
	eventually(b, loadLimit, "there is a snapshot", func(context.Context) error {
		states, err := filepath.Glob(filepath.Join(p.settings.dir, "data", "raft", "snapshots", "*[0-9]", "state.bin"))
		for _, state := range states {
			if info, err := os.Stat(state); err == nil && info.ModTime().After(full) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%d older ones", len(states)))
	})
}

// filledInstance is a registration: a node, an instance with metadata, and two checks.
func filledInstance(i int) string {
	name := fmt.Sprintf("filled-%d", i%loadedServices)
	id := fmt.Sprintf("%s-%d", name, i)
	node := fmt.Sprintf("node-%d", i%loadedNodes)
	return fmt.Sprintf(`{"Node":%q,"Address":"127.2.%d.%d",
"Service":{"ID":%q,"Service":%q,"Port":%d,"Tags":["primary","v1"],"Meta":{"version":"1.2.3"}},
"Checks":[{"CheckID":"host","Name":"host","Status":"passing"},{"CheckID":"service:%s","Name":"service","ServiceID":%q,"Status":"passing"}]}`,
		node, i%loadedNodes/250, i%loadedNodes%250+1, id, name, 1024+i%60000, id, id)
}

func sizeOf(b testing.TB, path string) int64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}
