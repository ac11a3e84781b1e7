package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stoppable is a connection to a process that can be stopped: what is written is
// taken, and nothing comes back.
type stoppable struct {
	net.Conn
	lives chan struct{} // holds one while the process lives
}

func (s stoppable) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.lives <- <-s.lives
	return n, err
}

// process is where connections of a test lead.
type process chan struct{}

func newProcess() process {
	p := make(process, 1)
	p <- struct{}{}
	return p
}

func (p process) stop()      { <-p }
func (p process) continues() { p <- struct{}{} }

// stoppableExchange opens an exchange to a process, in a test's own time.
func stoppableExchange(t *testing.T, p process, h Handler) *exchange {
	t.Helper()
	conn, in := piped(t, NewServer(ServerConfig{Handler: h}))
	held := stoppable{conn, p}
	in.conn = held
	x := &exchange{
		to: "a", conn: held, release: func() bool { return true }, heard: &in.heard, signs: &signs{},
		ended: make(chan struct{}), wake: make(chan struct{}, 1), waiting: map[uint64]*shortCall{},
	}
	x.prove()
	go x.send(in)
	go x.receive(in)
	t.Cleanup(func() { conn.Close() })
	time.Sleep(lookInterval * 2)
	return x
}

// found is how long a silence may take to be found out, in a test's own time.
const found = (silenceLooks + 4) * lookInterval

func TestStoppedProcessIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess()
		x := stoppableExchange(t, p, echoing)
		for range 3 {
			if _, err := x.call(t.Context(), itemApply, &request{}, []byte("x")); err != nil {
				t.Fatal(err)
			}
			p.stop()
			began := time.Now()
			_, err := x.call(t.Context(), itemApply, &request{}, []byte("x"))
			var silence *Silence
			if !Lost(err) || Unsent(err) || !errors.As(err, &silence) || silence.To != "a" || silence.For < silenceLooks*lookInterval || time.Since(began) > found {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			if err := x.signs.silence("a"); !Unsent(err) || !errors.As(err, &silence) {
				t.Errorf("the next call: %v", err)
			}
			p.continues()
			time.Sleep(2 * lookInterval)
			if err := x.signs.silence("a"); err != nil {
				t.Errorf("of a process that goes on: %v", err)
			}
		}
		// Nobody looks while nobody waits.
		time.Sleep(2 * lookInterval)
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.lookout.looking {
			t.Error("a server is looked at for which nobody waits")
		}
	})
}

// TestSlowServerIsNotSilent has a handler that takes long, as it does when the disk
// is slow, and the process lives.
func TestSlowServerIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := stoppableExchange(t, newProcess(), handler{apply: func(context.Context, *ApplyRequest) ([]byte, error) {
			time.Sleep(time.Minute)
			return []byte("done"), nil
		}})
		if r, err := x.call(t.Context(), itemApply, &request{}, []byte("x")); string(r.Body) != "done" {
			t.Errorf("%q %v", r.Body, err)
		}
	})
}

// TestSilenceIsLearned has a server that never answered when it was asked for a sign
// of life.
func TestSilenceIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess()
		x := stoppableExchange(t, p, echoing)
		x.mu.Lock()
		x.lookout.answers = false
		x.mu.Unlock()
		p.stop()
		time.AfterFunc(time.Minute/2, p.continues)
		if r, err := x.call(t.Context(), itemApply, &request{}, []byte("x")); string(r.Body) != "x" {
			t.Errorf("%q %v", r.Body, err)
		}
	})
}

// TestSilentServerIsSentNothingMore has commands wait to be sent to a server that
// reads nothing any more: what was not sent is certain not to be, ever.
func TestSilentServerIsSentNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := net.Pipe()
		defer two.Close()
		in := newFrames(one, ReadBufferBytes, MaxMessageBytes, time.Hour)
		x := &exchange{
			to: "a", conn: one, release: func() bool { return true }, heard: &in.heard, signs: &signs{},
			ended: make(chan struct{}), wake: make(chan struct{}, 1), waiting: map[uint64]*shortCall{},
		}
		x.lookout.answers = true
		go x.send(in)
		go x.receive(in)
		began := time.Now()
		const many = 20
		results := make(chan error, many)
		var first atomic.Bool
		for range many {
			go func() {
				if !first.Swap(true) {
					_, err := x.call(t.Context(), itemApply, &request{}, []byte("x"))
					results <- err
					return
				}
				time.Sleep(time.Millisecond)
				_, err := x.call(t.Context(), itemApply, &request{}, []byte("x"))
				results <- err
			}()
		}
		unsent := 0
		for range many {
			err := <-results
			var silence *Silence
			if !errors.As(err, &silence) || Unsent(err) == Lost(err) {
				t.Errorf("a call ended with %v", err)
			}
			if Unsent(err) {
				unsent++
			}
		}
		if took := time.Since(began); unsent != many-1 || took > (stuckLooks+4)*lookInterval {
			t.Errorf("%d of %d were not sent, after %v", unsent, many, took)
		}
		// The server reads again: it gets the first command and is asked for a sign of
		// life, and that is all.
		got := newFrames(two, ReadBufferBytes, MaxMessageBytes, time.Hour)
		items := 0
		for range 2 {
			data, _, err := got.receive()
			if err != nil {
				t.Fatal(err)
			}
			if err := eachItem(data, func(uint64, byte, []byte) error { items++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if items != 1 {
			t.Errorf("the server got %d items", items)
		}
		_ = two.SetReadDeadline(time.Now().Add(time.Minute))
		if data, _, err := got.receive(); err == nil && len(data) > 0 {
			t.Errorf("the server got %d bytes more", len(data))
		}
	})
}

// TestCallsToASilentServerFailAtOnce makes calls of all kinds, on real connections.
func TestCallsToASilentServerFailAtOnce(t *testing.T) {
	n := start(t, echoing, nil)
	p := newProcess()
	c := client(t, n, func(c *ClientConfig) {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return stoppable{conn, p}, nil
		}
	})
	x := exchanging(t, c)
	proven := func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.lookout.answers
	}
	for deadline := time.Now().Add(limit); !proven(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server answered nothing when it was asked for a sign of life")
		}
	}
	p.stop()
	long := &ApplyRequest{Command: make([]byte, MaxShortBytes+1)}
	_, err := c.Apply(t.Context(), "a", long)
	var silence *Silence
	if !errors.As(err, &silence) || !Lost(err) || Unsent(err) {
		t.Errorf("a long command: %v", err)
	}
	for _, err := range []error{
		func() error { _, err := c.Apply(t.Context(), "a", long); return err }(),
		func() error { _, err := c.Apply(t.Context(), "a", &ApplyRequest{}); return err }(),
		c.Query(t.Context(), "a", &QueryRequest{}, func(Reply) error { return nil }),
	} {
		if !errors.As(err, &silence) || !Unsent(err) || !strings.Contains(err.Error(), `server "a" has given no sign of life for`) {
			t.Errorf("a call to a server that is known to be silent: %v", err)
		}
	}
	p.continues()
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		_, err := c.Apply(t.Context(), "a", long)
		if err == nil {
			break
		}
		if !Unsent(err) || time.Now().After(deadline) {
			t.Fatalf("the process goes on: %v", err)
		}
	}
}

func TestUnacked(t *testing.T) {
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	if n := unacked(one); n != 0 {
		t.Errorf("%d bytes in a pipe", n)
	}
}
