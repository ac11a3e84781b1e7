package agent

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/api"
)

// TestSamplesAreShownAsTheLibraryShowsThem gives the same to both, over some
// intervals in which not everything is measured.
func TestSamplesAreShownAsTheLibraryShowsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newTelemetry()
		if err != nil {
			t.Fatal(err)
		}
		a := &Agent{telemetry: m, config: &config.Config{NodeName: "node 1"}}
		sink := metrics.NewInmemSink(metricsInterval, metricsRetention)
		c := metrics.DefaultConfig(metricsPrefix)
		c.EnableRuntimeMetrics = false
		library, err := metrics.New(c, sink)
		if err != nil {
			t.Fatal(err)
		}
		var followed, wanted []api.Metrics
		go m.FollowMetrics(t.Context(), func(s api.Metrics) error { followed = append(followed, s); return nil })
		go sink.Stream(t.Context(), encoder(func(v any) error {
			wanted = append(wanted, newMetrics(v.(metrics.MetricsSummary)))
			return nil
		}))
		synctest.Wait()
		random := rand.New(rand.NewPCG(1, 2))
		label := func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} }
		for step := range 200 {
			time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
			if step%40 == 0 {
				time.Sleep(3 * metricsInterval)
			}
			took := time.Duration(random.IntN(1e9))
			ms := float32(took.Seconds() * 1000)
			switch random.IntN(4) {
			case 0:
				method, path := []string{"GET", "PUT", "A B"}[random.IntN(3)], []string{"/v1/kv/_", "/v1/txn"}[random.IntN(2)]
				m.Request(method, path, took)
				library.AddSampleWithLabels([]string{"api", "http"}, ms, []metrics.Label{label("method", method), label("path", path)})
			case 1:
				kind, area := "AAAA", "domain_query"
				if random.IntN(2) == 0 {
					kind, area = "PTR", "ptr_query"
				}
				a.measureDNS(kind, took)
				library.AddSampleWithLabels([]string{"dns", "query"}, ms, []metrics.Label{label("node", "node 1"), label("type", kind)})
				library.AddSampleWithLabels([]string{"dns", area}, ms, []metrics.Label{label("node", "node 1")})
			case 2:
				m.samples.add(measureTxn, took)
				library.AddSample([]string{"txn", "apply"}, ms)
			default: // what only the library measures
				m.to.AddSample([]string{"raft", "rpc", "appendEntries"}, ms)
				library.AddSample([]string{"raft", "rpc", "appendEntries"}, ms)
			}
			synctest.Wait()
			shown, err := sink.DisplayMetrics(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := m.Metrics(), newMetrics(shown.(metrics.MetricsSummary)); !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d: got %+v\nwant %+v", step, got, want)
			}
		}
		synctest.Wait()
		if len(followed) < 10 || !reflect.DeepEqual(followed, wanted) {
			t.Errorf("followed %d intervals %+v\nwant %d: %+v", len(followed), followed, len(wanted), wanted)
		}
	})
}

func TestSeriesThatClientsMakeUpAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newTelemetry()
		if err != nil {
			t.Fatal(err)
		}
		count := func() int { return len(*m.samples.all.Load()) }
		for i := range 2 * maxSeries {
			m.Request(fmt.Sprint("M", i), "/v1/txn", time.Second)
		}
		m.Request("GET", "/v1/kv/_", time.Second)
		m.Request(strings.Repeat("M", maxLabelValue+1), "/v1/txn", time.Second)
		m.samples.add(measureTxn, time.Second)
		if n := count(); n != maxSeries+3 {
			t.Errorf("%d series", n)
		}
		counts := map[string]int{}
		for _, s := range m.Metrics().Samples {
			counts[s.Name+" "+s.Labels["method"]+" "+s.Labels["path"]] = s.Count
		}
		for name, want := range map[string]int{"consul.api.http M0 /v1/txn": 1, "consul.api.http other /v1/txn": maxSeries + 1,
			"consul.api.http other /v1/kv/_": 1, "consul.txn.apply  ": 1} {
			if counts[name] != want {
				t.Errorf("%s: %d, want %d", name, counts[name], want)
			}
		}
		time.Sleep(metricsRetention + metricsInterval)
		m.Request("GET", "/v1/kv/_", time.Second)
		if n := count(); n != 1 {
			t.Errorf("%d series long after", n)
		}
	})
}

func TestSamplesOfOneIntervalComeTogether(t *testing.T) {
	it := newSeries(seriesKey{of: measureTxn})
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			for i := range 1000 {
				it.add(10, float64(i))
			}
		})
	}
	adding.Wait()
	it.add(20, 5)
	it.add(10, 1000) // overtaken
	want := tally{began: 10, count: 8001, sum: 8*499_500 + 1000, squares: 8*332_833_500 + 1e6, lowest: 0, highest: 1000}
	if got := it.of(10); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := it.of(20); got.count != 1 || it.of(30).count != 0 {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkMeasureRequest(b *testing.B) {
	m, err := newTelemetry()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Request("GET", "/v1/kv/_", time.Millisecond)
	}
}
