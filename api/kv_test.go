package api

import (
	"context"
	"io"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestReadKeys(t *testing.T) {
	m := newMocks()
	m.keys.key = func(_ context.Context, o mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error) {
		switch {
		case o.Datacenter == "nowhere":
			return nil, mvcc.Meta{}, &mvcc.Error{Code: mvcc.NoPath, Text: "no way"}
		case q.Key == "a/b c+d%" || q.Key == "grüße":
			return &kv.Entry{Key: q.Key, Value: []byte("<v>"), Flags: 1 << 63, LockIndex: 2, Session: "s", CreateIndex: 3, ModifyIndex: 7}, here, nil
		case q.Key == "empty":
			return &kv.Entry{Key: q.Key, Value: []byte{}, CreateIndex: 3, ModifyIndex: 7}, here, nil
		}
		return nil, here, nil
	}
	m.keys.list = func(_ context.Context, _ mvcc.ReadOptions, q *kv.List) ([]*kv.Entry, mvcc.Meta, error) {
		if q.Prefix == "none" {
			return nil, here, nil
		}
		return []*kv.Entry{{Key: q.Prefix + "1"}}, here, nil
	}
	m.keys.keys = func(_ context.Context, _ mvcc.ReadOptions, q *kv.Keys) ([]string, mvcc.Meta, error) {
		if q.Prefix == "p" {
			return []string{"p" + q.Separator}, here, nil
		}
		return nil, here, nil
	}
	full := `{"LockIndex":2,"Key":"a/b c+d%","Flags":9223372036854775808,"Value":"PHY+","Session":"s","CreateIndex":3,"ModifyIndex":7}`
	run(t, m.handler(t), []exchange{
		{request: "GET /v1/kv/a/b%20c+d%25", status: 200, body: "[" + full + "]"},
		{request: "GET /v1/kv/a%2Fb%20c+d%25", status: 200, body: "[" + full + "]"},
		{request: "GET /v1/kv/gr%C3%BC%C3%9Fe?raw", status: 200, body: "<v>"},
		{request: "GET /v1/kv/empty", status: 200, body: `[{"LockIndex":0,"Key":"empty","Flags":0,"Value":null,"CreateIndex":3,"ModifyIndex":7}]`},
		{request: "GET /v1/kv/empty?raw", status: 200},
		{request: "GET /v1/kv/missing", status: 404},
		{request: "GET /v1/kv/", status: 400, body: "Missing key name"},
		{request: "GET /v1/kv", status: 307},
		{request: "GET /v1/kv/?recurse", status: 200, body: `[{"LockIndex":0,"Key":"1","Flags":0,"Value":null,"CreateIndex":0,"ModifyIndex":0}]`},
		{request: "GET /v1/kv/none?recurse", status: 404},
		{request: "GET /v1/kv/p?keys&recurse", status: 200, body: `["p"]`},
		{request: "GET /v1/kv/p?keys&separator=/", status: 200, body: `["p/"]`},
		{request: "GET /v1/kv/p?keys&seperator=:", status: 200, body: `["p:"]`},
		{request: "GET /v1/kv/none?keys", status: 404},
		{request: "GET /v1/kv/?keys", status: 200, body: `[]`},
		{request: "GET /v1/kv/x?dc=nowhere", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/kv/x?datacenter=nowhere&dc=dc1", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/kv/x?recurse&index=x", status: 400, body: "Invalid index"},
		{request: "GET /v1/kv/x?keys&index=x", status: 400, body: "Invalid index"},
		{request: "PATCH /v1/kv/x", status: 405, body: "method PATCH not allowed"},
	})
}

func TestHeadersOfKeys(t *testing.T) {
	m := newMocks()
	m.keys.key = func(_ context.Context, _ mvcc.ReadOptions, q *kv.Get) (*kv.Entry, mvcc.Meta, error) {
		if q.Key == "missing" {
			return nil, mvcc.Meta{LastContact: 1500e6}, nil
		}
		return &kv.Entry{Value: []byte("v")}, here, nil
	}
	h := m.handler(t)
	want := map[string]string{"X-Consul-Index": "1", "X-Consul-Knownleader": "false", "X-Consul-Lastcontact": "1500",
		"X-Consul-Query-Backend": "blocking-query", "X-Consul-Default-Acl-Policy": "allow", "Vary": "Accept-Encoding",
		"Content-Type": "", "X-Consul-Effective-Consistency": ""}
	checkHeaders(t, do(t, h, "GET /v1/kv/missing", ""), want)
	want = map[string]string{"X-Consul-Index": "7", "X-Consul-Knownleader": "true", "X-Consul-Lastcontact": "0",
		"Content-Type": "text/plain", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
	checkHeaders(t, do(t, h, "GET /v1/kv/k?raw", ""), want)
	checkHeaders(t, do(t, h, "GET /v1/kv/k", ""), map[string]string{"Content-Type": "application/json", "X-Content-Type-Options": ""})
	checkHeaders(t, do(t, h, "PUT /v1/kv/k", ""), map[string]string{"Content-Type": "application/json", "X-Consul-Index": ""})
}

func checkHeaders(t *testing.T, w *httptest.ResponseRecorder, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := w.Header().Get(name); got != value {
			t.Errorf("header %s: got %q, want %q", name, got, value)
		}
	}
}

func TestWriteKeys(t *testing.T) {
	for _, c := range []struct {
		request, send string
		want          any
		origin        string
	}{
		{"PUT /v1/kv/a/b?flags=18446744073709551615", "v", &kv.Set{Key: "a/b", Value: []byte("v"), Flags: 1<<64 - 1}, "PUT /v1/kv/"},
		{"PUT /v1/kv/a", "", &kv.Set{Key: "a", Value: []byte{}}, "PUT /v1/kv/"},
		{"PUT /v1/kv/a?cas=0", "v", &kv.CAS{Key: "a", Value: []byte("v")}, "PUT /v1/kv/"},
		{"PUT /v1/kv/a?cas=9&flags=1&dc=dc1", "v", &kv.CAS{Key: "a", Value: []byte("v"), Flags: 1, Index: 9}, "PUT /v1/kv/"},
		{"DELETE /v1/kv/a", "", &kv.Delete{Key: "a"}, "DELETE /v1/kv/"},
		{"DELETE /v1/kv/a?cas=4", "", &kv.DeleteCAS{Key: "a", Index: 4}, "DELETE /v1/kv/"},
		{"DELETE /v1/kv/?recurse", "", &kv.DeleteTree{}, "DELETE /v1/kv/"},
		{"DELETE /v1/kv/a/?recurse=1", "", &kv.DeleteTree{Prefix: "a/"}, "DELETE /v1/kv/"},
	} {
		t.Run(c.request, func(t *testing.T) {
			m := newMocks()
			m.keys.apply = func(ctx context.Context, cmd any) (bool, error) {
				if !reflect.DeepEqual(cmd, c.want) {
					t.Errorf("got %#v, want %#v", cmd, c.want)
				}
				if o := mvcc.OriginOf(ctx); o.Node != "n1" || o.Endpoint != c.origin || o.Address == "" {
					t.Errorf("origin %+v", o)
				}
				return false, nil
			}
			if w := do(t, m.handler(t), c.request, c.send); w.Code != 200 || w.Body.String() != "false" {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
		})
	}
}

func TestRefusedWritesOfKeys(t *testing.T) {
	m := newMocks()
	m.keys.apply = func(_ context.Context, cmd any) (bool, error) {
		switch c := cmd.(type) {
		case *kv.Set:
			switch c.Key {
			case "full":
				return false, &mvcc.Error{Code: mvcc.DiskFull, Text: "too little disk space"}
			case "stopping":
				return false, &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the agent is stopping"}
			case "leaderless":
				return false, &mvcc.Error{Code: mvcc.NoLeader}
			case "faulty":
				return false, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader: the disk hangs"}
			case "large":
				return false, &mvcc.Error{Code: mvcc.TooLarge, Text: "too large"}
			case "slow":
				return false, &mvcc.Error{Code: mvcc.Timeout, Text: "not confirmed"}
			case "broken":
				return false, io.ErrClosedPipe
			}
			return true, nil
		}
		t.Errorf("%#v was carried out", cmd)
		return true, nil
	}
	m.config.MaxValueSize = 4
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "PUT /v1/kv/", status: 400, body: "Missing key name"},
		{request: "DELETE /v1/kv/", status: 400, body: "Missing key name"},
		{request: "PUT /v1/kv/x?flags=many", status: 500, body: `strconv.ParseUint: parsing "many": invalid syntax`},
		{request: "PUT /v1/kv/x?flags=", status: 500, body: `strconv.ParseUint: parsing "": invalid syntax`},
		{request: "PUT /v1/kv/x?cas", status: 500, body: `strconv.ParseUint: parsing "": invalid syntax`},
		{request: "PUT /v1/kv/x?flags=18446744073709551616", status: 500, body: `strconv.ParseUint: parsing "18446744073709551616": value out of range`},
		{request: "DELETE /v1/kv/x?cas=-1", status: 500, body: `strconv.ParseUint: parsing "-1": invalid syntax`},
		{request: "PUT /v1/kv/x?cas=0&acquire=s&token=secret", status: 400, body: "Conflicting flags: acquire=s&cas=0\n"},
		{request: "PUT /v1/kv/x?acquire=s&release=s", status: 400, body: "Conflicting flags: acquire=s&release=s\n"},
		{request: "DELETE /v1/kv/x?cas=5&recurse", status: 400, body: "Conflicting flags: cas=5&recurse=\n"},
		{request: "PUT /v1/kv/x?acquire=s", status: 501, body: "Locking a key with acquire or release is not implemented in this version of Muster"},
		{request: "PUT /v1/kv/x?release=s", status: 501, body: "Locking a key with acquire or release is not implemented in this version of Muster"},
		{request: "PUT /v1/kv/x?dc=nowhere", status: 500, body: "No path to datacenter"},
		{request: "PUT /v1/kv/x", send: "1234", status: 200, body: "true"},
		{request: "PUT /v1/kv/x", send: "12345", status: 413, body: "Request body(5 bytes) too large, max size: 4 bytes. See limits.kv_max_value_size."},
		{request: "PUT /v1/kv/full", status: 503, body: "too little disk space"},
		{request: "PUT /v1/kv/stopping", status: 503, body: "the agent is stopping"},
		{request: "PUT /v1/kv/leaderless", status: 500, body: "No cluster leader"},
		{request: "PUT /v1/kv/faulty", status: 500, body: "No cluster leader: the disk hangs"},
		{request: "PUT /v1/kv/large", status: 413, body: "too large"},
		{request: "PUT /v1/kv/slow", status: 500, body: "not confirmed"},
		{request: "PUT /v1/kv/broken", status: 500, body: "io: read/write on closed pipe"},
	})
	for body, status := range map[string]int{"1234": 200, "12345": 413} {
		r := httptest.NewRequest("PUT", "/v1/kv/x", struct{ io.Reader }{strings.NewReader(body)})
		r.ContentLength = -1
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("%q in chunks: got %d %s, want %d", body, w.Code, w.Body, status)
		}
	}
}
