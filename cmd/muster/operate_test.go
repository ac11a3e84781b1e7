package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const (
	statsAnswer = `{"Config":{},"Stats":{
 "runtime":{"version":"go1.26","arch":"amd64"},
 "agent":{"services":"2","checks":"10","check_ttls":"0","check_monitors":"0"},
 "consul":{"leader":"true","leader_addr":"10.0.0.1:8300"}}}`
	maintAnswer = `{
 "_service_maintenance:web-2":{"Node":"n1","CheckID":"_service_maintenance:web-2","Notes":"slow","ServiceID":"web-2"},
 "service:web-1":{"Node":"n1","CheckID":"service:web-1","Notes":"of its own","ServiceID":"web-1"},
 "_service_maintenance:web-1":{"Node":"n1","CheckID":"_service_maintenance:web-1","Notes":"new version","ServiceID":"web-1"},
 "_node_maintenance":{"Node":"n1","CheckID":"_node_maintenance","Notes":"new disk"}}`
)

func TestOperate(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		answers map[string]answer
		asked   string // the only request, empty if there must be none
		want    expectation
	}{
		{name: "info", args: []string{"info"},
			answers: map[string]answer{"GET /v1/agent/self": {body: statsAnswer}}, asked: "GET /v1/agent/self",
			want: expectation{out: lines(
				"agent:", "\tcheck_monitors = 0", "\tcheck_ttls = 0", "\tchecks = 10", "\tservices = 2",
				"consul:", "\tleader = true", "\tleader_addr = 10.0.0.1:8300",
				"runtime:", "\tarch = amd64", "\tversion = go1.26")}},
		{name: "info without a right", args: []string{"info"},
			answers: map[string]answer{"GET /v1/agent/self": {status: 403, body: "Permission denied"}}, asked: "GET /v1/agent/self",
			want: expectation{err: "Permission denied", code: 1}},
		{name: "info of something else", args: []string{"info"},
			answers: map[string]answer{"GET /v1/agent/self": {body: "{}"}}, asked: "GET /v1/agent/self",
			want: expectation{err: "tells nothing about itself", code: 1}},

		{name: "reload", args: []string{"reload"},
			answers: map[string]answer{"PUT /v1/agent/reload": {}}, asked: "PUT /v1/agent/reload",
			want: expectation{out: "Configuration reload triggered\n"}},
		{name: "reload that changes nothing", args: []string{"reload"},
			answers: map[string]answer{"PUT /v1/agent/reload": {header: http.Header{"X-Muster-Reload": {"{}"}}}}, asked: "PUT /v1/agent/reload",
			want: expectation{out: "Configuration reload triggered\nNothing changed\n"}},
		{name: "reload with a report", args: []string{"reload"},
			answers: map[string]answer{"PUT /v1/agent/reload": {header: http.Header{"X-Muster-Reload": {
				`{"Applied":[{"Key":"log_level","Text":"from \"INFO\" to \"\u001b[1m\\d\""}],"Restart":[{"Key":"domain","Text":"from unset to \"a\""}],"More":3}`}}}},
			asked: "PUT /v1/agent/reload",
			want: expectation{out: lines("Configuration reload triggered", `Taken over: log_level: from "INFO" to "\x1b[1m\d"`,
				`Needs a restart: domain: from unset to "a"`, "And 3 more, which the agent's log names")}},
		{name: "reload with a report of another kind", args: []string{"reload"},
			answers: map[string]answer{"PUT /v1/agent/reload": {header: http.Header{"X-Muster-Reload": {"42"}}}}, asked: "PUT /v1/agent/reload",
			want: expectation{out: "Configuration reload triggered\n"}},
		{name: "reload of what is wrong", args: []string{"reload"},
			answers: map[string]answer{"PUT /v1/agent/reload": {status: 500, body: "unknown key nonsense"}}, asked: "PUT /v1/agent/reload",
			want: expectation{err: "cannot reload the configuration: Unexpected response code: 500 (unknown key nonsense)", code: 1}},
		{name: "leave", args: []string{"leave"},
			answers: map[string]answer{"PUT /v1/agent/leave": {}}, asked: "PUT /v1/agent/leave",
			want: expectation{out: "Graceful leave complete\n"}},
		{name: "leave that fails", args: []string{"leave"},
			answers: map[string]answer{"PUT /v1/agent/leave": {status: 500, body: "no leader"}}, asked: "PUT /v1/agent/leave",
			want: expectation{err: "cannot leave the cluster: ", code: 1}},

		{name: "maintenance list", args: []string{"maint"},
			answers: map[string]answer{"GET /v1/agent/checks": {body: maintAnswer}}, asked: "GET /v1/agent/checks",
			want: expectation{out: lines(
				"Node:", "  Name:   n1", "  Reason: new disk", "",
				"Service:", "  ID:     web-1", "  Reason: new version", "",
				"Service:", "  ID:     web-2", "  Reason: slow", "")}},
		{name: "nothing in maintenance", args: []string{"maint"},
			answers: map[string]answer{"GET /v1/agent/checks": {body: "{}"}}, asked: "GET /v1/agent/checks"},
		{name: "node out of service", args: []string{"maint", "-enable", "-reason=new disk"},
			answers: map[string]answer{"PUT /v1/agent/maintenance?enable=true&reason=new+disk": {}},
			asked:   "PUT /v1/agent/maintenance?enable=true&reason=new+disk",
			want:    expectation{out: "Node maintenance is now enabled\n"}},
		{name: "node back to service", args: []string{"maint", "-disable"},
			answers: map[string]answer{"PUT /v1/agent/maintenance?enable=false": {}},
			asked:   "PUT /v1/agent/maintenance?enable=false",
			want:    expectation{out: "Node maintenance is now disabled\n"}},
		{name: "service out of service", args: []string{"maint", "-enable", "-service=web-1"},
			answers: map[string]answer{"PUT /v1/agent/service/maintenance/web-1?enable=true&reason=": {}},
			asked:   "PUT /v1/agent/service/maintenance/web-1?enable=true&reason=",
			want:    expectation{out: "Service maintenance is now enabled for \"web-1\"\n"}},
		{name: "service back to service", args: []string{"maint", "-disable", "-service=web-1"},
			answers: map[string]answer{"PUT /v1/agent/service/maintenance/web-1?enable=false": {}},
			asked:   "PUT /v1/agent/service/maintenance/web-1?enable=false",
			want:    expectation{out: "Service maintenance is now disabled for \"web-1\"\n"}},
		{name: "service that is not there", args: []string{"maint", "-disable", "-service=web-9"},
			answers: map[string]answer{"PUT /v1/agent/service/maintenance/web-9?enable=false": {status: 404, body: "Unknown service ID"}},
			asked:   "PUT /v1/agent/service/maintenance/web-9?enable=false",
			want:    expectation{err: `of the service "web-9": Unexpected response code: 404 (Unknown service ID)`, code: 1}},
		{name: "in and out of service", args: []string{"maint", "-enable", "-disable"},
			want: expectation{err: "only one of -enable and -disable", code: 1}},
		{name: "reason to go back to service", args: []string{"maint", "-disable", "-reason=x"},
			want: expectation{err: "-reason needs -enable", code: 1}},
		{name: "service without a change", args: []string{"maint", "-service=web-1"},
			want: expectation{err: "-service needs -enable or -disable", code: 1}},

		{name: "monitor until the agent ends", args: []string{"monitor"},
			answers: map[string]answer{"GET /v1/agent/monitor": {body: "one\n\ntwo\n"}}, asked: "GET /v1/agent/monitor",
			want: expectation{out: "one\n\ntwo\n", err: "the agent ended the stream", code: 1}},
		{name: "monitor with a level, as JSON", args: []string{"monitor", "-log-level=debug", "-log-json"},
			answers: map[string]answer{"GET /v1/agent/monitor?logjson=true&loglevel=debug": {body: "{}\n"}},
			asked:   "GET /v1/agent/monitor?logjson=true&loglevel=debug",
			want:    expectation{out: "{}\n", err: "the agent ended the stream", code: 1}},
		{name: "monitor with an unknown level", args: []string{"monitor", "-log-level=loud"},
			answers: map[string]answer{"GET /v1/agent/monitor?loglevel=loud": {status: 400, body: "Unknown log level: loud"}},
			asked:   "GET /v1/agent/monitor?loglevel=loud",
			want:    expectation{err: "Unexpected response code: 400 (Unknown log level: loud)", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, test.answers)
			runLine("", connectTo(stub, 1, test.args)...).check(t, test.want)
			var asked []string
			if test.asked != "" {
				asked = []string{test.asked}
			}
			if got := stub.lines(); !slices.Equal(got, asked) {
				t.Errorf("the agent was asked %q, want %q", got, asked)
			}
		})
	}
}

// Log lines are printed when they come, not when the stream ends, and an
// interrupt is a success.
func TestMonitorFollows(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("first\n"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer agent.Close()
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	monitor := &monitorRunner{connection: connection{address: sharedString(agent.URL)}}
	printed := writerFunc(func(line []byte) (int, error) {
		if string(line) != "first\n" {
			t.Errorf("printed %q, want the first line", line)
		}
		interrupt()
		return len(line), nil
	})
	if err := monitor.follow(ctx, printed); err != nil {
		t.Errorf("an interrupt is told as %v, want nothing", err)
	}
}

// writerFunc is a function that is written to.
type writerFunc func([]byte) (int, error)

// Write calls the function.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A stream on which nothing comes any more ends with a reason.
func TestStreamSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		stream := &stream{ctx: ctx, cancel: cancel, silence: time.Minute, body: stuckBody{ctx}}
		_, err := stream.Read(make([]byte, 1))
		if err == nil || err.Error() != "the agent sent nothing for 1m0s" {
			t.Errorf("error = %v, want the silence and its limit", err)
		}
	})
}

// stuckBody gives nothing until its request ends.
type stuckBody struct{ request context.Context }

// Read waits for the end of the request.
func (b stuckBody) Read([]byte) (int, error) {
	<-b.request.Done()
	return 0, b.request.Err()
}

// Close does nothing.
func (b stuckBody) Close() error { return nil }

// A stream is asked for where every other request goes, with the same token.
func TestStreamConnection(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{"GET /prefix/v1/kv/a?dc=dc2&recurse=&stale=": {body: "[]"}})
	for _, test := range []struct {
		name    string
		address string
	}{
		{"URL", stub.server.URL + "/prefix"},
		{"URL with a slash at the end", stub.server.URL + "/prefix/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			runLine("", "kv", "export", "-http-addr="+test.address, "-token=secret", "-datacenter=dc2", "-stale", "/a").
				check(t, expectation{out: "[]\n"})
			if got := stub.last(t).header.Get("X-Consul-Token"); got != "secret" {
				t.Errorf("token = %q, want the one of the command line", got)
			}
		})
	}
}
