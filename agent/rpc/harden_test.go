package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a client that writes its own frames.
type raw struct {
	net.Conn
	t      testing.TB
	framer *http2.Framer
	block  bytes.Buffer
	pack   *hpack.Encoder
}

// rawPreface begins HTTP/2 on a connection whose hello is done.
func rawPreface(t testing.TB, conn net.Conn) *raw {
	t.Helper()
	r := &raw{Conn: conn, t: t, framer: http2.NewFramer(conn, conn)}
	r.framer.AllowIllegalWrites = true
	r.pack = hpack.NewEncoder(&r.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := r.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return r
}

// dialRaw says hello to a node and begins HTTP/2.
func dialRaw(t testing.TB, n *node) *raw {
	t.Helper()
	conn, err := dialer(n.mux, blue).Dial(ProtocolCalls, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return rawPreface(t, conn)
}

// headers opens a stream with a call of method.
func (r *raw) headers(stream uint32, method string, more ...hpack.HeaderField) error {
	r.block.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc+muster"}, {Name: "te", Value: "trailers"}}, more...) {
		_ = r.pack.WriteField(f)
	}
	return r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: r.block.Bytes(), EndHeaders: true})
}

// framed puts the library's head before a message.
func framed(message []byte, length int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), message...)
}

// until reads frames until one is what is looked for, or the connection ends.
func (r *raw) until(found func(http2.Frame) bool) error {
	for {
		f, err := r.framer.ReadFrame()
		if err != nil {
			return err
		}
		if found(f) {
			return nil
		}
	}
}

// healthy fails unless another client is served.
func healthy(t testing.TB, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if result, err := client(t, n, nil).Apply(ctx, "a", &ApplyRequest{Command: []byte("well")}); err != nil || string(result) != "well" {
		t.Errorf("another client: %q, %v", result, err)
	}
}

// heap is what lives after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestGarbage(t *testing.T) {
	n := start(t, echoing, nil)
	for name, send := range map[string][]byte{
		"no preface":       bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4),
		"noise":            pattern(4096),
		"zeros":            make([]byte, 4096),
		"settings missing": append([]byte(http2.ClientPreface), pattern(4096)...),
		"frame of 16 MB":   append([]byte(http2.ClientPreface), 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0),
		"oversize data": append([]byte(http2.ClientPreface), 0, 0, 0, 4, 0, 0, 0, 0, 0,
			0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1),
		"noise later": append(append([]byte(http2.ClientPreface), 0, 0, 0, 4, 0, 0, 0, 0, 0), pattern(4096)...),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialer(n.mux, blue).Dial(ProtocolCalls, "a", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(limit))
			_, _ = conn.Write(send) // it may be closed half way
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if wait, ok := err.(net.Error); ok && wait.Timeout() {
					t.Errorf("the connection is still open after %v", limit)
				}
			}
		})
	}
	healthy(t, n)
}

func TestOversizeMessage(t *testing.T) {
	n := start(t, echoing, nil)
	before := heap()
	r := dialRaw(t, n)
	if err := errors.Join(r.headers(1, applyMethod), r.framer.WriteData(1, false, framed([]byte("x"), 1<<30))); err != nil {
		t.Fatal(err)
	}
	status := ""
	err := r.until(func(f http2.Frame) bool {
		h, ok := f.(*http2.HeadersFrame)
		if !ok {
			return false
		}
		fields, _ := hpack.NewDecoder(4096, nil).DecodeFull(h.HeaderBlockFragment())
		for _, field := range fields {
			if field.Name == "grpc-status" {
				status = field.Value
			}
		}
		return true
	})
	if err != nil || status != "8" {
		t.Errorf("a message of 1 GB: status %q, %v, want 8 (resource exhausted)", status, err)
	}
	if grown := int64(heap() - before); grown > 4<<20 {
		t.Errorf("it cost %d bytes", grown)
	}
	healthy(t, n)
}

func TestHeaderBomb(t *testing.T) {
	n := start(t, echoing, nil)
	before := heap()
	// One entry of 4 KB in the table of headers, named again and again by one
	// byte, and then a stream of continuations without an end.
	r := dialRaw(t, n)
	big := hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 3000)}
	many := make([]hpack.HeaderField, 10000)
	for i := range many {
		many[i] = big
	}
	_ = r.headers(1, applyMethod, many...)
	fragment := append([]byte(nil), r.block.Bytes()[:min(r.block.Len(), 16000)]...)
	_ = r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: fragment})
	for range 10000 {
		if err := r.framer.WriteContinuation(3, false, fragment); err != nil {
			break
		}
	}
	if err := r.until(func(http2.Frame) bool { return false }); err != nil {
		if wait, ok := err.(net.Error); ok && wait.Timeout() {
			t.Errorf("continuations without an end were taken for %v", limit)
		}
	}
	if grown := int64(heap() - before); grown > 4<<20 {
		t.Errorf("it cost %d bytes", grown)
	}
	healthy(t, n)
}

func TestManyStreams(t *testing.T) {
	n := start(t, echoing, nil)
	before := heap()
	r := dialRaw(t, n)
	// Half a message on each of more streams than there may be. Refusals of so
	// many fit the window of a client that never widens it.
	const above = 500
	half := framed(append([]byte{wireForm, 0}, make([]byte, 16000)...), MaxMessageBytes)
	refused := make(chan error, 1)
	go func() {
		seen := 0
		refused <- r.until(func(f http2.Frame) bool {
			if h, ok := f.(*http2.HeadersFrame); ok && h.StreamEnded() {
				seen++ // the end of a call that was refused as busy
			}
			return seen == above
		})
	}()
	for i := range MaxReceiving + above {
		stream := uint32(2*i + 1)
		if err := errors.Join(r.headers(stream, applyMethod), r.framer.WriteData(stream, false, half)); err != nil {
			t.Fatal(err)
		}
	}
	if err := await(t, "refusals", refused); err != nil {
		t.Fatal(err)
	}
	if n := n.server.receiving.Load(); n > MaxReceiving {
		t.Errorf("%d requests are coming in", n)
	}
	if grown := int64(heap() - before); grown > MaxReceiving*(16000+32<<10) {
		t.Errorf("it cost %d bytes", grown)
	} else {
		t.Logf("half messages of %d bytes cost %d", MaxReceiving*16000, grown)
	}
	// A call that is not short takes a stream of its own.
	long := &ApplyRequest{Command: make([]byte, MaxShortBytes+1)}
	_, err := client(t, n, nil).Apply(t.Context(), "a", long)
	if !Unsent(err) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a call while too many come in: %v", err)
	}
	_ = r.Close()
	c := client(t, n, nil)
	for { // until the server has seen the end of it
		_, err := c.Apply(t.Context(), "a", long)
		if err == nil {
			break
		}
		if !Unsent(err) {
			t.Fatal(err)
		}
	}
}

func TestStreamsAboveTheLimit(t *testing.T) {
	begun := make(chan struct{}, MaxStreams+1)
	n := start(t, handler{query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}, nil)
	r := dialRaw(t, n)
	head := request{from: "b"}
	message, _ := head.append(nil, true, 0, MaxMessageBytes)
	over := uint32(2*MaxStreams + 1)
	refused := make(chan error, 1)
	go func() {
		refused <- r.until(func(f http2.Frame) bool {
			reset, ok := f.(*http2.RSTStreamFrame)
			return ok && reset.StreamID == over && reset.ErrCode == http2.ErrCodeRefusedStream
		})
	}()
	before := heap()
	for i := range MaxStreams {
		stream := uint32(2*i + 1)
		if err := errors.Join(r.headers(stream, queryMethod), r.framer.WriteData(stream, true, framed(message, len(message)))); err != nil {
			t.Fatal(err)
		}
		await(t, "a handler", begun)
	}
	t.Logf("%d bytes for each call that waits", int64(heap()-before)/MaxStreams)
	if err := r.headers(over, queryMethod); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "a refusal", refused); err != nil {
		t.Error(err)
	}
	healthyQuery := client(t, n, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if err := healthyQuery.Query(ctx, "a", &QueryRequest{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("another client: %v", err)
	}
}

// TestSlowClients lets clients stop at each place of what they have to say.
func TestSlowClients(t *testing.T) {
	for _, c := range []struct {
		name string
		send func(t *testing.T, conn net.Conn)
		// within is when the server must have closed the connection.
		within time.Duration
	}{
		{"nothing", func(*testing.T, net.Conn) {}, HandshakeTimeout},
		{"half a preface", func(_ *testing.T, conn net.Conn) { _, _ = io.WriteString(conn, http2.ClientPreface[:10]) }, HandshakeTimeout},
		{"no settings", func(_ *testing.T, conn net.Conn) { _, _ = io.WriteString(conn, http2.ClientPreface) }, HandshakeTimeout},
		{"no message", func(t *testing.T, conn net.Conn) { _ = rawPreface(t, conn).headers(1, applyMethod) }, RequestTimeout},
		{"half a message", func(t *testing.T, conn net.Conn) {
			r := rawPreface(t, conn)
			_ = r.headers(1, queryMethod)
			_ = r.framer.WriteData(1, false, framed([]byte{wireForm, 0}, 1000))
		}, RequestTimeout},
		{"half a request", func(t *testing.T, conn net.Conn) {
			r := rawPreface(t, conn)
			head := request{from: "b"}
			message, first := head.append(nil, false, 1<<20, 200)
			message = append(message, pattern(first)...)
			_ = r.headers(1, applyMethod)
			_ = r.framer.WriteData(1, false, framed(message, len(message)))
		}, RequestTimeout + (1<<20)*time.Second/SlowestRequest},
		{"a request by drops", func(t *testing.T, conn net.Conn) {
			r := rawPreface(t, conn)
			head := request{from: "b"}
			message, first := head.append(nil, false, 1<<20, 200)
			message = append(message, pattern(first)...)
			_ = r.headers(1, applyMethod)
			err := r.framer.WriteData(1, false, framed(message, len(message)))
			for err == nil {
				time.Sleep(time.Second) // of the bubble
				err = r.framer.WriteData(1, false, framed([]byte{1}, 1))
			}
		}, RequestTimeout + (1<<20)*time.Second/SlowestRequest},
		{"half a header", func(t *testing.T, conn net.Conn) {
			r := rawPreface(t, conn)
			_ = r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}})
		}, ServerKeepaliveTime + ServerKeepaliveTimeout},
		{"silence", func(t *testing.T, conn net.Conn) { rawPreface(t, conn) }, ServerKeepaliveTime + ServerKeepaliveTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := newPipeListener()
				s := NewServer(ServerConfig{Listener: listener, Handler: echoing})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx) }()
				conn := listener.dial()
				start := time.Now()
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					_, _ = io.Copy(io.Discard, conn)
				}()
				c.send(t, conn)
				<-closed
				if took := time.Since(start); took > c.within+time.Second {
					t.Errorf("it was open for %v, the limit is %v", took, c.within)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run: %v", err)
				}
				if left := s.receiving.Load() + s.receivingBytes.Load() + s.calls.Load(); left != 0 {
					t.Errorf("%d is left of what was counted", left)
				}
			})
		})
	}
}

// TestStopWithSilentConnections shows that a connection in its preface does not
// hold up the end.
func TestStopWithSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		s := NewServer(ServerConfig{Listener: listener, Handler: echoing})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		conn := listener.dial()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v to stop", took)
		}
	})
}
