package agent

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
)

func TestMetricsAreThoseOfTheLastWholeInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newTelemetry()
		if err != nil {
			t.Fatal(err)
		}
		m.Request("GET", "/v1/kv/_", 250*time.Millisecond)
		if got := m.Metrics(); len(got.Samples) != 1 {
			t.Errorf("in the first interval: %+v", got)
		}
		time.Sleep(metricsInterval)
		m.Request("GET", "/v1/kv/_", time.Second)
		m.to.EmitRuntimeStats()
		got := m.Metrics()
		if len(got.Samples) != 1 || len(got.Gauges) != 0 {
			t.Fatalf("got %+v", got)
		}
		s := got.Samples[0]
		if s.Name != "consul.api.http" || s.Count != 1 || s.Sum != 250 || s.Mean != 250 || s.Rate != 25 ||
			s.Labels["method"] != "GET" || s.Labels["path"] != "/v1/kv/_" {
			t.Errorf("got %+v", s)
		}
		time.Sleep(metricsInterval)
		hostname, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, g := range m.Metrics().Gauges {
			names = append(names, g.Name)
		}
		if want := "consul." + hostname + ".runtime.alloc_bytes"; !slices.Contains(names, want) {
			t.Errorf("%s is not among %q", want, names)
		}
	})
}

func TestMetricsWithoutAny(t *testing.T) {
	m, err := newTelemetry()
	if err != nil {
		t.Fatal(err)
	}
	got := m.Metrics()
	got.Timestamp = ""
	b, err := json.Marshal(got)
	if want := `{"Timestamp":"","Gauges":[],"Points":[],"Counters":[],"Samples":[]}`; string(b) != want || err != nil {
		t.Errorf("got %s, %v", b, err)
	}
	m.to.SetGauge([]string{"autopilot", "healthy"}, float32(math.NaN()))
	if _, err := json.Marshal(m.Metrics()); err != nil {
		t.Error(err)
	}
}

func TestFollowedMetricsEndWithTheirReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newTelemetry()
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan api.Metrics)
		go m.FollowMetrics(t.Context(), func(s api.Metrics) error {
			seen <- s
			return os.ErrClosed
		})
		synctest.Wait()
		m.Request("PUT", "/v1/txn", time.Second)
		time.Sleep(metricsInterval)
		m.Request("PUT", "/v1/txn", time.Second) // begins the next one
		if got := <-seen; len(got.Samples) != 1 || got.Samples[0].Count != 1 {
			t.Errorf("got %+v", got)
		}
		synctest.Wait()
	})
}

func TestCommandsAreMeasuredByKind(t *testing.T) {
	m, err := newTelemetry()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []any{&kv.Set{}, &kv.DeleteTree{}, &health.Transaction{}, &health.Register{}, &catalog.Deregister{}, &state.Begin{}} {
		m.Command(cmd, time.Now())
	}
	counts := map[string]int{}
	for _, s := range m.Metrics().Samples {
		counts[s.Name] += s.Count
	}
	for name, want := range map[string]int{"consul.kvs.apply": 2, "consul.txn.apply": 1, "consul.catalog.register": 1, "consul.catalog.deregister": 1} {
		if counts[name] != want {
			t.Errorf("%s: %d, want %d", name, counts[name], want)
		}
	}
	if len(counts) != 4 {
		t.Errorf("got %v", counts)
	}
}
