package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	blue  = [16]byte{0xb1}
	green = [16]byte{0x9e}
	none  = [16]byte{}
)

func cluster(id [16]byte) func() [16]byte { return func() [16]byte { return id } }

// serve runs a Mux for node "a" of the given cluster on a port of its own and
// ends it with the test.
func serve(t testing.TB, id [16]byte) *Mux {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(MuxConfig{Listener: listener, ID: "a", Cluster: cluster(id)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return m
}

// dialer reaches m from node "b" of the given cluster.
func dialer(m *Mux, id [16]byte) Dialer {
	return Dialer{ID: "b", Cluster: cluster(id), Resolve: func(string) (string, error) {
		return m.cfg.Listener.Addr().String(), nil
	}}
}

func TestDial(t *testing.T) {
	for _, c := range []struct {
		name         string
		here, theirs [16]byte
		protocol     byte
		target       string
		refused      Status   // zero: accepted
		says         []string // parts of the error
	}{
		{name: "same cluster", here: blue, theirs: blue, protocol: ProtocolRaft, target: "a"},
		{name: "dialer does not know its cluster", here: none, theirs: blue, protocol: ProtocolRaft, target: "a"},
		{name: "server does not know its cluster", here: blue, theirs: none, protocol: ProtocolRaft, target: "a"},
		{name: "neither knows its cluster", here: none, theirs: none, protocol: ProtocolRaft, target: "a"},
		{name: "another cluster", here: blue, theirs: green, protocol: ProtocolRaft, target: "a", refused: StatusWrongCluster,
			says: []string{clusterText(blue), clusterText(green)}},
		{name: "another node", here: blue, theirs: blue, protocol: ProtocolRaft, target: "c", refused: StatusWrongTarget,
			says: []string{`node "a"`, `node "c"`}},
		{name: "unknown protocol", here: blue, theirs: blue, protocol: 9, target: "a", refused: StatusUnknownProtocol,
			says: []string{"protocol 9"}},
		{name: "calls are not served yet", here: blue, theirs: blue, protocol: ProtocolCalls, target: "a", refused: StatusNotServed,
			says: []string{"protocol 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := serve(t, c.theirs)
			conn, err := dialer(m, c.here).Dial(c.protocol, c.target, 0)
			if c.refused != 0 {
				if !errors.Is(err, &Refusal{Status: c.refused}) {
					t.Fatalf("error %v, want a refusal: %s", err, c.refused)
				}
				for _, part := range c.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			echo(t, m, conn)
		})
	}
}

// A refusal that had no error in it is logged without one.
func TestRefusalsInTheLog(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedLog{}
	m := NewMux(MuxConfig{Listener: listener, ID: "a", Cluster: cluster(blue), Logger: slog.New(slog.NewTextHandler(log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	_, err = dialer(m, green).Dial(ProtocolRaft, "a", 0)
	cancel()
	if runErr := <-ended; runErr != nil || !errors.Is(err, &Refusal{Status: StatusWrongCluster}) {
		t.Errorf("Run: %v, Dial: %v", runErr, err)
	}
	if text := log.String(); !strings.Contains(text, "refused a connection") || strings.Contains(text, "error=") || strings.Contains(text, "nil") {
		t.Errorf("the log says %q", text)
	}
}

// lockedLog is a log that is written and read at the same time.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to it.
func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all of it.
func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// echo checks that bytes pass both ways between a dialled connection and the
// one that the Raft listener gives out.
func echo(t *testing.T, m *Mux, conn net.Conn) {
	t.Helper()
	accepted, err := m.Raft().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for _, way := range []struct{ from, to net.Conn }{{conn, accepted}, {accepted, conn}} {
		go func() { _, _ = way.from.Write([]byte("ping")) }() // seen by the read
		got := make([]byte, 4)
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "ping" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

func TestDialFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent := func(string) (string, error) { return listener.Addr().String(), nil }
	unknown := errors.New("no such member")
	for _, c := range []struct {
		name    string
		resolve func(string) (string, error)
		target  string
		says    string
	}{
		{"no ID", silent, "", "1 to 255"},
		{"long ID", silent, strings.Repeat("x", 256), "256 bytes"},
		{"not resolved", func(string) (string, error) { return "", unknown }, "a", "no such member"},
		{"no answer to the hello", silent, "a", "did not answer the hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Dialer{ID: "b", Resolve: c.resolve}.Dial(ProtocolRaft, c.target, 2*time.Second)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestRawHello(t *testing.T) {
	for _, c := range []struct {
		name  string
		sends []byte
		want  []byte
	}{
		{"unknown form", []byte{1, 77, 1, 2, 3}, appendIdentity([]byte{byte(StatusUnknownForm)}, blue, "a")},
		{"empty node ID", append([]byte{1, 1}, make([]byte, 17)...), appendIdentity([]byte{byte(StatusMalformed)}, blue, "a")},
		{"cut short", []byte{1, 1, 0}, appendIdentity([]byte{byte(StatusMalformed)}, blue, "a")},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := serve(t, blue)
			conn, err := net.Dial("tcp", m.cfg.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(c.sends); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("answer %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestRaftListenerClosed(t *testing.T) {
	m := serve(t, blue)
	waiting, err := dialer(m, blue).Dial(ProtocolRaft, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	// One connection may still be on its way into the queue: the listener
	// closes it either way.
	if err := errors.Join(m.Raft().Close(), m.Raft().Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that nobody accepted stayed open")
	}
	if _, err := m.Raft().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	if _, err := dialer(m, blue).Dial(ProtocolRaft, "a", 0); !errors.Is(err, &Refusal{Status: StatusNotServed}) {
		t.Errorf("Dial after Close: %v", err)
	}
}

func TestCloseWhileAccepting(t *testing.T) {
	m := serve(t, blue)
	accepted := make(chan error, 1)
	go func() {
		_, err := m.Raft().Accept()
		accepted <- err
	}()
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept while closing: %v", err)
	}
	if _, err := dialer(m, blue).Dial(ProtocolRaft, "a", 0); err == nil {
		t.Error("a closed Mux was reached")
	}
}

func TestListenerFailsUnderMux(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(MuxConfig{Listener: listener, ID: "a"})
	_ = listener.Close()
	if err := m.Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run on a closed listener: %v", err)
	}
}

// pipeListener accepts connections in memory, so that a test can move the
// clock.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }

func (l *pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l.conns <- far
	return near
}

func TestSlowHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		m := NewMux(MuxConfig{Listener: listener, ID: "a", Cluster: cluster(blue)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()

		start := time.Now()
		slow := make([]net.Conn, MaxHandshakes)
		for i := range slow {
			slow[i] = listener.dial()
			if _, err := slow[i].Write([]byte{ProtocolRaft}); err != nil {
				t.Fatal(err)
			}
		}
		extra := listener.dial()
		if answer, err := io.ReadAll(extra); err != nil || !strings.HasPrefix(string(answer), string(rune(StatusBusy))) {
			t.Errorf("a connection above the limit was answered %q, %v", answer, err)
		}
		var readers sync.WaitGroup
		for _, conn := range slow {
			readers.Go(func() {
				if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), string(rune(StatusMalformed))) {
					t.Errorf("a slow hello was answered %q, %v", answer, err)
				}
			})
		}
		readers.Wait()
		if took := time.Since(start); took < HandshakeTimeout || took > HandshakeTimeout+lingerTimeout {
			t.Errorf("slow hellos were ended after %v", took)
		}
		synctest.Wait()
		conn := listener.dial()
		if err := greet(conn, hello{protocol: ProtocolRaft, form: FormPlain, cluster: blue, target: "a"}, time.Now().Add(time.Second)); err != nil {
			t.Errorf("after the slow ones were gone: %v", err)
		}
		echo(t, m, conn)
		idle := listener.dial()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("a connection in its hello outlived the Mux")
		}
	})
}

func TestNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		m := NewMux(MuxConfig{Listener: listener, ID: "a"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		h := hello{protocol: ProtocolRaft, form: FormPlain, target: "a"}
		for range AcceptBacklog {
			if err := greet(listener.dial(), h, time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := greet(listener.dial(), h, time.Now().Add(time.Second)); !errors.Is(err, &Refusal{Status: StatusBusy}) {
			t.Errorf("a connection above the backlog: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func FuzzReadHello(f *testing.F) {
	f.Add(hello{protocol: ProtocolRaft, form: FormPlain, cluster: blue, target: "a"}.append(nil))
	f.Add(hello{protocol: 9, form: FormPlain, target: strings.Repeat("x", 255)}.append(nil))
	f.Add([]byte{1, 2})
	f.Add(append([]byte{1, 1}, make([]byte, 17)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := readHello(r)
		if err != nil {
			return
		}
		if h.form != FormPlain || h.target == "" {
			t.Fatalf("accepted %+v", h)
		}
		if used := data[:len(data)-r.Len()]; !bytes.Equal(h.append(nil), used) {
			t.Fatalf("read %q as %+v, which writes as %q", used, h, h.append(nil))
		}
	})
}

// Who is to be quicker, or may be slower, is.
func TestHandshakeTimeout(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			listener := newPipeListener()
			m := NewMux(MuxConfig{Listener: listener, ID: "a", HandshakeTimeout: limit})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			start := time.Now()
			if _, err := io.ReadAll(listener.dial()); err != nil || time.Since(start) < limit || time.Since(start) > limit+lingerTimeout {
				t.Errorf("a silent one was ended after %v, %v", time.Since(start), err)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
