package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// stubAgent answers requests from a table and keeps what was asked.
type stubAgent struct {
	server  *httptest.Server
	answers map[string]answer // by method and path with parameters

	mu   sync.Mutex
	asks []ask
}

type answer struct {
	status int // zero means 200
	header http.Header
	body   string
}

// ask is one request that an agent got.
type ask struct {
	line   string // method and path with parameters
	body   string
	header http.Header
}

func newStubAgent(t *testing.T, answers map[string]answer) *stubAgent {
	t.Helper()
	stub := &stubAgent{answers: answers}
	stub.server = httptest.NewServer(stub)
	t.Cleanup(stub.server.Close)
	return stub
}

// ServeHTTP answers one request; what is not in the table is an unknown path.
func (s *stubAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.URL.RequestURI()
	s.mu.Lock()
	s.asks = append(s.asks, ask{line: line, body: string(body), header: r.Header.Clone()})
	s.mu.Unlock()
	found, ok := s.answers[line]
	if !ok {
		http.Error(w, "the stub has no answer for "+line, http.StatusNotFound)
		return
	}
	w.Header().Set("X-Consul-Index", "7")
	maps.Copy(w.Header(), found.header)
	if found.status != 0 {
		w.WriteHeader(found.status)
	}
	_, _ = io.WriteString(w, found.body)
}

func (s *stubAgent) address() string { return strings.TrimPrefix(s.server.URL, "http://") }

// lines are the requests so far, without their bodies.
func (s *stubAgent) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, ask := range s.asks {
		lines = append(lines, ask.line)
	}
	return lines
}

// last is the latest request.
func (s *stubAgent) last(t *testing.T) ask {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asks) == 0 {
		t.Fatal("nothing was asked")
	}
	return s.asks[len(s.asks)-1]
}

// outcome is what a command line did.
type outcome struct {
	out, err string
	code     int
}

// runLine runs a command line in this process.
func runLine(stdin string, args ...string) outcome {
	var out, err bytes.Buffer
	code := run(args, strings.NewReader(stdin), &out, &err)
	return outcome{out: out.String(), err: err.String(), code: code}
}

// expectation is what a command line should do. The words of errors are only
// looked for, results are compared as they are.
type expectation struct {
	out  string
	err  string // contained in standard error; empty means nothing is there
	code int
}

func (o outcome) check(t *testing.T, want expectation) {
	t.Helper()
	if o.code != want.code {
		t.Errorf("exit code = %d, want %d; standard error: %s", o.code, want.code, o.err)
	}
	if o.out != want.out {
		t.Errorf("standard output:\n%s\nwant:\n%s", o.out, want.out)
	}
	if want.err == "" && o.err != "" {
		t.Errorf("standard error = %q, want nothing", o.err)
	}
	if !strings.Contains(o.err, want.err) {
		t.Errorf("standard error = %q, want %q in it", o.err, want.err)
	}
}

// connectTo puts the address of a stub after the words of a command, where
// flags stand.
func connectTo(stub *stubAgent, words int, args []string) []string {
	line := append([]string{}, args[:words]...)
	line = append(line, "-http-addr="+stub.address())
	return append(line, args[words:]...)
}

// writePEM writes a certificate where flags can name it.
func writePEM(t *testing.T, path string, certificate []byte) {
	t.Helper()
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
}
