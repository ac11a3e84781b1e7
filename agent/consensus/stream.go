package consensus

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// idAddr is a server's ID where Raft wants a network address.
type idAddr string

func (idAddr) Network() string  { return "node" }
func (a idAddr) String() string { return string(a) }

// streamLayer makes a [Stream] what Raft's network transport stands on. It
// remembers the open connections of both directions, because the transport
// leaves those it accepted open when it is closed, and their goroutines with
// them.
type streamLayer struct {
	stream Stream
	id     string

	ended chan struct{} // closed by Close

	mu     sync.Mutex
	open   map[*trackedConn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(stream Stream, id string) *streamLayer {
	return &streamLayer{stream: stream, id: id, ended: make(chan struct{}), open: make(map[*trackedConn]struct{})}
}

// Addr returns the server's ID, which Raft sends and stores as its address.
func (s *streamLayer) Addr() net.Addr { return idAddr(s.id) }

func (s *streamLayer) Accept() (net.Conn, error) {
	conn, err := s.stream.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Dial connects to a server. When the layer is closed it waits for none: Raft tries
// once more to reach each server when it ends, and one that is silent would hold it
// up for as long as a dial may take.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	select {
	case <-s.ended:
		return nil, net.ErrClosed
	default:
	}
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		conn, err := s.stream.Dial(string(address), min(timeout, dialTimeout))
		done <- dialled{conn, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, &unreached{d.err}
		}
		return s.track(d.conn)
	case <-s.ended:
		go func() {
			if d := <-done; d.err == nil {
				_ = d.conn.Close()
			}
		}()
		return nil, net.ErrClosed
	}
}

// unreached marks the error of a dial: the server was not asked anything.
type unreached struct{ error }

func (u *unreached) Unwrap() error { return u.error }

// Close closes the stream and every connection.
func (s *streamLayer) Close() error {
	s.mu.Lock()
	if !s.closed {
		close(s.ended)
	}
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	err := s.stream.Close()
	for conn := range open {
		_ = conn.Conn.Close()
	}
	return err
}

func (s *streamLayer) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	tracked := &trackedConn{Conn: conn, layer: s}
	s.open[tracked] = struct{}{}
	return tracked, nil
}

// trackedConn is forgotten by its layer when it is closed.
type trackedConn struct {
	net.Conn
	layer *streamLayer
}

func (c *trackedConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.open, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
