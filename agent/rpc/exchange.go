package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errNoExchange says that there is no exchange with a server: nothing was done, and
// the call may be made by itself.
var errNoExchange = errors.New("there is no exchange with the server")

// errExchangeOver says that an exchange begins no more calls.
var errExchangeOver = errors.New("the exchange is over")

// exchange is the client's side of the connection for short calls.
type exchange struct {
	to    string
	conn  net.Conn
	wake  chan struct{} // holds one when there may be something to send
	ended chan struct{} // closed when nothing more comes in
	// release keeps the end of the Client from closing conn.
	release func() bool
	heard   *atomic.Uint64 // how often something came in
	signs   *signs

	mu      sync.Mutex
	next    uint64 // the number of the next item
	sent    uint64 // the last number that may have been sent, or lies before it
	waiting map[uint64]*shortCall
	queue   [][]byte // frames; the last may be added to
	lasts   []uint64 // the last number in each
	bytes   int      // in the queue
	over    bool     // no more calls begin
	idle    int      // how many looks ago it was used last
	// unsendable is why nothing could be sent any more; nil if that was not so.
	unsendable error
	lookout    lookout
}

// shortCall is a call that waits for its answer.
type shortCall struct {
	wants    byte          // kind of message that answers
	done     chan struct{} // closed when the rest is set
	reply    Reply
	err      error
	answered bool

	building bool
	now      reply
	body     body
}

// exchange returns the exchange that goes with a connection. If there is none, one
// is opened, and calls do without until it is there.
func (c *Client) exchange(conn *clientConn, to string) *exchange {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.exchange != nil && !conn.exchange.isOver() {
		return conn.exchange
	}
	if conn.opening || time.Now().Before(conn.again) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		conn.opening = true
		c.tasks.Go(func() { c.openExchange(conn, to) })
	}
	return nil
}

// openExchange opens the exchange of a connection and serves it until it ends.
func (c *Client) openExchange(conn *clientConn, to string) {
	x, in, err := c.dialExchange(to)
	conn.mu.Lock()
	conn.opening = false
	switch {
	case err != nil:
		conn.again = time.Now().Add(ExchangePause)
	case conn.closed:
		_ = x.conn.Close()
	default:
		x.signs = &conn.signs
		x.prove()
		conn.exchange = x
	}
	conn.mu.Unlock()
	if err != nil {
		c.cfg.Logger.Debug("cannot open a connection for short calls: they go one by one", "to", to, "error", err, "retry_after", ExchangePause)
		return
	}
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		x.send(in)
	}()
	x.receive(in)
	<-sending
	if conn.signs.silent.Load() != nil {
		c.retire(conn) // to make another connection tells whether the server is there
	}
}

// dialExchange opens a connection for short calls, and waits until the server has
// taken it.
func (c *Client) dialExchange(to string) (*exchange, *frames, error) {
	began := time.Now()
	conn, err := c.dialer.DialContext(c.ctx, ProtocolShort, to, CallDialTimeout)
	if err != nil {
		return nil, nil, err
	}
	// It ends with the Client, whatever it waits for.
	release := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	in := newFrames(conn, ReplyReadBufferBytes, MaxReplyMessageBytes+itemRoom+headRoom, ExchangeSilence)
	in.whole = FrameWriteTimeout               // which is what a server allows itself
	in.readBy = began.Add(2 * ExchangeSilence) // that of the dial holds until then
	if err = conn.SetReadDeadline(began.Add(CallDialTimeout)); err == nil {
		_, _, err = in.receive()
	}
	if err != nil {
		release()
		_ = conn.Close()
		return nil, nil, fmt.Errorf("node %q takes no short calls from node %q: %w", to, c.cfg.ID, err)
	}
	in.readBy = time.Time{}
	return &exchange{to: to, conn: conn, release: release, heard: &in.heard, ended: make(chan struct{}), wake: make(chan struct{}, 1), waiting: make(map[uint64]*shortCall)}, in, nil
}

func (x *exchange) isOver() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

// call makes one call and returns its one reply.
func (x *exchange) call(ctx context.Context, kind byte, head *request, data []byte) (Reply, error) {
	s := &shortCall{done: make(chan struct{}), wants: replyAnswer}
	if kind == itemApply {
		s.wants = replyResult
	}
	id, ok := x.begin(s, kind, head, data)
	if !ok {
		return Reply{}, errExchangeOver
	}
	select {
	case <-s.done:
		return s.reply, s.err
	case <-ctx.Done():
		x.giveUp(id)
		return Reply{}, fmt.Errorf("the call to server %q ended: %w", x.to, ctx.Err())
	}
}

// short makes a call on the exchange of a connection.
func (c *Client) short(ctx context.Context, conn *clientConn, to string, kind byte, head *request, data []byte) (Reply, error) {
	x := c.exchange(conn, to)
	if x == nil {
		return Reply{}, errNoExchange
	}
	reply, err := x.call(ctx, kind, head, data)
	if errors.Is(err, errExchangeOver) {
		err = errNoExchange
	}
	return reply, err
}

// begin puts a call into the queue.
func (x *exchange) begin(s *shortCall, kind byte, head *request, data []byte) (id uint64, ok bool) {
	var room [headRoom + 64]byte
	top, _ := head.append(room[:0], kind == itemQuery, len(data), MaxMessageBytes)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.bytes > MaxQueuedBytes {
		return 0, false
	}
	id = x.put(kind, top, data)
	x.waiting[id] = s
	x.idle = 0
	if !x.lookout.looking {
		x.watch()
	}
	return id, true
}

// giveUp tells the server that nobody waits any more.
func (x *exchange) giveUp(id uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.waiting[id]; !ok || x.over {
		return
	}
	delete(x.waiting, id)
	if x.bytes > 2*MaxQueuedBytes {
		return // the server finds out by the end of its own limits
	}
	var number [binary.MaxVarintLen64]byte
	x.put(itemGone, number[:binary.PutUvarint(number[:], id)], nil)
}

// put adds an item to the queue; x.mu is held.
func (x *exchange) put(kind byte, top, data []byte) (id uint64) {
	x.next++
	size := itemRoom + len(top) + len(data)
	n := len(x.queue)
	if n == 0 || len(x.queue[n-1])+size > MaxMessageBytes {
		x.queue, x.lasts = append(x.queue, make([]byte, 0, max(size, inlineBytes))), append(x.lasts, 0)
		n++
	}
	b := appendItem(x.queue[n-1], x.next, kind, len(top)+len(data))
	x.queue[n-1], x.lasts[n-1] = append(append(b, top...), data...), x.next
	x.bytes += size
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return x.next
}

// send sends what is in the queue until nothing more comes in, nothing can be sent,
// or nobody has used the exchange for a while. What a server answered before it went
// is read still.
func (x *exchange) send(out *frames) {
	defer x.conn.Close() // which ends receive
	err := x.sendAll(out)
	if err == nil {
		return
	}
	x.mu.Lock()
	x.over, x.unsendable = true, err
	x.mu.Unlock()
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-x.ended:
	case <-late.C:
	}
}

// sendAll is send until something fails.
func (x *exchange) sendAll(out *frames) error {
	look := time.NewTicker(KeepaliveTime)
	defer look.Stop()
	for {
		select {
		case <-x.wake:
		case <-x.ended:
			return nil
		case <-look.C:
			if x.idles() {
				return nil
			}
			// The server is to hear of this agent, and this agent of it.
			if err := out.send(); err != nil {
				return err
			}
			continue
		}
		runtime.Gosched() // others may be about to ask, too
		for {
			b, ok := x.take()
			if !ok {
				break
			}
			if err := out.send(b); err != nil {
				return err
			}
		}
	}
}

// take takes the next frame out of the queue. It is empty if the server is asked for
// a sign of life.
func (x *exchange) take() ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lookout.wanted {
		x.lookout.wanted = false
		return nil, true
	}
	if len(x.queue) == 0 {
		return nil, false
	}
	b := x.queue[0]
	x.sent = x.lasts[0]
	x.queue, x.lasts = slices.Delete(x.queue, 0, 1), slices.Delete(x.lasts, 0, 1)
	if len(x.queue) == 0 {
		x.bytes = 0
	}
	return b, true
}

// idles reports whether nobody has used the exchange for long, and then begins no
// more calls.
func (x *exchange) idles() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.waiting) > 0 || len(x.queue) > 0 {
		x.idle = 0
		return false
	}
	x.idle++
	x.over = x.over || x.idle > int(ExchangeIdle/KeepaliveTime)
	return x.over
}

// receive gives answers to those who wait, until nothing more comes in.
func (x *exchange) receive(in *frames) {
	defer close(x.ended)
	defer x.release()
	defer x.conn.Close()
	for {
		data, own, err := in.receive()
		if err == nil && len(data) == 0 {
			x.sign()
		}
		if err == nil {
			err = eachItem(data, func(id uint64, flags byte, item []byte) error {
				return x.answer(id, flags, item, own && len(item) >= len(data)/4)
			})
		}
		if err != nil {
			x.end(err)
			return
		}
	}
}

// answer takes an item of an answer. Its bytes are kept if they are the taker's
// own, and else copied.
func (x *exchange) answer(id uint64, flags byte, item []byte, own bool) error {
	if flags&^(itemEnded|itemClosing) != 0 {
		return fmt.Errorf("%w: the flags %#x of an item are not known", errMalformed, flags)
	}
	x.mu.Lock()
	if flags&itemClosing != 0 {
		x.over = true
		for number, s := range x.waiting {
			if number > id {
				delete(x.waiting, number)
				s.unsent(x.to)
			}
		}
		x.mu.Unlock()
		return nil
	}
	s := x.waiting[id]
	if s != nil && flags&itemEnded != 0 {
		delete(x.waiting, id)
	}
	x.mu.Unlock()
	if s == nil {
		return nil // nobody waits for it any more
	}
	if len(item) > 0 && s.err == nil {
		s.err = s.take(item, own)
	}
	if flags&itemEnded == 0 {
		return nil
	}
	if s.err == nil && (s.building || !s.answered) {
		s.err = fmt.Errorf("%w: an answer ends before it is whole", errMalformed)
	}
	close(s.done)
	return nil
}

// take takes one message of the answer.
func (s *shortCall) take(item []byte, own bool) error {
	p, err := decodeReply(item, 0)
	switch {
	case err != nil:
		return err
	case p.kind == replyError:
		return p.err
	case p.kind == replyPart && s.building:
		if n := len(p.part); n > s.body.total-len(s.body.data) {
			return fmt.Errorf("%w: a part of %d bytes for the last %d of a body", errMalformed, n, s.body.total-len(s.body.data))
		}
		s.body.data = append(s.body.data, p.part...)
	case s.answered || p.kind != s.wants:
		return fmt.Errorf("%w: kind %d at this place of a short answer", errMalformed, p.kind)
	default:
		s.answered, s.now = true, p
		s.body = body{total: p.total}
		if own && len(p.part) == p.total {
			s.body.data = p.part
		} else {
			s.body.data = append(make([]byte, 0, min(p.total, max(len(p.part), 1<<20))), p.part...)
		}
	}
	if s.building = !s.body.whole(); !s.building {
		s.reply = Reply{Meta: s.now.meta, Body: s.body.data, More: s.now.more, Same: s.now.same}
	}
	return nil
}

// unsent ends a call that the server did not look at.
func (s *shortCall) unsent(to string) {
	s.err = &unsent{fmt.Errorf("the connection to server %q was gone when the call began", to)}
	close(s.done)
}

// end ends all calls that wait. Those that the server certainly did not look at
// say so.
func (x *exchange) end(cause error) {
	x.mu.Lock()
	x.over = true
	if x.unsendable != nil {
		cause = x.unsendable // the receiver only sees that the connection was closed for that
	}
	waiting, sent := x.waiting, x.sent
	x.waiting, x.queue, x.lasts = nil, nil, nil
	if x.lookout.timer != nil {
		x.lookout.timer.Stop()
	}
	x.mu.Unlock()
	for id, s := range waiting {
		if id > sent {
			s.unsent(x.to)
			continue
		}
		s.err = &lost{fmt.Errorf("the connection to server %q broke during the call: %s", x.to, brokeBy(cause))}
		close(s.done)
	}
}
