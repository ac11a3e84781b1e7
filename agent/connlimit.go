package agent

import (
	"fmt"
	"net"
	"sync"
)

// tooMany is what a client gets on a connection above its limit, before any
// request of it is read.
func tooMany(limit int) string {
	text := fmt.Sprintf("this address already has %d open connections, as many as limits.http_max_conns_per_client allows\n", limit)
	return fmt.Sprintf("HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
}

// limitPerClient bounds how many connections each client address may have open
// on l at once. Zero or below is no bound, and so are clients without an
// address, as on a Unix socket.
func limitPerClient(l net.Listener, limit int) net.Listener {
	if limit <= 0 || l.Addr().Network() == "unix" {
		return l
	}
	return &limitedListener{Listener: l, limit: limit, open: map[string]int{}}
}

type limitedListener struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[string]int
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
		// The answer fits the socket's buffer, so this does not wait.
		_, _ = c.Write([]byte(tooMany(l.limit)))
		_ = c.Close()
	}
}

func (l *limitedListener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host] >= l.limit {
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
