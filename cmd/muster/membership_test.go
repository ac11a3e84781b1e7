package main

import (
	"slices"
	"strings"
	"testing"
)

// commandCase is a command line against an agent that answers from a table.
type commandCase struct {
	name    string
	line    string
	words   int // of the command, before its flags
	answers map[string]answer
	asked   []string // what the agent was asked; nil does not look
	want    expectation
}

func runCommandCases(t *testing.T, cases []commandCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, test.answers)
			runLine("", connectTo(stub, test.words, strings.Fields(test.line))...).check(t, test.want)
			if got := stub.lines(); test.asked != nil && !slices.Equal(got, test.asked) {
				t.Errorf("the agent was asked %q, want %q", got, test.asked)
			}
		})
	}
}

func TestMembershipCommands(t *testing.T) {
	const refused = "1 error occurred:\n\t* Failed to join 10.0.0.9: connection refused\n\n"
	runCommandCases(t, []commandCase{
		{name: "join", line: "join 10.0.0.1 [fd00::1]:8301", words: 1,
			answers: map[string]answer{"PUT /v1/agent/join/10.0.0.1": {}, "PUT /v1/agent/join/%5Bfd00::1%5D:8301": {}},
			want:    expectation{out: "Successfully joined cluster by contacting 2 nodes.\n"}},
		{name: "join another datacenter", line: "join -wan 10.0.0.1", words: 1,
			answers: map[string]answer{"PUT /v1/agent/join/10.0.0.1?wan=1": {}},
			want:    expectation{out: "Successfully joined cluster by contacting 1 nodes.\n"}},
		{name: "join where one of two answers", line: "join 10.0.0.9 10.0.0.1", words: 1,
			answers: map[string]answer{"PUT /v1/agent/join/10.0.0.9": {status: 500, body: refused}, "PUT /v1/agent/join/10.0.0.1": {}},
			want: expectation{out: "Successfully joined cluster by contacting 1 nodes.\n",
				err: "cannot join 10.0.0.9: Unexpected response code: 500 (1 error occurred:\n\t* Failed to join 10.0.0.9: connection refused"}},
		{name: "join where nobody answers", line: "join 10.0.0.9", words: 1,
			answers: map[string]answer{"PUT /v1/agent/join/10.0.0.9": {status: 500, body: refused}},
			want:    expectation{err: "cannot join 10.0.0.9", code: 1}},
		{name: "join with a flag behind the address", line: "join 10.0.0.1 -wan", words: 1,
			want: expectation{err: `"-wan" is no address; it must stand before the first address`, code: 1}},
		{name: "join nobody", line: "join", words: 1, want: expectation{err: "too few arguments (expected at least 1, got 0)", code: 1}},

		{name: "force-leave", line: "force-leave web-3", words: 1,
			answers: map[string]answer{"PUT /v1/agent/force-leave/web-3": {}}},
		{name: "force-leave and forget", line: "force-leave -prune -wan srv-1.dc2", words: 1,
			answers: map[string]answer{"PUT /v1/agent/force-leave/srv-1.dc2?prune=1&wan=1": {}}},
		{name: "force-leave of a member that lives", line: "force-leave web-3", words: 1,
			answers: map[string]answer{"PUT /v1/agent/force-leave/web-3": {},
				"GET /v1/agent/members": {body: `[{"Name":"web-33","Addr":"10.0.0.1","Port":8301,"Status":1},{"Name":"web-3","Addr":"10.0.0.2","Port":8301,"Status":1}]`}},
			want: expectation{err: `Warning: "web-3" at 10.0.0.2:8301 is alive, so it stays a member. Stop it first, or have it leave by itself with "muster leave".`}},
		{name: "force-leave of one that left", line: "force-leave web-3", words: 1,
			answers: map[string]answer{"PUT /v1/agent/force-leave/web-3": {},
				"GET /v1/agent/members": {body: `[{"Name":"web-3","Addr":"10.0.0.2","Port":8301,"Status":3}]`}}},
		{name: "force-leave a stranger", line: "force-leave who", words: 1,
			answers: map[string]answer{"PUT /v1/agent/force-leave/who": {status: 500, body: "agent: No node found with name 'who'"}},
			want:    expectation{err: `cannot count "who" as left: Unexpected response code: 500 (agent: No node found with name 'who')`, code: 1}},
		{name: "force-leave two", line: "force-leave a b", words: 1, want: expectation{err: "too many arguments (expected 1, got 2)", code: 1}},
	})
}
