package api

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

func TestWritesFromElsewhereAreRefused(t *testing.T) {
	m := newMocks()
	m.config.AllowWriteFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	h := m.handler(t)
	for _, c := range []struct {
		from    string
		allowed bool
	}{
		{"10.1.2.3:4711", true}, {"[::ffff:10.1.2.3]:4711", true}, {"[fe80::1%eth0]:4711", true},
		{"11.1.2.3:4711", false}, {"127.0.0.1:4711", false}, {"[::1]:4711", false}, {"", false}, {"@", false}, {"10.1.2.3", false},
	} {
		for request, reads := range map[string]bool{
			"GET /v1/kv/?keys": true, "OPTIONS /v1/kv/a": true, "GET /v1/health/service/web": true, "HEAD /v1/kv/a": true,
			"PUT /v1/kv/a": false, "DELETE /v1/kv/a": false, "PUT /v1/agent/service/deregister/x": false, "POST /v1/kv/a": false,
		} {
			w := doFrom(t, h, c.from, request)
			refused := w.Code == 403 && w.Body.String() == "Access is restricted"
			if refused != (!c.allowed && !reads) {
				t.Errorf("%s from %q: got %d %s", request, c.from, w.Code, w.Body)
			}
		}
	}
	if w := doFrom(t, newMocks().handler(t), "192.0.2.1:1", "PUT /v1/kv/a"); w.Code != 200 {
		t.Errorf("without networks: got %d %s", w.Code, w.Body)
	}
}

// doFrom sends one request from an address.
func doFrom(t *testing.T, h http.Handler, from, request string) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Who may use a Unix socket is for its mode to say.
func TestWritesOverASocketAreTaken(t *testing.T) {
	m := newMocks()
	m.config.AllowWriteFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	socket := filepath.Join(t.TempDir(), "http.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(m.handler(t))
	server.Listener = l
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodPut, "http://socket/v1/kv/a", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("got %s", response.Status)
	}
}
