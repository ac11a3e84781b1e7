package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

type mockOperator struct {
	raft     func(mvcc.ReadOptions) (RaftConfiguration, error)
	remove   func(dc string, p PeerName) error
	transfer func(dc, id string) error
	config   func(mvcc.ReadOptions) (AutopilotConfig, error)
	set      func(dc string, c AutopilotConfig, cas *uint64) (bool, error)
	health   func(mvcc.ReadOptions) (AutopilotHealth, error)
	state    func(mvcc.ReadOptions) (AutopilotState, error)
	usage    func(context.Context, mvcc.ReadOptions, bool) (map[string]Usage, mvcc.Meta, error)
}

func (m *mockOperator) RaftConfiguration(_ context.Context, o mvcc.ReadOptions) (RaftConfiguration, error) {
	return m.raft(o)
}
func (m *mockOperator) RemovePeer(_ context.Context, dc string, p PeerName) error {
	return m.remove(dc, p)
}
func (m *mockOperator) TransferLeader(_ context.Context, dc, id string) error {
	return m.transfer(dc, id)
}
func (m *mockOperator) AutopilotConfig(_ context.Context, o mvcc.ReadOptions) (AutopilotConfig, error) {
	return m.config(o)
}
func (m *mockOperator) SetAutopilot(_ context.Context, dc string, c AutopilotConfig, cas *uint64) (bool, error) {
	return m.set(dc, c, cas)
}
func (m *mockOperator) AutopilotHealth(_ context.Context, o mvcc.ReadOptions) (AutopilotHealth, error) {
	return m.health(o)
}
func (m *mockOperator) AutopilotState(_ context.Context, o mvcc.ReadOptions) (AutopilotState, error) {
	return m.state(o)
}
func (m *mockOperator) Usage(ctx context.Context, o mvcc.ReadOptions, global bool) (map[string]Usage, mvcc.Meta, error) {
	return m.usage(ctx, o, global)
}

var (
	noPath   = &mvcc.Error{Code: mvcc.NoPath, Text: "there is no datacenter of that name"}
	noLeader = &mvcc.Error{Code: mvcc.NoLeader, Text: "nobody leads"}
	unknown  = &mvcc.Error{Code: mvcc.Unknown, Text: "not known to me"}
)

func TestRaftConfiguration(t *testing.T) {
	m := newMocks()
	var asked []mvcc.ReadOptions
	m.operator.raft = func(o mvcc.ReadOptions) (RaftConfiguration, error) {
		asked = append(asked, o)
		if o.Datacenter != "" {
			return RaftConfiguration{}, noPath
		}
		if o.Mode == mvcc.Consistent {
			return RaftConfiguration{}, nil
		}
		return RaftConfiguration{Index: 9, Servers: []RaftServer{
			{ID: "a", Node: "n1", Address: "10.0.0.1:8300", Leader: true, Voter: true, LastIndex: 12},
			{ID: "b", Address: "10.0.0.2:8300", LastIndex: 11},
		}}, nil
	}
	h := m.handler(t)
	const both = `{"Servers":[` +
		`{"ID":"a","Node":"n1","Address":"10.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":12},` +
		`{"ID":"b","Node":"(unknown)","Address":"10.0.0.2:8300","Leader":false,"ProtocolVersion":"3","Voter":false,"LastIndex":11}],"Index":9}`
	run(t, h, []exchange{
		{request: "GET /v1/operator/raft/configuration", status: 200, body: both},
		{request: "GET /v1/operator/raft/configuration?stale&index=5&wait=1s", status: 200, body: both},
		{request: "GET /v1/operator/raft/configuration?consistent", status: 200, body: `{"Servers":[],"Index":0}`},
		{request: "GET /v1/operator/raft/configuration?dc=x", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/operator/raft/configuration?stale&consistent", status: 400, body: textStaleConsistent},
		{request: "PUT /v1/operator/raft/configuration", status: 405, body: "method PUT not allowed"},
	})
	want := []mvcc.ReadOptions{{}, {Mode: mvcc.Stale}, {Mode: mvcc.Consistent}, {Datacenter: "x"}}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	w := do(t, h, "GET /v1/operator/raft/configuration", "")
	for name := range w.Header() {
		if strings.HasPrefix(name, "X-Consul-") && name != "X-Consul-Default-Acl-Policy" {
			t.Errorf("the answer has the header %s", name)
		}
	}
}

func TestRemovePeer(t *testing.T) {
	m := newMocks()
	var got []string
	m.operator.remove = func(dc string, p PeerName) error {
		got = append(got, fmt.Sprintf("%s %+v", dc, p))
		switch {
		case dc == "dc9":
			return noPath
		case p.ID == "none" || p.Address == "10.0.0.9:1":
			return unknown
		case p.ID == "lost":
			return noLeader
		}
		return nil
	}
	run(t, m.handler(t), []exchange{
		{request: "DELETE /v1/operator/raft/peer?id=b", status: 200},
		{request: "DELETE /v1/operator/raft/peer?address=10.0.0.1:8300&dc=dc1", status: 200},
		{request: "DELETE /v1/operator/raft/peer?id=b&dc=dc9", status: 500, body: "No path to datacenter"},
		{request: "DELETE /v1/operator/raft/peer?id=none", status: 500, body: `id "none" was not found in the Raft configuration`},
		{request: "DELETE /v1/operator/raft/peer?address=10.0.0.9:1", status: 500, body: `address "10.0.0.9:1" was not found in the Raft configuration`},
		{request: "DELETE /v1/operator/raft/peer?id=lost", status: 500, body: "No cluster leader"},
		{request: "DELETE /v1/operator/raft/peer", status: 400, body: "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"},
		{request: "DELETE /v1/operator/raft/peer?id=&address=", status: 400, body: "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"},
		{request: "DELETE /v1/operator/raft/peer?id=b&address=x", status: 400, body: "Must specify only one of ?id or ?address"},
		{request: "GET /v1/operator/raft/peer?id=b", status: 405, body: "method GET not allowed"},
	})
	want := []string{" {ID:b Address:}", "dc1 {ID: Address:10.0.0.1:8300}", "dc9 {ID:b Address:}", " {ID:none Address:}",
		" {ID: Address:10.0.0.9:1}", " {ID:lost Address:}"}
	if strings.Join(got, ";") != strings.Join(want, ";") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTransferLeader(t *testing.T) {
	m := newMocks()
	alone := false
	m.operator.transfer = func(_, id string) error {
		if id == "zz" || alone {
			return unknown
		}
		if id == "slow" {
			return &mvcc.Error{Code: mvcc.Timeout, Text: "the follower did not catch up"}
		}
		return nil
	}
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "POST /v1/operator/raft/transfer-leader", status: 200, body: `{"Success":true}`},
		{request: "POST /v1/operator/raft/transfer-leader?id=b", status: 200, body: `{"Success":true}`},
		{request: "POST /v1/operator/raft/transfer-leader?id=zz", status: 500, body: "Could not find address for server id zz"},
		{request: "POST /v1/operator/raft/transfer-leader?id=slow", status: 500, body: "the follower did not catch up"},
		{request: "PUT /v1/operator/raft/transfer-leader", status: 405, body: "method PUT not allowed"},
	})
	alone = true
	run(t, h, []exchange{{request: "POST /v1/operator/raft/transfer-leader", status: 500, body: "cannot find peer"}})
}

func TestAutopilotConfiguration(t *testing.T) {
	m := newMocks()
	m.operator.config = func(o mvcc.ReadOptions) (AutopilotConfig, error) {
		c := DefaultAutopilot()
		c.CreateIndex, c.ModifyIndex = 4, 6
		if o.Datacenter == "x" {
			return c, noPath
		}
		return c, nil
	}
	var got []string
	m.operator.set = func(dc string, c AutopilotConfig, cas *uint64) (bool, error) {
		text := fmt.Sprintf("%s %v", dc, c)
		if cas == nil {
			got = append(got, text)
			return true, nil
		}
		got = append(got, fmt.Sprintf("%s if %d", text, *cas))
		return *cas == 6, nil
	}
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/operator/autopilot/configuration", status: 200, body: `{"CleanupDeadServers":true,"LastContactThreshold":"200ms",` +
			`"MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s","RedundancyZoneTag":"","DisableUpgradeMigration":false,` +
			`"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":6}`},
		{request: "GET /v1/operator/autopilot/configuration?dc=x", status: 500, body: "No path to datacenter"},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"CleanupDeadServers":false,"LastContactThreshold":null,"ModifyIndex":3}`, status: 200, body: "true"},
		{request: "PUT /v1/operator/autopilot/configuration?cas=6", send: `{"lastContactThreshold":"1s","MaxTrailingLogs":7,"MinQuorum":3,` +
			`"ServerStabilizationTime":5000000000,"RedundancyZoneTag":"z","DisableUpgradeMigration":true,"UpgradeVersionTag":"u"}`, status: 200, body: "true"},
		{request: "PUT /v1/operator/autopilot/configuration?cas=0&dc=dc1", send: `{}`, status: 200, body: "false"},
		{request: "PUT /v1/operator/autopilot/configuration?cas=x", send: `{}`, status: 400, body: `Error parsing cas value: "x" is not an index`},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"What":1}`, status: 400, body: `Request decode failed: json: unknown field "What"`},
		{request: "PUT /v1/operator/autopilot/configuration", status: 400, body: "Request decode failed: EOF"},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"LastContactThreshold":"soon"}`, status: 400, body: `Request decode failed: time: invalid duration "soon"`},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"MinQuorum":-1}`, status: 400,
			body: `Request decode failed: json: cannot unmarshal number -1 into Go struct field autopilotConfig.MinQuorum of type uint`},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"MinQuorum":1001}`, status: 400, body: "MinQuorum must be at most 1000, and is 1001"},
		{request: "PUT /v1/operator/autopilot/configuration", send: `{"ServerStabilizationTime":"-1s"}`, status: 400, body: "ServerStabilizationTime must not be negative, and is -1s"},
	})
	want := []string{
		" {false 200ms 250 0 10s  false  0 0}",
		" {true 1s 7 3 5s z true u 0 0} if 6",
		"dc1 {true 200ms 250 0 10s  false  0 0} if 0",
	}
	if strings.Join(got, ";") != strings.Join(want, ";") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// pair is two servers, of which the second is not well.
func pair() []ServerHealth {
	since := time.Date(2024, 5, 6, 7, 8, 9, 0, time.FixedZone("east", 3600))
	return []ServerHealth{
		{ID: "a", Name: "n1", Address: "10.0.0.1:8300", Status: "alive", Version: "1.21.4", Leader: true, Voter: true, Healthy: true,
			LastTerm: 2, LastIndex: 10, StableSince: since, Meta: map[string]string{"rack": "r1"}},
		{ID: "b", Name: "n2", Address: "10.0.0.2:8300", Status: "failed", Version: "1.21.4", LastContact: 1500 * time.Millisecond,
			LastTerm: 1, LastIndex: 9, StableSince: since},
	}
}

func TestAutopilotHealth(t *testing.T) {
	m := newMocks()
	servers := pair()
	m.operator.health = func(mvcc.ReadOptions) (AutopilotHealth, error) {
		return AutopilotHealth{Healthy: len(servers) == 1, FailureTolerance: len(servers) - 1, Servers: servers}, nil
	}
	const first = `{"ID":"a","Name":"n1","Address":"10.0.0.1:8300","SerfStatus":"alive","Version":"1.21.4","Leader":true,"LastContact":"0s",` +
		`"LastTerm":2,"LastIndex":10,"Healthy":true,"Voter":true,"StableSince":"2024-05-06T06:08:09Z"}`
	const second = `{"ID":"b","Name":"n2","Address":"10.0.0.2:8300","SerfStatus":"failed","Version":"1.21.4","Leader":false,"LastContact":"1.5s",` +
		`"LastTerm":1,"LastIndex":9,"Healthy":false,"Voter":false,"StableSince":"2024-05-06T06:08:09Z"}`
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "GET /v1/operator/autopilot/health", status: 429, body: `{"Healthy":false,"FailureTolerance":1,"Servers":[` + first + "," + second + "]}"},
		{request: "PUT /v1/operator/autopilot/health", status: 405, body: "method PUT not allowed"},
	})
	servers = servers[:1]
	run(t, h, []exchange{
		{request: "GET /v1/operator/autopilot/health", status: 200, body: `{"Healthy":true,"FailureTolerance":0,"Servers":[` + first + "]}"},
	})
	m.operator.health = func(mvcc.ReadOptions) (AutopilotHealth, error) { return AutopilotHealth{}, noLeader }
	run(t, h, []exchange{{request: "GET /v1/operator/autopilot/health", status: 500, body: "No cluster leader"}})
}

func TestAutopilotState(t *testing.T) {
	m := newMocks()
	m.operator.state = func(mvcc.ReadOptions) (AutopilotState, error) {
		servers := append(pair(), ServerHealth{ID: "c", Voter: true})
		return AutopilotState{AutopilotHealth: AutopilotHealth{FailureTolerance: 1, Servers: servers}, OptimisticFailureTolerance: 2}, nil
	}
	h := m.handler(t)
	run(t, h, []exchange{{request: "GET /v1/operator/autopilot/state", status: 200, body: `{"Healthy":false,"FailureTolerance":1,"OptimisticFailureTolerance":2,"Servers":{` +
		`"a":{"ID":"a","Name":"n1","Address":"10.0.0.1:8300","NodeStatus":"alive","Version":"1.21.4","LastContact":"0s","LastTerm":2,"LastIndex":10,` +
		`"Healthy":true,"StableSince":"2024-05-06T06:08:09Z","ReadReplica":false,"Status":"leader","Meta":{"rack":"r1"},"NodeType":"voter"},` +
		`"b":{"ID":"b","Name":"n2","Address":"10.0.0.2:8300","NodeStatus":"failed","Version":"1.21.4","LastContact":"1.5s","LastTerm":1,"LastIndex":9,` +
		`"Healthy":false,"StableSince":"2024-05-06T06:08:09Z","ReadReplica":false,"Status":"non-voter","Meta":{},"NodeType":"voter"},` +
		`"c":{"ID":"c","Name":"","Address":"","NodeStatus":"","Version":"","LastContact":"0s","LastTerm":0,"LastIndex":0,` +
		`"Healthy":false,"StableSince":"0001-01-01T00:00:00Z","ReadReplica":false,"Status":"voter","Meta":{},"NodeType":"voter"}},` +
		`"Leader":"a","Voters":["a","c"]}`}})
	m.operator.state = func(mvcc.ReadOptions) (AutopilotState, error) { return AutopilotState{}, nil }
	run(t, h, []exchange{{request: "GET /v1/operator/autopilot/state", status: 200,
		body: `{"Healthy":false,"FailureTolerance":0,"OptimisticFailureTolerance":0,"Servers":{},"Leader":"","Voters":[]}`}})
}

func TestUsage(t *testing.T) {
	m := newMocks()
	var asked []string
	m.operator.usage = func(ctx context.Context, o mvcc.ReadOptions, global bool) (map[string]Usage, mvcc.Meta, error) {
		asked = append(asked, fmt.Sprintf("%v %v %v", o.Mode, o.Index, global))
		meta := mvcc.Meta{Index: 31, Mode: o.Mode, LastContact: 12 * time.Millisecond}
		return map[string]Usage{"dc1": {Nodes: 2, Services: 4, Instances: 5, Billable: 3, Connect: map[string]int{"connect-native": 1}}}, meta, nil
	}
	h := m.handler(t)
	const counted = `{"Usage":{"dc1":{"Nodes":2,"Services":4,"ServiceInstances":5,"ConnectServiceInstances":{"api-gateway":0,"connect-native":1,` +
		`"connect-proxy":0,"ingress-gateway":0,"mesh-gateway":0,"terminating-gateway":0},"BillableServiceInstances":3}},` +
		`"Index":31,"LastContact":12000000,"KnownLeader":false,"ConsistencyLevel":"%s","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`
	run(t, h, []exchange{
		{request: "GET /v1/operator/usage?stale", status: 200, body: fmt.Sprintf(counted, "stale")},
		{request: "GET /v1/operator/usage?global&index=30&consistent", status: 200, body: fmt.Sprintf(counted, "consistent")},
		{request: "GET /v1/operator/usage?index=x", status: 400, body: "Invalid index"},
	})
	if got, want := strings.Join(asked, ";"), "stale 0 false;consistent 30 true"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
	header := do(t, h, "GET /v1/operator/usage?stale", "").Header()
	for name, want := range map[string]string{"X-Consul-Index": "31", "X-Consul-Knownleader": "false", "X-Consul-Lastcontact": "12", "X-Consul-Effective-Consistency": "stale"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// Without these parts the endpoints are known, and say that they are not there.
func TestOperatorMissing(t *testing.T) {
	m := newMocks()
	h := m.handler(t)
	h.Operator, h.Snapshots = nil, nil
	run(t, h, []exchange{
		{request: "GET /v1/operator/usage", status: 501, body: "GET /v1/operator/usage is not implemented in this version of Muster"},
		{request: "PUT /v1/snapshot", status: 501, body: "PUT /v1/snapshot is not implemented in this version of Muster"},
	})
}
