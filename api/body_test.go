package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts the one end of a pipe, so that time can be a test's own.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// A client that stops in the middle of a body is told so after a time, and one
// that took its time is not cut off afterwards.
func TestSlowBodies(t *testing.T) {
	for _, c := range []struct{ request, kind string }{
		{"PUT /v1/kv/a", "value"},
		{"PUT /v1/catalog/register", "JSON"},
		{"PUT /v1/txn", "transaction"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMocks()
				m.keys.apply = func(context.Context, any) (bool, error) { return true, nil }
				l := pipeListener{make(chan net.Conn)}
				server := &http.Server{Handler: m.handler(t)}
				go func() { _ = server.Serve(l) }()
				here, there := net.Pipe()
				l.conns <- there
				began := time.Now()
				if _, err := fmt.Fprintf(here, "%s HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{\"a\"", c.request); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(here)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < bodyTime || took > bodyTime+time.Second {
					t.Errorf("answered after %s", took)
				}
				if text := string(answer); !strings.HasPrefix(text, "HTTP/1.1 408 ") || !strings.Contains(text, "was not received within 1m0s") {
					t.Errorf("answer %q", text)
				}
				close(l.conns)
				_ = server.Close()
			})
		})
	}
}
