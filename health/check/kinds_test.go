package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/muster-sd/muster/health"
)

// probe makes one run of a check as Start would.
func probe(t testing.TB, d Definition, base *tls.Config, limit time.Duration) (health.Status, string) {
	t.Helper()
	c, err := newChecker(&d, base, d.outputLimit(0))
	if err != nil {
		t.Fatal(err)
	}
	return run(t, c, limit)
}

func expectRun(t testing.TB, about string, status health.Status, output string, want health.Status, part string) {
	t.Helper()
	if status != want || !strings.Contains(output, part) {
		t.Errorf("%s: got %s, %q, want %s, %q", about, status, output, want, part)
	}
}

// badPeers are TCP peers that no check may trust or wait for.
var badPeers = []struct {
	about  string
	handle func(net.Conn)
}{
	{"says nothing", func(net.Conn) {}},
	{"hangs up at once", func(c net.Conn) { c.Close() }},
	{"garbage", func(c net.Conn) { io.WriteString(c, strings.Repeat("\x00\xff\x16garbage\r\n", 10)); c.Close() }},
	{"garbage without end", func(c net.Conn) {
		for chunk := strings.Repeat("\x7fmore", 1000); ; {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}},
	{"closes its half only", func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }},
	{"frames without end", func(c net.Conn) {
		io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // SETTINGS
		for {                                                     // PING
			if _, err := io.WriteString(c, "\x00\x00\x08\x06\x00\x00\x00\x00\x00surprise"); err != nil {
				return
			}
		}
	}},
	{"announces a huge frame", func(c net.Conn) {
		io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x01\x04\x00\x00\x00\x01")
	}},
}

// TestBadPeers has each kind with a protocol of its own meet peers that speak
// none, with and without TLS.
func TestBadPeers(t *testing.T) {
	const short = 200 * time.Millisecond
	for _, peer := range badPeers {
		p := listen(t, peer.handle)
		for _, d := range []Definition{
			{GRPC: p.address}, {GRPC: p.address, GRPCUseTLS: true},
			{H2PING: p.address}, {H2PING: p.address, H2PingUseTLS: true},
			{TCP: p.address, TCPUseTLS: true}, {HTTP: "https://" + p.address},
		} {
			d.OutputMaxSize = 200
			began := time.Now()
			status, output := probe(t, d, nil, short)
			if took := time.Since(began); status != health.Critical || len(output) > 300 || took > plenty {
				t.Errorf("%s, %s (TLS %v): got %s after %s, %q", peer.about, d.Kind(), d.GRPCUseTLS || d.H2PingUseTLS || d.TCPUseTLS, status, took, output)
			}
		}
	}
}

func TestUDP(t *testing.T) {
	open := func(serve func(conn net.PacketConn, from net.Addr)) string {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			for {
				_, from, err := conn.ReadFrom(make([]byte, 100))
				if err != nil {
					return
				}
				serve(conn, from)
			}
		}()
		return conn.LocalAddr().String()
	}
	asked := make(chan struct{}, 1)
	chatty := open(func(c net.PacketConn, from net.Addr) { c.WriteTo([]byte("hello"), from) })
	large := open(func(c net.PacketConn, from net.Addr) { c.WriteTo(make([]byte, 9000), from) })
	silent := open(func(net.PacketConn, net.Addr) { asked <- struct{}{} })

	const wait = 200 * time.Millisecond
	for _, c := range []struct {
		about, address string
		full           bool // takes all the time that it has
		status         health.Status
		part           string
	}{
		{"a reply", chatty, false, "passing", "UDP connect " + chatty + ": Success"},
		{"a large reply", large, false, "passing", "Success"},
		{"silence", silent, true, "passing", "UDP connect " + silent + ": Success"},
		{"nobody there", "127.0.0.1:1", false, "critical", "connection refused"},
		{"no port", "127.0.0.1", false, "critical", "missing port in address"},
	} {
		limit := plenty
		if c.full {
			limit = wait
		}
		began := time.Now()
		status, output := probe(t, Definition{UDP: c.address}, nil, limit)
		expectRun(t, c.about, status, output, c.status, c.part)
		if took := time.Since(began); c.full && took < wait {
			t.Errorf("%s: took %s, want %s", c.about, took, wait)
		}
	}
	select {
	case <-asked:
	case <-time.After(plenty):
		t.Error("the silent peer was not asked")
	}
}

func TestGRPC(t *testing.T) {
	authority := httptest.NewUnstartedServer(nil)
	authority.StartTLS()
	defer authority.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.Certificate())
	base := &tls.Config{RootCAs: trusted}

	serve := func(state *healthserver.Server, options ...grpc.ServerOption) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(options...)
		if state != nil {
			grpc_health_v1.RegisterHealthServer(server, state)
		}
		go server.Serve(listener)
		t.Cleanup(server.Stop)
		return listener.Addr().String()
	}
	state := healthserver.NewServer()
	state.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	state.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	plain := serve(state)
	secure := serve(state, grpc.Creds(credentials.NewServerTLSFromCert(&authority.TLS.Certificates[0])))
	healthless := serve(nil)
	for _, c := range []struct {
		about  string
		check  Definition
		base   *tls.Config
		status health.Status
		part   string
	}{
		{"the whole server", Definition{GRPC: plain}, nil, "passing", "gRPC check " + plain + ": success"},
		{"a service", Definition{GRPC: plain + "/up"}, nil, "passing", "gRPC check " + plain + "/up: success"},
		{"a service that is down", Definition{GRPC: plain + "/down"}, nil, "critical", "serving status: NOT_SERVING"},
		{"an unknown service", Definition{GRPC: plain + "/other"}, nil, "critical", "unknown service"},
		{"a server without health", Definition{GRPC: healthless}, nil, "critical", "Unimplemented"},
		{"nobody there", Definition{GRPC: "127.0.0.1:1"}, nil, "critical", "connection refused"},
		{"no port", Definition{GRPC: "127.0.0.1"}, nil, "critical", "missing port in address"},
		{"TLS of an unknown authority", Definition{GRPC: secure, GRPCUseTLS: true}, nil, "critical", "certificate signed by unknown authority"},
		{"TLS that is not verified", Definition{GRPC: secure, GRPCUseTLS: true, TLSSkipVerify: true}, nil, "passing", "success"},
		{"TLS of the agent's authority", Definition{GRPC: secure + "/up", GRPCUseTLS: true}, base, "passing", "success"},
		{"TLS under another name", Definition{GRPC: secure, GRPCUseTLS: true, TLSServerName: "example.com"}, base, "passing", "success"},
		{"TLS under a wrong name", Definition{GRPC: secure, GRPCUseTLS: true, TLSServerName: "other.test"}, base, "critical", "not other.test"},
		{"TLS where there is none", Definition{GRPC: plain, GRPCUseTLS: true}, base, "critical", "first record does not look like a TLS handshake"},
		{"no TLS where there is", Definition{GRPC: secure}, nil, "critical", "Unavailable"},
	} {
		status, output := probe(t, c.check, c.base, plenty)
		expectRun(t, c.about, status, output, c.status, c.part)
	}
}

// serveH2 starts a server that speaks HTTP/2 without TLS.
func serveH2(t testing.TB) string {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestH2Ping(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	old := serveTLS()
	defer old.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	base := &tls.Config{RootCAs: trusted}
	mute := listen(t, func(c net.Conn) {
		tls.Server(c, &tls.Config{Certificates: secure.TLS.Certificates}).Handshake()
	})
	plain, overTLS, oldTLS := serveH2(t), secure.Listener.Addr().String(), old.Listener.Addr().String()
	for _, c := range []struct {
		about  string
		check  Definition
		base   *tls.Config
		status health.Status
		part   string
	}{
		{"plain", Definition{H2PING: plain}, nil, "passing", "HTTP2 ping was successful"},
		{"over TLS", Definition{H2PING: overTLS, H2PingUseTLS: true}, base, "passing", "HTTP2 ping was successful"},
		{"not verified", Definition{H2PING: overTLS, H2PingUseTLS: true, TLSSkipVerify: true}, nil, "passing", "HTTP2 ping was successful"},
		{"an unknown authority", Definition{H2PING: overTLS, H2PingUseTLS: true}, nil, "critical", "Failed to dial to " + overTLS + ": tls: failed to verify"},
		{"a wrong name", Definition{H2PING: overTLS, H2PingUseTLS: true, TLSServerName: "other.test"}, base, "critical", "not other.test"},
		{"a server of HTTP/1 alone", Definition{H2PING: oldTLS, H2PingUseTLS: true, TLSSkipVerify: true}, nil, "critical", "no application protocol"},
		{"a server that says nothing of protocols", Definition{H2PING: mute.address, H2PingUseTLS: true, TLSSkipVerify: true}, nil, "critical",
			`HTTP2 ping failed: the peer speaks "" over TLS, not "h2"`},
		{"nobody there", Definition{H2PING: "127.0.0.1:1"}, nil, "critical", "Failed to dial to 127.0.0.1:1: "},
	} {
		status, output := probe(t, c.check, c.base, plenty)
		expectRun(t, c.about, status, output, c.status, c.part)
	}
}

// FuzzPing feeds a ping what a hostile peer might send.
func FuzzPing(f *testing.F) {
	settings, ack := "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x01\x00\x00\x00\x00"
	f.Add([]byte(settings + ack + "muster?!"))
	f.Add([]byte(settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x00surprise"))
	f.Add([]byte(settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		err := ping(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(text), io.Discard})
		if answered := bytes.Contains(text, []byte("muster?!")); err == nil && !answered {
			t.Errorf("%q answers a ping", text)
		}
	})
}

// TestAgentTLS has the agent's own settings apply to every kind with TLS, and
// those of the check come first.
func TestAgentTLS(t *testing.T) {
	base := &tls.Config{ServerName: "agent.test", RootCAs: x509.NewCertPool()}
	got := tlsConfig(&Definition{}, base)
	if got == base || got.ServerName != "agent.test" || got.RootCAs != base.RootCAs || got.InsecureSkipVerify {
		t.Errorf("a check without settings has %+v", got)
	}
	got = tlsConfig(&Definition{TLSServerName: "mine.test", TLSSkipVerify: true}, base)
	if got.ServerName != "mine.test" || !got.InsecureSkipVerify || base.ServerName != "agent.test" || base.InsecureSkipVerify {
		t.Errorf("a check with settings has %+v", got)
	}
}

func TestOSService(t *testing.T) {
	program := filepath.Join(t.TempDir(), "systemctl")
	// It answers by the last argument, which is the name.
	script := "#!/bin/sh\nfor name; do :; done\ncase $name in\n" +
		"good) echo LoadState=loaded; echo ActiveState=active; echo SubState=running;;\n" +
		"--odd) echo LoadState=loaded; echo ActiveState=active; echo SubState=exited;;\n" +
		"starting) echo LoadState=loaded; echo ActiveState=activating; echo SubState=start;;\n" +
		"dead) echo LoadState=loaded; echo ActiveState=inactive; echo SubState=dead;;\n" +
		"broken) echo LoadState=loaded; echo ActiveState=failed; echo SubState=failed;;\n" +
		"none) echo LoadState=not-found; echo ActiveState=inactive; echo SubState=dead;;\n" +
		"mute) ;;\nhang) sleep 60;;\n*) echo no bus >&2; exit 3;;\nesac\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		status health.Status
		part   string
	}{
		"good":     {"passing", `Service "good" is healthy`},
		"--odd":    {"passing", `Service "--odd" is healthy`},
		"starting": {"warning", `Service "starting" is activating (start)`},
		"dead":     {"critical", `Service "dead" is inactive (dead)`},
		"broken":   {"critical", `Service "broken" is failed (failed)`},
		"none":     {"critical", `Service "none" does not exist`},
		"mute":     {"critical", "did not tell its state"},
		"other":    {"critical", "systemctl ended with code 3: no bus"},
	} {
		status, output := run(t, &serviceChecker{name: name, program: program, limit: 4096}, plenty)
		expectRun(t, name, status, output, want.status, want.part)
	}
	status, output := run(t, &serviceChecker{name: "hang", program: program, timeout: time.Second, limit: 4096}, enough)
	expectRun(t, "hang", status, output, "critical", "Timed out (1s) running check")
	status, output = run(t, &serviceChecker{name: "x", program: program + "-not", limit: 4096}, plenty)
	expectRun(t, "no systemctl", status, output, "critical", "no such file")

	if _, err := os.Stat(systemdMark); err != nil {
		err := Available(OSService)
		if err == nil || !strings.Contains(err.Error(), "need systemd, which does not manage this machine") {
			t.Errorf("without systemd: %v", err)
		}
		if _, err := Start(Definition{OSService: "x", Interval: time.Second}, Options{Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Error("a check of a service was started without systemd")
		}
	}
}

// fakeDocker answers like the Docker API. What it does depends on the
// container's name.
func fakeDocker(t *testing.T) (host string) {
	folder, err := os.MkdirTemp("", "docker") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	inspected := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /containers/{name}/exec", func(w http.ResponseWriter, r *http.Request) {
		name, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(name), `"Cmd":["probe","-x"]`) {
			t.Errorf("asked to run %s", name)
		}
		switch r.PathValue("name") {
		case "gone":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"No such container: gone"}`)
		case "garbage":
			io.WriteString(w, "<html>")
		case "nameless":
			io.WriteString(w, "{}")
		case "endless":
			io.WriteString(w, `{"Id":"`)
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		case "proxy":
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "sorry")
		default:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"Id":"%s"}`, r.PathValue("name"))
		}
	})
	mux.HandleFunc("POST /exec/{name}/start", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
		frame := func(stream byte, text string) {
			w.Write([]byte{stream, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))})
			io.WriteString(w, text)
		}
		switch r.PathValue("name") {
		case "hang":
			frame(1, "so far")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-ctx.Done():
			}
		case "unframed":
			io.WriteString(w, "plain text that is no frame")
		case "cut":
			w.Write([]byte{1, 0, 0, 0, 0, 0, 0, 100, 'x'})
		case "long":
			for i := range 3000 {
				frame(1, fmt.Sprintf("line %d\n", i))
			}
		default:
			frame(1, "out ")
			frame(2, "err")
		}
	})
	mux.HandleFunc("GET /exec/{name}/json", func(w http.ResponseWriter, r *http.Request) {
		code := map[string]int{"warn": 1, "fail": 2, "slow": 1}[r.PathValue("name")]
		if r.PathValue("name") == "slow" && inspected < 3 {
			inspected++
			io.WriteString(w, `{"Running":true,"ExitCode":null}`)
			return
		}
		fmt.Fprintf(w, `{"Running":false,"ExitCode":%d}`, code)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	t.Cleanup(func() { cancel(); server.Close() })
	return "unix://" + filepath.Join(folder, "s")
}

func TestDocker(t *testing.T) {
	t.Setenv("DOCKER_HOST", fakeDocker(t))
	for container, want := range map[string]struct {
		status health.Status
		part   string
	}{
		"good":     {"passing", "out err"},
		"warn":     {"warning", "out err"},
		"fail":     {"critical", "out err"},
		"slow":     {"warning", "out err"},
		"gone":     {"critical", "404: No such container: gone"},
		"garbage":  {"critical", "cannot read the answer"},
		"nameless": {"critical", "the command has no ID"},
		"endless":  {"critical", "cannot read the answer"},
		"proxy":    {"critical", "502: sorry"},
		"unframed": {"critical", "has a frame that begins with"},
		"cut":      {"critical", "has 1 bytes of 100"},
		"long":     {"passing", "Captured 100 of 28890 bytes\n...\n"},
	} {
		d := Definition{DockerContainerID: container, ScriptArgs: []string{"probe", "-x"}}
		if container == "long" {
			d.OutputMaxSize = 100
		}
		status, output := probe(t, d, nil, plenty)
		expectRun(t, container, status, output, want.status, want.part)
	}
	status, output := probe(t, Definition{DockerContainerID: "hang", ScriptArgs: []string{"probe", "-x"}, Timeout: time.Minute}, nil, enough)
	expectRun(t, "hang", status, output, "critical", "Timed out (1m0s) running check\n\nso far")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	status, output = probe(t, Definition{DockerContainerID: "x", ScriptArgs: []string{"probe"}}, nil, plenty)
	expectRun(t, "no engine", status, output, "critical", "no such file or directory")
}

func TestDockerHost(t *testing.T) {
	for _, c := range []struct{ host, verify, certificates, base, fault string }{
		{"", "", "", "http://docker", ""},
		{"unix:///x", "", "", "http://docker", ""},
		{"tcp://10.0.0.1:2375", "", "", "http://10.0.0.1:2375", ""},
		{"tcp://10.0.0.1:2376", "1", "", "https://10.0.0.1:2376", ""},
		{"https://10.0.0.1:2376", "", "", "https://10.0.0.1:2376", ""},
		{"tcp://10.0.0.1:2376", "1", "/nowhere", "", "/nowhere/ca.pem"},
		{"npipe:////./pipe/x", "", "", "", "must begin with unix://"},
	} {
		env := map[string]string{"DOCKER_HOST": c.host, "DOCKER_TLS_VERIFY": c.verify, "DOCKER_CERT_PATH": c.certificates}
		_, base, err := dockerHost(func(name string) string { return env[name] })
		if base != c.base || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%v: got %q, %v", c, base, err)
		}
	}
}

// FuzzDockerFrames feeds the reader of a command's output what an engine should
// never send.
func FuzzDockerFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02ok"))
	f.Add([]byte("\x02\x00\x00\x00\xff\xff\xff\xffcut"))
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, text []byte) {
		output := &tail{limit: 16}
		err := demultiplex(output, strings.NewReader(string(text)))
		if len(output.kept) > 3*16 || output.total > int64(len(text)) {
			t.Errorf("%q: kept %d bytes of %d", text, len(output.kept), output.total)
		}
		if err == nil && len(text) > 0 && int64(len(text)) < output.total+frameHeader {
			t.Errorf("%q: read as frames", text)
		}
	})
}
