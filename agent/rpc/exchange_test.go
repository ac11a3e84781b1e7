package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// only takes the one reply to a short query.
func only(into *Reply) func(Reply) error {
	return func(r Reply) error { *into = r; return nil }
}

// exchanging waits until short calls share a connection, and returns it.
func exchanging(t testing.TB, c *Client) *exchange {
	t.Helper()
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		conn, err := c.take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		x := c.exchange(conn, "a")
		c.release(conn)
		if x != nil {
			return x
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no connection for short calls within %v", limit)
	return nil
}

func TestShortQuery(t *testing.T) {
	options := mvcc.ReadOptions{Datacenter: "dc2", Mode: 2, MaxStale: 5 * time.Second}
	meta := mvcc.Meta{Index: 1 << 50, Line: 1 << 63, KnownLeader: true, LastContact: time.Millisecond, Mode: 1}
	var got QueryRequest
	n := start(t, handler{query: func(_ context.Context, r *QueryRequest, send func(Reply) error) error {
		got = *r
		size, _ := binary.Uvarint(r.Query)
		if r.Have == (Stamp{meta.Index, meta.Line}) {
			return send(Reply{Meta: meta, Same: true})
		}
		return send(Reply{Meta: meta, Body: pattern(int(size))})
	}}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	for _, have := range []Stamp{{}, {Index: 3, Line: 1 << 63}, {Index: meta.Index, Line: meta.Line}} {
		for _, size := range append(sizes, MaxItemBytes-1, MaxItemBytes, MaxItemBytes+1) {
			want := QueryRequest{From: "b", Token: "t", Forwarded: true, Short: true, Options: options, Have: have, Query: binary.AppendUvarint(nil, uint64(size))}
			var r Reply
			if err := c.Query(t.Context(), "a", &want, only(&r)); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if got.From != "b" || got.Token != "t" || !got.Forwarded || got.Options != options || got.Have != have || !bytes.Equal(got.Query, want.Query) {
				t.Fatalf("the handler got %+v", got)
			}
			same := have.Index == meta.Index
			if r.Meta != meta || r.Same != same || same && len(r.Body) > 0 || !same && !bytes.Equal(r.Body, pattern(size)) {
				t.Fatalf("%d bytes: the reply has %d, %+v, same %t", size, len(r.Body), r.Meta, r.Same)
			}
		}
	}
	if n := n.server.exchanges.Load(); n != 1 {
		t.Errorf("%d exchanges are open, want one for all calls", n)
	}
}

func TestShortCallsAtOnce(t *testing.T) {
	n := start(t, handler{
		apply: func(_ context.Context, r *ApplyRequest) ([]byte, error) { return r.Command, nil },
		query: func(_ context.Context, r *QueryRequest, send func(Reply) error) error {
			return send(Reply{Body: bytes.Repeat(r.Query, int(r.Query[0]%8))})
		},
	}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	var group sync.WaitGroup
	for caller := range 64 {
		group.Go(func() {
			for i := range 50 {
				size := 1 + (caller*50+i*331)%MaxShortBytes
				data := bytes.Repeat([]byte{byte(caller + i)}, size)
				result, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: data})
				if err != nil || !bytes.Equal(result, data) {
					t.Errorf("a command of %d bytes: %d came back, %v", size, len(result), err)
				}
				var r Reply
				if err := c.Query(t.Context(), "a", &QueryRequest{Short: true, Query: data}, only(&r)); err != nil || !bytes.Equal(r.Body, bytes.Repeat(data, int(data[0]%8))) {
					t.Errorf("a query of %d bytes: %d came back, %v", size, len(r.Body), err)
				}
			}
		})
	}
	group.Wait()
}

func TestShortErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		query func(context.Context, func(Reply) error) error
		code  mvcc.Code
		is    error
	}{
		{"coded", func(context.Context, func(Reply) error) error { return &mvcc.Error{Code: mvcc.NoLeader} }, mvcc.NoLeader, nil},
		{"plain", func(context.Context, func(Reply) error) error { return errors.New("it broke") }, mvcc.Internal, nil},
		{"panic", func(context.Context, func(Reply) error) error { panic("ouch") }, mvcc.Internal, nil},
		{"deadline", func(context.Context, func(Reply) error) error { return context.DeadlineExceeded }, 0, context.DeadlineExceeded},
		{"no reply", func(context.Context, func(Reply) error) error { return nil }, mvcc.Internal, nil},
		{"two replies", func(_ context.Context, send func(Reply) error) error {
			return errors.Join(send(Reply{}), send(Reply{}))
		}, mvcc.Invalid, nil},
		{"too long", func(_ context.Context, send func(Reply) error) error {
			return send(Reply{Body: make([]byte, MaxBodyBytes+1)})
		}, mvcc.TooLarge, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, handler{query: func(ctx context.Context, _ *QueryRequest, send func(Reply) error) error { return c.query(ctx, send) }}, nil)
			client := client(t, n, nil)
			exchanging(t, client)
			err := client.Query(t.Context(), "a", &QueryRequest{Short: true}, func(Reply) error { t.Error("a reply"); return nil })
			if err == nil || Unsent(err) || Lost(err) || c.is != nil && !errors.Is(err, c.is) || c.is == nil && mvcc.CodeOf(err) != c.code {
				t.Errorf("error %v, unsent %t, lost %t", err, Unsent(err), Lost(err))
			}
		})
	}
}

// TestShortCallEndedByCaller ends a query and a command for which nobody waits any
// more: what came of the command is not known, but it must not begin late.
func TestShortCallEndedByCaller(t *testing.T) {
	begun, ended := make(chan struct{}, 2), make(chan error, 1)
	n := start(t, handler{
		query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		},
		apply: func(ctx context.Context, _ *ApplyRequest) ([]byte, error) {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
	}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	cancelled := func(call func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- call(ctx) }()
		await(t, "a handler", begun)
		cancel()
		if err := await(t, "the caller", failed); !errors.Is(err, context.Canceled) || Unsent(err) || Lost(err) {
			t.Errorf("cancelled: %v", err)
		}
	}
	cancelled(func(ctx context.Context) error { return c.Query(ctx, "a", &QueryRequest{Short: true}, nil) })
	if err := await(t, "the query", ended); err == nil {
		t.Error("the query goes on that nobody waits for")
	}
	cancelled(func(ctx context.Context) error {
		_, err := c.Apply(ctx, "a", &ApplyRequest{Command: []byte("x")})
		return err
	})
	if err := await(t, "the command", ended); err == nil {
		t.Error("the command goes on that nobody waits for")
	}
}

func TestShortCallsOfABrokenConnection(t *testing.T) {
	begun := make(chan struct{}, 1)
	n := start(t, handler{apply: func(ctx context.Context, r *ApplyRequest) ([]byte, error) {
		if len(r.Command) > 0 {
			begun <- struct{}{}
			<-ctx.Done()
		}
		return nil, ctx.Err()
	}}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: []byte("x")})
		failed <- err
	}()
	await(t, "a handler", begun)
	n.server.cut()
	if err := await(t, "the caller", failed); !Lost(err) || Unsent(err) {
		t.Errorf("a call that was cut: %v", err)
	}
	for { // until the client has seen the end of the connection
		_, err := c.Apply(t.Context(), "a", &ApplyRequest{})
		if err == nil {
			break
		}
		if !Unsent(err) && !Lost(err) {
			t.Fatal(err)
		}
	}
}

func TestShortQueryOfAServerThatStops(t *testing.T) {
	begun := make(chan struct{}, 1)
	n := start(t, handler{query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	asked := make(chan error, 1)
	go func() { asked <- c.Query(t.Context(), "a", &QueryRequest{Short: true}, nil) }()
	await(t, "a handler", begun)
	if err := n.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := await(t, "the query", asked); !errors.Is(err, &mvcc.Error{Code: mvcc.ShuttingDown}) {
		t.Errorf("the query that waited: %v", err)
	}
}

// TestExchangesAboveTheLimit makes short calls where there is no room for what
// they share.
func TestExchangesAboveTheLimit(t *testing.T) {
	n := start(t, echoing, nil)
	n.server.exchanges.Store(MaxExchanges)
	c := client(t, n, nil)
	var r Reply
	for range 2 {
		if result, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: []byte("x")}); err != nil || string(result) != "x" {
			t.Errorf("a command: %q, %v", result, err)
		}
		if err := c.Query(t.Context(), "a", &QueryRequest{Short: true, Query: []byte("y")}, only(&r)); err != nil || string(r.Body) != "y" {
			t.Errorf("a query: %q, %v", r.Body, err)
		}
	}
	if n := n.server.exchanges.Load(); n != MaxExchanges {
		t.Errorf("%d exchanges are counted, want the %d that the test made up", n, MaxExchanges)
	}
}

// TestExchangeIdles replaces an exchange that nobody used for a while.
func TestExchangeIdles(t *testing.T) {
	n := start(t, echoing, nil)
	c := client(t, n, nil)
	first := exchanging(t, c)
	call := func() {
		t.Helper()
		if result, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: []byte("x")}); err != nil || string(result) != "x" {
			t.Fatalf("%q, %v", result, err)
		}
	}
	looks := int(ExchangeIdle / KeepaliveTime)
	for range looks {
		if first.idles() {
			t.Fatal("an exchange idles that was used a moment ago")
		}
	}
	call() // so it begins to idle anew
	for range looks {
		if first.idles() {
			t.Fatal("an exchange idles that was used a moment ago")
		}
	}
	if !first.idles() {
		t.Errorf("an exchange does not idle after %d looks", looks)
	}
	call() // by itself
	first.conn.Close()
	<-first.ended
	if second := exchanging(t, c); second == first {
		t.Error("the calls that followed did not open another exchange")
	}
	call()
}

// TestExchangeAnswersLooks asks a server whether it is there, between calls.
func TestExchangeAnswersLooks(t *testing.T) {
	n := start(t, echoing, nil)
	raw, err := Dialer{ID: "b", Resolve: func(string) (string, error) { return n.address(), nil }}.Dial(ProtocolShort, "a", limit)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	f := newFrames(raw, ReadBufferBytes, MaxMessageBytes, limit)
	request, _ := (&request{from: "b"}).append(nil, false, 1, MaxMessageBytes)
	request = append(request, 'x')
	for i := range 3 {
		if data, _, err := f.receive(); err != nil || len(data) != 0 {
			t.Fatalf("look %d: %x, %v", i, data, err)
		}
		if err := f.send(appendItem(nil, uint64(i+1), itemApply, len(request)), request); err != nil {
			t.Fatal(err)
		}
		data, _, err := f.receive()
		if err != nil {
			t.Fatal(err)
		}
		err = eachItem(data, func(id uint64, flags byte, item []byte) error {
			if id != uint64(i+1) || flags != itemEnded || string(item) != string([]byte{wireForm, replyResult, 'x'}) {
				t.Errorf("call %d: %d, %d, %x", i, id, flags, item)
			}
			return nil
		})
		if err := errors.Join(err, f.send()); err != nil {
			t.Fatal(err)
		}
	}
}

// quickly answers one query without waiting.
type quickly struct{ handler }

func (quickly) Quick(r *QueryRequest) (Reply, Pace) {
	switch string(r.Query) {
	case "quick":
		return Reply{Meta: mvcc.Meta{Index: 7}, Body: []byte("at once")}, Quick
	case "panic":
		panic("ouch")
	}
	return Reply{}, Alone
}

func (quickly) Together(context.Context, []*QueryRequest, func(int, Reply)) {}

func TestQuick(t *testing.T) {
	n := start(t, quickly{echoing}, nil)
	c := client(t, n, nil)
	exchanging(t, c)
	for query, want := range map[string]string{"quick": "at once", "slow": "slow", "panic": "panic"} {
		var r Reply
		if err := c.Query(t.Context(), "a", &QueryRequest{Short: true, Query: []byte(query)}, only(&r)); err != nil || string(r.Body) != want {
			t.Errorf("%s: %q, %v", query, r.Body, err)
		}
	}
}

// TestMalformedItems sends what no client sends. The exchange ends, and the server
// goes on.
func TestMalformedItems(t *testing.T) {
	item := func(id uint64, kind byte, data string) []byte {
		return append(appendItem(nil, id, kind, len(data)), data...)
	}
	good, _ := (&request{from: "b"}).append(nil, false, 0, MaxMessageBytes)
	for name, data := range map[string][]byte{
		"cut":          {1, itemApply, 9, 'x'},
		"kind":         item(1, 77, ""),
		"request":      item(1, itemApply, "\x09"),
		"order":        append(item(2, itemApply, string(good)), item(2, itemApply, string(good))...),
		"gone":         item(1, itemGone, ""),
		"no number":    bytes.Repeat([]byte{0xff}, 11),
		"a cut body":   item(1, itemApply, string([]byte{wireForm, requestCut, 0, 0, 0, 9, 'x'})),
		"huge message": make([]byte, MaxMessageBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, echoing, nil)
			c := client(t, n, nil)
			raw, err := c.dialer.Dial(ProtocolShort, "a", limit)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			f := newFrames(raw, ReadBufferBytes, MaxMessageBytes, limit)
			err = f.send(data)
			for err == nil {
				_, _, err = f.receive()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection goes on after %x", data[:min(len(data), 20)])
			}
			if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
				t.Errorf("the next call: %v", err)
			}
			healthy(t, n)
		})
	}
}

// TestFrames sends frames of all sizes around the limits of the buffers.
func TestFrames(t *testing.T) {
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	out, in := newFrames(one, ReadBufferBytes, 0, limit), newFrames(two, ReadBufferBytes, 4*WriteBufferBytes, limit)
	var all [][][]byte
	for _, n := range []int{0, 1, ReadBufferBytes - frameHead - 1, ReadBufferBytes - frameHead, ReadBufferBytes - frameHead + 1, WriteBufferBytes - frameHead,
		WriteBufferBytes - 1, WriteBufferBytes, WriteBufferBytes + 1, 3 * WriteBufferBytes} {
		all = append(all, [][]byte{pattern(n)}, [][]byte{pattern(5), pattern(n)}, [][]byte{pattern(n), nil, pattern(7)})
	}
	sent := make(chan error, 1)
	go func() {
		for _, pieces := range all {
			if err := out.send(pieces...); err != nil {
				sent <- err
				return
			}
		}
		sent <- out.send(pattern(4*WriteBufferBytes + 1))
	}()
	for _, pieces := range all {
		data, _, err := in.receive()
		if want := bytes.Join(pieces, nil); err != nil || !bytes.Equal(data, want) {
			t.Fatalf("a frame of %d bytes came as %d, %v", len(want), len(data), err)
		}
	}
	if _, _, err := in.receive(); !errors.Is(err, errMalformed) {
		t.Errorf("a frame above the limit: %v", err)
	}
	two.Close()
	if err := <-sent; err == nil {
		t.Error("a frame that nobody takes was sent")
	}
}

// TestFramesInTime ends what is silent, and what begins a frame and does not end it.
func TestFramesInTime(t *testing.T) {
	for name, begun := range map[string][]byte{"silent": nil, "cut head": {0, 0}, "cut": {0, 0, 0, 9, 1}, "cut and long": append([]byte{0, 0, 0xf0, 0}, make([]byte, 9999)...)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two := net.Pipe()
				defer one.Close()
				in := newFrames(two, ReadBufferBytes, MaxMessageBytes, ExchangeSilence)
				began := time.Now()
				go one.Write(begun)
				_, _, err := in.receive()
				if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > ExchangeSilence || len(begun) > frameHead && took > RequestTimeout {
					t.Errorf("after %v: %v", took, err)
				}
				two.Close()
			})
		})
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0, 1, 0, 1, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newFrames(&readOnly{in: bytes.NewReader(data)}, 16, MaxMessageBytes, time.Minute)
		rest := data
		for {
			frame, _, err := in.receive()
			if err != nil {
				if len(rest) >= frameHead {
					if n := int(binary.BigEndian.Uint32(rest)); n <= MaxMessageBytes && len(rest) >= frameHead+n {
						t.Fatalf("a whole frame of %d bytes: %v", n, err)
					}
				}
				return
			}
			if want := rest[frameHead : frameHead+len(frame)]; int(binary.BigEndian.Uint32(rest)) != len(frame) || !bytes.Equal(frame, want) {
				t.Fatalf("%x came out of %x", frame, rest)
			}
			rest = rest[frameHead+len(frame):]
		}
	})
}

// readOnly is a connection of which only what comes in matters.
type readOnly struct {
	net.Conn
	in io.Reader
}

func (r *readOnly) Read(b []byte) (int, error)      { return r.in.Read(b) }
func (r *readOnly) SetReadDeadline(time.Time) error { return nil }

func FuzzItems(f *testing.F) {
	f.Add(append(appendItem(nil, 1, itemApply, 3), "abc"...))
	f.Add(appendItem(appendItem(nil, 1, itemGone, 0), 1<<63, itemEnded, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		total := 0
		err := eachItem(data, func(id uint64, kind byte, item []byte) error {
			again = append(appendItem(again, id, kind, len(item)), item...)
			total += len(item)
			return nil
		})
		if total > len(data) || err != nil && !errors.Is(err, errMalformed) {
			t.Fatalf("%d bytes of items in %d, %v", total, len(data), err)
		}
		if err != nil {
			return
		}
		var third []byte
		err = eachItem(again, func(id uint64, kind byte, item []byte) error {
			third = append(appendItem(third, id, kind, len(item)), item...)
			return nil
		})
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x came back as %x, %v", again, third, err)
		}
	})
}

func FuzzShortAnswer(f *testing.F) {
	a := answer{mvcc.Meta{Index: 9}, false, false}
	whole, _ := a.append(nil, 3, MaxMessageBytes)
	f.Add(append(whole, "abc"...), []byte(nil), true)
	cut, first := a.append(nil, 200, 100)
	f.Add(append(cut, pattern(first)...), append([]byte{wireForm, replyPart}, pattern(200-first)...), false)
	f.Fuzz(func(t *testing.T, one, two []byte, own bool) {
		s := &shortCall{wants: replyAnswer}
		err := s.take(one, own)
		if err == nil {
			err = s.take(two, own)
		}
		if len(s.body.data) > len(one)+len(two) || err == nil && (s.building != (len(s.body.data) < s.body.total)) {
			t.Fatalf("%d bytes of %d, building %t, %v", len(s.body.data), s.body.total, s.building, err)
		}
	})
}
