package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gathering answers queries that begin with "with" together, once it is let.
type gathering struct {
	handler
	let   chan struct{}
	calls chan []string // what each Together was asked
}

func (gathering) Quick(r *QueryRequest) (Reply, Pace) {
	switch {
	case strings.HasPrefix(string(r.Query), "with"):
		return Reply{}, Together
	case string(r.Query) == "quick":
		return Reply{Body: []byte("at once")}, Quick
	}
	return Reply{}, Alone
}

func (g gathering) Together(ctx context.Context, all []*QueryRequest, answer func(int, Reply)) {
	var asked []string
	for _, r := range all {
		asked = append(asked, string(r.Query))
	}
	g.calls <- asked
	select {
	case <-g.let:
	case <-ctx.Done():
		return
	}
	for i, r := range all {
		switch {
		case strings.Contains(string(r.Query), "panic"):
			panic("ouch")
		case strings.Contains(string(r.Query), "long"):
			answer(i, Reply{Body: make([]byte, MaxItemBytes)})
		case !strings.Contains(string(r.Query), "alone"):
			answer(i, Reply{Body: []byte("together")})
		}
	}
}

// answersOf reads until so many calls ended, and returns how.
func answersOf(t *testing.T, f *frames, n int) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	for len(out) < n {
		data, _, err := f.receive()
		if err != nil {
			t.Fatalf("after %d of %d answers: %v", len(out), n, err)
		}
		if err := eachItem(data, func(id uint64, flags byte, item []byte) error {
			if flags&itemEnded == 0 {
				return nil
			}
			p, err := decodeReply(item, 0)
			switch {
			case err != nil:
				return err
			case p.kind == replyError:
				out[id] = p.err.Error()
			default:
				out[id] = string(p.part)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Queries of one frame that wait for the same are answered together; what cannot be
// is asked by itself, and what waits for nothing does not wait for them.
func TestTogether(t *testing.T) {
	for name, c := range map[string]struct {
		queries []string
		want    []string
	}{
		"all":     {[]string{"with 1", "with 2", "with 3"}, []string{"together", "together", "together"}},
		"some":    {[]string{"with 1", "with alone", "with 3"}, []string{"together", "with alone", "together"}},
		"a panic": {[]string{"with 1", "with panic", "with 3"}, []string{"together", "with panic", "with 3"}},
		"long":    {[]string{"with 1", "with long"}, []string{"together", "with long"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gathering{echoing, make(chan struct{}), make(chan []string, 9)}
				s := NewServer(ServerConfig{Handler: g})
				conn, f := piped(t, s)
				defer conn.Close()
				var frame []byte
				for i, query := range c.queries {
					frame = append(frame, shortItem(uint64(i+1), itemQuery, query)...)
				}
				frame = append(frame, shortItem(100, itemQuery, "quick")...)
				if err := f.send(frame); err != nil {
					t.Fatal(err)
				}
				if got := answersOf(t, f, 1); got[100] != "at once" {
					t.Errorf("before the others came %v", got)
				}
				// Nobody may end the call of others.
				if err := f.send(appendItem(nil, 101, itemGone, 1), []byte{1}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				close(g.let)
				got := answersOf(t, f, len(c.queries))
				for i, want := range c.want {
					if got[uint64(i+1)] != want {
						t.Errorf("%s: %q, want %q", c.queries[i], got[uint64(i+1)], want)
					}
				}
				if asked := <-g.calls; strings.Join(asked, ",") != strings.Join(c.queries, ",") || len(g.calls) > 0 {
					t.Errorf("asked together: %q, and %d times more", asked, len(g.calls))
				}
				synctest.Wait()
				if n := s.calls.Load(); n != 0 {
					t.Errorf("%d calls are under way after the last", n)
				}
			})
		})
	}
}

// A server that stops tells those who wait together.
func TestTogetherEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gathering{handler{query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			<-ctx.Done()
			return ctx.Err()
		}}, make(chan struct{}), make(chan []string, 9)}
		s := NewServer(ServerConfig{Handler: g})
		conn, f := piped(t, s)
		defer conn.Close()
		if err := f.send(shortItem(1, itemQuery, "with 1"), shortItem(2, itemQuery, "with 2")); err != nil {
			t.Fatal(err)
		}
		<-g.calls
		s.stop(errStopping)
		got := answersOf(t, f, 2)
		for id := uint64(1); id <= 2; id++ {
			if got[id] != errStopping.Error() {
				t.Errorf("query %d ended with %q", id, got[id])
			}
		}
		for {
			if _, _, err := f.receive(); err != nil {
				break
			}
		}
		if n := s.calls.Load(); n != 0 {
			t.Errorf("%d calls are under way after the end", n)
		}
	})
}

// No more wait together than a connection may have calls.
func TestTogetherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gathering{echoing, make(chan struct{}), make(chan []string, MaxStreams)}
		s := NewServer(ServerConfig{Handler: g})
		conn, f := piped(t, s)
		defer conn.Close()
		var frame []byte
		id := uint64(0)
		for id <= MaxStreams {
			for len(frame) < MaxMessageBytes-100 && id <= MaxStreams {
				id++
				frame = append(frame, shortItem(id, itemQuery, "with")...)
			}
			if err := f.send(frame); err != nil {
				t.Fatal(err)
			}
			frame = frame[:0]
		}
		got := answersOf(t, f, 1)
		if !strings.Contains(got[MaxStreams+1], "too many calls on this connection") {
			t.Errorf("one more than there may be: %v", got)
		}
		close(g.let)
		if got := answersOf(t, f, MaxStreams); got[1] != "together" {
			t.Errorf("the first: %q", got[1])
		}
	})
}

// A client that is gone ends the wait of its queries.
func TestTogetherWithoutClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gathering{handler{query: func(ctx context.Context, _ *QueryRequest, _ func(Reply) error) error {
			return errors.New("nobody is here")
		}}, make(chan struct{}), make(chan []string, 9)}
		s := NewServer(ServerConfig{Handler: g})
		conn, f := piped(t, s)
		if err := f.send(shortItem(1, itemQuery, "with 1"), shortItem(2, itemQuery, "with 2")); err != nil {
			t.Fatal(err)
		}
		<-g.calls
		conn.Close()
		time.Sleep(time.Second) // of the test's own time
		if n := s.calls.Load(); n != 0 {
			t.Errorf("%d calls are under way after the client went", n)
		}
	})
}

// Who gives up while many wait together is not asked for by itself afterwards.
func TestGoneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gathering{handler{query: func(ctx context.Context, r *QueryRequest, _ func(Reply) error) error {
			t.Errorf("%s is asked for by itself", r.Query)
			return nil
		}}, make(chan struct{}), make(chan []string, 9)}
		s := NewServer(ServerConfig{Handler: g})
		conn, f := piped(t, s)
		defer conn.Close()
		if err := f.send(shortItem(1, itemQuery, "with alone"), shortItem(2, itemQuery, "with 2")); err != nil {
			t.Fatal(err)
		}
		<-g.calls
		if err := f.send(appendItem(nil, 3, itemGone, 1), []byte{1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(g.let)
		if got := answersOf(t, f, 1); got[2] != "together" {
			t.Errorf("answers: %v", got)
		}
		synctest.Wait()
		if n := s.calls.Load(); n != 0 {
			t.Errorf("%d calls are under way after the last", n)
		}
	})
}
