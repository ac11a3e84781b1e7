package api

import (
	"context"
	"testing"
	"time"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

var (
	diskCheck = &health.Check{Node: "a", ID: "disk", Name: "disk", Status: health.Passing,
		Definition: health.Definition{TCP: "10.0.0.1:22", Interval: 10 * time.Second}, Type: "tcp", CreateIndex: 2, ModifyIndex: 3}
	webCheck = &health.Check{Node: "b", ID: "up", Name: "web", Status: health.Warning, ServiceID: "web-b", ServiceName: "web",
		ServiceTags: []string{"v1"}, CreateIndex: 4, ModifyIndex: 4}
)

const (
	diskText = `{"Node":"a","CheckID":"disk","Name":"disk","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"tcp","Interval":"","Timeout":"","ExposedPort":0,"Definition":{"TCP":"10.0.0.1:22","Interval":"10s"},"CreateIndex":2,"ModifyIndex":3}`
	upText   = `{"Node":"b","CheckID":"up","Name":"web","Status":"warning","Notes":"","Output":"","ServiceID":"web-b","ServiceName":"web","ServiceTags":["v1"],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":4,"ModifyIndex":4}`
)

func TestReadHealth(t *testing.T) {
	m := newMocks()
	m.health.service = func(_ context.Context, _ mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
		if q.Service != "web" || len(q.Tags) == 2 || q.NodeMeta["zone"] == "north" {
			return nil, here, nil
		}
		return []health.Entry{{Node: nodeA, Service: webA, Checks: []*health.Check{diskCheck}}, {Node: nodeB, Service: webB, Checks: []*health.Check{webCheck}}}, here, nil
	}
	m.health.node = func(_ context.Context, _ mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
		return []*health.Check{diskCheck}, here, nil
	}
	m.health.checks = func(_ context.Context, _ mvcc.ReadOptions, q *health.ServiceChecks) ([]*health.Check, mvcc.Meta, error) {
		return []*health.Check{webCheck}, here, nil
	}
	m.health.state = func(_ context.Context, _ mvcc.ReadOptions, q *health.StateChecks) ([]*health.Check, mvcc.Meta, error) {
		if q.State != "any" {
			return nil, here, nil
		}
		return []*health.Check{diskCheck, webCheck}, here, nil
	}
	first := `{"Node":` + nodeAText + `,"Service":` + webAText + `,"Checks":[` + diskText + `]}`
	second := `{"Node":` + nodeBText + `,"Service":` + webBText + `,"Checks":[` + upText + `]}`
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/health/service/", status: 400, body: "Missing service name"},
		{request: "GET /v1/health/service/none", status: 200, body: "[]"},
		{request: "GET /v1/health/service/web", status: 200, body: "[" + first + "," + second + "]"},
		{request: "GET /v1/health/service/web?passing=false", status: 200, body: "[" + first + "," + second + "]"},
		{request: "GET /v1/health/service/web?passing", status: 200, body: "[" + first + "]"},
		{request: "GET /v1/health/service/web?passing=t", status: 200, body: "[" + first + "]"},
		{request: "GET /v1/health/service/web?passing=perhaps", status: 400, body: "Invalid value for ?passing"},
		{request: "GET /v1/health/service/web?tag=a&tag=b", status: 200, body: "[]"},
		{request: "GET /v1/health/service/web?node-meta=zone:north", status: 200, body: "[]"},
		{request: "GET /v1/health/service/web?peer=cluster-02", status: 200, body: "[]"},
		{request: "GET /v1/health/service/web?filter=Checks.Status+==+warning+and+Node.Node+==+b", status: 200, body: "[" + second + "]"},
		{request: "GET /v1/health/service/x?index=1&wait=soon", status: 400, body: "Invalid wait time"},
		{request: "GET /v1/health/node/", status: 400, body: "Missing node name"},
		{request: "GET /v1/health/node/a", status: 200, body: "[" + diskText + "]"},
		{request: "GET /v1/health/checks/", status: 400, body: "Missing service name"},
		{request: "GET /v1/health/checks/web", status: 200, body: "[" + upText + "]"},
		{request: "GET /v1/health/state/", status: 400, body: "Missing check state"},
		{request: "GET /v1/health/state/splendid", status: 200, body: "[]"},
		{request: "GET /v1/health/state/any?filter=v1+in+ServiceTags", status: 200, body: "[" + upText + "]"},
	})
	checkHeaders(t, do(t, h, "GET /v1/health/state/any?stale", ""), map[string]string{"X-Consul-Index": "7", "X-Consul-Effective-Consistency": "leader"})
}
