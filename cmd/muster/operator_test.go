package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

const raftAnswer = `{"Index":5,"Servers":[
 {"ID":"aaaa","Node":"srv-1","Address":"10.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":100},
 {"ID":"bb","Node":"srv-2","Address":"10.0.0.2:8300","ProtocolVersion":"3","Voter":true,"LastIndex":99},
 {"ID":"c","Node":"(unknown)","Address":"10.0.0.3:8300","ProtocolVersion":"3","LastIndex":0},
 {"ID":"d","Node":"srv-4","Address":"10.0.0.4:8300","ProtocolVersion":"3","Voter":true,"LastIndex":101}]}`

func TestRaftCommands(t *testing.T) {
	runCommandCases(t, []commandCase{
		{name: "servers", line: "operator raft list-peers", words: 3, answers: map[string]answer{"GET /v1/operator/raft/configuration": {body: raftAnswer}},
			want: expectation{out: lines(
				"Node       ID    Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By",
				"srv-1      aaaa  10.0.0.1:8300  leader    true   3             100           -",
				"srv-2      bb    10.0.0.2:8300  follower  true   3             99            1 commit",
				"(unknown)  c     10.0.0.3:8300  follower  false  3             0             100 commits",
				"srv-4      d     10.0.0.4:8300  follower  true   3             101           0 commits",
			)}},
		{name: "servers without a leader", line: "operator raft list-peers -stale -datacenter=dc2", words: 3,
			answers: map[string]answer{"GET /v1/operator/raft/configuration?dc=dc2&stale=": {body: strings.Replace(raftAnswer, `"Leader":true`, `"Leader":false`, 1)}},
			want: expectation{out: lines(
				"Node       ID    Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By",
				"srv-1      aaaa  10.0.0.1:8300  follower  true   3             100           unknown",
				"srv-2      bb    10.0.0.2:8300  follower  true   3             99            unknown",
				"(unknown)  c     10.0.0.3:8300  follower  false  3             0             unknown",
				"srv-4      d     10.0.0.4:8300  follower  true   3             101           unknown",
			)}},
		{name: "servers as a follower knows them", line: "operator raft list-peers -stale", words: 3,
			answers: map[string]answer{"GET /v1/operator/raft/configuration?stale=": {body: strings.Replace(raftAnswer, `"LastIndex":100`, `"LastIndex":0`, 1)}},
			want: expectation{out: lines(
				"Node       ID    Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By",
				"srv-1      aaaa  10.0.0.1:8300  leader    true   3             0             -",
				"srv-2      bb    10.0.0.2:8300  follower  true   3             99            unknown",
				"(unknown)  c     10.0.0.3:8300  follower  false  3             0             unknown",
				"srv-4      d     10.0.0.4:8300  follower  true   3             101           unknown",
			)}},
		{name: "servers of which some do not run", line: "operator raft list-peers -stale", words: 3,
			answers: map[string]answer{
				"GET /v1/operator/raft/configuration?stale=": {body: `{"Servers":[{"ID":"a","Node":"srv-1","Address":"10.0.0.1:8300","ProtocolVersion":"3","Voter":true},
 {"ID":"b","Node":"srv-2","Address":"10.0.0.2:8300","ProtocolVersion":"3","Voter":true},{"ID":"c","Node":"(unknown)","Address":"10.0.0.3:8300","ProtocolVersion":"3"}]}`},
				"GET /v1/agent/members": {body: `[{"Name":"srv-1","Tags":{"id":"a"},"Status":1},{"Name":"srv-2","Tags":{"id":"b"},"Status":4},{"Name":"web","Tags":{"id":"w"},"Status":4}]`}},
			want: expectation{err: "Warning: as the agent that was asked sees it, these do not run: srv-2 (failed), c (no member)\n", out: lines(
				"Node       ID  Address        State     Voter  RaftProtocol  Commit Index  Trails Leader By",
				"srv-1      a   10.0.0.1:8300  follower  true   3             0             unknown",
				"srv-2      b   10.0.0.2:8300  follower  true   3             0             unknown",
				"(unknown)  c   10.0.0.3:8300  follower  false  3             0             unknown",
			)}},
		{name: "what to do without a leader", line: "operator raft list-peers", words: 3,
			answers: map[string]answer{"GET /v1/operator/raft/configuration": {status: 500, body: "No cluster leader"}},
			want:    expectation{err: `"muster operator raft list-peers -stale" shows whose`, code: 1}},
		{name: "what to do without any server", line: "operator raft list-peers -stale", words: 3,
			answers: map[string]answer{"GET /v1/operator/raft/configuration?stale=": {status: 500, body: "No cluster leader"}},
			want:    expectation{err: "(No cluster leader)\n" + noServerAnswersAdvice, code: 1}},
		{name: "servers that nobody tells", line: "operator raft list-peers", words: 3,
			answers: map[string]answer{"GET /v1/operator/raft/configuration": {status: 500, body: "No cluster leader"}},
			want:    expectation{err: "cannot list the servers: Unexpected response code: 500 (No cluster leader)", code: 1}},

		{name: "remove by address", line: "operator raft remove-peer -address=10.0.0.3:8300", words: 3,
			answers: map[string]answer{"DELETE /v1/operator/raft/peer?address=10.0.0.3%3A8300": {}},
			want:    expectation{out: "Removed peer with address \"10.0.0.3:8300\"\n"}},
		{name: "remove by ID", line: "operator raft remove-peer -id=c", words: 3,
			answers: map[string]answer{"DELETE /v1/operator/raft/peer?id=c": {}},
			want:    expectation{out: "Removed peer with id \"c\"\n"}},
		{name: "remove a stranger", line: "operator raft remove-peer -id=x", words: 3,
			answers: map[string]answer{"DELETE /v1/operator/raft/peer?id=x": {status: 500, body: `id "x" was not found in the Raft configuration`}},
			want:    expectation{err: `cannot remove the server with id "x": Unexpected response code: 500 (id "x" was not found`, code: 1}},
		{name: "remove nobody", line: "operator raft remove-peer", words: 3, asked: []string{}, want: expectation{err: "exactly one of -id and -address", code: 1}},
		{name: "remove by both", line: "operator raft remove-peer -id=c -address=x", words: 3, asked: []string{}, want: expectation{err: "exactly one of -id and -address", code: 1}},

		{name: "hand over", line: "operator raft transfer-leader", words: 3,
			answers: map[string]answer{"POST /v1/operator/raft/transfer-leader": {body: `{"Success":true}`}}, want: expectation{out: "Success\n"}},
		{name: "hand over to one", line: "operator raft transfer-leader -id=bb", words: 3,
			answers: map[string]answer{"POST /v1/operator/raft/transfer-leader?id=bb": {body: `{"Success":true}`}}, want: expectation{out: "Success\n"}},
		{name: "hand over to a stranger", line: "operator raft transfer-leader -id=x", words: 3,
			answers: map[string]answer{"POST /v1/operator/raft/transfer-leader?id=x": {status: 500, body: "Could not find address for server id x"},
				"GET /v1/operator/raft/configuration": {body: raftAnswer}},
			want: expectation{err: "Could not find address for server id x). The servers with a vote are aaaa (srv-1), bb (srv-2), d (srv-4)", code: 1}},
		{name: "hand over in vain", line: "operator raft transfer-leader", words: 3,
			answers: map[string]answer{"POST /v1/operator/raft/transfer-leader": {body: `{"Success":false}`}}, want: expectation{err: "cannot hand over: the leader did not", code: 1}},
		{name: "hand over to nobody", line: "operator raft transfer-leader", words: 3,
			answers: map[string]answer{"POST /v1/operator/raft/transfer-leader": {status: 500, body: "cannot find peer"}}, want: expectation{err: "(cannot find peer)", code: 1}},
	})
}

const (
	autopilotAnswer = `{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,
 "ServerStabilizationTime":"10s","RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":6}`
	autopilotState = `{"Healthy":false,"FailureTolerance":1,"OptimisticFailureTolerance":2,"Leader":"a","Voters":["a"],"Servers":{
 "b":{"ID":"b","Name":"n2","Address":"10.0.0.2:8300","NodeStatus":"failed","Version":"1.21.4","LastContact":"1.5s","LastTerm":1,"LastIndex":9,
  "Healthy":false,"StableSince":"2024-05-06T06:08:09Z","ReadReplica":false,"Status":"non-voter","Meta":{},"NodeType":"voter"},
 "a":{"ID":"a","Name":"n1","Address":"10.0.0.1:8300","NodeStatus":"alive","Version":"1.21.4","LastContact":"0s","LastTerm":2,"LastIndex":10,
  "Healthy":true,"StableSince":"2024-05-06T06:08:09Z","ReadReplica":false,"Status":"leader","Meta":{"rack":"r1","a":"b"},"NodeType":"voter"}}}`
)

func TestAutopilotCommands(t *testing.T) {
	read := map[string]answer{"GET /v1/operator/autopilot/configuration": {body: autopilotAnswer}}
	runCommandCases(t, []commandCase{
		{name: "configuration", line: "operator autopilot get-config", words: 3, answers: read, want: expectation{out: lines(
			"CleanupDeadServers = true", "LastContactThreshold = 200ms", "MaxTrailingLogs = 250", "MinQuorum = 0", "ServerStabilizationTime = 10s",
			`RedundancyZoneTag = ""`, "DisableUpgradeMigration = false", `UpgradeVersionTag = ""`)}},
		{name: "change of nothing", line: "operator autopilot set-config", words: 3, answers: read,
			want: expectation{err: "nothing to change", code: 1}},
		{name: "change to a negative time", line: "operator autopilot set-config -last-contact-threshold=-1s", words: 3, asked: []string{},
			want: expectation{err: "must not be negative", code: 1}},
		{name: "change that another one came before", line: "operator autopilot set-config -min-quorum=3", words: 3,
			answers: map[string]answer{"GET /v1/operator/autopilot/configuration": {body: autopilotAnswer}, "PUT /v1/operator/autopilot/configuration?cas=6": {body: "false"}},
			want:    expectation{err: "somebody else changed it", code: 1}},
		{name: "state", line: "operator autopilot state", words: 3, answers: map[string]answer{"GET /v1/operator/autopilot/state": {body: autopilotState}},
			want: expectation{out: lines(
				"Healthy:                      false",
				"Failure Tolerance:            1",
				"Optimistic Failure Tolerance: 2",
				"Leader:                       a",
				"Voters:",
				"   a",
				"Servers:",
				"   a",
				"      Name:            n1",
				"      Address:         10.0.0.1:8300",
				"      Version:         1.21.4",
				"      Status:          leader",
				"      Node Type:       voter",
				"      Node Status:     alive",
				"      Healthy:         true",
				"      Last Contact:    0s",
				"      Last Term:       2",
				"      Last Index:      10",
				"      Meta",
				`         "a": "b"`,
				`         "rack": "r1"`,
				"   b",
				"      Name:            n2",
				"      Address:         10.0.0.2:8300",
				"      Version:         1.21.4",
				"      Status:          non-voter",
				"      Node Type:       voter",
				"      Node Status:     failed",
				"      Healthy:         false",
				"      Last Contact:    1.5s",
				"      Last Term:       1",
				"      Last Index:      9",
			)}},
		{name: "state in an unknown form", line: "operator autopilot state -format=xml", words: 3, asked: []string{}, want: expectation{err: `not "xml"`, code: 1}},
	})
}

// Only what is given changes, and only if nobody else changed anything.
func TestAutopilotSetConfig(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{
		"GET /v1/operator/autopilot/configuration":       {body: autopilotAnswer},
		"PUT /v1/operator/autopilot/configuration?cas=6": {body: "true"},
	})
	for _, test := range []struct{ flags, want string }{
		{"-cleanup-dead-servers=false", `{"CleanupDeadServers":false,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s",` +
			`"RedundancyZoneTag":"","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":6}`},
		{"-last-contact-threshold=1s -max-trailing-logs=7 -min-quorum=3 -server-stabilization-time=5s -redundancy-zone-tag=z -disable-upgrade-migration -upgrade-version-tag=u",
			`{"CleanupDeadServers":true,"LastContactThreshold":"1s","MaxTrailingLogs":7,"MinQuorum":3,"ServerStabilizationTime":"5s",` +
				`"RedundancyZoneTag":"z","DisableUpgradeMigration":true,"UpgradeVersionTag":"u","CreateIndex":4,"ModifyIndex":6}`},
	} {
		line := append([]string{"operator", "autopilot", "set-config"}, strings.Fields(test.flags)...)
		runLine("", connectTo(stub, 3, line)...).check(t, expectation{out: "Configuration updated!\n"})
		if got := strings.TrimSpace(stub.last(t).body); got != test.want {
			t.Errorf("%s: sent\n%s, want\n%s", test.flags, got, test.want)
		}
	}
}

// A number of voters that there are not is set, and not without a word.
func TestAutopilotSetMinQuorum(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{
		"GET /v1/operator/autopilot/configuration":       {body: autopilotAnswer},
		"PUT /v1/operator/autopilot/configuration?cas=6": {body: "true"},
		"GET /v1/operator/raft/configuration?stale=":     {body: raftAnswer},
	})
	voters := strings.Count(raftAnswer, `"Voter":true`)
	for least, want := range map[int]string{
		voters:     "",
		voters + 1: fmt.Sprintf("Warning: -min-quorum=%d is more than the servers that vote, %d: none of those that fails is removed until there are more\n", voters+1, voters),
	} {
		line := []string{"operator", "autopilot", "set-config", fmt.Sprintf("-min-quorum=%d", least)}
		runLine("", connectTo(stub, 3, line)...).check(t, expectation{out: "Configuration updated!\n", err: want})
	}
	runLine("", connectTo(stub, 3, []string{"operator", "autopilot", "set-config", "-min-quorum=-1"})...).check(t, expectation{err: "min-quorum", code: 1})
}

func TestAutopilotStateAsJSON(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{"GET /v1/operator/autopilot/state": {body: autopilotState}})
	got := runLine("", "operator", "autopilot", "state", "-format=json", "-http-addr="+stub.address())
	state := decodeJSON[api.AutopilotState](t, got.out)
	if got.code != 0 || state.Leader != "a" || state.Servers["b"].LastContact.String() != "1.5s" {
		t.Errorf("exit code %d, %s%s", got.code, got.out, got.err)
	}
}

func TestUsageCommand(t *testing.T) {
	const one = `{"Services":4,"ServiceInstances":5,"BillableServiceInstances":3,"Nodes":2,"ConnectServiceInstances":{"connect-proxy":1,"connect-native":0}}`
	here := map[string]answer{"GET /v1/operator/usage": {body: `{"Usage":{"dc1":` + one + `},"Index":7}`}}
	everywhere := map[string]answer{"GET /v1/operator/usage?global=": {body: `{"Usage":{"dc2":` + one + `,"dc1":` + one + `}}`}}
	runCommandCases(t, []commandCase{
		{name: "here", line: "operator usage instances", words: 3, answers: here, want: expectation{out: lines(
			"Billable Service Instances Total: 3",
			"Services    Service instances",
			"4           3",
			"",
			"Connect Service Instances Total: 1",
			"Type              Service instances",
			"connect-native    0",
			"connect-proxy     1",
		)}},
		{name: "everywhere, billable", line: "operator usage instances -all-datacenters -billable", words: 3, answers: everywhere, want: expectation{out: lines(
			"Billable Service Instances Total: 6",
			"Datacenter    Services    Service instances",
			"dc1           4           3",
			"dc2           4           3",
			"",
			"Total         8           6",
		)}},
		{name: "everywhere, of a mesh", line: "operator usage instances -all-datacenters -connect", words: 3, answers: everywhere, want: expectation{out: lines(
			"Connect Service Instances Total: 2",
			"Datacenter    Type              Service instances",
			"dc1           connect-native    0",
			"dc1           connect-proxy     1",
			"dc2           connect-native    0",
			"dc2           connect-proxy     1",
			"",
			"Total                           2",
		)}},
		{name: "without a right", line: "operator usage instances", words: 3,
			answers: map[string]answer{"GET /v1/operator/usage": {status: 403, body: "Permission denied"}}, want: expectation{err: "(Permission denied)", code: 1}},
		{name: "everywhere, unreadable", line: "operator usage instances -all-datacenters", words: 3,
			answers: map[string]answer{"GET /v1/operator/usage?global=": {body: "?"}}, want: expectation{err: "the answer cannot be read", code: 1}},
	})
}
