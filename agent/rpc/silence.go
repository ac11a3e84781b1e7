package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A process that was stopped, or a machine that hangs, keeps its connections and
// says nothing. So while calls wait for a server that says nothing, it is asked for
// a sign of life, by an empty frame: its receiver answers that whatever the handlers
// of calls wait for, a slow disk for one. Who does not is silent: the calls under
// way end, and the next ones fail before they are sent, until it says something.

// Silence is in the chain of the error of a call that ended, or did not begin, since
// the server gave no sign of life. It is [Lost] or [Unsent].
type Silence struct {
	// To is the server's node ID.
	To string
	// For is how long at least nothing had come from it.
	For time.Duration
}

// Error names the server and the time.
func (s *Silence) Error() string {
	return fmt.Sprintf("server %q has given no sign of life for %v", s.To, s.For.Round(100*time.Millisecond))
}

// lookout is what an exchange knows of whether its server lives. It is guarded by
// the mutex of the exchange.
type lookout struct {
	timer   *time.Timer // of the next look; nil before the first
	looking bool        // it is set
	heard   uint64      // how often something had come in at the last look
	since   time.Time   // nothing has come in since
	next    uint64      // the number of the last item at the last look
	wanted  bool        // a sign of life is to be asked for
	asked   bool        // it was, and nothing has come in since
	behind  int         // how much had not come to the server at the last look
	late    int         // how many looks ago all had
	stuck   int         // how many looks ago something came to it last
	gone    time.Time   // when it was found to be silent; zero: it is not
	// answers is whether this server ever answered such a question.
	answers bool
	// others are the calls that go by streams of the library and end with the
	// silence, too.
	others map[*context.CancelCauseFunc]struct{}
}

// signs says since when the server of a connection is silent, if it is, to who does
// not hold the mutex of its exchange.
type signs struct{ silent atomic.Pointer[time.Time] }

// silence is the error of a server that is silent, or nil.
func (s *signs) silence(to string) error {
	since := s.silent.Load()
	if since == nil {
		return nil
	}
	return &unsent{&Silence{to, time.Since(*since)}}
}

// prove asks a server that has just taken the connection for a sign of life: one
// that does not know the question is not judged by it.
func (x *exchange) prove() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watch()
	x.wantSign()
}

// sign notes an empty frame.
func (x *exchange) sign() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookout.answers = true
}

// watch has looks begin, if there are none; x.mu is held.
func (x *exchange) watch() {
	l := &x.lookout
	if l.looking {
		return
	}
	l.looking, l.heard, l.next, l.since = true, x.heard.Load(), x.next, time.Now()
	if l.timer == nil {
		l.timer = time.AfterFunc(lookInterval, x.look)
		return
	}
	l.timer.Reset(lookInterval)
}

// look looks whether calls wait for a server that says nothing.
func (x *exchange) look() {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := &x.lookout
	now := time.Now()
	heard := x.heard.Load()
	switch {
	case x.waiting == nil: // it ended
		return
	case heard != l.heard:
		l.heard, l.since, l.asked, l.gone = heard, now, false, time.Time{}
		x.signs.silent.Store(nil)
		if len(x.waiting) == 0 && len(l.others) == 0 {
			l.looking = false
			return
		}
	case !l.gone.IsZero():
		x.fallSilent(now) // some may have begun just before
		if now.Sub(l.gone) > silenceKept {
			_ = x.conn.Close() // a new connection may tell more
		}
	case l.asked:
		x.count()
		if l.answers && (l.late >= silenceLooks || l.stuck >= stuckLooks) {
			l.gone = now
			x.fallSilent(now)
		}
	case x.waits():
		x.wantSign()
	}
	l.next = x.next
	l.timer.Reset(lookInterval)
}

// count counts a look at a server that was asked for a sign of life; x.mu is held.
// What has not come to its machine it cannot have answered.
func (x *exchange) count() {
	l := &x.lookout
	behind := unacked(x.conn)
	if l.wanted { // it is not sent yet
		behind++
	}
	switch {
	case behind == 0:
		l.late++
		l.stuck = 0
	case behind < l.behind:
		l.stuck = 0
	default:
		l.stuck++
	}
	l.behind = behind
}

// waits reports whether somebody has waited since the last look; x.mu is held.
func (x *exchange) waits() bool {
	if len(x.lookout.others) > 0 {
		return true
	}
	for id := range x.waiting {
		if id <= x.lookout.next {
			return true
		}
	}
	return false
}

// wantSign asks the server for a sign of life; x.mu is held.
func (x *exchange) wantSign() {
	l := &x.lookout
	l.wanted, l.asked, l.late, l.stuck, l.behind = true, true, 0, 0, 0
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// fallSilent ends all calls that wait for a server that gives no sign of life; x.mu
// is held. What was not sent never will be.
func (x *exchange) fallSilent(now time.Time) {
	l := &x.lookout
	since := l.since
	x.signs.silent.Store(&since)
	silence := &Silence{x.to, now.Sub(l.since)}
	for id, s := range x.waiting {
		if s.err = error(&lost{silence}); id > x.sent {
			s.err = &unsent{silence}
		}
		close(s.done)
	}
	clear(x.waiting)
	x.queue, x.lasts, x.bytes = nil, nil, 0
	for end := range l.others {
		(*end)(&lost{silence})
	}
	clear(l.others)
}

// untilSilent returns ctx until the server of a connection falls silent, for a call
// that goes by a stream of the library. Whether it does is found out by the exchange
// that goes with the connection, if there is one.
func (conn *clientConn) untilSilent(ctx context.Context) (context.Context, func()) {
	conn.mu.Lock()
	x := conn.exchange
	conn.mu.Unlock()
	if x == nil {
		return ctx, func() {}
	}
	ctx, end := context.WithCancelCause(ctx)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting == nil { // it ended
		return ctx, func() { end(nil) }
	}
	if x.lookout.others == nil {
		x.lookout.others = make(map[*context.CancelCauseFunc]struct{})
	}
	x.lookout.others[&end] = struct{}{}
	x.watch()
	return ctx, func() {
		x.mu.Lock()
		delete(x.lookout.others, &end)
		x.mu.Unlock()
		end(nil)
	}
}

// ofSilence is the error of a call for which untilSilent made ctx.
func ofSilence(ctx context.Context, err error) error {
	var silence *Silence
	if cause := context.Cause(ctx); err != nil && errors.As(cause, &silence) {
		return cause
	}
	return err
}

// brokeBy says in words what broke a connection.
func brokeBy(err error) string {
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "this agent closed it, as it does when a server is taken for failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed it"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the server reset it"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "nothing came for too long"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the network does not reach the server"
	}
	return err.Error()
}

// brokenStream is brokeBy for what the library says of a connection.
func brokenStream(text string) string {
	for _, known := range []struct{ part, words string }{
		{"use of closed network connection", brokeBy(net.ErrClosed)},
		{"client connection is closing", brokeBy(net.ErrClosed)},
		{"connection reset", brokeBy(syscall.ECONNRESET)},
		{"broken pipe", brokeBy(syscall.EPIPE)},
		{"keepalive", brokeBy(os.ErrDeadlineExceeded)},
		{"i/o timeout", brokeBy(os.ErrDeadlineExceeded)},
		{"connection timed out", brokeBy(syscall.ETIMEDOUT)},
		{"no route to host", brokeBy(syscall.EHOSTUNREACH)},
		{"network is unreachable", brokeBy(syscall.ENETUNREACH)},
		{"EOF", brokeBy(io.EOF)},
	} {
		if strings.Contains(text, known.part) {
			return known.words
		}
	}
	return text
}
