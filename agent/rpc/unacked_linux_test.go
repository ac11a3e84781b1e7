package rpc

import (
	"net"
	"testing"
	"time"
)

func TestUnackedOfASocket(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	one, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	two, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if n := unacked(one); n != 0 {
		t.Errorf("%d bytes before anything was written", n)
	}
	// The other side reads nothing, so at some time nothing more fits.
	_ = one.SetWriteDeadline(time.Now().Add(limit))
	chunk := make([]byte, 1<<20)
	for range 1000 {
		if unacked(one) > 0 {
			return
		}
		if _, err := one.Write(chunk[:64<<10]); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("64 MB came to who reads nothing")
}
