package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// streamServer answers the queries that come by the connections of one listener
// (RFC 7766), those of one connection in turn.
type streamServer struct {
	server   *Server
	listener net.Listener
	// ending is done when no more queries are to be read; queries run on work.
	ending, work context.Context
	// slots bounds the connections of all listeners together.
	slots chan struct{}

	group sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// run serves the listener until ending is done or the listener fails for good.
func (t *streamServer) run() error {
	defer t.group.Wait()
	for {
		select {
		case t.slots <- struct{}{}:
		case <-t.ending.Done():
			return nil
		}
		conn, err := t.listener.Accept()
		if err == nil {
			t.group.Go(func() {
				defer func() { <-t.slots }()
				t.serve(conn)
			})
			continue
		}
		<-t.slots
		switch {
		case t.ending.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("cannot accept DNS connections at %s: %w", t.listener.Addr(), err)
		}
		t.server.config.Logger.Debug("Cannot accept a DNS connection", "error", err)
		pause(t.ending, retryDelay)
	}
}

// stop lets no connection read another query. The one under way is answered.
func (t *streamServer) stop() {
	t.listener.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for conn := range t.conns {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// awaitQuery gives a connection its time for the next query, and reports whether
// there is to be one. It is what stop excludes.
func (t *streamServer) awaitQuery(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending.Err() != nil {
		return false
	}
	t.conns[conn] = struct{}{}
	return conn.SetReadDeadline(time.Now().Add(tcpIdleTimeout)) == nil
}

func (t *streamServer) forget(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
}

// serve answers the queries of one connection until the client has asked enough.
func (t *streamServer) serve(conn net.Conn) {
	defer conn.Close()
	defer t.forget(conn)
	sc := t.server.scratches.Get().(*scratch)
	defer t.server.scratches.Put(sc)
	for range maxTCPQueries {
		if !t.awaitQuery(conn) {
			return
		}
		var err error
		if sc.query, err = readFramed(conn, sc.query); err != nil {
			return
		}
		ctx := newQueryContext(t.work, lookupTimeout)
		sc.out = t.server.respond(ctx, sc.query, append(sc.out[:0], 0, 0), TCP, sc)
		ctx.end()
		if len(sc.out) <= 2 {
			continue
		}
		binary.BigEndian.PutUint16(sc.out, uint16(len(sc.out)-2))
		if conn.SetWriteDeadline(time.Now().Add(tcpIdleTimeout)) != nil {
			return
		}
		if _, err := conn.Write(sc.out); err != nil {
			return
		}
	}
}

// readFramed reads a message that its length in two bytes precedes (RFC 1035
// §4.2.2), into b if it has room.
func readFramed(r io.Reader, b []byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return b, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if cap(b) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	_, err := io.ReadFull(r, b)
	return b, err
}
