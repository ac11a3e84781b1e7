package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Short calls share one stream of a connection, the exchange: to begin and end a
// stream costs several times what a short call does. Each is an item with a number
// of its own, and its answer comes in items with the same number; items that are
// ready at once go in one message.
//
// An item is [number][kind or flags 1][length][bytes], with the numbers as
// uvarints. The bytes are a message as in wire.go.

// Kinds of items that ask. They cross the wire: never reuse, never renumber.
const (
	itemApply byte = 1
	itemQuery byte = 2
	itemGone  byte = 3 // nobody waits for the answer any more
)

// Bits of items that answer.
const (
	itemEnded   byte = 1 << 0 // nothing follows to this number
	itemClosing byte = 1 << 1 // no item after this number was looked at, and none will be
)

// itemRoom is enough for what stands before the bytes of an item.
const itemRoom = 2*binary.MaxVarintLen64 + 1

// appendItem adds what stands before some bytes of an item.
func appendItem(b []byte, id uint64, kind byte, length int) []byte {
	b = binary.AppendUvarint(b, id)
	b = append(b, kind)
	return binary.AppendUvarint(b, uint64(length))
}

// eachItem takes a message apart. The bytes belong to the message.
func eachItem(data []byte, do func(id uint64, kind byte, data []byte) error) error {
	r := reader{rest: data}
	for len(r.rest) > 0 {
		id, kind, n := r.uvarint(), r.byte(), r.uvarint()
		if r.err == nil && n > uint64(len(r.rest)) {
			r.fail(fmt.Sprintf("an item of %d bytes is announced, %d follow", n, len(r.rest)))
		}
		if r.err != nil {
			return r.err
		}
		item := r.rest[:n:n]
		r.rest = r.rest[n:]
		if err := do(id, kind, item); err != nil {
			return err
		}
	}
	return r.err
}

// contiguous returns a message in one piece, and whether that is a copy of which
// parts may be kept.
func (m *message) contiguous() (data []byte, own bool) {
	if len(m.data) == 1 {
		return m.data[0].ReadOnlyData(), false
	}
	return m.data.Materialize(), true
}

// errNoExchange says that a server has no room for another exchange: nothing was
// done, and the call may be made by itself.
var errNoExchange = errors.New("the server takes no exchange")

// errExchangeOver says that an exchange begins no more calls.
var errExchangeOver = errors.New("the exchange is over")

// exchange is the client's side.
type exchange struct {
	to     string
	stream grpc.ClientStream
	cancel context.CancelFunc
	wake   chan struct{} // holds one when there may be something to send

	mu      sync.Mutex
	next    uint64 // the number of the next item
	sent    uint64 // the last number that was given to the library, or lies before it
	waiting map[uint64]*shortCall
	queue   [][]byte // messages; the last may be added to
	lasts   []uint64 // the last number in each
	over    bool     // no more calls begin
	used    bool     // since the last look whether it idles
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

// exchange returns the exchange of a connection, and opens it if there is none.
func (c *Client) exchange(conn *clientConn, to string) (*exchange, error) {
	conn.opening.Lock()
	defer conn.opening.Unlock()
	switch {
	case conn.alone:
		return nil, errNoExchange
	case conn.exchange != nil && !conn.exchange.isOver():
		return conn.exchange, nil
	}
	ctx, cancel := context.WithCancel(c.ctx)
	stream, err := conn.grpc.NewStream(ctx, &service.Streams[2], exchangeMethod)
	if err != nil {
		cancel()
		return nil, err
	}
	x := &exchange{to: to, stream: stream, cancel: cancel, wake: make(chan struct{}, 1), waiting: make(map[uint64]*shortCall)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel()
		return nil, &unsent{errClientClosed}
	}
	c.tasks.Go(x.send)
	c.tasks.Go(func() { x.receive(conn) })
	conn.exchange = x
	return x, nil
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
	for range 2 {
		x, err := c.exchange(conn, to)
		if err != nil {
			return Reply{}, err
		}
		// One that ends because nobody used it may be replaced.
		if reply, err := x.call(ctx, kind, head, data); !errors.Is(err, errExchangeOver) {
			return reply, err
		}
	}
	return Reply{}, &unsent{fmt.Errorf("the connection to server %q was gone when the call began", to)}
}

// begin puts a call into the queue.
func (x *exchange) begin(s *shortCall, kind byte, head *request, data []byte) (id uint64, ok bool) {
	var room [headRoom + 64]byte
	top, _ := head.append(room[:0], kind == itemQuery, len(data), MaxMessageBytes)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return 0, false
	}
	id = x.put(kind, top, data)
	x.waiting[id] = s
	x.used = true
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
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return x.next
}

// send sends what is in the queue until the stream ends, or nobody has used it
// for a while.
func (x *exchange) send() {
	idle := time.NewTicker(ExchangeIdle)
	defer idle.Stop()
	for {
		select {
		case <-x.wake:
		case <-x.stream.Context().Done():
			return
		case <-idle.C:
			if x.idles() {
				_ = x.stream.CloseSend() // the server ends it
				return
			}
			continue
		}
		runtime.Gosched() // others may be about to ask, too
		for {
			b, ok := x.take()
			if !ok {
				break
			}
			if x.stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(b)}) != nil {
				return // receive gets the reason
			}
		}
	}
}

// take takes the next message out of the queue.
func (x *exchange) take() ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.queue) == 0 {
		return nil, false
	}
	b := x.queue[0]
	x.sent = x.lasts[0]
	x.queue, x.lasts = slices.Delete(x.queue, 0, 1), slices.Delete(x.lasts, 0, 1)
	return b, true
}

// idles reports whether nobody used the exchange since it was called last, and
// then begins no more calls.
func (x *exchange) idles() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.used || len(x.waiting) > 0 || len(x.queue) > 0 {
		x.used = false
		return false
	}
	x.over = true
	return true
}

// receive gives answers to those who wait, until the stream ends.
func (x *exchange) receive(conn *clientConn) {
	defer x.cancel()
	for {
		var in message
		err := x.stream.RecvMsg(&in)
		if err == nil {
			data, own := in.contiguous()
			err = eachItem(data, func(id uint64, flags byte, item []byte) error {
				return x.answer(id, flags, item, own && len(item) >= len(data)/4)
			})
			in.free()
		}
		if err != nil {
			if code := status.Code(err); code == codes.ResourceExhausted || code == codes.Unimplemented {
				conn.opening.Lock()
				conn.alone = true
				conn.opening.Unlock()
				err = errNoExchange
			}
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
	waiting, sent := x.waiting, x.sent
	x.waiting, x.queue, x.lasts = nil, nil, nil
	x.mu.Unlock()
	for id, s := range waiting {
		switch {
		case errors.Is(cause, errNoExchange):
			s.err = errNoExchange
		case id > sent:
			s.unsent(x.to)
			continue
		default:
			s.err = &lost{fmt.Errorf("the connection to server %q broke during the call: %v", x.to, cause)}
		}
		close(s.done)
	}
}

// serverExchange is the server's side.
type serverExchange struct {
	server *Server
	stream grpc.ServerStream
	conn   *serverConn

	running sync.WaitGroup // calls that have not been answered

	mu      sync.Mutex
	calls   map[uint64]*exchanged
	last    uint64 // the highest number that was looked at
	refuses bool   // the server stops
	queue   []queued
	bytes   int  // in the queue
	sending bool // somebody empties the queue
	broken  bool // nothing can be sent any more
	room    sync.Cond
}

// exchanged is a call that has not been answered.
type exchanged struct {
	query  bool
	cancel context.CancelCauseFunc
}

// queued is an item that is to be sent.
type queued struct {
	pieces mem.BufferSlice
	size   int
}

// exchange serves short calls of one connection until the client or the Server
// ends.
func (s *Server) exchange(stream grpc.ServerStream) error {
	conn := connOf(stream.Context())
	if conn == nil {
		return status.Error(codes.Internal, "a stream without a connection")
	}
	defer s.exchanges.Add(-1)
	if s.exchanges.Add(1) > MaxExchanges {
		return status.Errorf(codes.ResourceExhausted, "there are %d exchanges, the limit is %d", MaxExchanges, MaxExchanges)
	}
	if !conn.exchanging.CompareAndSwap(false, true) {
		return status.Error(codes.ResourceExhausted, "this connection has an exchange")
	}
	defer conn.exchanging.Store(false)
	x := &serverExchange{server: s, stream: stream, conn: conn, calls: make(map[uint64]*exchanged)}
	x.room.L = &x.mu
	received := make(chan error, 1)
	go func() { received <- x.receive() }()
	var err error
	select {
	case err = <-received:
		// After the client's own end, which is none, its calls are answered still.
		x.drain(err != nil)
		return err
	case <-s.stopping.Done():
	}
	x.stop()
	x.drain(false)
	return nil
}

// stop looks at no more items, says so, and ends the queries under way.
func (x *serverExchange) stop() {
	x.mu.Lock()
	x.refuses = true
	last := x.last
	for _, call := range x.calls {
		if call.query {
			call.cancel(errStopping)
		}
	}
	x.mu.Unlock()
	x.put(queued{mem.BufferSlice{mem.SliceBuffer(appendItem(nil, last, itemClosing, 0))}, itemRoom})
}

// drain waits until all calls have been answered, or, if nobody can get answers
// any more, have ended.
func (x *serverExchange) drain(broken bool) {
	if broken {
		x.mu.Lock()
		x.broken = true
		x.room.Broadcast()
		for _, call := range x.calls {
			call.cancel(context.Canceled)
		}
		x.mu.Unlock()
	}
	x.running.Wait()
}

// receive begins calls until the client has no more, which gives nil, or the
// stream breaks.
func (x *serverExchange) receive() error {
	for {
		var in message
		if err := x.stream.RecvMsg(&in); err != nil {
			return ignoreEOF(err)
		}
		data, _ := in.contiguous()
		err := eachItem(data, x.begin)
		in.free()
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// begin begins one call.
func (x *serverExchange) begin(id uint64, kind byte, item []byte) error {
	if kind == itemGone {
		return x.gone(id, item)
	}
	if kind != itemApply && kind != itemQuery {
		return fmt.Errorf("%w: the kind %d of an item is not known", errMalformed, kind)
	}
	x.mu.Lock()
	refuses, err := x.look(id)
	if refuses || err != nil {
		x.mu.Unlock()
		return err // the client of a server that stops is told what was not looked at
	}
	x.running.Add(1)
	x.mu.Unlock()
	head, part, total, err := decodeRequest(item, 0, kind == itemQuery, x.conn.node())
	if err == nil && len(part) != total {
		err = fmt.Errorf("%w: a short call is cut", errMalformed)
	}
	if err != nil {
		x.running.Done()
		return err
	}
	x.conn.name(head.from)
	if kind == itemQuery && x.quick(id, head, part) {
		x.running.Done()
		return nil
	}
	ctx, cancel := context.WithCancelCause(x.stream.Context())
	data := append(make([]byte, 0, len(part)), part...)
	var refusal error
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.refuses:
		refusal = &refused{errStopping.Code, errStopping.Text}
	case len(x.calls) >= MaxStreams:
		refusal = busy("too many calls on this connection", MaxStreams)
	case x.server.calls.Add(1) > MaxCalls:
		x.server.calls.Add(-1)
		refusal = busy("too many calls at once", MaxCalls)
	default:
		x.calls[id] = &exchanged{kind == itemQuery, cancel}
	}
	x.server.work(func() {
		defer x.running.Done()
		defer cancel(nil)
		if refusal != nil {
			x.fail(ctx, id, refusal)
			return
		}
		if kind == itemApply {
			x.apply(ctx, id, head, data)
		} else {
			x.query(ctx, id, head, data)
		}
		x.server.calls.Add(-1)
	})
	return nil
}

// work runs a short call on a goroutine of its own. Some that are done wait for
// the next call: to grow the stack of a new one costs more than many calls do.
func (s *Server) work(job func()) {
	select {
	case s.jobs <- job:
		return
	default:
	}
	go func() {
		for {
			job()
			if s.idle.Add(1) > MaxIdleWorkers {
				s.idle.Add(-1)
				return
			}
			select {
			case job = <-s.jobs:
				s.idle.Add(-1)
			case <-s.stopping.Done():
				s.idle.Add(-1)
				return
			}
		}
	}()
}

// look notes that an item is looked at, and reports whether that is over; x.mu is
// held.
func (x *serverExchange) look(id uint64) (refuses bool, err error) {
	if x.refuses {
		return true, nil
	}
	if id <= x.last {
		return false, fmt.Errorf("%w: item %d comes after item %d", errMalformed, id, x.last)
	}
	x.last = id
	return false, nil
}

// gone ends a query for which nobody waits any more.
func (x *serverExchange) gone(id uint64, item []byte) error {
	of, n := binary.Uvarint(item)
	if n <= 0 {
		return fmt.Errorf("%w: which call is gone cannot be read", errMalformed)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.look(id); err != nil {
		return err
	}
	if call := x.calls[of]; call != nil && call.query {
		call.cancel(context.Canceled)
	}
	return nil
}

// quick has the handler answer at once, and reports whether it did.
func (x *serverExchange) quick(id uint64, head request, query []byte) bool {
	h, ok := x.server.cfg.Handler.(QuickHandler)
	if !ok {
		return false
	}
	r, ok := x.server.handleQuick(h, head.toQuery(query))
	if !ok || len(r.Body) > inlineBytes {
		return false
	}
	a := answer{r.Meta, r.More, r.Same}
	top, _ := a.append(newHead(headRoom, len(r.Body)), len(r.Body), MaxItemBytes)
	x.reply(id, itemEnded, top, r.Body)
	return true
}

// handleQuick leaves a query that panics to Query, which says so.
func (s *Server) handleQuick(h QuickHandler, r *QueryRequest) (reply Reply, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return h.Quick(r)
}

// apply has the handler carry out a command.
func (x *serverExchange) apply(ctx context.Context, id uint64, head request, command []byte) {
	result, err := x.server.handleApply(ctx, head.toApply(command))
	if err == nil && len(result) > MaxBodyBytes {
		err = resultTooLong(len(result))
	}
	switch {
	case err != nil:
		x.fail(ctx, id, err)
	default:
		x.reply(id, itemEnded, append(newHead(2+itemRoom, len(result)), wireForm, replyResult), result)
	}
}

// query has the handler answer, once.
func (x *serverExchange) query(ctx context.Context, id uint64, head request, query []byte) {
	var answered *Reply
	err := x.server.handleQuery(ctx, head.toQuery(query), func(r Reply) error {
		switch {
		case len(r.Body) > MaxBodyBytes:
			return answerTooLong(len(r.Body))
		case answered != nil:
			return &mvcc.Error{Code: mvcc.Invalid, Text: "this query has more than one answer: it cannot be a short call"}
		}
		answered = &r
		return nil
	})
	if err != nil {
		x.fail(ctx, id, err)
		return
	}
	if answered == nil {
		x.fail(ctx, id, &mvcc.Error{Code: mvcc.Internal, Text: "the query has no answer"})
		return
	}
	a := answer{answered.Meta, answered.More, answered.Same}
	top, first := a.append(newHead(headRoom, len(answered.Body)), len(answered.Body), MaxItemBytes)
	rest := answered.Body[first:]
	x.reply(id, endedIf(len(rest) == 0), top, answered.Body[:first])
	for len(rest) > 0 {
		part := rest[:min(len(rest), MaxItemBytes)]
		rest = rest[len(part):]
		x.reply(id, endedIf(len(rest) == 0), []byte{wireForm, replyPart}, part)
	}
}

func endedIf(ended bool) byte {
	if ended {
		return itemEnded
	}
	return 0
}

// fail ends a call with an error.
func (x *serverExchange) fail(ctx context.Context, id uint64, err error) {
	var refusal *refused
	if errors.As(err, &refusal) {
		x.server.warn(x.stream, refusal)
	}
	kind, code, text := describe(ctx, err)
	x.reply(id, itemEnded, encodeError(kind, code, text)[0].ReadOnlyData(), nil)
}

// reply sends one item of an answer: the head of a message and a part of its
// body.
func (x *serverExchange) reply(id uint64, flags byte, top, part []byte) {
	size := itemRoom + len(top) + len(part)
	b := make([]byte, 0, itemRoom+len(top)+min(len(part), inlineBytes))
	b = append(appendItem(b, id, flags, len(top)+len(part)), top...)
	item := queued{size: size}
	if len(part) <= inlineBytes {
		item.pieces = mem.BufferSlice{mem.SliceBuffer(append(b, part...))}
	} else {
		item.pieces = mem.BufferSlice{mem.SliceBuffer(b), mem.SliceBuffer(part)}
	}
	if flags&itemEnded != 0 {
		x.mu.Lock()
		delete(x.calls, id)
		x.mu.Unlock()
	}
	x.put(item)
}

// put puts an item into the queue, once there is room, and sends what is in it if
// nobody does. So whoever has an answer first sends those of others, too.
func (x *serverExchange) put(item queued) {
	x.mu.Lock()
	for x.bytes > MaxReplyMessageBytes && !x.broken {
		x.room.Wait()
	}
	if x.broken {
		x.mu.Unlock()
		return
	}
	x.queue = append(x.queue, item)
	x.bytes += item.size
	if x.sending {
		x.mu.Unlock()
		return
	}
	x.sending = true
	x.mu.Unlock()
	runtime.Gosched() // others may be about to answer, too
	x.mu.Lock()
	for len(x.queue) > 0 && !x.broken {
		var out mem.BufferSlice
		size, n := 0, 0
		for n < len(x.queue) && (n == 0 || size+x.queue[n].size <= MaxReplyMessageBytes) {
			out = append(out, x.queue[n].pieces...)
			size += x.queue[n].size
			n++
		}
		x.queue = slices.Delete(x.queue, 0, n)
		x.bytes -= size
		x.room.Broadcast()
		x.mu.Unlock()
		err := x.stream.SendMsg(out)
		x.mu.Lock()
		x.broken = x.broken || err != nil
	}
	x.sending = false
	if x.broken {
		x.queue, x.bytes = nil, 0
		x.room.Broadcast()
	}
	x.mu.Unlock()
}
