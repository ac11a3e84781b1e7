package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	// soak is how long the agent is under load; without it the test is skipped.
	soak = flag.Duration("soak", 0, "how long TestSoak loads an agent")
	// soakRate is moderate: a part of one core, so that an hour of it can run
	// beside other work.
	soakRate = flag.Int("soakrate", 300, "requests of TestSoak per second")
)

const (
	// soakRound is how long the load runs between two samples, unless that were
	// fewer than soakRounds.
	soakRound  = 30 * time.Second
	soakRounds = 24
	// soakWarmUp is the part of a soak in which caches and the history fill: the
	// sixth after it is held against the last one.
	soakWarmUp = 1.0 / 6
	// soakGrowth is how far the median heap of the last part may be from that of
	// the first.
	soakGrowth = 0.05
	// soakSettle is how long what the load left under way may take to end.
	soakSettle = 10 * time.Second
	// soakLook is the pause between two looks at the number of goroutines, and
	// soakLooks how many have to agree.
	soakLook  = 100 * time.Millisecond
	soakLooks = 5
	// soakProfile bounds a profile in bytes, and soakProfiling the time that one
	// takes: a collection on a machine that has other work to do.
	soakProfile   = 64 << 20
	soakProfiling = 2 * time.Minute
)

// An agent that runs for long under every kind of request needs no more memory
// and no more goroutines than it did once it was warm.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("give -soak=1h to run it")
	}
	s := newSettings(t, "enable_debug = true\nlog_level = \"ERR\"\nlimits { http_max_conns_per_client = 1000 }")
	p := startServer(t, s)
	load := newSoakLoad(t, p, *soakRate)
	round := min(soakRound, *soak/soakRounds)
	began := time.Now()
	samples := []soakSample{load.sample(t, 0)}
	t.Log(soakHeader)
	for time.Since(began) < *soak {
		load.run(t.Context(), min(round, *soak-time.Since(began)))
		sample := load.sample(t, time.Since(began))
		samples = append(samples, sample)
		t.Log(sample)
		if failures := load.failures(); len(failures) > 0 {
			t.Fatalf("the agent failed:\n%s", strings.Join(failures, "\n"))
		}
	}
	t.Log(load.counts())
	judgeSoak(t, samples)
}

// judgeSoak holds the last sixth of a soak against the one after the warm-up: in
// an hour these are ten minutes each.
func judgeSoak(t *testing.T, samples []soakSample) {
	t.Helper()
	length := samples[len(samples)-1].at
	part := func(from, to float64, value func(soakSample) int) (values []int) {
		for _, s := range samples {
			if at := s.at.Seconds() / length.Seconds(); at > from && at <= to {
				values = append(values, value(s))
			}
		}
		return values
	}
	if len(samples) < soakRounds/2 {
		t.Fatalf("%s were only enough for %d samples, which shows nothing", length, len(samples))
	}
	heap := func(s soakSample) int { return s.heap }
	before := medianOf(part(soakWarmUp, 2*soakWarmUp, heap))
	after := medianOf(part(1-soakWarmUp, 1, heap))
	change := float64(after-before) / float64(max(before, 1))
	t.Logf("median heap %.2f MiB, in the end %.2f MiB, %+.1f %%", mib(before), mib(after), 100*change)
	if change > soakGrowth || change < -soakGrowth {
		t.Errorf("the heap went from %.2f to %.2f MiB, by %+.1f %%, limit %.0f %%", mib(before), mib(after), 100*change, 100*soakGrowth)
	}
	goroutines := func(s soakSample) int { return s.goroutines }
	before = medianOf(part(soakWarmUp, 2*soakWarmUp, goroutines))
	after = medianOf(part(1-soakWarmUp, 1, goroutines))
	t.Logf("median goroutines %d, in the end %d", before, after)
	if after > before {
		t.Errorf("there are %d goroutines, were %d", after, before)
	}
}

func medianOf(values []int) int {
	slices.Sort(values)
	return values[len(values)/2]
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }

// soakSample is what the agent holds while nobody asks for anything.
type soakSample struct {
	at         time.Duration
	heap       int // bytes in use after a collection
	objects    int
	goroutines int
	resident   int // bytes
	cpu        time.Duration
	requests   uint64
}

const soakHeader = "     at    heap MiB    objects goroutines    RSS MiB      CPU s   requests"

// String is a line of the table under [soakHeader].
func (s soakSample) String() string {
	return fmt.Sprintf("%7s %11.2f %10d %10d %10.1f %10.1f %10d",
		s.at.Round(time.Second), mib(s.heap), s.objects, s.goroutines, mib(s.resident), s.cpu.Seconds(), s.requests)
}

// sample waits until what the load left under way has ended, and measures.
func (l *soakLoad) sample(t *testing.T, at time.Duration) soakSample {
	t.Helper()
	l.rest(t)
	s := soakSample{at: at, requests: l.total(), goroutines: l.settled(t)}
	l.profile(t, "heap?gc=1&debug=1") // pools let go of what they hold at the second collection
	text := l.profile(t, "heap?gc=1&debug=1")
	s.heap, s.objects = profileField(t, text, "# HeapAlloc = "), profileField(t, text, "# HeapObjects = ")
	usage := usageOf(t, l.process.command.Process.Pid)
	s.resident, s.cpu = usage.resident, usage.cpu
	return s
}

// settled is the number of goroutines once it no longer changes.
func (l *soakLoad) settled(t *testing.T) int {
	t.Helper()
	ticker := time.NewTicker(soakLook)
	defer ticker.Stop()
	deadline := time.Now().Add(soakSettle)
	last, same := 0, 0
	for same < soakLooks && time.Now().Before(deadline) {
		<-ticker.C
		n := profileField(t, l.profile(t, "goroutine?debug=1"), "goroutine profile: total ")
		if n == last {
			same++
		} else {
			last, same = n, 1
		}
	}
	return last
}

// profile reads a profile over a connection of its own.
func (l *soakLoad) profile(t *testing.T, which string) string {
	t.Helper()
	client := &http.Client{Timeout: soakProfiling, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(l.base + "/debug/pprof/" + which)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, soakProfile))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", which, response.StatusCode, err)
	}
	return string(text)
}

// profileField is the number behind a label of a profile's text.
func profileField(t *testing.T, text, label string) int {
	t.Helper()
	_, rest, found := strings.Cut(text, label)
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if !found || err != nil {
		t.Fatalf("the profile has no number behind %q: %v", label, err)
	}
	return n
}
