package api

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// nodeA and nodeB are two nodes with an instance of web on each.
var (
	nodeA = &catalog.Node{Name: "a", Address: "10.0.0.1", Meta: map[string]string{"zone": "east"}, CreateIndex: 2, ModifyIndex: 3}
	nodeB = &catalog.Node{ID: "id-b", Name: "b", Address: "10.0.0.2", TaggedAddresses: map[string]string{"lan": "10.0.0.2"}, CreateIndex: 4, ModifyIndex: 4}
	webA  = &catalog.Service{Node: "a", ID: "web-a", Name: "web", Tags: []string{"v1", "prod"}, Port: 80, Weights: catalog.Weights{Passing: 1, Warning: 1}, CreateIndex: 2, ModifyIndex: 3}
	webB  = &catalog.Service{Node: "b", ID: "web-b", Name: "web", Kind: "connect-proxy", Meta: map[string]string{"canary": "yes"}, Weights: catalog.Weights{Passing: 1, Warning: 1},
		Proxy: []byte(`{"DestinationServiceName":"db","Expose":{},"LocalServicePort":9,"MeshGateway":{},"Mode":""}`), Native: true, Tags: []string{"v1"},
		TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "198.51.100.1", Port: 81}}, Locality: &catalog.Locality{Region: "r"}, CreateIndex: 4, ModifyIndex: 4}
)

const (
	nodeAText    = `{"ID":"","Node":"a","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":{"zone":"east"},"CreateIndex":2,"ModifyIndex":3}`
	nodeBText    = `{"ID":"id-b","Node":"b","Address":"10.0.0.2","Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.2"},"Meta":null,"CreateIndex":4,"ModifyIndex":4}`
	webAText     = `{"ID":"web-a","Service":"web","Tags":["v1","prod"],"Address":"","Meta":null,"Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"PeerName":"","CreateIndex":2,"ModifyIndex":3}`
	webBText     = `{"Kind":"connect-proxy","ID":"web-b","Service":"web","Tags":["v1"],"Address":"","TaggedAddresses":{"wan":{"Address":"198.51.100.1","Port":81}},"Meta":{"canary":"yes"},"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Locality":{"Region":"r","Zone":""},"Proxy":{"DestinationServiceName":"db","Expose":{},"LocalServicePort":9,"MeshGateway":{},"Mode":""},"Connect":{"Native":true},"PeerName":"","CreateIndex":4,"ModifyIndex":4}`
	webAInstance = `{"ID":"","Node":"a","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":null,"NodeMeta":{"zone":"east"},"ServiceKind":"","ServiceID":"web-a","ServiceName":"web","ServiceTags":["v1","prod"],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{},"ServicePort":80,"ServiceSocketPath":"","ServiceEnableTagOverride":false,"ServiceProxy":{"Mode":"","MeshGateway":{},"Expose":{}},"ServiceConnect":{},"ServiceLocality":null,"CreateIndex":2,"ModifyIndex":3}`
)

func newCatalogMocks() *mocks {
	m := newMocks()
	m.catalog.nodes = func(_ context.Context, o mvcc.ReadOptions, q *catalog.Nodes) ([]*catalog.Node, mvcc.Meta, error) {
		if q.Meta["zone"] == "east" {
			return []*catalog.Node{nodeA}, here, nil
		}
		return []*catalog.Node{nodeA, nodeB}, here, nil
	}
	m.catalog.services = func(_ context.Context, o mvcc.ReadOptions, _ *catalog.Services) (catalog.ServiceTags, mvcc.Meta, error) {
		if o.Datacenter == "nowhere" {
			return nil, mvcc.Meta{}, &mvcc.Error{Code: mvcc.NoPath}
		}
		return catalog.ServiceTags{{Name: "consul"}, {Name: "web", Tags: []string{"v1", "prod"}}}, here, nil
	}
	m.catalog.instances = func(_ context.Context, _ mvcc.ReadOptions, q *catalog.Instances) ([]*catalog.Instance, mvcc.Meta, error) {
		if q.Service != "" && q.Service != "web" {
			return nil, here, nil
		}
		if len(q.Tags) > 0 {
			return []*catalog.Instance{{Node: nodeA, Service: webA}}, here, nil
		}
		return []*catalog.Instance{{Node: nodeA, Service: webA}, {Node: nodeB, Service: webB}}, here, nil
	}
	m.catalog.nodeServices = func(_ context.Context, _ mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
		switch q.Node {
		case "a":
			return &catalog.NodeDetail{Node: nodeA, Services: []*catalog.Service{webA}}, here, nil
		case "bare":
			return &catalog.NodeDetail{Node: nodeA}, here, nil
		}
		return nil, here, nil
	}
	return m
}

func TestReadCatalog(t *testing.T) {
	h := newCatalogMocks().handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/catalog/datacenters", status: 200, body: `["dc1"]`},
		{request: "GET /v1/catalog/nodes", status: 200, body: "[" + nodeAText + "," + nodeBText + "]"},
		{request: "GET /v1/catalog/nodes?node-meta=zone:east&near=_agent", status: 200, body: "[" + nodeAText + "]"},
		{request: "GET /v1/catalog/nodes?filter=Meta.zone+!=+east", status: 200, body: "[" + nodeBText + "]"},
		{request: "GET /v1/catalog/nodes?filter=Node+==+c", status: 200, body: "[]"},
		{request: "GET /v1/catalog/nodes?filter=Colour+==+green", status: 500, body: `Failed to create boolean expression evaluator: Selector "Colour" is not valid`},
		{request: "GET /v1/catalog/services", status: 200, body: `{"consul":[],"web":["v1","prod"]}`},
		{request: "GET /v1/catalog/services?dc=nowhere", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/catalog/services?filter=ServicePort+==+80", status: 200, body: `{"web":["v1","prod"]}`},
		{request: "GET /v1/catalog/services?filter=ServiceName+==+web", status: 200, body: `{"web":["v1","prod"]}`},
		{request: "GET /v1/catalog/services?filter=ServicePort+==+1", status: 200, body: `{}`},
		{request: "GET /v1/catalog/service/", status: 400, body: "Missing service name"},
		{request: "GET /v1/catalog/service/none", status: 200, body: "[]"},
		{request: "GET /v1/catalog/service/web?tag=prod", status: 200, body: "[" + webAInstance + "]"},
		{request: "GET /v1/catalog/service/web?filter=ServiceTags+contains+prod", status: 200, body: "[" + webAInstance + "]"},
		{request: "GET /v1/catalog/service/web?peer=p", status: 200, body: "[]"},
		{request: "GET /v1/catalog/node/", status: 400, body: "Missing node name"},
		{request: "GET /v1/catalog/node/nobody", status: 200, body: "null"},
		{request: "GET /v1/catalog/node/a", status: 200, body: `{"Node":` + nodeAText + `,"Services":{"web-a":` + webAText + `}}`},
		{request: "GET /v1/catalog/node/a?filter=Port+==+81", status: 200, body: `{"Node":` + nodeAText + `,"Services":{}}`},
		{request: "GET /v1/catalog/node-services/", status: 400, body: "Missing node name"},
		{request: "GET /v1/catalog/node-services/nobody", status: 200, body: `{"Node":null,"Services":null}`},
		{request: "GET /v1/catalog/node-services/a", status: 200, body: `{"Node":` + nodeAText + `,"Services":[` + webAText + `]}`},
		{request: "GET /v1/catalog/node-services/bare", status: 200, body: `{"Node":` + nodeAText + `,"Services":[]}`},
		{request: "GET /v1/catalog/node/a?index=x", status: 400, body: "Invalid index"},
	})
	checkHeaders(t, do(t, h, "GET /v1/catalog/nodes", ""), map[string]string{"X-Consul-Index": "7", "X-Consul-Effective-Consistency": "leader"})
	checkHeaders(t, do(t, h, "GET /v1/catalog/datacenters", ""), map[string]string{"X-Consul-Index": "", "X-Consul-Lastcontact": ""})
}

func TestStatus(t *testing.T) {
	m := newMocks()
	m.status.leader = func(dc string) (string, error) {
		if dc != "" {
			return "", &mvcc.Error{Code: mvcc.NoPath}
		}
		return "127.0.0.1:8300", nil
	}
	run(t, m.handler(t), []exchange{
		{request: "GET /v1/status/leader?index=9&wait=1m", status: 200, body: `"127.0.0.1:8300"`},
		{request: "GET /v1/status/leader?dc=nowhere", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/status/peers", status: 200, body: "[]"},
	})
}

func TestRegister(t *testing.T) {
	var gotDC string
	var got *health.Register
	m := newMocks()
	m.catalog.register = func(_ context.Context, dc string, r *health.Register) error { gotDC, got = dc, r; return nil }
	body := `{"datacenter":"dc1","ID":"i","Node":"n","Address":"10.0.0.1","TaggedAddresses":{"lan":"l"},"NodeMeta":{"k":"v"},"SkipNodeUpdate":true,
		"Locality":{"Region":"r","Zone":"z"},
		"Service":{"Kind":"connect-proxy","ID":"s1","Service":"s","Tags":["t"],"Address":"a","TaggedAddresses":{"wan":{"Address":"w","Port":1}},"Meta":{"m":"v"},
			"Port":8080,"SocketPath":"/s","Weights":{"Passing":5,"Warning":2},"EnableTagOverride":true,
			"Proxy":{"Mode":"","MeshGateway":{},"Expose":{},"Config":{"b": 1},"DestinationServiceName":"web"},"Connect":{"Native":true},"CreateIndex":4},
		"Check":{"CheckID":"c1","Name":"one","Status":"passing","Notes":"n","Output":"o","ServiceID":"s1"},
		"Checks":[{"Node":"n","CheckID":"c2","Definition":{"TCP":"10.0.0.1:22","Interval":"10s","Timeout":1000000000,"TTL":null,"DeregisterCriticalServiceAfter":"1m30s","Unheard":1}}]} trailing`
	if w := do(t, m.handler(t), "PUT /v1/catalog/register", body); w.Code != 200 || w.Body.String() != "true" {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	want := &health.Register{
		Registration: catalog.Registration{
			Node: catalog.Node{ID: "i", Name: "n", Address: "10.0.0.1", TaggedAddresses: map[string]string{"lan": "l"},
				Meta: map[string]string{"k": "v"}, Locality: &catalog.Locality{Region: "r", Zone: "z"}},
			SkipNodeUpdate: true,
			Service: &catalog.Service{Node: "n", Kind: "connect-proxy", ID: "s1", Name: "s", Tags: []string{"t"}, Address: "a",
				TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "w", Port: 1}}, Meta: map[string]string{"m": "v"}, Port: 8080,
				SocketPath: "/s", Weights: catalog.Weights{Passing: 5, Warning: 2}, EnableTagOverride: true, Native: true,
				Proxy: []byte(`{"Config":{"b":1},"DestinationServiceName":"web","Expose":{},"MeshGateway":{},"Mode":""}`)},
		},
		Checks: []health.Check{
			{ID: "c1", Name: "one", Status: health.Passing, Notes: "n", Output: "o", ServiceID: "s1"},
			{Node: "n", ID: "c2", Definition: health.Definition{TCP: "10.0.0.1:22", Interval: 10 * time.Second, Timeout: time.Second,
				DeregisterCriticalServiceAfter: 90 * time.Second}},
		},
	}
	if gotDC != "dc1" || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\n got %+v\nwant %+v", gotDC, got, want)
	}
}

func TestRefusedRegistrations(t *testing.T) {
	m := newMocks()
	m.catalog.register = func(_ context.Context, dc string, r *health.Register) error {
		if dc == "nowhere" {
			return &mvcc.Error{Code: mvcc.NoPath}
		}
		return r.Normalize()
	}
	const path = "PUT /v1/catalog/register"
	run(t, m.handler(t), []exchange{
		{request: path, send: `{}`, status: 500, body: "Must provide node"},
		{request: path, send: `{"Node":"n"}`, status: 500, body: "Must provide address if SkipNodeUpdate is not set"},
		{request: path, send: `{"Node":"n","Address":"a","Datacenter":"nowhere"}`, status: 500, body: "No path to datacenter"},
		{request: path + "?dc=nowhere", send: `{"Node":"n","Address":"a"}`, status: 200, body: "true"},
		{request: path, send: `{"Node":"n",`, status: 400, body: "Request decode failed: unexpected EOF"},
		{request: path, status: 400, body: "Request decode failed: EOF"},
		{request: path, send: `{"Colour":"green"}`, status: 400, body: `Request decode failed: json: unknown field "Colour"`},
		{request: path, send: `{"Namespace":""}`, status: 400, body: `Invalid request body: "Namespace" - Namespaces are a Consul Enterprise feature`},
		{request: path, send: `{"Service":{"Partition":"p"}}`, status: 400, body: `Invalid request body: "Partition" - Partitions are a Consul Enterprise feature`},
		{request: path, send: `{"Service":{"enable_tag_override":true}}`, status: 400, body: `Request decode failed: json: unknown field "enable_tag_override"`},
		{request: path, send: `{"Node":"n","Address":"a","PeerName":"p"}`, status: 500, body: "cannot register requests with PeerName in them"},
		{request: path, send: `{"Check":{"Definition":{"Interval":"soon"}}}`, status: 400, body: `Request decode failed: time: invalid duration "soon"`},
		{request: path, send: `{"Node":"` + strings.Repeat("n", maxBody) + `"}`, status: 413, body: "Request body too large, max size: 1048576 bytes"},
	})
	for _, body := range []string{`[]`, `{"Service":{"Port":"80"}}`, `{"Service":{"Port":1e3}}`, `{"Service":{"Tags":"a"}}`, `{"Service":{"Proxy":[]}}`} {
		if w := do(t, m.handler(t), path, body); w.Code != 400 || !strings.HasPrefix(w.Body.String(), "Request decode failed: json: cannot unmarshal ") {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
		}
	}
}

func TestDeregister(t *testing.T) {
	m := newMocks()
	m.catalog.deregister = func(_ context.Context, dc string, d *catalog.Deregister) error {
		if dc != "dc1" || *d != (catalog.Deregister{Node: "n", ServiceID: "s", CheckID: "c"}) {
			t.Errorf("got %q %+v", dc, d)
		}
		return nil
	}
	const path = "PUT /v1/catalog/deregister"
	run(t, m.handler(t), []exchange{
		{request: path, send: `{"Node":"n","ServiceID":"s","CheckID":"c","Datacenter":"dc1","Address":"a","Namespace":""}`, status: 200, body: "true"},
		{request: path, send: `{}`, status: 500, body: "Must provide node"},
		{request: path, send: `{"Node":"n","Namespace":"x"}`, status: 400, body: `Invalid request body: "Namespace" - Namespaces are a Consul Enterprise feature`},
		{request: path, send: `{"Node"`, status: 400, body: "Request decode failed: unexpected EOF"},
	})
}
