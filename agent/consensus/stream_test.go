package consensus

import (
	"errors"
	"net"
	"testing"
	"time"
)

// deadEnd is a network on which a dial is a mistake.
type deadEnd struct {
	net.Listener
	t *testing.T
}

func (d deadEnd) Dial(id string, _ time.Duration) (net.Conn, error) {
	d.t.Errorf("%s is dialled", id)
	return nil, errors.New("nobody is there")
}

// A node that stops waits for no server that may be silent.
func TestClosedStreamDialsNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newStreamLayer(deadEnd{l, t}, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dial("b", time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial after the end fails with %v, want %v", err, net.ErrClosed)
	}
}
