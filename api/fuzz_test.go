package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzTarget sends any path and query. Whatever they are, the answer is one
// that the interface has words for.
func FuzzTarget(f *testing.F) {
	for _, seed := range [][2]string{
		{"/v1/kv/a%2Fb", "raw"}, {"/v1/kv/%00", ""}, {"/v1/kv/%ff", "recurse"}, {"/v1/catalog/nodes", "filter=Meta.a==b&near=_agent"},
		{"/v1/health/service/web", "passing=x&tag=a&node-meta=a:b"}, {"/v1/agent/service/x", "hash=1&wait=1ns"}, {"//x/../y/", "%zz"},
		{"/v1/catalog/services", "stale&consistent"}, {"*", ";"}, {"", ""}, {"/v1/agent/health/service/name/é", "format=text"},
		{"/v1/operator/raft/peer", "id=a&address=b"}, {"/v1/operator/autopilot/configuration", "cas=-1"}, {"/v1/snapshot", "stale&dc=x"},
		{"/v1/operator/usage", "global&index=1"}, {"/v1/agent/force-leave/a/b", "prune"},
	} {
		f.Add(seed[0], seed[1])
	}
	m := newCatalogMocks()
	h := m.handler(f)
	h.Drain() // nobody waits here
	f.Fuzz(func(t *testing.T, path, query string) {
		u := &url.URL{RawPath: path, RawQuery: query}
		plain, err := url.PathUnescape(path)
		if err != nil {
			plain = path
		}
		u.Path = plain
		for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut} {
			r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: http.NoBody}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			switch w.Code {
			case 200, 307, 400, 401, 404, 405, 413, 501:
			case 500:
				if !knownFault(w.Body.String()) {
					t.Errorf("%s %q?%q: %s", method, path, query, w.Body)
				}
			default:
				t.Errorf("%s %q?%q: %d", method, path, query, w.Code)
			}
		}
	})
}

// knownFault reports whether a text belongs to one of the faults of a request
// that clients know as a 500.
func knownFault(text string) bool {
	for _, known := range []string{textFilterFailed, "strconv.ParseUint: ", "Cannot read the query string", textNoPath, "Must provide node",
		"invalid config entry kind", textConnectDisabled, "Missing service", "Selector ", textNoSegments} {
		if strings.HasPrefix(text, known) {
			return true
		}
	}
	return false
}

// FuzzBody sends any body to every endpoint that reads JSON.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{}`, ``, `[]`, `null`, `{"Name":"x","Check":{"TTL":1}}`, `{"Node":"n","Service":{"Proxy":{"a":[1,{}]},"Weights":null}}`,
		`{"Checks":[null,{"Definition":{"TTL":"1s"}}]}`, `{"Name":"x","Proxy":null,"Connect":{"SidecarService":{}}}`, `{"Status":"passing"}`,
		`{"Node":"n","Checks":[{"Definition":1}]}`, `{"TTL":"\ud800"}`, `{"LastContactThreshold":-1,"MinQuorum":1e3}`} {
		f.Add(seed)
	}
	h := newMocks().handler(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"catalog/register", "catalog/deregister", "agent/service/register", "agent/check/register", "agent/check/update/x", "operator/autopilot/configuration"} {
			w := do(t, h, "PUT /v1/"+path, body)
			switch {
			case w.Code == 200, w.Code == 400:
			case w.Code == 500 && (strings.Contains(w.Body.String(), "Must provide node") || strings.Contains(w.Body.String(), "PeerName") ||
				strings.HasPrefix(w.Body.String(), "Service tagged address")):
			default:
				t.Errorf("%s %q: %d %s", path, body, w.Code, w.Body)
			}
		}
	})
}

// FuzzProxy keeps what the mesh says about an instance: what was kept is JSON,
// and is kept as it is a second time.
func FuzzProxy(f *testing.F) {
	f.Add([]byte(`{"Mode":"","Config":{"b":1,"a":null}}`))
	f.Add([]byte(`{"Expose":{"x":"<"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var once, twice proxy
		if json.Unmarshal(text, &once) != nil {
			return
		}
		shown, err := json.Marshal(once)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := json.Unmarshal(shown, &twice); err != nil {
			t.Fatalf("%q became %q: %v", text, shown, err)
		}
		if again, _ := json.Marshal(twice); string(again) != string(shown) {
			t.Errorf("%q became %q, then %q", text, shown, again)
		}
	})
}

// FuzzCleanPath keeps redirects inside this host and free of loops.
func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"/a//b/", "//host/x", "/..", "a/./b", "/.a/..b/", "/%2e%2e/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		once := cleanPath(path)
		if again := cleanPath(once); again != once {
			t.Errorf("%q: %q, then %q", path, once, again)
		}
		if !strings.HasPrefix(once, "/") || strings.HasPrefix(once, "//") {
			t.Errorf("%q leads to %q", path, once)
		}
	})
}
