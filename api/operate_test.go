package api

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

func TestMaintenance(t *testing.T) {
	m := newMocks()
	var got []string
	m.local.maintenance = func(id string, on bool, reason string) error {
		got = append(got, fmt.Sprintf("%s %v %q", id, on, reason))
		if id == "none" {
			return &mvcc.Error{Code: mvcc.Unknown, Text: `Unknown service ID "none".`}
		}
		return nil
	}
	run(t, m.handler(t), []exchange{
		{request: "PUT /v1/agent/maintenance?enable=true&reason=a+b", status: 200},
		{request: "PUT /v1/agent/maintenance?enable=0", status: 200},
		{request: "PUT /v1/agent/maintenance", status: 400, body: "Missing value for enable"},
		{request: "PUT /v1/agent/maintenance?enable=zz", status: 400, body: `Invalid value for enable: "zz"`},
		{request: "PUT /v1/agent/maintenance?enable", status: 400, body: `Invalid value for enable: ""`},
		{request: "GET /v1/agent/maintenance?enable=true", status: 405, body: "method GET not allowed"},
		{request: "PUT /v1/agent/service/maintenance/web%2F1?enable=true", status: 200},
		{request: "PUT /v1/agent/service/maintenance/none?enable=false", status: 404, body: `Unknown service ID "none".`},
		{request: "PUT /v1/agent/service/maintenance/?enable=true", status: 400, body: "Missing service ID"},
		{request: "PUT /v1/agent/service/maintenance/web", status: 400, body: "Missing value for enable"},
	})
	want := []string{` true "a b"`, ` false ""`, `web/1 true ""`, `none false ""`}
	if strings.Join(got, ";") != strings.Join(want, ";") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsAskedOfTheAgentAsAWhole(t *testing.T) {
	m := newMocks()
	var got []string
	note := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	m.agent.leave = func() { note("leave") }
	m.agent.reload = func() (ReloadReport, error) {
		note("reload")
		return ReloadReport{}, &mvcc.Error{Code: mvcc.Invalid, Text: "a.json: it is broken"}
	}
	m.agent.join = func(address string, wan bool) error {
		note("join %s %v", address, wan)
		if address == "" {
			return &mvcc.Error{Code: mvcc.Invalid, Text: "an address is missing"}
		}
		return nil
	}
	m.agent.forceLeave = func(node string, wan, prune bool) error {
		note("force-leave %s %v %v", node, wan, prune)
		if node != "n1" {
			return &mvcc.Error{Code: mvcc.Unknown, Text: "nobody is called that"}
		}
		return nil
	}
	m.agent.host = func() Host { return Host{CollectionTime: 5, Disk: &HostDisk{Path: "/"}} }
	run(t, m.handler(t), []exchange{
		{request: "PUT /v1/agent/leave", status: 200},
		{request: "PUT /v1/agent/reload", status: 500, body: "a.json: it is broken"},
		{request: "PUT /v1/agent/join/10.0.0.1:8301", status: 200},
		{request: "PUT /v1/agent/join/10.0.0.1?wan=1", status: 200},
		{request: "PUT /v1/agent/join/", status: 500, body: "an address is missing"},
		{request: "PUT /v1/agent/force-leave/n1?prune", status: 200},
		{request: "PUT /v1/agent/force-leave/x?wan=1", status: 500, body: "agent: No node found with name 'x'"},
		{request: "PUT /v1/agent/force-leave/", status: 500, body: "agent: No node found with name ''"},
		{request: "GET /v1/agent/host", status: 200, body: `{"Memory":null,"CPU":null,"Host":null,` +
			`"Disk":{"path":"/","fstype":"","total":0,"free":0,"used":0,"usedPercent":0,"inodesTotal":0,"inodesUsed":0,"inodesFree":0,"inodesUsedPercent":0},` +
			`"CollectionTime":5,"Errors":null}`},
	})
	want := "leave;reload;join 10.0.0.1:8301 false;join 10.0.0.1 true;join  false;force-leave n1 false true;force-leave x true false;force-leave  false false"
	if strings.Join(got, ";") != want {
		t.Errorf("got %q", got)
	}
}

func TestReloadTellsWhatItLedTo(t *testing.T) {
	m := newMocks()
	var report ReloadReport
	m.agent.reload = func() (ReloadReport, error) { return report, nil }
	h := m.handler(t)
	ask := func() ReloadReport {
		t.Helper()
		w := do(t, h, "PUT /v1/agent/reload", "")
		header := w.Header().Get(ReloadHeader)
		if w.Code != 200 || w.Body.Len() > 0 || len(header) > maxReloadHeader {
			t.Fatalf("%d, %q, %d bytes in the header", w.Code, w.Body, len(header))
		}
		if i := strings.IndexFunc(header, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("a header cannot have %q", header[i:])
		}
		var got ReloadReport
		if err := json.Unmarshal([]byte(header), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := ask(); !reflect.DeepEqual(got, ReloadReport{}) {
		t.Errorf("nothing changed: %+v", got)
	}
	report = ReloadReport{
		Applied: []ReloadChange{{"log_level", "from \"INFO\" to \"Größe 𝄞\r\n\x7f\x00<&>\""}},
		Restart: []ReloadChange{{"domain", "from unset to \"a\""}},
	}
	if got := ask(); !reflect.DeepEqual(got, report) {
		t.Errorf("%+v", got)
	}
	for range 1000 {
		report.Applied = append(report.Applied, ReloadChange{"node_meta", "from {} to {ö}"})
		report.Restart = append(report.Restart, ReloadChange{"domain", "from unset to \"a\""})
	}
	if got := ask(); got.More+len(got.Applied)+len(got.Restart) != 2002 || len(got.Applied) == 0 || len(got.Restart) == 0 {
		t.Errorf("%d and %d are told, %d are not", len(got.Applied), len(got.Restart), got.More)
	}
	report = ReloadReport{Restart: []ReloadChange{{"x", strings.Repeat("y", 2*maxReloadHeader)}}}
	if got := ask(); got.More != 1 {
		t.Errorf("%+v", got)
	}
}

func TestMetrics(t *testing.T) {
	m := newMocks()
	m.measure.metrics = func() Metrics {
		return Metrics{Timestamp: "now", Gauges: []Gauge{{"consul.n.x", 1.5, map[string]string{}}}, Points: []Point{},
			Counters: []Sample{{Name: "c", Count: 1, Rate: 0.1, Sum: 1, Min: 1, Max: 1, Mean: 1, Labels: map[string]string{"a": "b"}}}, Samples: []Sample{}}
	}
	const shown = `{"Timestamp":"now","Gauges":[{"Name":"consul.n.x","Value":1.5,"Labels":{}}],"Points":[],` +
		`"Counters":[{"Name":"c","Count":1,"Rate":0.1,"Sum":1,"Min":1,"Max":1,"Mean":1,"Stddev":0,"Labels":{"a":"b"}}],"Samples":[]}`
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/agent/metrics", status: 200, body: shown},
		{request: "GET /v1/agent/metrics?format=json", headers: []string{"Accept", "text/plain"}, status: 200, body: shown},
	})
	for _, scrape := range [][]string{
		{"?format=prometheus", ""}, {"", "application/openmetrics-text; version=1.0.0,*/*;q=0.1"}, {"", "text/plain; version=0.4.0"},
	} {
		w := do(t, h, "GET /v1/agent/metrics"+scrape[0], "", "Accept", scrape[1])
		if w.Code != 200 || w.Body.Len() != 0 || !strings.HasPrefix(w.Header().Get("X-Consul-Reason"), "Prometheus is not enabled") {
			t.Errorf("%q: %d %q %q", scrape, w.Code, w.Body, w.Header())
		}
	}
}

func TestRequestsAreMeasuredByEndpoint(t *testing.T) {
	m := newMocks()
	var got []string
	m.measure.request = func(method, path string) { got = append(got, method+" "+path) }
	h := m.handler(t)
	for _, request := range []string{"GET /v1/kv/a/b", "PUT /v1/agent/leave", "GET /v1/agent/leave", "GET /v1/nothing", "GET /"} {
		do(t, h, request, "")
	}
	if want := "GET /v1/kv/_;PUT /v1/agent/leave;GET /v1/agent/leave"; strings.Join(got, ";") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// follow asks for a stream of a server and returns its answer, whose body ends
// when the test does.
func follow(t *testing.T, h http.Handler, target string, header http.Header) *http.Response {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	w, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	return w
}

func TestMonitorSendsEachLineAtOnce(t *testing.T) {
	lines := make(chan []byte)
	gone := make(chan struct{})
	m := newMocks()
	m.measure.monitor = func(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error) {
		if level != slog.LevelDebug || !asJSON {
			t.Errorf("level %v, as JSON %v", level, asJSON)
		}
		context.AfterFunc(ctx, func() { close(gone) })
		return lines, nil
	}
	for _, zipped := range []bool{false, true} {
		header := http.Header{}
		if zipped {
			header.Set("Accept-Encoding", "gzip")
		}
		h := m.handler(t)
		w := follow(t, h, "/v1/agent/monitor?loglevel=debug&logjson", header)
		if w.StatusCode != 200 || (w.Header.Get("Content-Encoding") == "gzip") != zipped {
			t.Fatalf("%d %v", w.StatusCode, w.Header)
		}
		body := io.Reader(w.Body)
		lines <- []byte("one\n")
		if zipped {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		text := bufio.NewReader(body)
		if got, err := text.ReadString('\n'); got != "one\n" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		lines <- []byte("two\n")
		if got, err := text.ReadString('\n'); got != "two\n" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		// The agent stops: the stream ends in an orderly way.
		h.Drain()
		if rest, err := io.ReadAll(text); len(rest) != 0 || err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		<-gone
		gone = make(chan struct{})
	}
}

func TestMonitorEndsWithTheClient(t *testing.T) {
	gone := make(chan struct{})
	m := newMocks()
	m.measure.monitor = func(ctx context.Context, level slog.Level, asJSON bool) (<-chan []byte, error) {
		if level != slog.LevelInfo || asJSON {
			t.Errorf("level %v, as JSON %v", level, asJSON)
		}
		context.AfterFunc(ctx, func() { close(gone) })
		return nil, nil
	}
	w := follow(t, m.handler(t), "/v1/agent/monitor", http.Header{})
	w.Body.Close()
	<-gone
}

func TestMonitorRefuses(t *testing.T) {
	run(t, newMocks().handler(t), []exchange{
		{request: "GET /v1/agent/monitor?loglevel=zz", status: 400, body: "Unknown log level: zz"},
		{request: "GET /v1/agent/monitor?loglevel=WARN", status: 500, body: "nobody follows the log here"},
	})
	for name, want := range map[string]slog.Level{"": 0, "trace": -8, "DEBUG": -4, "info": 0, "warn": 4, "err": 8, "error": 8} {
		if got, ok := logLevel(name); !ok || got != want {
			t.Errorf("%q is %v", name, got)
		}
	}
}

func TestMetricsStream(t *testing.T) {
	m := newMocks()
	m.measure.follow = func(_ context.Context, give func(Metrics) error) {
		for _, at := range []string{"one", "two"} {
			if err := give(Metrics{Timestamp: at}); err != nil {
				t.Error(err)
			}
		}
	}
	w := do(t, m.handler(t), "GET /v1/agent/metrics/stream", "")
	one := func(at string) string {
		return "{\n    \"Timestamp\": \"" + at + "\",\n    \"Gauges\": null,\n    \"Points\": null,\n    \"Counters\": null,\n    \"Samples\": null\n}\n"
	}
	if want := one("one") + one("two"); w.Code != 200 || w.Body.String() != want || !w.Flushed {
		t.Errorf("got %d %s\nwant %s", w.Code, w.Body, want)
	}
}
