package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	folder := t.TempDir()
	tokenFile := filepath.Join(folder, "token")
	if err := os.WriteFile(tokenFile, []byte("  from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		set   map[string]string // AGENT stands for the address of the agent
		flags []string
		token string // that the agent sees
		auth  string // likewise, user:password
	}{
		{name: "Muster's address", set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "CONSUL_HTTP_ADDR": "127.0.0.1:1"}},
		{name: "Consul's address", set: map[string]string{"CONSUL_HTTP_ADDR": "AGENT"}},
		{name: "address as a URL", set: map[string]string{"MUSTER_HTTP_ADDR": "http://AGENT"}},
		{name: "address as a URL with a slash at its end", set: map[string]string{"MUSTER_HTTP_ADDR": "http://AGENT/"}},
		{name: "address with a slash at its end", flags: []string{"-http-addr=AGENT/"}},
		{name: "flag beats environment", set: map[string]string{"MUSTER_HTTP_ADDR": "127.0.0.1:1"}, flags: []string{"-http-addr=AGENT"}},
		{name: "Muster's token", token: "m",
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "MUSTER_HTTP_TOKEN": "m", "CONSUL_HTTP_TOKEN": "c"}},
		{name: "Consul's token", token: "c", set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "CONSUL_HTTP_TOKEN": "c"}},
		{name: "token flag", token: "f", flags: []string{"-token=f"},
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "MUSTER_HTTP_TOKEN": "m", "CONSUL_HTTP_TOKEN_FILE": tokenFile}},
		{name: "token file flag beats token flag", token: "from-file", flags: []string{"-token=f", "-token-file=" + tokenFile},
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT"}},
		{name: "token file of the environment", token: "from-file",
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "MUSTER_HTTP_TOKEN_FILE": tokenFile, "MUSTER_HTTP_TOKEN": "m"}},
		{name: "Muster's token file beats a broken one of Consul's", token: "from-file",
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "MUSTER_HTTP_TOKEN_FILE": tokenFile, "CONSUL_HTTP_TOKEN_FILE": "/nonexistent"}},
		{name: "user and password", auth: "u:p:q", set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "CONSUL_HTTP_AUTH": "u:p:q"}},
		{name: "tenancy is left out",
			set: map[string]string{"MUSTER_HTTP_ADDR": "AGENT", "CONSUL_NAMESPACE": "n", "CONSUL_PARTITION": "p"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, map[string]answer{"GET /v1/catalog/datacenters": {body: "[]"}})
			for name, value := range test.set {
				t.Setenv(name, strings.ReplaceAll(value, "AGENT", stub.address()))
			}
			args := []string{"catalog", "datacenters"}
			for _, flag := range test.flags {
				args = append(args, strings.ReplaceAll(flag, "AGENT", stub.address()))
			}
			runLine("", args...).check(t, expectation{})
			got := stub.last(t)
			if token := got.header.Get("X-Consul-Token"); token != test.token {
				t.Errorf("the agent saw the token %q, want %q", token, test.token)
			}
			user, password, _ := (&http.Request{Header: got.header}).BasicAuth()
			if auth := strings.Trim(user+":"+password, ":"); auth != test.auth {
				t.Errorf("the agent saw the user %q, want %q", auth, test.auth)
			}
			if got.line != "GET /v1/catalog/datacenters" {
				t.Errorf("the agent was asked %q", got.line)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`["dc1"]`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
	server.StartTLS()
	defer server.Close()
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, certificate, server.Certificate().Raw)
	address := server.Listener.Addr().String()
	for _, test := range []struct {
		name  string
		set   map[string]string
		flags []string
		code  int
	}{
		{name: "trusted by a flag", flags: []string{"-http-addr=https://" + address, "-ca-file=" + certificate, "-tls-server-name=example.com"}},
		{name: "trusted by the environment",
			set: map[string]string{"MUSTER_HTTP_ADDR": address, "MUSTER_HTTP_SSL": "true", "MUSTER_CACERT": certificate, "CONSUL_CACERT": "/nonexistent"}},
		{name: "not trusted", flags: []string{"-http-addr=https://" + address}, code: 1},
		{name: "not looked at", set: map[string]string{"CONSUL_HTTP_SSL_VERIFY": "false"}, flags: []string{"-http-addr=https://" + address}},
		{name: "looked at after all", code: 1, flags: []string{"-http-addr=https://" + address},
			set: map[string]string{"MUSTER_HTTP_SSL_VERIFY": "true", "CONSUL_HTTP_SSL_VERIFY": "false"}},
		{name: "neither true nor false", code: 1, set: map[string]string{"MUSTER_HTTP_SSL": "perhaps"}, flags: []string{"-http-addr=" + address}},
		{name: "a certificate without its key", code: 1, flags: []string{"-http-addr=https://" + address, "-client-cert=" + certificate}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.set {
				t.Setenv(name, value)
			}
			got := runLine("", append([]string{"catalog", "datacenters"}, test.flags...)...)
			if got.code != test.code {
				t.Errorf("exit code = %d, want %d; standard error: %s", got.code, test.code, got.err)
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no Unix sockets here: %v", err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`["dc1"]`))
	}))
	server.Listener = listener
	server.Start()
	defer server.Close()
	runLine("", "catalog", "datacenters", "-http-addr=unix://"+path).check(t, expectation{out: "dc1\n"})
}

func TestPathPrefix(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{"GET /proxy/consul/v1/catalog/datacenters": {body: `["dc1"]`}})
	runLine("", "catalog", "datacenters", "-http-addr=http://"+stub.address()+"/proxy/consul").check(t, expectation{out: "dc1\n"})
}

func TestAddressOfUnknownKind(t *testing.T) {
	got := runLine("", "catalog", "datacenters", "-http-addr=gopher://127.0.0.1:70")
	got.check(t, expectation{err: `cannot use the address "gopher://127.0.0.1:70"`, code: 1})
}
