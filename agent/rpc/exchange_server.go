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

	"github.com/muster-sd/muster/kv/mvcc"
)

// serverExchange is the server's side.
type serverExchange struct {
	server *Server
	conn   *serverConn
	frames *frames
	ctx    context.Context         // ends when nobody can get answers any more
	shared context.Context         // the same, or when the server stops: that of queries that wait together
	end    context.CancelCauseFunc // ends shared

	running sync.WaitGroup // calls that have not been answered

	mu      sync.Mutex
	calls   map[uint64]*exchanged
	last    uint64 // the highest number that was looked at
	refuses bool   // the server stops
	queue   []queued
	bytes   int  // that the queue takes
	looked  bool // the client asked whether this server is there
	// Queries that wait for the same: those of the frame that is being read, which
	// are the receiver's own, and those that wait for somebody to see to them.
	batch, pending []*batched
	gathering      bool      // somebody does
	sending        bool      // somebody empties the queue, or is about to
	broken         bool      // nothing can be sent any more
	room           sync.Cond // told when the queue is shorter, nobody sends, or nothing can be sent
}

// exchanged is a call that has not been answered.
type exchanged struct {
	query  bool
	shared bool // cancel ends others, too
	gone   bool // nobody waits any more for one that is shared
	cancel context.CancelCauseFunc
}

// batched is a query that is answered together with others.
type batched struct {
	id       uint64
	request  *QueryRequest
	answered bool
}

// queued is an item that is to be sent: what is its own, and bytes that belong to
// others, too.
type queued struct{ own, shared []byte }

func (q *queued) size() int { return queuedBytes + len(q.own) + len(q.shared) }

// queuedBytes is what an item takes in the queue beside its bytes.
const queuedBytes = 48

// serveShort takes connections for short calls until the listener is closed.
func (s *Server) serveShort() {
	for {
		conn, err := s.cfg.Short.Accept()
		if err != nil {
			return
		}
		c := s.known(conn, 0)
		s.exchanging.Go(func() {
			defer c.Close()
			s.exchange(c)
		})
	}
}

// exchange serves the short calls of one connection until the client or the Server
// ends.
func (s *Server) exchange(conn *serverConn) {
	defer s.exchanges.Add(-1)
	if s.exchanges.Add(1) > MaxExchanges {
		s.warn(conn, &refused{mvcc.Internal, fmt.Sprintf("there are %d connections for short calls, the limit is %d", MaxExchanges, MaxExchanges)})
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x := &serverExchange{server: s, conn: conn, ctx: ctx, calls: make(map[uint64]*exchanged)}
	x.shared, x.end = context.WithCancelCause(ctx)
	defer x.end(nil)
	x.frames = newFrames(conn.Conn, ReadBufferBytes, MaxMessageBytes, ExchangeSilence)
	x.room.L = &x.mu
	x.sending = true
	if x.frames.send() != nil { // this connection is taken
		return
	}
	x.flush(everything)
	received := make(chan error, 1)
	go func() { received <- x.receive() }()
	select {
	case err := <-received:
		if errors.Is(err, errMalformed) {
			s.warn(conn, &refused{mvcc.Invalid, "short calls cannot be read: " + err.Error()})
		}
		cancel()
		x.abandon()
		x.running.Wait()
	case <-s.stopping.Done():
		x.stop()
		ended := make(chan struct{})
		go func() {
			x.running.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-received: // the connection was cut: nobody waits for commands that take too long
			cancel()
			x.abandon()
			<-ended
			return
		}
		x.sent()
		// What the client has sent by now is read still, and so it reads all that
		// was sent to it: a connection that is closed over unread bytes is reset.
		if half, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		late := time.AfterFunc(flushTime, func() { _ = conn.Close() })
		<-received
		late.Stop()
	}
}

// stop looks at no more items, says so, and ends the queries under way.
func (x *serverExchange) stop() {
	x.mu.Lock()
	x.refuses = true
	last := x.last
	x.end(errStopping)
	for _, call := range x.calls {
		if call.query && !call.shared {
			call.cancel(errStopping)
		}
	}
	x.mu.Unlock()
	x.put(queued{own: appendItem(nil, last, itemClosing, 0)})
}

// abandon sends nothing any more.
func (x *serverExchange) abandon() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.broken = true
	x.room.Broadcast()
}

// receive begins calls until the connection ends.
func (x *serverExchange) receive() error {
	for {
		data, _, err := x.frames.receive()
		if err != nil {
			return err
		}
		// What can be answered at once goes in one frame.
		mine := x.hold()
		if len(data) == 0 {
			x.look()
		}
		err = eachItem(data, func(id uint64, kind byte, item []byte) error {
			err := x.begin(id, kind, item)
			if x.full() { // whoever does not read what he asked for asks for no more
				if mine {
					mine = false
					x.server.work(func() { x.flush(everything) })
				}
				x.awaitRoom()
			}
			return err
		})
		x.together()
		if mine || x.hold() {
			x.flush(1) // long answers to others are for others to send
		}
		if err != nil {
			return err
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
	refuses, err := x.advance(id)
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
	if kind == itemQuery {
		switch x.quick(id, head, part) {
		case Quick:
			x.running.Done()
			return nil
		case Together:
			x.batch = append(x.batch, &batched{id: id, request: head.toQuery(append([]byte(nil), part...))})
			return nil
		}
	}
	ctx, cancel := context.WithCancelCause(x.ctx)
	if refusal := x.admit(id, &exchanged{query: kind == itemQuery, cancel: cancel}); refusal != nil {
		x.enqueue(x.failure(ctx, id, refusal))
		cancel(nil)
		x.running.Done()
		return nil
	}
	data := append(make([]byte, 0, len(part)), part...)
	x.server.work(func() {
		defer x.running.Done()
		defer cancel(nil)
		if kind == itemApply {
			x.apply(ctx, id, head, data)
		} else {
			x.query(ctx, id, head.toQuery(data))
		}
		x.server.calls.Add(-1)
	})
	return nil
}

// together has the handler answer the queries of one frame that wait for the same.
// Those that come while others wait are the next ones.
func (x *serverExchange) together() {
	if len(x.batch) == 0 {
		return
	}
	begins := false
	for _, b := range x.batch {
		if refusal := x.admit(b.id, &exchanged{query: true, shared: true, cancel: x.end}); refusal != nil {
			x.enqueue(x.failure(x.ctx, b.id, refusal))
			x.running.Done()
			continue
		}
		x.mu.Lock()
		x.pending = append(x.pending, b)
		begins = begins || !x.gathering
		x.gathering = true
		x.mu.Unlock()
	}
	clear(x.batch)
	x.batch = x.batch[:0]
	if begins {
		x.server.work(x.gather)
	}
}

// gather answers what waits for the same until nothing does.
func (x *serverExchange) gather() {
	for {
		x.mu.Lock()
		batch := x.pending
		x.pending = nil
		x.gathering = len(batch) > 0
		x.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		x.answerTogether(batch)
	}
}

// answerTogether answers on one goroutine, and in one frame. What cannot be answered
// so is answered each by itself.
func (x *serverExchange) answerTogether(batch []*batched) {
	all := make([]*QueryRequest, len(batch))
	for i, b := range batch {
		all[i] = b.request
	}
	items := make([]queued, 0, len(batch))
	x.server.handleTogether(x.shared, all, func(i int, r Reply) {
		if len(r.Body) <= MaxItemBytes-headRoom {
			batch[i].answered = true
			items = append(items, answerItem(batch[i].id, r))
		}
	})
	x.putAll(items)
	for _, b := range batch {
		ctx, cancel := x.alone(b)
		if ctx == nil {
			x.ended()
			continue
		}
		x.server.work(func() {
			defer cancel(nil)
			x.query(ctx, b.id, b.request)
			x.ended()
		})
	}
}

// alone makes a query that waited with others one that is asked by itself, with a
// context of its own; nil if it is over, since it was answered or nobody waits for it.
func (x *serverExchange) alone(b *batched) (context.Context, context.CancelCauseFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.answered || x.calls[b.id].gone {
		delete(x.calls, b.id)
		return nil, nil
	}
	ctx, cancel := context.WithCancelCause(x.ctx)
	x.calls[b.id] = &exchanged{query: true, cancel: cancel}
	if x.refuses {
		cancel(errStopping)
	}
	return ctx, cancel
}

// ended notes the end of a call that was admitted.
func (x *serverExchange) ended() {
	x.server.calls.Add(-1)
	x.running.Done()
}

// admit counts a call, or says why there is no room for it.
func (x *serverExchange) admit(id uint64, call *exchanged) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.refuses:
		return &refused{errStopping.Code, errStopping.Text}
	case len(x.calls) >= MaxStreams:
		return busy("too many calls on this connection", MaxStreams)
	case x.server.calls.Add(1) > MaxCalls:
		x.server.calls.Add(-1)
		return busy("too many calls at once", MaxCalls)
	}
	x.calls[id] = call
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

// advance notes that an item is looked at, and reports whether that is over; x.mu is
// held.
func (x *serverExchange) advance(id uint64) (refuses bool, err error) {
	if x.refuses {
		return true, nil
	}
	if id <= x.last {
		return false, fmt.Errorf("%w: item %d comes after item %d", errMalformed, id, x.last)
	}
	x.last = id
	return false, nil
}

// gone ends a call for which nobody waits any more: a command that is not in the log
// by then must not come into it when whoever gave it has gone on.
func (x *serverExchange) gone(id uint64, item []byte) error {
	of, n := binary.Uvarint(item)
	if n <= 0 {
		return fmt.Errorf("%w: which call is gone cannot be read", errMalformed)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.advance(id); err != nil {
		return err
	}
	if call := x.calls[of]; call != nil {
		call.gone = true
		if !call.shared {
			call.cancel(context.Canceled)
		}
	}
	return nil
}

// quick has the handler answer at once if it can, and reports how the query is to be
// answered.
func (x *serverExchange) quick(id uint64, head request, query []byte) Pace {
	if x.server.quick == nil {
		return Alone
	}
	r, pace := x.server.handleQuick(head.toQuery(query))
	if pace != Quick {
		return pace
	}
	if len(r.Body) > MaxItemBytes-headRoom {
		return Alone
	}
	x.enqueue(answerItem(id, r))
	return Quick
}

// answerItem is a whole answer. It has to fit into one item.
func answerItem(id uint64, r Reply) queued {
	var room [headRoom + itemRoom]byte
	a := answer{r.Meta, r.More, r.Same}
	top, _ := a.append(room[:0], len(r.Body), MaxItemBytes)
	return item(id, itemEnded, top, r.Body)
}

// handleQuick leaves a query that panics to Query, which says so.
func (s *Server) handleQuick(r *QueryRequest) (reply Reply, pace Pace) {
	defer func() {
		if recover() != nil {
			pace = Alone
		}
	}()
	return s.quick.Quick(r)
}

// handleTogether leaves what is not answered before a panic to Query.
func (s *Server) handleTogether(ctx context.Context, all []*QueryRequest, answer func(i int, r Reply)) {
	defer func() { _ = recover() }()
	s.quick.Together(ctx, all, answer)
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
func (x *serverExchange) query(ctx context.Context, id uint64, request *QueryRequest) {
	var answered *Reply
	err := x.server.handleQuery(ctx, request, func(r Reply) error {
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
	x.put(x.failure(ctx, id, err))
	x.over(id)
}

// failure is the item that ends a call with an error.
func (x *serverExchange) failure(ctx context.Context, id uint64, err error) queued {
	var refusal *refused
	if errors.As(err, &refusal) {
		x.server.warn(x.conn, refusal)
	}
	kind, code, text := describe(ctx, err)
	return item(id, itemEnded, errorMessage(kind, code, text), nil)
}

// reply sends one item of an answer: the head of a message and a part of its
// body.
func (x *serverExchange) reply(id uint64, flags byte, top, part []byte) {
	x.put(item(id, flags, top, part))
	if flags&itemEnded != 0 {
		x.over(id)
	}
}

// over forgets a call whose answer is on its way. Until then it counts.
func (x *serverExchange) over(id uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.calls, id)
}

// item makes an item of an answer. A body that is not short is handed over as it
// is.
func item(id uint64, flags byte, top, part []byte) queued {
	own := make([]byte, 0, itemRoom+len(top)+min(len(part), inlineBytes))
	own = append(appendItem(own, id, flags, len(top)+len(part)), top...)
	if len(part) <= inlineBytes {
		return queued{own: append(own, part...)}
	}
	return queued{own: own, shared: part}
}

// put puts an item into the queue, once there is room, and sends what is in it if
// nobody does. So whoever has an answer first sends those of others, too.
func (x *serverExchange) put(item queued) {
	x.mu.Lock()
	x.wait()
	x.add(item)
	x.mu.Unlock()
	x.sendHeld()
}

// putAll is put for several items.
func (x *serverExchange) putAll(items []queued) {
	x.mu.Lock()
	for _, item := range items {
		x.wait()
		x.add(item)
	}
	x.mu.Unlock()
	x.sendHeld()
}

// sendHeld sends what is in the queue if nobody does.
func (x *serverExchange) sendHeld() {
	if x.hold() {
		runtime.Gosched() // others may be about to answer, too
		x.flush(everything)
	}
}

// enqueue puts an item into the queue for the receiver, who sees to it that there is
// room, and that it is sent.
func (x *serverExchange) enqueue(item queued) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(item)
}

// add adds an item to the queue; x.mu is held.
func (x *serverExchange) add(item queued) {
	if !x.broken {
		x.queue = append(x.queue, item)
		x.bytes += item.size()
	}
}

// look notes that the client wants a sign of life. Any frame is one.
func (x *serverExchange) look() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.looked = true
}

// full reports whether the queue is too long to be added to.
func (x *serverExchange) full() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes > MaxReplyMessageBytes
}

// wait waits until there is room in the queue; x.mu is held.
func (x *serverExchange) wait() {
	for x.bytes > MaxReplyMessageBytes && !x.broken {
		x.turn()
		x.room.Wait()
	}
}

// awaitRoom is wait for who does not hold x.mu.
func (x *serverExchange) awaitRoom() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wait()
}

// sent waits until all is sent that is in the queue.
func (x *serverExchange) sent() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for (x.sending || len(x.queue) > 0) && !x.broken {
		x.turn()
		x.room.Wait()
	}
}

// turn has somebody send if nobody does; x.mu is held.
func (x *serverExchange) turn() {
	if !x.sending {
		x.sending = true
		x.server.work(func() { x.flush(everything) })
	}
}

// hold makes the caller the one who sends, who then has to call flush, and reports
// whether it did: nobody else is.
func (x *serverExchange) hold() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sending {
		return false
	}
	x.sending = true
	return true
}

// everything has flush send until nothing is left.
const everything = -1

// flush sends what is in the queue, by whoever holds it, and gives it back. After
// some frames it leaves the rest to another goroutine. A connection on which
// nothing can be sent is closed.
func (x *serverExchange) flush(frames int) {
	var pieces [][]byte
	x.mu.Lock()
	defer x.mu.Unlock()
	for ; (len(x.queue) > 0 || x.looked) && !x.broken; frames-- {
		if frames == 0 {
			x.server.work(func() { x.flush(everything) })
			return
		}
		pieces = pieces[:0]
		size, n := 0, 0
		for n < len(x.queue) && (n == 0 || size+x.queue[n].size() <= MaxReplyMessageBytes) {
			pieces = append(pieces, x.queue[n].own, x.queue[n].shared)
			size += x.queue[n].size()
			n++
		}
		x.queue = slices.Delete(x.queue, 0, n)
		x.bytes -= size
		x.looked = false
		x.room.Broadcast()
		x.mu.Unlock()
		err := x.frames.send(pieces...)
		if err != nil {
			_ = x.conn.Close()
		}
		x.mu.Lock()
		x.broken = x.broken || err != nil
	}
	x.sending = false
	if x.broken {
		x.queue, x.bytes = nil, 0
	}
	x.room.Broadcast()
}
