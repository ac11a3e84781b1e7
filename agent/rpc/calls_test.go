package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// limit is how long a test waits for what must happen.
const limit = time.Minute

// handler answers by functions.
type handler struct {
	apply func(ctx context.Context, r *ApplyRequest) ([]byte, error)
	query func(ctx context.Context, r *QueryRequest, send func(Reply) error) error
}

func (h handler) Apply(ctx context.Context, r *ApplyRequest) ([]byte, error) { return h.apply(ctx, r) }
func (h handler) Query(ctx context.Context, r *QueryRequest, send func(Reply) error) error {
	return h.query(ctx, r, send)
}

// echoing answers with what was asked.
var echoing = handler{
	apply: func(_ context.Context, r *ApplyRequest) ([]byte, error) { return r.Command, nil },
	query: func(_ context.Context, r *QueryRequest, send func(Reply) error) error {
		return send(Reply{Meta: mvcc.Meta{Index: 1}, Body: r.Query})
	},
}

// node is a server port with a Server behind it.
type node struct {
	mux    *Mux
	server *Server
	stop   func() error // ends the Server and tells what Run gave
}

func (n *node) address() string { return n.mux.cfg.Listener.Addr().String() }

// start runs node "a" of cluster blue. change may alter how.
func start(t testing.TB, h Handler, change func(*MuxConfig, *ServerConfig)) *node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mc := MuxConfig{Listener: listener, ID: "a", Cluster: cluster(blue)}
	sc := ServerConfig{Handler: h, StopTimeout: limit}
	if change != nil {
		change(&mc, &sc)
	}
	n := &node{mux: NewMux(mc)}
	sc.Listener, sc.Short = n.mux.Calls(), n.mux.Short()
	n.server = NewServer(sc)
	n.mux.calls.served.Store(true) // a hello may come before the first Accept
	n.mux.short.served.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	muxCtx, cancelMux := context.WithCancel(context.Background())
	ended, muxEnded := make(chan error, 1), make(chan error, 1)
	go func() { ended <- n.server.Run(ctx) }()
	go func() { muxEnded <- n.mux.Run(muxCtx) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		_ = n.stop() // its error is for tests that look at it
		cancelMux()
		if err := <-muxEnded; err != nil {
			t.Errorf("Run of the Mux: %v", err)
		}
	})
	return n
}

// client calls from node "b"; change may alter how.
func client(t testing.TB, n *node, change func(*ClientConfig)) *Client {
	t.Helper()
	cfg := ClientConfig{ID: "b", Cluster: cluster(blue), Resolve: func(string) (string, error) { return n.address(), nil }}
	if change != nil {
		change(&cfg)
	}
	c := NewClient(cfg)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func await[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(limit):
		t.Fatalf("waited %v for %s", limit, what)
		panic("unreachable")
	}
}

// pattern is n bytes that tell if one is out of place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// sizes lie around every place where a body is treated in another way.
var sizes = []int{0, 1, 300, inlineBytes - 1, inlineBytes, inlineBytes + 1, 20 << 10,
	MaxMessageBytes - 60, MaxMessageBytes - 20, MaxMessageBytes - 2, MaxMessageBytes - 1, MaxMessageBytes, MaxMessageBytes + 1,
	2 * MaxMessageBytes, 200 << 10,
	MaxReplyMessageBytes - 20, MaxReplyMessageBytes - 2, MaxReplyMessageBytes, MaxReplyMessageBytes + 1, 3 << 20}

func TestApply(t *testing.T) {
	var got ApplyRequest
	n := start(t, handler{apply: func(_ context.Context, r *ApplyRequest) ([]byte, error) {
		got = *r
		return append([]byte("re:"), r.Command...), nil
	}}, nil)
	c := client(t, n, nil)
	for _, size := range sizes {
		want := ApplyRequest{From: "b", Datacenter: "dc1", Token: "secret", Forwarded: size%2 == 0, Command: pattern(size)}
		result, err := c.Apply(t.Context(), "a", &want)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got.From != want.From || got.Datacenter != want.Datacenter || got.Token != want.Token || got.Forwarded != want.Forwarded || !bytes.Equal(got.Command, want.Command) {
			t.Fatalf("%d bytes: the handler got %.200v", size, got)
		}
		if !bytes.Equal(result, append([]byte("re:"), want.Command...)) {
			t.Fatalf("%d bytes: the result has %d", size, len(result))
		}
	}
	if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil || got.From != "b" {
		t.Errorf("a request without a sender: %v, from %q", err, got.From)
	}
}

func TestQuery(t *testing.T) {
	options := mvcc.ReadOptions{Datacenter: "dc2", Mode: 2, MaxStale: 5 * time.Second, Index: 1 << 40, Wait: time.Minute}
	meta := mvcc.Meta{Index: 1 << 50, Line: 1 << 63, KnownLeader: true, LastContact: time.Millisecond, Mode: 1}
	var got QueryRequest
	n := start(t, handler{query: func(_ context.Context, r *QueryRequest, send func(Reply) error) error {
		got = *r
		if len(r.Query) > 0 {
			return send(Reply{Meta: meta, Body: r.Query, More: true})
		}
		for i, size := range sizes {
			if err := send(Reply{Meta: meta, Body: pattern(size), More: i+1 < len(sizes)}); err != nil {
				return err
			}
		}
		return nil
	}}, nil)
	c := client(t, n, nil)
	for _, size := range sizes {
		seen := 0
		err := c.Query(t.Context(), "a", &QueryRequest{Token: "t", Forwarded: true, Options: options, Query: pattern(size)}, func(r Reply) error {
			if size > 0 {
				seen = slices.Index(sizes, size) // the one reply echoes the query
				r.More = r.More && seen+1 < len(sizes)
			}
			if !bytes.Equal(r.Body, pattern(sizes[seen])) || r.Meta != meta || r.More != (seen+1 < len(sizes)) {
				t.Errorf("reply %d has %d bytes, %+v, more %t", seen, len(r.Body), r.Meta, r.More)
			}
			seen++
			return nil
		})
		if err != nil || size == 0 && seen != len(sizes) || seen == 0 {
			t.Fatalf("%d bytes: %d replies, %v", size, seen, err)
		}
		if got.From != "b" || got.Token != "t" || !got.Forwarded || got.Options != options || !bytes.Equal(got.Query, pattern(size)) {
			t.Fatalf("%d bytes: the handler got %.300v", size, got)
		}
	}
}

func TestQueryEndedByCaller(t *testing.T) {
	ended := make(chan error, 1)
	n := start(t, handler{query: func(ctx context.Context, r *QueryRequest, send func(Reply) error) error {
		if err := send(Reply{}); err != nil {
			return err
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}, nil)
	c := client(t, n, nil)
	enough := errors.New("enough")
	if err := c.Query(t.Context(), "a", &QueryRequest{}, func(Reply) error { return enough }); err != enough {
		t.Errorf("error %v, want the one of each", err)
	}
	await(t, "the handler's context", ended)

	ctx, cancel := context.WithCancel(t.Context())
	err := c.Query(ctx, "a", &QueryRequest{}, func(Reply) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || Unsent(err) || Lost(err) {
		t.Errorf("cancelled: %v", err)
	}
	await(t, "the handler's context", ended)

	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Query(ctx, "a", &QueryRequest{}, func(Reply) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	await(t, "the handler's context", ended)
}

func TestErrorsCross(t *testing.T) {
	long := strings.Repeat("x", MaxErrorBytes+1)
	for _, c := range []struct {
		name string
		give error
		code mvcc.Code
		text string
		is   error
	}{
		{"coded", &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}, mvcc.NoLeader, "No cluster leader", nil},
		{"wrapped", fmt.Errorf("here: %w", &mvcc.Error{Code: mvcc.DiskFull, Text: "full"}), mvcc.DiskFull, "full", nil},
		{"unknown code", &mvcc.Error{Code: 200, Text: "later"}, 200, "later", nil},
		{"plain", errors.New("it broke"), mvcc.Internal, "it broke", nil},
		{"too long", errors.New(long), mvcc.Internal, long[:MaxErrorBytes], nil},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), 0, "", context.Canceled},
		{"deadline", context.DeadlineExceeded, 0, "", context.DeadlineExceeded},
		{"panic", nil, mvcc.Internal, "the server failed at the call: ouch", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			give := func() error {
				if c.give == nil {
					panic("ouch")
				}
				return c.give
			}
			n := start(t, handler{
				apply: func(context.Context, *ApplyRequest) ([]byte, error) { return nil, give() },
				query: func(_ context.Context, _ *QueryRequest, send func(Reply) error) error {
					return errors.Join(send(Reply{Body: []byte("first")}), give())
				},
			}, nil)
			cl := client(t, n, nil)
			_, applied := cl.Apply(t.Context(), "a", &ApplyRequest{})
			replies := 0
			asked := cl.Query(t.Context(), "a", &QueryRequest{}, func(Reply) error { replies++; return nil })
			for _, err := range []error{applied, asked} {
				if err == nil || Unsent(err) || Lost(err) {
					t.Fatalf("error %v, unsent %t, lost %t", err, Unsent(err), Lost(err))
				}
				var coded *mvcc.Error
				switch {
				case c.is != nil && !errors.Is(err, c.is):
					t.Errorf("error %v, want %v", err, c.is)
				case c.is == nil && (!errors.As(err, &coded) || coded.Code != c.code || coded.Text != c.text):
					t.Errorf("error %#v, want code %d, %q", err, c.code, c.text)
				}
			}
			if replies != 1 {
				t.Errorf("%d replies before the error", replies)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	n := start(t, handler{
		apply: func(context.Context, *ApplyRequest) ([]byte, error) { return make([]byte, MaxBodyBytes+1), nil },
		query: func(_ context.Context, _ *QueryRequest, send func(Reply) error) error {
			return send(Reply{Body: make([]byte, MaxBodyBytes+1)})
		},
	}, nil)
	c := client(t, n, nil)
	_, tooMuch := c.Apply(t.Context(), "a", &ApplyRequest{Command: make([]byte, MaxRequestBytes+1)})
	_, result := c.Apply(t.Context(), "a", &ApplyRequest{})
	_, token := c.Apply(t.Context(), "a", &ApplyRequest{Token: strings.Repeat("x", MaxTokenBytes+1)})
	for name, err := range map[string]error{
		"command": tooMuch, "token": token, "result": result,
		"answer": c.Query(t.Context(), "a", &QueryRequest{}, func(Reply) error { return nil }),
	} {
		if mvcc.CodeOf(err) != mvcc.TooLarge || Unsent(err) || !strings.Contains(err.Error(), "the limit is") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnsent(t *testing.T) {
	const nobody = "127.0.0.1:1"
	n := start(t, echoing, nil)
	alone := serve(t, blue) // a Mux without a Server
	for _, c := range []struct {
		name   string
		change func(*ClientConfig)
		to     string
		says   string
		status Status
	}{
		{"another cluster", func(c *ClientConfig) { c.Cluster = cluster(green) }, "a", clusterText(green), StatusWrongCluster},
		{"another node", nil, "c", `it is node "a", node "c" was meant`, StatusWrongTarget},
		{"not served", func(c *ClientConfig) {
			c.Resolve = func(string) (string, error) { return alone.cfg.Listener.Addr().String(), nil }
		}, "a", "protocol not served", StatusNotServed},
		{"no address", func(c *ClientConfig) {
			c.Resolve = func(string) (string, error) { return "", errors.New("no such member") }
		}, "a", "no such member", 0},
		{"refused", func(c *ClientConfig) { c.Resolve = func(string) (string, error) { return nobody, nil } }, "a", "refused", 0},
		{"cut", func(c *ClientConfig) {
			c.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("the cable is cut") }
		}, "a", "the cable is cut", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := client(t, n, c.change)
			_, err := cl.Apply(t.Context(), c.to, &ApplyRequest{})
			if !Unsent(err) || Lost(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, unsent %t, want one that says %q", err, Unsent(err), c.says)
			}
			if c.status != 0 && !errors.Is(err, &Refusal{Status: c.status}) {
				t.Errorf("error %v is not the refusal %s", err, c.status)
			}
		})
	}
}

func TestFailedDialIsRemembered(t *testing.T) {
	n := start(t, echoing, nil)
	var dials, resolves atomic.Int32
	var broken atomic.Bool
	broken.Store(true)
	c := client(t, n, func(c *ClientConfig) {
		c.Resolve = func(string) (string, error) { resolves.Add(1); return n.address(), nil }
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			dials.Add(1)
			if broken.Load() {
				return nil, errors.New("cut")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	})
	// A short one would have a second connection opened.
	long := &ApplyRequest{Command: make([]byte, MaxShortBytes+1)}
	_, err := c.Apply(t.Context(), "a", long)
	if !Unsent(err) {
		t.Fatal(err)
	}
	c.mu.Lock()
	l := c.links["a"]
	if l.pause != RedialMin {
		t.Errorf("the first pause is %v", l.pause)
	}
	l.until = time.Now().Add(time.Hour)
	c.mu.Unlock()
	broken.Store(false)
	if _, again := c.Apply(t.Context(), "a", long); !Unsent(again) || again.Error() != err.Error() || dials.Load() != 1 {
		t.Errorf("in the pause: %v after %d dials", again, dials.Load())
	}
	c.mu.Lock()
	l.until = time.Now()
	c.mu.Unlock()
	if _, err := c.Apply(t.Context(), "a", long); err != nil || dials.Load() != 2 || resolves.Load() != 2 {
		t.Errorf("after the pause: %v, %d dials, %d addresses", err, dials.Load(), resolves.Load())
	}
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if _, err := c.Apply(t.Context(), "a", long); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if dials.Load() != 2 {
		t.Errorf("%d dials for a connection that holds", dials.Load())
	}
}

// TestDialHangs has a network that swallows the first packets.
func TestDialHangs(t *testing.T) {
	n := start(t, echoing, nil)
	dialling := make(chan struct{}, 1)
	c := client(t, n, func(c *ClientConfig) {
		c.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
			dialling <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	call := func(ctx context.Context) {
		_, err := c.Apply(ctx, "a", &ApplyRequest{})
		failed <- err
	}
	go call(ctx)
	await(t, "the dial", dialling)
	cancel()
	if err := await(t, "the call that was cancelled", failed); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	go call(t.Context()) // it waits for the same dial
	_ = c.Close()
	if err := await(t, "the call of a client that closed", failed); !Unsent(err) {
		t.Errorf("error %v", err)
	}
}

// TestBusy fills each count of what a server carries.
func TestBusy(t *testing.T) {
	n := start(t, echoing, nil)
	c := client(t, n, nil)
	long := &ApplyRequest{Command: pattern(2 * MaxMessageBytes)}
	for name, count := range map[string]struct {
		of    *atomic.Int64
		limit int64
	}{
		"calls":     {&n.server.calls, MaxCalls},
		"receiving": {&n.server.receiving, MaxReceiving},
		"bytes":     {&n.server.receivingBytes, MaxReceivingBytes},
	} {
		count.of.Add(count.limit)
		if _, err := c.Apply(t.Context(), "a", long); !Unsent(err) || !strings.Contains(err.Error(), fmt.Sprintf("the limit is %d", count.limit)) {
			t.Errorf("%s: %v", name, err)
		}
		count.of.Add(-count.limit)
		if result, err := c.Apply(t.Context(), "a", long); err != nil || !bytes.Equal(result, long.Command) {
			t.Errorf("%s, after: %d bytes, %v", name, len(result), err)
		}
	}
	c.mu.Lock()
	conn := c.links["a"].conn
	conn.calls += MaxStreams
	c.mu.Unlock()
	if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); !Unsent(err) || !strings.Contains(err.Error(), "calls are under way") {
		t.Errorf("streams: %v", err)
	}
	c.mu.Lock()
	conn.calls -= MaxStreams
	c.mu.Unlock()
}

func TestConnectionBreaks(t *testing.T) {
	begun, broke := make(chan struct{}, 1), make(chan string, 1)
	hangs := handler{apply: func(ctx context.Context, r *ApplyRequest) ([]byte, error) {
		if len(r.Command) == 0 {
			return nil, nil
		}
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	n := start(t, hangs, func(_ *MuxConfig, s *ServerConfig) { s.Broke = func(id string) { broke <- id } })
	second := start(t, echoing, nil)
	var conn net.Conn
	target := n
	c := client(t, n, func(c *ClientConfig) {
		c.Resolve = func(string) (string, error) { return target.address(), nil }
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var err error
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return conn, err
		}
	})
	// A short one would have a second connection opened.
	long := bytes.Repeat([]byte("x"), MaxShortBytes+1)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: long})
		failed <- err
	}()
	await(t, "the handler", begun)
	_ = conn.Close()
	if err := await(t, "the call", failed); !Lost(err) || Unsent(err) {
		t.Errorf("error %v, lost %t", err, Lost(err))
	}
	if id := await(t, "word of the broken connection", broke); id != "b" {
		t.Errorf("the connection of %q broke", id)
	}
	target = second // the server has another address now
	for {
		result, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: long})
		if err == nil {
			if !bytes.Equal(result, long) {
				t.Errorf("the result has %d bytes", len(result))
			}
			break
		}
		if !Unsent(err) {
			t.Fatalf("after the connection broke: %v", err)
		}
	}
}

func TestForgetAndClose(t *testing.T) {
	begun := make(chan struct{}, 2)
	n := start(t, handler{
		apply: func(context.Context, *ApplyRequest) ([]byte, error) { return nil, nil },
		query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		},
	}, nil)
	c := client(t, n, nil)
	hang := func() <-chan error {
		failed := make(chan error, 1)
		go func() { failed <- c.Query(t.Context(), "a", &QueryRequest{}, nil) }()
		await(t, "the handler", begun)
		return failed
	}
	failed := hang()
	c.Forget("a")
	c.Forget("nobody")
	if err := await(t, "the call", failed); !Lost(err) {
		t.Errorf("forgotten: %v", err)
	}
	if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
		t.Errorf("after it was forgotten: %v", err)
	}
	failed = hang()
	_ = c.Close()
	if err := await(t, "the call", failed); !Lost(err) {
		t.Errorf("closed: %v", err)
	}
	if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); !Unsent(err) {
		t.Errorf("after Close: %v", err)
	}
	if len(c.conns) != 0 || len(c.links) != 0 {
		t.Errorf("%d connections, %d links are left", len(c.conns), len(c.links))
	}
}

func TestStopIsGraceful(t *testing.T) {
	begun, finish := make(chan struct{}, 2), make(chan struct{})
	n := start(t, handler{
		apply: func(ctx context.Context, _ *ApplyRequest) ([]byte, error) {
			begun <- struct{}{}
			<-finish
			return []byte("done"), ctx.Err()
		},
		query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		},
	}, func(_ *MuxConfig, s *ServerConfig) {
		s.Broke = func(string) { t.Error("a connection that the server ended broke") }
	})
	c := client(t, n, nil)
	applied, asked, stopped := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); applied <- err }()
	go func() { asked <- c.Query(t.Context(), "a", &QueryRequest{}, nil) }()
	await(t, "a handler", begun)
	await(t, "a handler", begun)
	go func() { stopped <- n.stop() }()
	if err := await(t, "the query", asked); !errors.Is(err, &mvcc.Error{Code: mvcc.ShuttingDown}) {
		t.Errorf("the query that waited: %v", err)
	}
	for { // until word of the end has come
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{})
		if !Unsent(err) {
			t.Fatalf("a call to a server that stops: %v", err)
		}
		if errors.Is(err, &Refusal{Status: StatusNotServed}) {
			break
		}
	}
	close(finish)
	if err := await(t, "the command", applied); err != nil {
		t.Errorf("the command that was under way: %v", err)
	}
	if err := await(t, "the end", stopped); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStopCuts(t *testing.T) {
	begun, out := make(chan struct{}, 1), make(chan struct{})
	n := start(t, handler{apply: func(ctx context.Context, r *ApplyRequest) ([]byte, error) {
		begun <- struct{}{}
		<-ctx.Done()
		if string(r.Command) == "for ever" {
			<-out
		}
		return nil, ctx.Err()
	}}, func(_ *MuxConfig, s *ServerConfig) { s.StopTimeout = 20 * time.Millisecond })
	defer close(out)
	c := client(t, n, nil)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: []byte("for ever")})
		failed <- err
	}()
	await(t, "the handler", begun)
	if err := n.stop(); err == nil || !strings.Contains(err.Error(), "1 calls did not end") {
		t.Errorf("Run with a handler that does not return: %v", err)
	}
	if err := await(t, "the call", failed); !Lost(err) {
		t.Errorf("a call that was cut: %v", err)
	}
}

func TestConnsPerClient(t *testing.T) {
	n := start(t, echoing, func(m *MuxConfig, _ *ServerConfig) { m.ConnsPerClient = 2 })
	first, second := client(t, n, nil), client(t, n, nil)
	for _, c := range []*Client{first, second} {
		if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	third := client(t, n, nil)
	if _, err := third.Apply(t.Context(), "a", &ApplyRequest{}); !errors.Is(err, &Refusal{Status: StatusTooMany}) || !Unsent(err) {
		t.Fatalf("the third connection: %v", err)
	}
	if conn, err := dialer(n.mux, blue).Dial(ProtocolRaft, "a", 0); err != nil {
		t.Errorf("another protocol: %v", err)
	} else {
		_ = conn.Close()
	}
	n.mux.SetConnsPerClient(3)
	fourth := client(t, n, nil)
	if _, err := fourth.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
		t.Errorf("after the limit was raised: %v", err)
	}
	_ = first.Close()
	for {
		_, err := third.Apply(t.Context(), "a", &ApplyRequest{})
		if err == nil {
			break
		}
		if !errors.Is(err, &Refusal{Status: StatusTooMany}) {
			t.Fatal(err)
		}
	}
}

// TestHerd has all queries of an agent come back at once, as after a change of
// servers: none may be refused.
func TestHerd(t *testing.T) {
	const herd = 3000
	var begun sync.WaitGroup
	begun.Add(herd)
	n := start(t, handler{query: func(ctx context.Context, _ *QueryRequest, send func(Reply) error) error {
		begun.Done()
		<-ctx.Done()
		return ctx.Err()
	}}, nil)
	c := client(t, n, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	gate := make(chan struct{})
	for range herd {
		calls.Go(func() {
			<-gate
			if err := c.Query(ctx, "a", &QueryRequest{Query: command32}, nil); !errors.Is(err, context.Canceled) {
				t.Error(err)
				begun.Done()
			}
		})
	}
	close(gate)
	all := make(chan struct{})
	go func() { begun.Wait(); close(all) }()
	await(t, "all handlers", all)
	cancel()
	calls.Wait()
}

func FuzzDecodeRequest(f *testing.F) {
	for _, query := range []bool{false, true} {
		r := request{from: "b", token: "t", datacenter: "dc1", forwarded: true, options: mvcc.ReadOptions{Index: 7, Wait: time.Second, Mode: 1}}
		whole, _ := r.append(nil, query, 3, MaxMessageBytes)
		f.Add(append(whole, "abc"...), query, uint16(0))
		cut, first := r.append(nil, query, 1<<20, 100)
		f.Add(append(cut, pattern(first)...), query, uint16(9))
	}
	f.Add([]byte{2, 0}, false, uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, query bool, pieces uint16) {
		beyond := int(pieces)
		r, part, total, err := decodeRequest(data, beyond, query, "b")
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if total > MaxRequestBytes && total != len(part)+beyond || len(part)+beyond > total || len(r.from) > MaxIDBytes || len(r.token) > MaxTokenBytes || len(r.datacenter) > MaxDatacenterBytes {
			t.Fatalf("accepted %+v, %d of %d", r, len(part), total)
		}
		room := 1 << 30
		if total > len(part)+beyond {
			room = 0 // cut, wherever
		}
		again, _ := r.append(nil, query, total, room)
		s, _, n, err := decodeRequest(append(again, part...), beyond, query, "")
		if err != nil || s != r || n != total {
			t.Fatalf("%+v, %d came back as %+v, %d, %v", r, total, s, n, err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add([]byte(encodeResult([]byte("abc")).Materialize()))
	f.Add([]byte(encodeError(errorCoded, mvcc.NoLeader, "No cluster leader").Materialize()))
	f.Add([]byte(encodeError(errorDeadline, 0, "").Materialize()))
	f.Add([]byte{wireForm, replyPart, 1})
	a := answer{mvcc.Meta{Index: 9, Line: 1 << 63, KnownLeader: true, LastContact: 3, Mode: 1}, true, true}
	whole, _ := a.append(nil, 3, MaxMessageBytes)
	f.Add(append(whole, "abc"...))
	cut, first := a.append(nil, 1<<20, 100)
	f.Add(append(cut, pattern(first)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeReply(data, 0)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if (p.kind == replyError) != (p.err != nil) || p.err != nil && len(p.err.Error()) > MaxErrorBytes {
			t.Fatalf("kind %d with error %v", p.kind, p.err)
		}
		if p.kind != replyAnswer {
			return
		}
		room := 1 << 30
		if p.total > len(p.part) {
			room = 0
		}
		again, _ := p.append(nil, p.total, room)
		q, err := decodeReply(append(again, p.part...), 0)
		if err != nil || q.answer != p.answer || q.total != p.total {
			t.Fatalf("%+v came back as %+v, %v", p, q, err)
		}
	})
}
