package api

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// serviceAt is a service with one instance, whose port is the index.
func serviceAt(index, line uint64) ([]health.Entry, mvcc.Meta) {
	return []health.Entry{{
		Node:    &catalog.Node{Name: "n"},
		Service: &catalog.Service{ID: "web", Name: "web", Port: int(index + 1000*line)},
		Checks:  []*health.Check{{ID: "c", Status: health.Warning}},
	}}, mvcc.Meta{Index: index, Line: line}
}

func TestEncodedAnswersAreThoseOfTheirIndexAndRequest(t *testing.T) {
	m := newMocks()
	var index, line uint64 = 7, 0
	m.health.service = func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
		entries, meta := serviceAt(index, line)
		return entries, meta, nil
	}
	h := m.handler(t)
	get := func(path string) string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Body.String()
	}
	for _, step := range []struct {
		index, line uint64
		path        string
		want        string
	}{
		{7, 0, "/v1/health/service/web", `"Port":7,`},
		{7, 0, "/v1/health/service/web?stale", `"Port":7,`},
		{7, 0, "/v1/health/service/web?passing", `[]`},
		{7, 0, "/v1/health/service/web?passing=0", `"Port":7,`},
		{7, 0, "/v1/health/service/web?filter=Service.Port==7", `"Port":7,`},
		{7, 0, "/v1/health/service/web?filter=Service.Port==8", `[]`},
		{7, 0, "/v1/health/service/web?pretty", `"Port": 7,`},
		{7, 0, "/v1/health/service/web?dc=dc9", `"Datacenter":"dc9"`},
		{8, 0, "/v1/health/service/web", `"Port":8,`},
		{7, 0, "/v1/health/service/web", `"Port":7,`}, // a reader who was overtaken
		{8, 0, "/v1/health/service/web", `"Port":8,`},
		{7, 1, "/v1/health/service/web", `"Port":1007,`}, // after a restore
	} {
		index, line = step.index, step.line
		if got := get(step.path); !strings.Contains(got, step.want) {
			t.Errorf("%s at index %d of line %d: %s, want %s in it", step.path, index, line, got, step.want)
		}
	}
}

func TestOneChangeIsEncodedOnceForAllWaiters(t *testing.T) {
	var built atomic.Int32
	h := newMocks().handler(t)
	var readers sync.WaitGroup
	for range 200 {
		readers.Go(func() {
			w := httptest.NewRecorder()
			c := &call{h: h, w: w, r: httptest.NewRequest("GET", "/v1/health/service/web", nil), route: &route{pattern: "/p/*"}, rest: "web"}
			h.write(c, shared{mvcc.Meta{Index: 3}, func() any { built.Add(1); return []int{1} }}, nil)
			if w.Body.String() != "[1]" {
				t.Errorf("body %q", w.Body)
			}
		})
	}
	readers.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestKeptBodiesAreBounded(t *testing.T) {
	var b bodies
	for i := range 200 {
		key := bodyKey{rest: fmt.Sprint(i)}
		it := b.of(key, 1, 0)
		it.plain = make([]byte, 1<<20)
		b.grown(key, it)
		if b.bytes > maxKeptBodies {
			t.Fatalf("%d bytes are kept", b.bytes)
		}
	}
	largeKey := bodyKey{rest: "large"}
	large := b.of(largeKey, 1, 0)
	large.plain = make([]byte, maxKeptBody+1)
	b.grown(largeKey, large)
	if _, kept := b.kept[largeKey]; kept {
		t.Error("a body above the limit is kept")
	}
	for i := range 2 * maxKeptAnswers {
		key := bodyKey{rest: fmt.Sprint("small", i)}
		it := b.of(key, 1, 0)
		it.plain = []byte("x")
		b.grown(key, it)
	}
	sum := 0
	for _, it := range b.kept {
		sum += it.size
	}
	if len(b.kept) > maxKeptAnswers || sum != b.bytes {
		t.Errorf("%d answers of %d bytes are kept, counted as %d", len(b.kept), sum, b.bytes)
	}
}

func TestKeysOfRequestsForOneBodyAreEqual(t *testing.T) {
	route := &route{pattern: "/p/*"}
	key := func(rest, query string) bodyKey {
		c := &call{r: httptest.NewRequest("GET", "/p/"+rest+"?"+query, nil), route: route, rest: rest}
		if err := c.parseQuery(); err != nil {
			t.Fatal(err)
		}
		return c.key()
	}
	for _, c := range []struct {
		rest, one, other string
		equal            bool
	}{
		{"web", "", "index=5&wait=3s&stale&token=secret", true},
		{"web", "stale", "consistent", true},
		{"web", "tag=a&passing", "passing&tag=a&index=5", true},
		{"web", "tag=a&index=5", "tag=a&index=6", true},
		{"web", "", "passing", false},
		{"web", "passing", "pretty", false},
		{"web", "tag=a", "tag=b", false},
		{"web", "tag=a", "tag=a&tag=b", false},
		{"web", "tag=a%26passing", "tag=a&passing", false},
		{"web", "tag%3Da", "tag=a", false},
		{"web", "a=b%3Dc", "a%3Db=c", false},
	} {
		if got := key(c.rest, c.one) == key(c.rest, c.other); got != c.equal {
			t.Errorf("%q and %q: equal %v", c.one, c.other, got)
		}
	}
	if key("web", "") == key("db", "") {
		t.Error("two paths have one key")
	}
}

func TestNothingIsKeptUnderALongName(t *testing.T) {
	m := newMocks()
	m.health.service = func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
		entries, meta := serviceAt(7, 0)
		return entries, meta, nil
	}
	h := m.handler(t)
	for i := range 20 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", fmt.Sprintf("/v1/health/service/web?x=%d%s", i, strings.Repeat("y", maxKeptKey)), nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"Port":7,`) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if n := len(h.encoded.kept); n != 0 {
		t.Errorf("%d answers are kept", n)
	}
}

func TestCompressedBytesCountToo(t *testing.T) {
	h := newMocks().handler(t)
	w := httptest.NewRecorder()
	c := &call{h: h, w: w, r: httptest.NewRequest("GET", "/v1/p/web", nil), route: &route{pattern: "/p/*"}, rest: "web"}
	c.r.Header.Set("Accept-Encoding", "gzip")
	h.write(c, shared{mvcc.Meta{Index: 3}, func() any { return strings.Repeat("a", 2*minGzip) }}, nil)
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal("the answer is not compressed")
	}
	if want := 2*minGzip + 2 + w.Body.Len(); h.encoded.bytes != want {
		t.Errorf("%d bytes are counted, want %d", h.encoded.bytes, want)
	}
}

func TestAPanicWhileBuildingIsNoEmptyAnswer(t *testing.T) {
	h := newMocks().handler(t)
	ask := func(build func() any) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		c := &call{h: h, w: w, r: httptest.NewRequest("GET", "/v1/p/web", nil), route: &route{pattern: "/p/*"}, rest: "web"}
		defer func() { _ = recover() }()
		h.write(c, shared{mvcc.Meta{Index: 3}, build}, nil)
		return w
	}
	ask(func() any { panic("a bad row") })
	if w := ask(func() any { return 1 }); w.Code != 500 || w.Body.Len() == 0 {
		t.Errorf("the next reader got %d %q", w.Code, w.Body)
	}
}
