package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// transacting makes mocks that remember the transaction and answer with outcome.
func transacting(outcome *health.Outcome, got **health.Transaction) *mocks {
	m := newMocks()
	m.txn.transact = func(_ context.Context, _ mvcc.ReadOptions, t *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
		if got != nil {
			*got = t
		}
		return outcome, here, nil
	}
	return m
}

func TestTransactionsAsTheyAreRead(t *testing.T) {
	for _, c := range []struct {
		body string
		want health.TxnOp
	}{
		{`[{"KV":{"Verb":"cas","Key":"a","Value":"QQ==","Flags":1,"Index":2,"Session":"s"}}]`,
			health.TxnOp{KV: &kv.TxnOp{Verb: kv.VerbCAS, Key: "a", Value: []byte("A"), Flags: 1, Index: 2, Session: "s"}}},
		{`[{"kv":{"verb":"get","key":"a"},"Node":null,"Service":null,"Check":null}] trailing`,
			health.TxnOp{KV: &kv.TxnOp{Verb: kv.VerbGet, Key: "a"}}},
		{`[{"Node":{"Verb":"set","Node":{"ID":"i","Node":"n","Address":"1.1.1.1","Datacenter":"dc1","TaggedAddresses":{"a":"b"},"Meta":{"c":"d"},"Partition":"","CreateIndex":4,"ModifyIndex":5}}}]`,
			health.TxnOp{Node: &catalog.NodeOp{Verb: catalog.VerbSet, Node: catalog.Node{ID: "i", Name: "n", Address: "1.1.1.1",
				TaggedAddresses: map[string]string{"a": "b"}, Meta: map[string]string{"c": "d"}, ModifyIndex: 5}}}},
		{`[{"Service":{"Verb":"delete-cas","Node":"n","Service":{"ID":"s1","Service":"s","Port":8,"ContentHash":"x","Datacenter":"dc1","Weights":{"Passing":2},"ModifyIndex":5}}}]`,
			health.TxnOp{Service: &catalog.ServiceOp{Verb: catalog.VerbDeleteCAS, Service: catalog.Service{Node: "n", ID: "s1", Name: "s",
				Port: 8, Weights: catalog.Weights{Passing: 2}, ModifyIndex: 5}}}},
		{`[{"Check":{"Verb":"set","Check":{"Node":"n","CheckID":"c","Status":"passing","Definition":{"UDP":"x:1","Interval":"5s"},"ModifyIndex":5}}}]`,
			health.TxnOp{Check: &health.CheckOp{Verb: catalog.VerbSet, Check: health.Check{Node: "n", ID: "c", Status: health.Passing,
				Definition: health.Definition{UDP: "x:1", Interval: 5e9}, ModifyIndex: 5}}}},
		{`[{}]`, health.TxnOp{}},
	} {
		var got *health.Transaction
		h := transacting(&health.Outcome{}, &got).handler(t)
		w := do(t, h, "PUT /v1/txn", c.body)
		if w.Code != 200 || len(got.Ops) != 1 || !reflect.DeepEqual(got.Ops[0], c.want) {
			t.Errorf("%s\n%d %s\ngot  %+v\nwant %+v", c.body, w.Code, w.Body, got, c.want)
		}
	}
}

func TestTransactionsAsTheyAreAnswered(t *testing.T) {
	const meta = `,"Index":7,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":"leader","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false`
	const get, set = `[{"KV":{"Verb":"get","Key":"a"}}]`, `[{"KV":{"Verb":"set","Key":"a"}}]`
	for _, c := range []struct {
		what    string
		outcome health.Outcome
		send    string
		status  int
		body    string
		leader  string // header X-Consul-Knownleader
	}{
		{"nothing", health.Outcome{}, `[]`, 200, `{"Results":[],"Errors":null` + meta + `}`, "true"},
		{"a read", health.Outcome{Results: []health.TxnResult{{KV: &kv.Entry{Key: "a", Value: []byte("A"), CreateIndex: 1, ModifyIndex: 2}}}}, get, 200,
			`{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":"QQ==","CreateIndex":1,"ModifyIndex":2}}],"Errors":null` + meta + `}`, "true"},
		{"a read that fails", health.Outcome{Errors: []health.TxnError{{Op: 0, Text: `key "a" doesn't exist`}}}, get, 409,
			`{"Results":null,"Errors":[{"OpIndex":0,"What":"key \"a\" doesn't exist"}]}`, ""},
		{"a write", health.Outcome{Results: []health.TxnResult{{KV: &kv.Entry{Key: "a", CreateIndex: 1, ModifyIndex: 2}}}}, set, 200,
			`{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":2}}],"Errors":null}`, ""},
		{"rows of the catalog", health.Outcome{Results: []health.TxnResult{
			{Node: &catalog.Node{Name: "n", Address: "1.1.1.1"}},
			{Service: &catalog.Service{Node: "n", ID: "s", Name: "s", Tags: []string{}, Weights: catalog.Weights{Passing: 1, Warning: 1}}},
			{Check: &health.Check{Node: "n", ID: "c", Status: "passing", ServiceTags: []string{}}},
		}}, set, 200, `{"Results":[` +
			`{"Node":{"ID":"","Node":"n","Address":"1.1.1.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":null,"CreateIndex":0,"ModifyIndex":0}},` +
			`{"Service":{"ID":"s","Service":"s","Tags":null,"Address":"","Meta":null,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"PeerName":"","CreateIndex":0,"ModifyIndex":0}},` +
			`{"Check":{"Node":"n","CheckID":"c","Name":"","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":null,"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":0,"ModifyIndex":0}}` +
			`],"Errors":null}`, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := do(t, transacting(&c.outcome, nil).handler(t), "PUT /v1/txn", c.send)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("got %d %s\nwant %d %s", w.Code, w.Body, c.status, c.body)
			}
			if got := w.Header().Get("X-Consul-Knownleader"); got != c.leader {
				t.Errorf("X-Consul-Knownleader %q, want %q", got, c.leader)
			}
			if got := w.Header().Get("X-Consul-Index"); got != "" {
				t.Errorf("X-Consul-Index %q", got)
			}
		})
	}
}

func TestTransactionsThatAreRefused(t *testing.T) {
	m := newMocks()
	m.txn.transact = func(_ context.Context, o mvcc.ReadOptions, _ *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
		return nil, mvcc.Meta{}, &mvcc.Error{Code: mvcc.NoPath, Text: o.Datacenter}
	}
	m.config.MaxValueSize, m.config.MaxTxnSize = 3, 20_000
	many := func(n int) string { return "[" + strings.Repeat(`{"KV":{"Verb":"get","Key":"a"}},`, n-1) + "{}]" }
	run(t, m.handler(t), []exchange{
		{request: "PUT /v1/txn", status: 400, body: "Failed to parse body: EOF"},
		{request: "PUT /v1/txn?0", send: `[{"KV": `, status: 400, body: "Failed to parse body: unexpected EOF"},
		{request: "PUT /v1/txn?1", send: `{"KV":{}}`, status: 400, body: "Failed to parse body: json: cannot unmarshal object into Go value of type api.TxnOps"},
		{request: "PUT /v1/txn?2", send: `[{"Key":{}}]`, status: 400, body: `Failed to parse body: json: unknown field "Key"`},
		{request: "PUT /v1/txn?3", send: `[{"Service":{"Service":{"Ports":[]}}}]`, status: 400, body: `Failed to parse body: json: unknown field "Ports"`},
		{request: "PUT /v1/txn?4", send: `[{"KV":{"Value":"***"}}]`, status: 400, body: "Failed to parse body: illegal base64 data at input byte 0"},
		{request: "PUT /v1/txn?5", send: `[{},{"KV":{},"Node":{}}]`, status: 400, body: "Failed to parse body: operation 1 has 2 of KV, Node, Service and Check, and may have one"},
		{request: "PUT /v1/txn?6", send: `[{"KV":{"Namespace":"x"}}]`, status: 400, body: `Invalid request body: "Namespace" - Namespaces are a Consul Enterprise feature`},
		{request: "PUT /v1/txn?7", send: `[{"Service":{"Service":{"Partition":"x"}}}]`, status: 400, body: `Invalid request body: "Partition" - Partitions are a Consul Enterprise feature`},
		{request: "PUT /v1/txn?8", send: `[{"Check":{"Check":{"PeerName":"x"}}}]`, status: 400, body: `Invalid request body: "PeerName" - Muster has no peering`},
		{request: "PUT /v1/txn?9", send: many(128), status: 500, body: textNoPath},
		{request: "PUT /v1/txn?10", send: many(129), status: 413, body: "Transaction contains too many operations (129 > 128)"},
		{request: "PUT /v1/txn?11", send: `[{"KV":{"Verb":"set","Key":"k","Value":"QUFBQQ=="}}]`, status: 413, body: `Value for key "k" is too large (4 > 3 bytes)`},
		{request: "PUT /v1/txn?12", send: strings.Repeat(" ", 20_001), status: 413, body: "Request body(20001 bytes) too large, max size: 20000 bytes. See limits.txn_max_req_len."},
		{request: "PUT /v1/txn?dc=nowhere", send: `[]`, status: 500, body: textNoPath},
		{request: "PUT /v1/txn?stale&consistent", send: `[]`, status: 400, body: textStaleConsistent},
		{request: "GET /v1/txn", status: 405, body: "method GET not allowed"},
	})
	r := httptest.NewRequest(http.MethodPut, "/v1/txn", strings.NewReader(strings.Repeat(" ", 20_001)))
	r.ContentLength = -1
	w := httptest.NewRecorder()
	m.handler(t).ServeHTTP(w, r)
	if want := "Request body(more than 20000 bytes) too large, max size: 20000 bytes. See limits.txn_max_req_len."; w.Code != 413 || w.Body.String() != want {
		t.Errorf("in chunks: %d %s", w.Code, w.Body)
	}
}

func TestTransactionsAreReadAsFreshAsAsked(t *testing.T) {
	for query, want := range map[string]mvcc.ReadOptions{
		"":                     {},
		"?stale":               {Mode: mvcc.Stale},
		"?consistent&dc=x":     {Mode: mvcc.Consistent, Datacenter: "x"},
		"?index=5&wait=1h":     {},
		"?datacenter=y&stale=": {Mode: mvcc.Stale, Datacenter: "y"},
	} {
		m := newMocks()
		var got mvcc.ReadOptions
		m.txn.transact = func(_ context.Context, o mvcc.ReadOptions, _ *health.Transaction) (*health.Outcome, mvcc.Meta, error) {
			got = o
			return &health.Outcome{}, here, nil
		}
		if w := do(t, m.handler(t), "PUT /v1/txn"+query, "[]"); w.Code != 200 || got != want {
			t.Errorf("%s: %d, %+v, want %+v", query, w.Code, got, want)
		}
	}
}

// FuzzTransaction sends any body: it is refused with words, or decoded into
// operations of at most one kind each.
func FuzzTransaction(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{}]`, `[null]`, `null`, `{}`, `[{"KV":{"Verb":"set","Key":"a","Value":"QQ=="}},{"Node":{"Verb":"get","Node":{"Node":"n"}}}]`,
		`[{"Service":{"Verb":"set","Node":"n","Service":{"Service":"s","Proxy":{"Mode":"x"},"Weights":{"Passing":1}}}}]`,
		`[{"Check":{"Verb":"cas","Check":{"Node":"n","CheckID":"c","Definition":{"Interval":"1s","TTL":5}}}}]`, `[{"KV":{"Value":"*"}}]`,
	} {
		f.Add(seed)
	}
	var got *health.Transaction
	h := transacting(&health.Outcome{}, &got).handler(f)
	f.Fuzz(func(t *testing.T, body string) {
		got = nil
		w := do(t, h, "PUT /v1/txn", body)
		switch w.Code {
		case 400, 413:
			if w.Body.Len() == 0 || got != nil {
				t.Errorf("%q: refused with %q after it was carried out: %v", body, w.Body, got != nil)
			}
			return
		case 200:
		default:
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		got.Normalize()
		for i, o := range got.Ops {
			kinds := 0
			for _, set := range []bool{o.KV != nil, o.Node != nil, o.Service != nil, o.Check != nil} {
				if set {
					kinds++
				}
			}
			if kinds > 1 {
				t.Error(fmt.Sprintf("operation %d", i), "has", kinds, "kinds")
			}
		}
	})
}
