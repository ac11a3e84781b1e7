package main

import (
	"strings"
	"testing"
)

// Members as an agent tells them, deliberately out of order.
const membersAnswer = `[
 {"Name":"web-2","Addr":"10.0.0.5","Port":8301,"Tags":{"role":"node","dc":"dc1","build":"1.21.4:abcd","vsn":"2"},"Status":4},
 {"Name":"srv-2","Addr":"10.0.0.2","Port":8301,"Tags":{"role":"consul","dc":"dc1","build":"1.21.4:abcd","vsn":"2","segment":""},"Status":1},
 {"Name":"alien","Addr":"10.0.0.9","Port":8301,"Tags":null,"Status":0},
 {"Name":"srv-1","Addr":"fd00::1","Port":8301,"Tags":{"role":"consul","dc":"dc1","build":"1.21.4","vsn":"2"},"Status":1},
 {"Name":"web-1","Addr":"10.0.0.4","Port":8301,"Tags":{"role":"node","dc":"dc1","build":"1.21.4:abcd","vsn":"2"},"Status":3}
]`

const nodesAnswer = `[
 {"ID":"0f2a3c4d-0000-4000-8000-000000000001","Node":"srv-1","Address":"10.0.0.1","Datacenter":"dc1",
  "TaggedAddresses":{"wan":"10.0.0.1","lan":"10.0.0.1"},"Meta":{"rack":"r1","consul-version":"1.21.4"}},
 {"ID":"","Node":"external","Address":"192.0.2.1","Datacenter":"dc1","TaggedAddresses":null,"Meta":null}
]`

func TestLists(t *testing.T) {
	members := map[string]answer{"GET /v1/agent/members?segment=_all": {body: membersAnswer}}
	nodes := map[string]answer{"GET /v1/catalog/nodes": {body: nodesAnswer}}
	for _, test := range []struct {
		name    string
		line    string
		words   int // of the command, before its flags
		stdin   string
		answers map[string]answer
		want    expectation
	}{
		{name: "members", line: "members", words: 1, answers: members, want: expectation{out: lines(
			"Node   Address         Status  Type     Build   Protocol  DC   Partition  Segment",
			"srv-1  [fd00::1]:8301  alive   server   1.21.4  2         dc1  default    <all>",
			"srv-2  10.0.0.2:8301   alive   server   1.21.4  2         dc1  default    <all>",
			"web-1  10.0.0.4:8301   left    client   1.21.4  2         dc1  default    <default>",
			"web-2  10.0.0.5:8301   failed  client   1.21.4  2         dc1  default    <default>",
			"alien  10.0.0.9:8301   none    unknown",
		)}},
		{name: "members in detail", line: "members -detailed -status=^(alive|failed)$", words: 1, answers: members, want: expectation{out: lines(
			"Node   Address         Status  Tags",
			"srv-1  [fd00::1]:8301  alive   ap=default,build=1.21.4,dc=dc1,role=consul,segment=<all>,vsn=2",
			"srv-2  10.0.0.2:8301   alive   ap=default,build=1.21.4:abcd,dc=dc1,role=consul,segment=<all>,vsn=2",
			"web-2  10.0.0.5:8301   failed  ap=default,build=1.21.4:abcd,dc=dc1,role=node,segment=<default>,vsn=2",
		)}},
		{name: "no member of that status", line: "members -status=leaving", words: 1, answers: members, want: expectation{code: 2}},
		{name: "status that is no expression", line: "members -status=(", words: 1, answers: members,
			want: expectation{err: "not a regular expression", code: 1}},
		{name: "members of the other datacenters, filtered", line: "members -wan -filter=x", words: 1,
			answers: map[string]answer{"GET /v1/agent/members?filter=x&segment=&wan=1": {body: "[]"}}, want: expectation{code: 2}},
		{name: "members without a right", line: "members", words: 1,
			answers: map[string]answer{"GET /v1/agent/members?segment=_all": {status: 403, body: "Permission denied"}},
			want:    expectation{err: "Permission denied", code: 1}},

		{name: "datacenters", line: "catalog datacenters", words: 2,
			answers: map[string]answer{"GET /v1/catalog/datacenters": {body: `["dc1","dc2"]`}},
			want:    expectation{out: lines("dc1", "dc2")}},
		{name: "nodes", line: "catalog nodes", words: 2, answers: nodes, want: expectation{out: lines(
			"Node      ID        Address    DC",
			"srv-1     0f2a3c4d  10.0.0.1   dc1",
			"external            192.0.2.1  dc1",
		)}},
		{name: "nodes in detail", line: "catalog nodes -detailed", words: 2, answers: nodes, want: expectation{out: lines(
			"Node      ID                                    Address    DC   TaggedAddresses             Meta",
			"srv-1     0f2a3c4d-0000-4000-8000-000000000001  10.0.0.1   dc1  lan=10.0.0.1, wan=10.0.0.1  consul-version=1.21.4, rack=r1",
			"external                                        192.0.2.1  dc1",
		)}},
		{name: "no nodes", line: "catalog nodes -node-meta=rack=r9 -near=_agent -filter=-", words: 2, stdin: "Node == x",
			answers: map[string]answer{"GET /v1/catalog/nodes?filter=Node+%3D%3D+x&near=_agent&node-meta=rack%3Ar9": {body: "[]"}},
			want:    expectation{err: "No node matches."}},
		{name: "nodes of a service, each once", line: "catalog nodes -service=web", words: 2,
			answers: map[string]answer{"GET /v1/catalog/service/web": {body: `[
			  {"ID":"aa-bb","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","ServiceID":"w1"},
			  {"ID":"aa-bb","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","ServiceID":"w2"}]`}},
			want: expectation{out: lines("Node  ID  Address   DC", "n1    aa  10.0.0.1  dc1")}},
		{name: "node metadata that is no pair", line: "catalog nodes -node-meta=rack", words: 2,
			want: expectation{err: `"rack" is not of the form key=value`, code: 1}},

		{name: "services", line: "catalog services", words: 2,
			answers: map[string]answer{"GET /v1/catalog/services": {body: `{"web":["v2","v1"],"consul":[]}`}},
			want:    expectation{out: lines("consul", "web")}},
		{name: "services with tags", line: "catalog services -tags", words: 2,
			answers: map[string]answer{"GET /v1/catalog/services": {body: `{"web":["v2","v1"],"consul":[]}`}},
			want:    expectation{out: lines("consul", "web         v1,v2")}},
		{name: "services of a node", line: "catalog services -node=n1 -tags", words: 2,
			answers: map[string]answer{"GET /v1/catalog/node/n1": {body: `{"Node":{"Node":"n1"},"Services":{
			  "w1":{"ID":"w1","Service":"web","Tags":["v1","x"]},"w2":{"ID":"w2","Service":"web","Tags":["v1"]}}}`}},
			want: expectation{out: lines("web      v1,x")}},
		{name: "services of a missing node", line: "catalog services -node=n1", words: 2,
			answers: map[string]answer{"GET /v1/catalog/node/n1": {body: "null"}},
			want:    expectation{err: "No service matches."}},

		{name: "health with a leader", line: "health", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {body: "{}"}, "GET /v1/status/leader": {body: `"10.0.0.1:8300"`}},
			want:    expectation{out: lines("The agent answers. The leader is 10.0.0.1:8300.")}},
		{name: "health without a leader", line: "health", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {body: "{}"}, "GET /v1/status/leader": {body: `""`}},
			want:    expectation{out: lines("The agent answers. It knows no leader.")}},
		{name: "health that needs a leader", line: "health -leader", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {body: "{}"}, "GET /v1/status/leader": {body: `""`}},
			want:    expectation{err: "knows no leader", code: 1}},
		{name: "health without a server", line: "health", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {body: "{}"}, "GET /v1/status/leader": {status: 500, body: "No known Consul servers"}},
			want:    expectation{out: lines("The agent answers. It cannot say who leads: Unexpected response code: 500 (No known Consul servers)")}},
		{name: "health that needs a leader, without a server", line: "health -leader", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {body: "{}"}, "GET /v1/status/leader": {status: 500, body: "No known Consul servers"}},
			want:    expectation{err: "is not healthy: Unexpected response code: 500 (No known Consul servers)", code: 1}},
		{name: "health of an agent in trouble", line: "health", words: 1,
			answers: map[string]answer{"GET /v1/agent/version": {status: 500, body: "disk"}},
			want:    expectation{err: "is not healthy", code: 1}},
		{name: "nodes without a server", line: "catalog nodes", words: 2,
			answers: map[string]answer{"GET /v1/catalog/nodes": {status: 500, body: "No known Consul servers"}},
			want:    expectation{err: noServersAdvice, code: 1}},
		{name: "health without time", line: "health -timeout=0s", words: 1,
			want: expectation{err: "must be above zero, not 0s", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, test.answers)
			runLine(test.stdin, connectTo(stub, test.words, strings.Fields(test.line))...).check(t, test.want)
		})
	}
}

// lines joins the lines of an expected output.
func lines(texts ...string) string { return strings.Join(texts, "\n") + "\n" }
