package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Deps{}); err == nil || !strings.Contains(err.Error(), "api.Deps.Keys") {
		t.Errorf("got %v", err)
	}
}

func TestPathsAndMethods(t *testing.T) {
	const unknown = "Invalid URL path: not a recognized HTTP API endpoint\n"
	const elsewhere = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	run(t, newMocks().handler(t), []exchange{
		{request: "GET /v1/nothing", status: 404, body: unknown},
		{request: "OPTIONS /v1/nothing", status: 404, body: unknown},
		{request: "GET /v1/agent/nothing", status: 404, body: unknown},
		{request: "GET /v1/", status: 404, body: unknown},
		{request: "GET /v1/namespaces", status: 404, body: unknown},
		{request: "GET /v1/operator/license", status: 404, body: unknown},
		{request: "GET /v1", status: 404, body: elsewhere},
		{request: "GET /agent/self", status: 404, body: elsewhere},
		{request: "GET /v2/kv/g", status: 404, body: elsewhere},
		{request: "GET /debug/pprof/heap", status: 404, body: elsewhere},
		{request: "DELETE /v1/agent/services", status: 405, body: "method DELETE not allowed"},
		{request: "FROB /v1/agent/services", status: 405, body: "method FROB not allowed"},
		{request: "GET /v1/agent/service/register", status: 405, body: "method GET not allowed"},
		{request: "OPTIONS /v1/kv/x", status: 200},
		{request: "OPTIONS /v1/query/x", status: 200, body: "{}"},
		{request: "PUT /v1/session/create", status: 501, body: "PUT /v1/session/create is not implemented in this version of Muster"},
		{request: "GET /v1/query/x/execute", status: 501, body: "GET /v1/query/* is not implemented in this version of Muster"},
		{request: "GET /v1/acl/tokens", status: 401, body: "ACL support disabled"},
		{request: "PUT /v1/agent/token/default", send: "{}", status: 401, body: "ACL support disabled"},
		{request: "GET /v1/catalog/nodes?x=%zz", status: 500, body: `Cannot read the query string: invalid URL escape "%zz"`},
		{request: "GET /v1/catalog/nodes?partition=p", status: 400, body: `Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`},
		{request: "GET /v1/catalog/nodes?ns=n", status: 200, body: "[]"},
		{request: "GET /v1/catalog/services?ns=n", status: 400, body: `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{request: "GET /v1/catalog/services?ns=&partition=", status: 200, body: "{}"},
		{request: "GET /v1/catalog/services", headers: []string{"X-Consul-Namespace", "n"}, status: 400, body: `Invalid header: "X-Consul-Namespace" - Namespaces are a Consul Enterprise feature`},
		{request: "GET /v1/catalog/services?pretty=false", status: 200, body: "{}\n"},
	})
}

func TestAllow(t *testing.T) {
	h := newMocks().handler(t)
	for request, want := range map[string]string{
		"POST /v1/kv/g":               "OPTIONS,GET,PUT,DELETE",
		"HEAD /v1/catalog/services":   "OPTIONS,GET",
		"OPTIONS /v1/session/create":  "OPTIONS,PUT",
		"OPTIONS /v1/query":           "OPTIONS,GET,POST",
		"OPTIONS /v1/query/x":         "OPTIONS,GET,PUT,DELETE",
		"PATCH /v1/query/x":           "GET,PUT,DELETE",
		"OPTIONS /v1/snapshot":        "OPTIONS,GET,PUT",
		"GET /v1/operator/raft/peer":  "OPTIONS,DELETE",
		"GET /v1/agent/maintenance":   "OPTIONS,PUT",
		"GET /v1/event/fire/x":        "OPTIONS,PUT",
		"GET /v1/agent/force-leave/x": "OPTIONS,PUT",
	} {
		w := do(t, h, request, "")
		checkHeaders(t, w, map[string]string{"Allow": want, "X-Consul-Default-Acl-Policy": "allow"})
		if strings.HasPrefix(request, "OPTIONS") != (w.Code == 200) {
			t.Errorf("%s: status %d", request, w.Code)
		}
	}
}

func TestRedirects(t *testing.T) {
	h := newMocks().handler(t)
	for target, want := range map[string]string{
		"/v1/kv//a":            "/v1/kv/a",
		"/v1/kv/a/../b?raw&x=": "/v1/kv/b?raw&x=",
		"/v1//kv/a/./":         "/v1/kv/a/",
		"/v1/kv/a%20b//c%2Fd":  "/v1/kv/a%20b/c%2Fd",
		"//evil.example/v1":    "/evil.example/v1",
		"/v1/kv":               "/v1/kv/",
		"/v1/catalog/service":  "/v1/catalog/service/",
	} {
		r := httptest.NewRequest("PUT", "http://h"+target, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Location"); w.Code != 307 || got != want {
			t.Errorf("%s: got %d to %q, want %q", target, w.Code, got, want)
		}
	}
	if w := do(t, h, "GET /v1/kv/a%2F%2Fb", ""); w.Code != 404 {
		t.Errorf("an encoded double slash: got %d", w.Code)
	}
}

func TestSettings(t *testing.T) {
	m := newMocks()
	m.config.BlockEndpoints = []string{"/v1/agent/service"}
	m.config.ResponseHeaders = map[string]string{"X-Site": "a"}
	m.config.Pretty = true
	m.config.Debug = true
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/agent/services", status: 403, body: "Endpoint is blocked by agent configuration"},
		{request: "GET /v1/agent/checks", status: 200, body: "{}\n"},
		{request: "GET /v1/catalog/datacenters", status: 200, body: "[\n    \"dc1\"\n]\n"},
		{request: "PUT /v1/kv/a", status: 200, body: "true\n"},
		{request: "GET /v1/kv/a%07", status: 400},
	})
	checkHeaders(t, do(t, h, "GET /nowhere", ""), map[string]string{"X-Site": "a"})
	if w := do(t, h, "GET /debug/pprof/goroutine", ""); w.Code != 200 || w.Body.Len() == 0 {
		t.Errorf("profile: got %d", w.Code)
	}
	for _, on := range []bool{false, true} {
		h.SetDebug(on)
		if w := do(t, h, "GET /debug/pprof/goroutine", ""); (w.Code == 200) != on {
			t.Errorf("profile, %v: got %d", on, w.Code)
		}
	}
	m.config.AllowUnprintable = true
	if w := do(t, m.handler(t), "GET /v1/kv/a%07", ""); w.Code != 404 {
		t.Errorf("unprintable allowed: got %d", w.Code)
	}
}

func TestCompression(t *testing.T) {
	m := newMocks()
	value := strings.Repeat("x", 2000)
	m.keys.key = func(_ context.Context, _ mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error) {
		if q.Key == "small" {
			return &kv.Entry{Value: []byte("v")}, here, nil
		}
		return &kv.Entry{Value: []byte(value)}, here, nil
	}
	h := m.handler(t)
	for _, c := range []struct {
		path, accept string
		zipped       bool
	}{
		{"big", "gzip", true}, {"big", "deflate, GZIP;q=0.5", true}, {"big", "", false}, {"big", "gzip;q=0", false},
		{"big", "br", false}, {"small", "gzip", false},
	} {
		for range 2 { // the second takes a used compressor
			w := do(t, h, "GET /v1/kv/"+c.path+"?raw", "", "Accept-Encoding", c.accept)
			if got := w.Header().Get("Content-Encoding") == "gzip"; got != c.zipped {
				t.Fatalf("%s %q: zipped %t", c.path, c.accept, got)
			}
			if c.zipped {
				z, err := gzip.NewReader(w.Body)
				if err != nil {
					t.Fatal(err)
				}
				if plain, err := io.ReadAll(z); err != nil || string(plain) != value {
					t.Errorf("got %d bytes, %v", len(plain), err)
				}
			}
		}
	}
}

func TestReadOptions(t *testing.T) {
	for _, c := range []struct {
		query   string
		want    mvcc.ReadOptions
		refused string
	}{
		{query: "", want: mvcc.ReadOptions{}},
		{query: "dc=a&datacenter=b", want: mvcc.ReadOptions{Datacenter: "b"}},
		{query: "stale", want: mvcc.ReadOptions{Mode: mvcc.Stale}},
		{query: "consistent=", want: mvcc.ReadOptions{Mode: mvcc.Consistent}},
		{query: "max_stale=2s", want: mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: 2 * time.Second}},
		{query: "leader&near=x&cached&token=t", want: mvcc.ReadOptions{}},
		{query: "index=0&wait=1s", want: mvcc.ReadOptions{}},
		{query: "wait=1s", want: mvcc.ReadOptions{}},
		{query: "index=5&wait=16s", want: mvcc.ReadOptions{Index: 5, Wait: 16 * time.Second}},
		{query: "index=5&wait=20m", want: mvcc.ReadOptions{Index: 5, Wait: 10 * time.Minute}},
		{query: "index=5&wait=-5s", want: mvcc.ReadOptions{Index: 5, Wait: 5 * time.Minute}},
		{query: "index=5", want: mvcc.ReadOptions{Index: 5, Wait: 5 * time.Minute}},
		{query: "stale&consistent", refused: "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{query: "max_stale=1s&consistent", refused: "Cannot specify ?stale with ?consistent, conflicting semantics."},
		{query: "cached&consistent", refused: "Cannot specify ?cached with ?consistent, conflicting semantics."},
		{query: "max_stale=soon", refused: `Invalid max_stale value "soon"`},
		{query: "index=many", refused: "Invalid index"},
		{query: "index=-1", refused: "Invalid index"},
		{query: "index=1&wait=soon", refused: "Invalid wait time"},
		{query: "wait=10", refused: "Invalid wait time"},
	} {
		t.Run(c.query, func(t *testing.T) {
			m := newMocks()
			m.catalog.nodes = func(_ context.Context, o mvcc.ReadOptions, _ *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
				if o.Wait < c.want.Wait || o.Wait > c.want.Wait+c.want.Wait/jitterShare {
					t.Errorf("wait %v, want %v and up to a sixteenth", o.Wait, c.want.Wait)
				}
				if o.Wait = c.want.Wait; o != c.want {
					t.Errorf("got %+v, want %+v", o, c.want)
				}
				return nil, mvcc.Meta{Index: 1, Mode: o.Mode}, nil
			}
			w := do(t, m.handler(t), "GET /v1/catalog/nodes?"+c.query, "")
			if c.refused != "" && (w.Code != 400 || w.Body.String() != c.refused) || c.refused == "" && w.Code != 200 {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
			if c.refused == "" {
				checkHeaders(t, w, map[string]string{"X-Consul-Effective-Consistency": c.want.Mode.String()})
			}
		})
	}
}

// blockingKey waits as a backend does: for its context or the time.
func blockingKey(ctx context.Context, o mvcc.ReadOptions, _ *kv.Get) (*kv.Entry, mvcc.Meta, error) {
	if o.Index > 0 {
		timer := time.NewTimer(o.Wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, mvcc.Meta{}, ctx.Err()
		case <-timer.C:
		}
	}
	return &kv.Entry{Value: []byte("now")}, here, nil
}

func TestDrainAnswersWaitingReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMocks()
		m.keys.key = blockingKey
		h := m.handler(t)
		began := time.Now()
		answers := make(chan *httptest.ResponseRecorder)
		for _, target := range []string{"/v1/kv/k?raw&index=9", "/v1/peerings?index=1"} {
			go func() { answers <- do(t, h, "GET "+target, "") }()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		h.Drain()
		for range 2 {
			if w := <-answers; w.Code != 200 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		}
		if w := do(t, h, "GET /v1/kv/k?raw&index=9", ""); w.Body.String() != "now" {
			t.Errorf("after draining: got %d %s", w.Code, w.Body)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestWatchersOfNothingAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newMocks().handler(t)
		began := time.Now()
		if w := do(t, h, "GET /v1/peerings", ""); w.Body.String() != "[]" || time.Since(began) != 0 {
			t.Errorf("got %d %s after %v", w.Code, w.Body, time.Since(began))
		}
		do(t, h, "GET /v1/config/service-defaults?index=1&wait=16s", "")
		if waited := time.Since(began); waited < 16*time.Second || waited > 17*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestMeshIsAbsent(t *testing.T) {
	run(t, newMocks().handler(t), []exchange{
		{request: "GET /v1/connect/ca/roots", status: 500, body: "Connect must be enabled in order to use this endpoint"},
		{request: "GET /v1/catalog/connect/web", status: 200, body: "[]"},
		{request: "GET /v1/health/connect/", status: 400, body: "Missing service name"},
		{request: "GET /v1/config/zz", status: 500, body: "invalid config entry kind: zz"},
		{request: "GET /v1/config/service-defaults", status: 200, body: "[]"},
		{request: "GET /v1/config/service-defaults/x", status: 404, body: `Config entry not found for "service-defaults" / "x"`},
		{request: "PUT /v1/config", status: 501, body: "PUT /v1/config is not implemented in this version of Muster"},
		{request: "GET /v1/exported-services?dc=nowhere", status: 500, body: "No path to datacenter"},
	})
}

func TestRequestsAreLogged(t *testing.T) {
	var log bytes.Buffer
	m := newMocks()
	h := m.handler(t)
	h.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for target, want := range map[string]string{
		"/v1/kv/a?raw":                        "/v1/kv/a?raw",
		"/v1/kv/a?token=secret&raw":           "/v1/kv/a?token=<hidden>&raw",
		"/v1/kv/a?t%6fken=secret&token=other": "/v1/kv/a?token=<hidden>&token=<hidden>",
		"/v1/kv/a%2Fb?x=%zz&token=secret":     "/v1/kv/a%2Fb?x=%zz&token=<hidden>",
	} {
		log.Reset()
		do(t, h, "GET "+target, "")
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line["msg"] != "Request finished" || line["method"] != http.MethodGet || line["url"] != want || line["from"] == nil {
			t.Errorf("%s: got %v", target, line)
		}
	}
}
