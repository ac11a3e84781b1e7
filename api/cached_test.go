package api

import (
	"context"
	"fmt"
	"hash/maphash"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

func newCachingMocks() *mocks {
	m := newCatalogMocks()
	m.config.UseCache = true
	return m
}

func TestCopiesTellWhetherTheyWereAskedForBefore(t *testing.T) {
	h := newCachingMocks().handler(t)
	const hit, miss, none = "HIT", "MISS", ""
	for _, step := range []struct {
		request string
		headers []string
		want    string
	}{
		{request: "GET /v1/catalog/service/web", want: none},
		{request: "GET /v1/catalog/service/web?cached", want: miss},
		{request: "GET /v1/catalog/service/web?cached", want: hit},
		{request: "GET /v1/catalog/service/web?cached&stale", want: hit},
		{request: "GET /v1/catalog/service/web?cached&index=3&wait=1s", want: hit},
		{request: "GET /v1/catalog/service/web?cached=1&pretty", want: hit},
		{request: "GET /v1/catalog/service/web?cached&tag=v1", want: miss},
		{request: "GET /v1/catalog/service/web?cached&node-meta=a:b", want: miss},
		{request: "GET /v1/catalog/service/web?cached&filter=ServicePort==80", want: miss},
		{request: "GET /v1/catalog/service/web?cached&dc=dc1", want: miss},
		{request: "GET /v1/catalog/service/web?cached&dc=dc1", want: hit},
		{request: "GET /v1/catalog/service/web?cached", headers: []string{"X-Consul-Token", "a"}, want: miss},
		{request: "GET /v1/catalog/service/web?cached&token=a", want: hit},
		{request: "GET /v1/catalog/service/db?cached", want: miss},
		{request: "GET /v1/catalog/services?cached", want: miss},
		{request: "GET /v1/catalog/services?cached&leader", want: hit},
		{request: "GET /v1/catalog/services?cached&filter=ServicePort==80", want: miss},
		{request: "GET /v1/health/service/web?cached", want: miss},
		{request: "GET /v1/health/service/web?cached&passing", want: hit},
		// Of a copy that is kept up to date nobody asks how old it may be.
		{request: "GET /v1/health/service/web?cached", headers: []string{"Cache-Control", "must-revalidate, max-age=0"}, want: hit},
		{request: "GET /v1/catalog/datacenters?cached", want: miss},
		{request: "GET /v1/catalog/datacenters?cached", want: hit},
		{request: "GET /v1/catalog/datacenters?cached", headers: []string{"Cache-Control", "max-age=1, stale-if-error=60"}, want: hit},
		{request: "GET /v1/catalog/datacenters?cached", headers: []string{"Cache-Control", "max-age=0"}, want: miss},
		{request: "GET /v1/catalog/datacenters?cached", headers: []string{"Cache-Control", "must-revalidate"}, want: miss},
		{request: "GET /v1/catalog/datacenters?cached", headers: []string{"Cache-Control", "no-store, private=x,,"}, want: hit},
		{request: "GET /v1/catalog/datacenters", headers: []string{"Cache-Control", "max-age=x"}, want: none},
		// Elsewhere there is no copy.
		{request: "GET /v1/catalog/nodes?cached", want: none},
		{request: "GET /v1/catalog/nodes?cached", want: none},
		{request: "GET /v1/catalog/node/a?cached", headers: []string{"Cache-Control", "max-age=x"}, want: none},
		{request: "GET /v1/kv/?keys&cached", want: none},
	} {
		w := do(t, h, step.request, "", step.headers...)
		age := ""
		if step.want == hit {
			age = "0"
		}
		if w.Code != 200 || w.Header().Get("X-Cache") != step.want || w.Header().Get("Age") != age {
			t.Errorf("%s %v: got %d %q and age %q, want %q and age %q", step.request, step.headers, w.Code,
				w.Header().Get("X-Cache"), w.Header().Get("Age"), step.want, age)
		}
	}
}

func TestRefusedCopies(t *testing.T) {
	h := newCachingMocks().handler(t)
	refused := []exchange{
		{request: "GET /v1/catalog/services?cached&dc=nowhere", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/catalog/service/?cached", status: 400, body: "Missing service name"},
	}
	for _, path := range []string{"catalog/services", "catalog/service/web", "health/service/web", "catalog/datacenters"} {
		request := "GET /v1/" + path + "?cached"
		refused = append(refused, exchange{request: request + "&consistent", status: 400, body: "Cannot specify ?cached with ?consistent, conflicting semantics."})
		for _, control := range []string{"max-age", "max-age=", "max-age=x", "max-age=-1", "max-age=1.5", "stale-if-error=soon", "no-store, Max-Age=99999999999"} {
			refused = append(refused, exchange{request: request, headers: []string{"Cache-Control", control}, status: 400, body: "Invalid Cache-Control header."})
		}
	}
	run(t, h, refused)
	if n := len(h.asked.last); n != 0 {
		t.Errorf("%d refused questions are remembered", n)
	}
	if w := do(t, h, "GET /v1/catalog/services?cached&dc=nowhere", ""); w.Header().Get("X-Cache") != "" {
		t.Errorf("an error came from %q", w.Header().Get("X-Cache"))
	}
}

func TestCopiesSwitchedOff(t *testing.T) {
	m := newCatalogMocks()
	for range 2 {
		w := do(t, m.handler(t), "GET /v1/catalog/services?cached", "", "Cache-Control", "max-age=x")
		if w.Code != 200 || w.Header().Get("X-Cache") != "" {
			t.Errorf("got %d %q", w.Code, w.Header().Get("X-Cache"))
		}
	}
}

func TestCopiesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newCachingMocks().handler(t)
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, "MISS"}, {71 * time.Hour, "HIT"}, {71 * time.Hour, "HIT"}, {72 * time.Hour, "MISS"}, {time.Hour, "HIT"}} {
			time.Sleep(step.after)
			if got := do(t, h, "GET /v1/catalog/services?cached", "").Header().Get("X-Cache"); got != step.want {
				t.Errorf("%v later: got %s, want %s", step.after, got, step.want)
			}
		}
	})
}

func TestRememberedQuestionsAreBounded(t *testing.T) {
	h := newCachingMocks().handler(t)
	for i := range maxAsked + 50 {
		do(t, h, fmt.Sprintf("GET /v1/catalog/service/s%d?cached", i), "")
	}
	if n := len(h.asked.last); n != maxAsked {
		t.Errorf("%d questions are remembered, limit %d", n, maxAsked)
	}
}

func BenchmarkCopied(b *testing.B) {
	m := newCachingMocks()
	h := m.handler(b)
	b.Run("service", func(b *testing.B) { benchmark(b, h, "/v1/catalog/service/web") })
	b.Run("cached", func(b *testing.B) { benchmark(b, h, "/v1/catalog/service/web?cached") })
	b.Run("ceiling", func(b *testing.B) { // the key's hash alone
		seed := maphash.MakeSeed()
		for b.Loop() {
			maphash.String(seed, "/v1/catalog/service/*\x00web\x00\x00")
		}
	})
}

func TestDiscoveryMayBeStale(t *testing.T) {
	m := newMocks()
	m.config.DiscoveryMaxStale = 5 * time.Second
	var got mvcc.ReadOptions
	m.catalog.nodes = func(_ context.Context, o mvcc.ReadOptions, _ *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
		got = o
		return nil, here, nil
	}
	m.health.state = func(_ context.Context, o mvcc.ReadOptions, _ *health.StateChecks) ([]*health.Check, mvcc.Meta, error) {
		got = o
		return nil, here, nil
	}
	m.keys.key = keyOptions(&got)
	h := m.handler(t)
	stale := mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: 5 * time.Second}
	for target, want := range map[string]mvcc.ReadOptions{
		"catalog/nodes":                        stale,
		"catalog/nodes?near=x":                 stale,
		"health/state/any":                     stale,
		"catalog/nodes?stale":                  {Mode: mvcc.Stale},
		"catalog/nodes?stale&leader":           {Mode: mvcc.Stale},
		"catalog/nodes?max_stale=1s":           {Mode: mvcc.Stale, MaxStale: time.Second},
		"catalog/nodes?consistent":             {Mode: mvcc.Consistent},
		"catalog/nodes?leader":                 {},
		"catalog/nodes?leader&dc=x":            {Datacenter: "x"},
		"health/state/any?leader=":             {},
		"health/state/any?consistent&leader":   {Mode: mvcc.Consistent},
		"kv/a":                                 {},
		"kv/a?stale":                           {Mode: mvcc.Stale},
		"health/state/any?token=x&cached&peer": stale,
	} {
		got = mvcc.ReadOptions{Datacenter: "nothing was asked"}
		do(t, h, "GET /v1/"+target, "")
		if got != want {
			t.Errorf("%s: got %+v, want %+v", target, got, want)
		}
	}
}

func keyOptions(got *mvcc.ReadOptions) func(context.Context, mvcc.ReadOptions, *kv.Get) (*kv.Entry, mvcc.Meta, error) {
	return func(_ context.Context, o mvcc.ReadOptions, _ *kv.Get) (*kv.Entry, mvcc.Meta, error) {
		*got = o
		return nil, here, nil
	}
}
