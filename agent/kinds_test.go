package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/muster-sd/muster/agent/agenttest"
)

// peers are what checks of each kind look at. All are in one state at a time:
// 0 is passing, 1 warning, 2 critical.
type peers struct {
	t       *testing.T
	state   atomic.Int32
	code    string // the file with the exit code of scripts
	grpc    *healthserver.Server
	address string // where TCP and HTTP/2 are open while nothing is critical
	packets string // where UDP is answered then
	open    *http.Server
	udp     net.PacketConn
	web     string
	docker  string
	calls   string
}

func startPeers(t *testing.T) *peers {
	p := &peers{t: t, code: filepath.Join(t.TempDir(), "code"), grpc: healthserver.NewServer()}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader([]int{http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable}[p.state.Load()])
	}))
	t.Cleanup(web.Close)
	docker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/containers/"):
			_, _ = io.WriteString(w, `{"Id":"x"}`)
		case strings.HasSuffix(r.URL.Path, "/json"):
			fmt.Fprintf(w, `{"Running":false,"ExitCode":%d}`, p.state.Load())
		}
	}))
	t.Cleanup(docker.Close)
	p.web, p.docker = web.URL, strings.Replace(docker.URL, "http://", "tcp://", 1)
	p.address, p.packets = closedAddress(t), closedAddress(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, p.grpc)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	p.calls = l.Addr().String()
	t.Cleanup(p.shut)
	p.set(0)
	return p
}

// set takes all into a state.
func (p *peers) set(state int32) {
	p.t.Helper()
	p.state.Store(state)
	if err := os.WriteFile(p.code, fmt.Append(nil, state), 0o600); err != nil {
		p.t.Fatal(err)
	}
	serving := grpc_health_v1.HealthCheckResponse_SERVING
	if state == 2 {
		serving = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	p.grpc.SetServingStatus("", serving)
	switch {
	case state == 2:
		p.shut()
	case p.open == nil:
		p.listen()
	}
}

func (p *peers) shut() {
	if p.open != nil {
		_ = p.open.Close()
		_ = p.udp.Close()
		p.open = nil
	}
}

func (p *peers) listen() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.open = &http.Server{Handler: http.NotFoundHandler(), Protocols: new(http.Protocols)}
	p.open.Protocols.SetUnencryptedHTTP2(true)
	go func(s *http.Server) { _ = s.Serve(l) }(p.open)
	if p.udp, err = net.ListenPacket("udp", p.packets); err != nil {
		p.t.Fatal(err)
	}
	go func(c net.PacketConn) {
		b := make([]byte, 1024)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte("ok"), from)
		}
	}(p.udp)
}

// kindOfCheck is a check of one kind, and how it goes.
type kindOfCheck struct {
	name, check string // the check as JSON, without its interval
	warns       bool   // whether the kind knows a warning
}

// A check of each kind, on a real listener, goes through its states, and DNS and
// HTTP follow.
func TestEachKindOfCheckDecidesWhoAnswers(t *testing.T) {
	const interval = time.Second
	p := startPeers(t)
	t.Setenv("DOCKER_HOST", p.docker)
	a := agenttest.Start(t, agenttest.HCL(`enable_script_checks = true`))
	host, port, _ := net.SplitHostPort(p.packets)
	kinds := []kindOfCheck{
		{"http", `"HTTP":"` + p.web + `"`, true},
		{"tcp", `"TCP":"` + p.address + `"`, false},
		{"udp", `"UDP":"` + net.JoinHostPort(host, port) + `"`, false},
		{"script", `"Args":["sh","-c","exit $(cat ` + p.code + `)"]`, true},
		{"grpc", `"GRPC":"` + p.calls + `"`, false},
		{"h2ping", `"H2PING":"` + p.address + `","H2PingUseTLS":false`, false},
		{"docker", `"DockerContainerID":"c","Shell":"/bin/sh","Args":["probe"]`, true},
	}
	ctx := t.Context()
	register := func(body string) {
		t.Helper()
		if status, text, err := a.Do(ctx, http.MethodPut, "/v1/agent/service/register", strings.NewReader(body)); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", body, status, text, err)
		}
	}
	for _, k := range kinds {
		register(fmt.Sprintf(`{"Name":%q,"Port":80,"Check":{%s,"Interval":"%s","Timeout":"900ms"}}`, k.name, k.check, interval))
		register(fmt.Sprintf(`{"Name":"of-%s","Port":80,"Check":{"AliasService":%q}}`, k.name, k.name))
	}
	register(`{"Name":"ttl","Port":80,"Check":{"TTL":"1h"}}`)
	all := append(kinds, kindOfCheck{"ttl", "", true})
	for _, k := range kinds {
		all = append(all, kindOfCheck{"of-" + k.name, "", k.warns})
	}
	for step, state := range []int32{0, 1, 2, 0} {
		p.set(state)
		word := []string{"pass", "warn", "fail"}[state]
		if status, text, err := a.Do(ctx, http.MethodPut, "/v1/agent/check/"+word+"/service:ttl", nil); err != nil || status != http.StatusOK {
			t.Fatal(status, text, err)
		}
		changed := time.Now()
		for _, k := range all {
			want := []string{"passing", "warning", "critical"}[state]
			if want == "warning" && !k.warns {
				want = "passing"
			}
			for err := shows(a, k.name, want); err != nil; err = shows(a, k.name, want) {
				if time.Since(changed) > 20*time.Second {
					t.Fatalf("step %d: %s: %v", step, k.name, err)
				}
			}
		}
		took := time.Since(changed)
		t.Logf("step %d: DNS and HTTP followed within %s; an interval and a second are %s", step, took.Round(time.Millisecond), interval+time.Second)
	}
}

// shows reports why an agent does not show a service in a state, in DNS as over
// HTTP.
func shows(a *agenttest.Agent, service, want string) error {
	response, err := http.Get(a.URL("/v1/health/service/" + service + "?wait=50ms&index=1"))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var entries []struct {
		Checks []struct{ CheckID, Status string }
	}
	if err := json.NewDecoder(response.Body).Decode(&entries); err != nil {
		return err
	}
	got := ""
	for _, e := range entries {
		for _, c := range e.Checks {
			if c.CheckID != "serfHealth" {
				got = c.Status
			}
		}
	}
	if got != want {
		return fmt.Errorf("over HTTP it is %q, want %q", got, want)
	}
	answer, err := dns.Exchange(new(dns.Msg).SetQuestion(service+".service.consul.", dns.TypeA), a.DNS)
	if err != nil {
		return err
	}
	if there := len(answer.Answer) > 0; there == (want == "critical") {
		return errors.New("DNS answers otherwise")
	}
	return nil
}
