package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/muster-sd/muster/kv/mvcc"
)

// only takes the one reply to a short query.
func only(into *Reply) func(Reply) error {
	return func(r Reply) error { *into = r; return nil }
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
			return send(Reply{Body: bytes.Repeat(r.Query, int(r.Query[0]))})
		},
	}, nil)
	c := client(t, n, nil)
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
				if err := c.Query(t.Context(), "a", &QueryRequest{Short: true, Query: data}, only(&r)); err != nil || !bytes.Equal(r.Body, bytes.Repeat(data, int(data[0]))) {
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
			err := client(t, n, nil).Query(t.Context(), "a", &QueryRequest{Short: true}, func(Reply) error { t.Error("a reply"); return nil })
			if err == nil || Unsent(err) || Lost(err) || c.is != nil && !errors.Is(err, c.is) || c.is == nil && mvcc.CodeOf(err) != c.code {
				t.Errorf("error %v, unsent %t, lost %t", err, Unsent(err), Lost(err))
			}
		})
	}
}

// TestShortCallEndedByCaller also ends a command, which is carried out all the
// same.
func TestShortCallEndedByCaller(t *testing.T) {
	begun, ended, finish := make(chan struct{}, 2), make(chan error, 1), make(chan struct{})
	n := start(t, handler{
		query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		},
		apply: func(ctx context.Context, r *ApplyRequest) ([]byte, error) {
			if len(r.Command) > 0 {
				begun <- struct{}{}
				<-finish
				ended <- ctx.Err()
			}
			return nil, nil
		},
	}, nil)
	c := client(t, n, nil)
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
	// The next call comes after the word that nobody waits.
	if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
		t.Error(err)
	}
	close(finish)
	if err := await(t, "the command", ended); err != nil {
		t.Errorf("the command was ended: %v", err)
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
	call := func() {
		t.Helper()
		if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	call()
	conn := c.links["a"].conn
	first := conn.exchange
	if first.idles() {
		t.Error("an exchange idles that was just used")
	}
	if !first.idles() {
		t.Error("an exchange does not idle that was not used since the last look")
	}
	if err := first.stream.CloseSend(); err != nil {
		t.Error(err)
	}
	<-first.stream.Context().Done()
	for n.server.exchanges.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
	call()
	if conn.exchange == first || c.links["a"].conn != conn {
		t.Error("the call that followed did not open another exchange on the same connection")
	}
}

// quickly answers one query without waiting.
type quickly struct{ handler }

func (quickly) Quick(r *QueryRequest) (Reply, bool) {
	switch string(r.Query) {
	case "quick":
		return Reply{Meta: mvcc.Meta{Index: 7}, Body: []byte("at once")}, true
	case "panic":
		panic("ouch")
	}
	return Reply{}, false
}

func TestQuick(t *testing.T) {
	n := start(t, quickly{echoing}, nil)
	c := client(t, n, nil)
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
			if _, err := c.Apply(t.Context(), "a", &ApplyRequest{Command: make([]byte, MaxShortBytes+1)}); err != nil {
				t.Fatal(err)
			}
			stream, err := c.links["a"].conn.grpc.NewStream(t.Context(), &service.Streams[2], exchangeMethod)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(data)}); err != nil && !strings.Contains(err.Error(), "larger than max") {
				t.Fatal(err)
			}
			for err == nil {
				var in message
				err = stream.RecvMsg(&in)
				in.free()
			}
			if _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); err != nil && !Unsent(err) {
				t.Errorf("the next call: %v", err)
			}
			healthy(t, n)
		})
	}
}

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
