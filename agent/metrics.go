package agent

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/go-metrics"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
)

// metricsPrefix is the first part of every metric's name.
const metricsPrefix = "consul"

// telemetry keeps what is measured, and lets it and the log be followed. The
// libraries measure into the one that was made last in the process.
type telemetry struct {
	*monitors
	sink    *metrics.InmemSink
	to      *metrics.Metrics
	samples *samples
}

var _ api.Telemetry = (*telemetry)(nil)

// newTelemetry makes the place where everything is measured. Gauges carry the
// host's name.
func newTelemetry() (*telemetry, error) {
	t := &telemetry{monitors: newMonitors(), sink: metrics.NewInmemSink(metricsInterval, metricsRetention)}
	t.samples = newSamples(func() { t.sink.Data() })
	c := metrics.DefaultConfig(metricsPrefix)
	c.EnableRuntimeMetrics = false // it would never end: watch does it
	var err error
	t.to, err = metrics.NewGlobal(c, t.sink)
	return t, err
}

// Request notes that a request was answered.
func (t *telemetry) Request(method, path string, took time.Duration) {
	t.samples.add(measureRequest, took, method, path)
}

// Command notes that a command was carried out.
func (t *telemetry) Command(cmd any, began time.Time) {
	var of *measure
	switch cmd.(type) {
	case *kv.Set, *kv.CAS, *kv.Delete, *kv.DeleteCAS, *kv.DeleteTree:
		of = measureKeys
	case *health.Transaction:
		of = measureTxn
	case *health.Register:
		of = measureRegister
	case *catalog.Deregister:
		of = measureDeregister
	default:
		return
	}
	t.samples.add(of, time.Since(began))
}

// CheckRan notes that a check was run.
func (t *telemetry) CheckRan(kind string, status health.Status, took time.Duration) {
	t.samples.add(measureCheck, took, kind, string(status))
}

// CheckTurned notes that a check changed its status.
func (t *telemetry) CheckTurned(now *health.Check, _ health.Status) {
	t.sink.IncrCounterWithLabels([]string{"muster", "check", "turns"}, 1, []metrics.Label{{Name: "status", Value: string(now.Status)}})
}

// measureDNS notes that a DNS query was answered.
func (a *Agent) measureDNS(kind string, took time.Duration) {
	all, node := a.telemetry.samples, a.config.NodeName
	all.add(measureQuery, took, node, kind)
	if kind == "PTR" {
		all.add(measurePointer, took, node)
		return
	}
	all.add(measureDomain, took, node)
}

// Metrics are those of the last whole interval.
func (t *telemetry) Metrics() api.Metrics {
	shown, err := t.sink.DisplayMetrics(nil, nil)
	summary, ok := shown.(metrics.MetricsSummary)
	if err != nil || !ok {
		return newMetrics(metrics.MetricsSummary{})
	}
	t.samples.merge(&summary)
	return newMetrics(summary)
}

// FollowMetrics hands over those of each interval as it ends.
func (t *telemetry) FollowMetrics(ctx context.Context, give func(api.Metrics) error) {
	t.sink.Stream(ctx, encoder(func(v any) error {
		summary := v.(metrics.MetricsSummary)
		t.samples.merge(&summary)
		return give(newMetrics(summary))
	}))
}

// encoder is what the library hands its summaries to.
type encoder func(any) error

// Encode takes a summary.
func (e encoder) Encode(v any) error { return e(v) }

// Monitor sends what is logged.
func (t *telemetry) Monitor(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error) {
	return t.follow(ctx, level, asJSON)
}

func newMetrics(s metrics.MetricsSummary) api.Metrics {
	out := api.Metrics{Timestamp: s.Timestamp, Gauges: []api.Gauge{}, Points: []api.Point{},
		Counters: showSamples(s.Counters), Samples: showSamples(s.Samples)}
	for _, g := range s.Gauges {
		out.Gauges = append(out.Gauges, api.Gauge{Name: g.Name, Value: number(float64(g.Value)), Labels: g.DisplayLabels})
	}
	for _, g := range s.PrecisionGauges {
		out.Gauges = append(out.Gauges, api.Gauge{Name: g.Name, Value: number(g.Value), Labels: g.DisplayLabels})
	}
	for _, p := range s.Points {
		out.Points = append(out.Points, api.Point{Name: p.Name, Points: p.Points})
	}
	return out
}

func showSamples(from []metrics.SampledValue) []api.Sample {
	out := make([]api.Sample, len(from))
	for i, s := range from {
		out[i] = api.Sample{Name: s.Name, Count: s.Count, Rate: number(s.Rate), Sum: number(s.Sum), Min: number(s.Min),
			Max: number(s.Max), Mean: number(s.Mean), Stddev: number(s.Stddev), Labels: s.DisplayLabels}
	}
	return out
}

// number is a value that JSON can hold: zero for what is none.
func number(f float64) float64 {
	if f-f != 0 { // infinite, or no number
		return 0
	}
	return f
}

// watch looks at the process and the state from time to time until ctx ends.
func (a *Agent) watch(ctx context.Context) error {
	ticker := time.NewTicker(gaugeInterval)
	defer ticker.Stop()
	for {
		a.telemetry.to.EmitRuntimeStats()
		a.gauge()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// gauge measures what this agent knows and is.
func (a *Agent) gauge() {
	m := a.telemetry.to
	servers, clients := 0, 0
	for _, member := range a.pool.Members() {
		switch {
		case member.Status != gossip.Alive:
		case member.IsServer():
			servers++
		default:
			clients++
		}
	}
	here := []metrics.Label{{Name: "datacenter", Value: a.config.Datacenter}}
	m.SetGaugeWithLabels([]string{"members", "servers"}, float32(servers), here)
	m.SetGaugeWithLabels([]string{"members", "clients"}, float32(clients), here)
	m.SetGauge([]string{"rpc", "queries_blocking"}, float32(a.backend.waiting.Load()))
	version, prerelease, _ := strings.Cut(Version, "-")
	m.SetGaugeWithLabels([]string{"version"}, 1, []metrics.Label{{Name: "version", Value: version}, {Name: "pre_release", Value: prerelease}})
	if a.node == nil {
		return
	}
	view := a.machine.View()
	services, _ := view.Catalog.Services(&catalog.Services{}, nil)
	for _, g := range []struct {
		name  string
		value int
	}{
		{"nodes", view.Catalog.CountNodes()},
		{"services", len(services)},
		{"service_instances", view.Catalog.CountInstances()},
		{"kv_entries", view.KV.Len()},
	} {
		m.SetGaugeWithLabels([]string{"state", g.name}, float32(g.value), here)
	}
	leading := float32(0)
	if a.node.Leading() {
		leading = 1
	}
	m.SetGauge([]string{"server", "isLeader"}, leading)
}
