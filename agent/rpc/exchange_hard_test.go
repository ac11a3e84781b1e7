package rpc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shortItem is an item with a request of node "b".
func shortItem(id uint64, kind byte, body string) []byte {
	request, _ := (&request{from: "b"}).append(nil, kind == itemQuery, len(body), MaxMessageBytes)
	return append(append(appendItem(nil, id, kind, len(request)+len(body)), request...), body...)
}

// piped serves one exchange over a pipe, which holds nothing, and returns the
// client's end of it when the server has taken it.
func piped(t *testing.T, s *Server) (net.Conn, *frames) {
	t.Helper()
	one, two := net.Pipe()
	go s.exchange(s.known(two, 0))
	t.Cleanup(func() {
		one.Close()
		s.stop(errStopping)
	})
	f := newFrames(one, ReadBufferBytes, 2*MaxReplyMessageBytes, time.Hour)
	if _, _, err := f.receive(); err != nil {
		t.Fatal(err)
	}
	return one, f
}

// bareExchange opens an exchange without a client.
func bareExchange(t *testing.T, n *node) (net.Conn, *frames) {
	t.Helper()
	conn, err := Dialer{ID: "b", Resolve: func(string) (string, error) { return n.address(), nil }}.Dial(ProtocolShort, "a", limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := newFrames(conn, ReadBufferBytes, MaxMessageBytes, limit)
	if _, _, err := f.receive(); err != nil {
		t.Fatal(err)
	}
	return conn, f
}

// quicker answers some queries at once.
type quicker struct {
	handler
	quick func(r *QueryRequest) (Reply, bool)
}

func (q quicker) Quick(r *QueryRequest) (Reply, Pace) {
	if reply, ok := q.quick(r); ok {
		return reply, Quick
	}
	return Reply{}, Alone
}

func (quicker) Together(context.Context, []*QueryRequest, func(int, Reply)) {}

// TestGracefulStopAnswersAll stops servers under load: each command has its answer,
// or was certainly not carried out.
func TestGracefulStopAnswersAll(t *testing.T) {
	for range 20 {
		var done atomic.Int64
		busy := make(chan struct{})
		n := start(t, handler{apply: func(context.Context, *ApplyRequest) ([]byte, error) {
			if done.Add(1) == 500 {
				close(busy)
			}
			return []byte("ok"), nil
		}}, nil)
		c := client(t, n, nil)
		exchanging(t, c)
		var group sync.WaitGroup
		var carried atomic.Int64
		for range 64 {
			group.Go(func() {
				for {
					_, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: make([]byte, 300)})
					if err != nil {
						if !Unsent(err) {
							t.Errorf("a command may be carried out or not: %v", err)
						}
						return
					}
					carried.Add(1)
				}
			})
		}
		await(t, "a busy server", busy)
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		group.Wait()
		if carried.Load() != done.Load() {
			t.Errorf("%d commands were carried out, %d were answered", done.Load(), carried.Load())
		}
	}
}

// TestStopWaitsForAnswers stops a server while its receiver sends what a client
// takes late: the command that ends meanwhile is answered, and the end is said.
func TestStopWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := NewServer(ServerConfig{Handler: quicker{
			handler{apply: func(context.Context, *ApplyRequest) ([]byte, error) { <-release; return []byte("done"), nil }},
			func(*QueryRequest) (Reply, bool) { return Reply{Body: make([]byte, 400<<10)}, true },
		}})
		conn, f := piped(t, s)
		defer conn.Close()
		const quick = 60
		frame := shortItem(1, itemApply, "w")
		for i := range quick {
			frame = append(frame, shortItem(uint64(i+2), itemQuery, "q")...)
		}
		if err := f.send(frame); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // until the server waits for this client to read
		s.stop(errStopping)
		synctest.Wait()
		close(release)
		synctest.Wait()
		answered, closed := false, false
		for {
			data, _, err := f.receive()
			if err != nil {
				break
			}
			if err := eachItem(data, func(id uint64, flags byte, _ []byte) error {
				answered = answered || id == 1 && flags == itemEnded
				closed = closed || flags == itemClosing
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if !answered || !closed {
			t.Errorf("the command was answered: %t, the end was said: %t", answered, closed)
		}
	})
}

// TestUnreadAnswersAreBounded has a client that asks and does not read: the server
// soon takes no more from it.
func TestUnreadAnswersAreBounded(t *testing.T) {
	asked := make(chan struct{})
	first := sync.OnceFunc(func() { close(asked) })
	n := start(t, handler{apply: echoing.apply, query: func(_ context.Context, _ *QueryRequest, send func(Reply) error) error {
		first()
		return send(Reply{Body: make([]byte, 8<<20)})
	}}, func(_ *MuxConfig, s *ServerConfig) { s.StopTimeout = time.Second })
	conn, f := bareExchange(t, n)
	id := uint64(0)
	for range 4 { // by themselves, so that it is not the receiver who sends
		id++
		if err := f.send(shortItem(id, itemQuery, "x")); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the first query", asked)
	before, most := runtime.NumGoroutine(), 0
	for sent := 0; sent < 32<<20; {
		var frame []byte
		for len(frame) < MaxMessageBytes-100 {
			id++
			frame = append(frame, shortItem(id, itemQuery, "x")...)
		}
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(append([]byte{0, 0, byte(len(frame) >> 8), byte(len(frame))}, frame...)); err != nil {
			break // it takes no more
		}
		sent += len(frame)
		most = max(most, runtime.NumGoroutine()-before)
	}
	if most > MaxStreams+100 {
		t.Errorf("%d goroutines wait for a connection that does not read, it may have %d calls", most, MaxStreams)
	}
	healthy(t, n)
}

// TestUnreadLooksAreBounded has a client that asks for signs of life, and does not
// read them.
func TestUnreadLooksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerConfig{Handler: echoing})
		conn, f := piped(t, s)
		looks := make([]byte, 4<<20)
		written := make(chan error, 1)
		go func() { _, err := conn.Write(looks); written <- err }()
		select {
		case <-written:
			t.Errorf("%d looks were taken of a client that reads none", len(looks)/frameHead)
		case <-time.After(time.Second): // of the test's own time
		}
		// Whoever reads gets one, and then goes on.
		for i := range 2 {
			if data, _, err := f.receive(); err != nil || len(data) > 0 {
				t.Errorf("sign of life %d: %x, %v", i, data, err)
			}
		}
		conn.Close()
		<-written
	})
}

// TestBrokenConnectionCarriesOutNothing goes on sending on a connection that it
// never reads.
func TestBrokenConnectionCarriesOutNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		s := NewServer(ServerConfig{Handler: handler{apply: func(context.Context, *ApplyRequest) ([]byte, error) { done.Add(1); return nil, nil }}})
		conn, f := piped(t, s)
		defer conn.Close()
		began := time.Now()
		for i := uint64(1); f.send(shortItem(i, itemApply, "w")) == nil; i++ {
			if took := time.Since(began); took > FrameWriteTimeout+10*time.Second {
				t.Fatalf("after %v commands are taken still, %d were carried out", took, done.Load())
			}
			time.Sleep(5 * time.Second) // of the test's own time
		}
	})
}

// TestSlowReply takes as long for a long frame as a server allows itself.
func TestSlowReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := net.Pipe()
		defer one.Close()
		in := newFrames(one, ReplyReadBufferBytes, MaxReplyMessageBytes, ExchangeSilence)
		in.whole = FrameWriteTimeout
		go func() {
			frame := make([]byte, frameHead+MaxReplyMessageBytes)
			frame[1] = MaxReplyMessageBytes >> 16
			for len(frame) > 64<<10 { // a second
				n, err := two.Write(frame[:64<<10])
				if err != nil {
					return
				}
				frame = frame[n:]
				time.Sleep(time.Second)
			}
			_, _ = two.Write(frame)
		}()
		if data, _, err := in.receive(); err != nil || len(data) != MaxReplyMessageBytes {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
}

// TestQuickCallPassesLongAnswer makes a quick call while a long answer is on its way
// to another.
func TestQuickCallPassesLongAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 32 << 20
		s := NewServer(ServerConfig{Handler: quicker{
			handler{query: func(_ context.Context, _ *QueryRequest, send func(Reply) error) error {
				return send(Reply{Body: make([]byte, long)})
			}},
			func(r *QueryRequest) (Reply, bool) {
				if string(r.Query) == "later" {
					time.Sleep(time.Millisecond) // by when the long answer is in the queue
				}
				return Reply{Body: []byte("quick")}, string(r.Query) != "long"
			},
		}})
		conn, f := piped(t, s)
		defer conn.Close()
		go func() {
			if err := errors.Join(f.send(shortItem(1, itemQuery, "long"), shortItem(2, itemQuery, "later")), f.send(shortItem(3, itemQuery, "quick"))); err != nil {
				t.Error(err)
			}
		}()
		received, at := 0, -1
		for received < long || at < 0 {
			data, _, err := f.receive()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond) // the network takes its time
			if err := eachItem(data, func(id uint64, _ byte, item []byte) error {
				if id == 3 {
					at = received
				}
				received += len(item)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if at > long/4 {
			t.Errorf("a quick call was answered after %d of the %d bytes to another", at, long)
		}
	})
}

// TestQueueOfClientIsBounded makes calls that nobody takes, and gives them up.
func TestQueueOfClientIsBounded(t *testing.T) {
	x := &exchange{to: "a", heard: new(atomic.Uint64), ended: make(chan struct{}), wake: make(chan struct{}, 1), waiting: map[uint64]*shortCall{}}
	defer x.end(errStopping)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	data := bytes.Repeat([]byte("x"), MaxShortBytes)
	for range 20_000 {
		if _, err := x.call(ctx, itemApply, &request{from: "b"}, data); !errors.Is(err, context.Canceled) && !errors.Is(err, errExchangeOver) {
			t.Fatal(err)
		}
	}
	queued := 0
	for _, frame := range x.queue {
		queued += cap(frame)
	}
	if queued > 3*MaxQueuedBytes {
		t.Errorf("%d bytes are queued, the limit is %d", queued, MaxQueuedBytes)
	}
}

// A server that stops does not wait for a command for longer than it may: once the
// connection is cut, nobody waits for its answer.
func TestStopEndsCommands(t *testing.T) {
	begun := make(chan struct{})
	n := start(t, handler{apply: func(ctx context.Context, _ *ApplyRequest) ([]byte, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}}, func(_ *MuxConfig, s *ServerConfig) { s.StopTimeout = time.Second })
	c := client(t, n, nil)
	exchanging(t, c)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: []byte("x")})
		answered <- err
	}()
	await(t, "the command", begun)
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if err := <-answered; !Lost(err) {
		t.Errorf("a command whose connection was cut: %v", err)
	}
}
