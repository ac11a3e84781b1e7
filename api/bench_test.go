package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func benchmark(b *testing.B, h http.Handler, target string) {
	r := httptest.NewRequest("GET", target, nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(&discard{http.Header{}}, r)
	}
}

// ceiling is a bare chi handler that returns the bytes that h returns, which is
// as fast as an answer can get.
func ceiling(b *testing.B, h http.Handler, pattern, target string) http.Handler {
	body := do(b, h, "GET "+target, "").Body.Bytes()
	mux := chi.NewMux()
	mux.Get(pattern, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
	return mux
}

func BenchmarkGetKey(b *testing.B) {
	m := newMocks()
	e := &kv.Entry{Key: "app/name", Value: []byte("some value of no great length"), CreateIndex: 3, ModifyIndex: 7}
	m.keys.key = func(context.Context, mvcc.ReadOptions, *kv.Get) (*kv.Entry, mvcc.Meta, error) { return e, here, nil }
	h := m.handler(b)
	b.Run("api", func(b *testing.B) { benchmark(b, h, "/v1/kv/app/name") })
	b.Run("raw", func(b *testing.B) { benchmark(b, h, "/v1/kv/app/name?raw") })
	b.Run("ceiling", func(b *testing.B) { benchmark(b, ceiling(b, h, "/v1/kv/*", "/v1/kv/app/name"), "/v1/kv/app/name") })
}

func BenchmarkHealthService(b *testing.B) {
	m := newMocks()
	entry := health.Entry{Node: nodeA, Service: webA, Checks: []*health.Check{diskCheck, webCheck}}
	m.health.service = func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
		return []health.Entry{entry, entry, entry}, here, nil
	}
	h := m.handler(b)
	const target = "/v1/health/service/web"
	b.Run("api", func(b *testing.B) { benchmark(b, h, target) })
	b.Run("filter", func(b *testing.B) { benchmark(b, h, target+"?filter=Checks.Status+==+passing") })
	b.Run("ceiling", func(b *testing.B) { benchmark(b, ceiling(b, h, "/v1/health/service/*", target), target) })
}
