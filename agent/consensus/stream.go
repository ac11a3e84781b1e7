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

	mu     sync.Mutex
	open   map[*trackedConn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(stream Stream, id string) *streamLayer {
	return &streamLayer{stream: stream, id: id, open: make(map[*trackedConn]struct{})}
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

func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	// Raft tries once more to reach each server when it ends, and one that is
	// silent would hold it up for as long as a dial may take.
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	conn, err := s.stream.Dial(string(address), min(timeout, dialTimeout))
	if err != nil {
		return nil, err
	}
	return s.track(conn)
}

// Close closes the stream and every connection.
func (s *streamLayer) Close() error {
	s.mu.Lock()
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
