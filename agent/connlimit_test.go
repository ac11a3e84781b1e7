package agent

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// acceptAll hands out the connections that l accepts, until it is closed.
func acceptAll(l net.Listener) <-chan net.Conn {
	conns := make(chan net.Conn, 100)
	go func() {
		defer close(conns)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return conns
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConnectionsOfOneClientAreBounded(t *testing.T) {
	l := limitPerClient(listenLocal(t), 2)
	accepted := acceptAll(l)
	dial(t, l)
	dial(t, l)
	first := <-accepted
	<-accepted

	refused := dial(t, l)
	if _, err := io.WriteString(refused, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(refused), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusTooManyRequests || !response.Close {
		t.Errorf("got %s, closing %v, %v", response.Status, response.Close, err)
	}
	if !strings.Contains(string(body), "2 open connections") || !strings.Contains(string(body), "limits.http_max_conns_per_client") {
		t.Errorf("the client is told %q", body)
	}

	// A place is given back once, however often the connection is closed.
	for range 3 {
		_ = first.Close()
	}
	dial(t, l)
	<-accepted
	if answer, err := io.ReadAll(dial(t, l)); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 429 ") {
		t.Errorf("one that says nothing is told %q, %v", answer, err)
	}
	select {
	case c := <-accepted:
		t.Errorf("a connection above the limit was accepted: %v", c.RemoteAddr())
	default:
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for range accepted { // until Accept has failed
	}
}

func TestClosingCutsOffThoseWhoAreRefused(t *testing.T) {
	limited := limitPerClient(listenLocal(t), 1).(*limitedListener)
	accepted := acceptAll(limited)
	dial(t, limited)
	<-accepted
	for range 3 * maxRefusals / 2 {
		dial(t, limited)
	}
	for range 2 {
		if err := limited.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(limited.refused) != 0 {
		t.Errorf("%d connections are still open", len(limited.refused))
	}
}

func TestAnotherLimitCountsThoseWhoAreThere(t *testing.T) {
	limited := limitPerClient(listenLocal(t), 0).(*limitedListener)
	accepted := acceptAll(limited)
	dial(t, limited)
	first := <-accepted
	dial(t, limited)
	<-accepted
	limited.SetLimit(2)
	if answer, err := io.ReadAll(dial(t, limited)); err != nil || !strings.Contains(string(answer), "already has 2 open connections") {
		t.Errorf("the third one is told %q, %v", answer, err)
	}
	_ = first.Close()
	dial(t, limited)
	<-accepted
	limited.SetLimit(0)
	dial(t, limited)
	<-accepted
	if err := limited.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenersWithoutALimit(t *testing.T) {
	unix, err := net.Listen("unix", t.TempDir()+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	if l := limitPerClient(unix, 1); l != unix {
		t.Error("clients of a Unix socket have no address to be told apart by")
	}
}
