package agent

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// tooMany is what a client gets on a connection above its limit, whatever it
// asks for.
func tooMany(limit int) string {
	text := fmt.Sprintf("this address already has %d open connections, as many as limits.http_max_conns_per_client allows\n", limit)
	return fmt.Sprintf("HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
}

// limitPerClient bounds how many connections each client address may have open
// on l at once. Zero or below is no bound, but connections are counted, so that
// there may be one later. Clients without an address, as on a Unix socket, have
// none.
func limitPerClient(l net.Listener, limit int) net.Listener {
	if l.Addr().Network() == "unix" {
		return l
	}
	return &limitedListener{Listener: l, limit: limit, open: map[string]int{}, refused: map[net.Conn]struct{}{}}
}

type limitedListener struct {
	net.Listener

	mu        sync.Mutex
	limit     int
	open      map[string]int
	refused   map[net.Conn]struct{} // connections that are told why they are
	closed    bool
	refusals  sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Accept waits for the next connection of a client that is within its limit.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			return c, nil
		}
		if l.enter(host) {
			return &limitedConn{Conn: c, leave: func() { l.leave(host) }}, nil
		}
		l.refuse(c)
	}
}

// SetLimit changes the limit. Connections that are open stay.
func (l *limitedListener) SetLimit(limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
}

// Close closes the listener and cuts off those who are being refused. The
// connections that were accepted stay open. It may be called more than once.
func (l *limitedListener) Close() error {
	l.closeOnce.Do(func() {
		l.closeErr = l.Listener.Close()
		l.mu.Lock()
		l.closed = true
		for c := range l.refused {
			_ = c.Close()
		}
		l.mu.Unlock()
		l.refusals.Wait()
	})
	return l.closeErr
}

// refuse tells a client that it has too many connections, without holding up
// the others.
func (l *limitedListener) refuse(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.refused) == maxRefusals {
		_ = c.Close()
		return
	}
	l.refused[c] = struct{}{}
	limit := l.limit
	l.refusals.Go(func() {
		answerTooMany(c, limit)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.refused, c)
	})
}

// answerTooMany gives the client a moment to say something first, because clients
// take an answer to nothing for a fault, and reads on until the client closes,
// because an unread rest would make the kernel take the answer back.
func answerTooMany(c net.Conn, limit int) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(refusalPause))
	_, _ = c.Read(make([]byte, 1))
	_ = c.SetDeadline(time.Now().Add(refusalLimit))
	if _, err := io.WriteString(c, tooMany(limit)); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c, refusalBytes)
}

func (l *limitedListener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit > 0 && l.open[host] >= l.limit {
		return false
	}
	l.open[host]++
	return true
}

func (l *limitedListener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

type limitedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close closes the connection and gives its place to another.
func (c *limitedConn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}
