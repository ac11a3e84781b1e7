package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Names of the methods. They cross the wire.
const (
	serviceName = "muster.Calls"
	applyMethod = "/" + serviceName + "/Apply"
	queryMethod = "/" + serviceName + "/Query"
)

// service describes the methods to the library. To one message of a
// request and one of a reply, as Apply nearly always has, a stream is the same
// as a single call.
var service = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "Apply", ClientStreams: true, Handler: func(s any, stream grpc.ServerStream) error { return s.(*Server).serve(stream, false) }},
		{StreamName: "Query", ClientStreams: true, ServerStreams: true, Handler: func(s any, stream grpc.ServerStream) error { return s.(*Server).serve(stream, true) }},
	},
}

// ServerConfig is what a [Server] is made of.
type ServerConfig struct {
	// Listener gives out connections that speak [ProtocolCalls], as
	// [Mux.Calls] does. The Server closes it.
	Listener net.Listener
	// Short gives out connections that speak [ProtocolShort], as [Mux.Short] does.
	// The Server closes it. Nil takes no such connections.
	Short net.Listener
	// Handler answers the calls.
	Handler Handler
	// Broke, if it is set, is called with the node ID of an agent, by its
	// requests, when the last connection of it ended, for whatever reason but
	// the Server's own end. It must not block.
	Broke func(id string)
	// StopTimeout is how long calls may take to end once the Server stops;
	// zero is [DefaultStopTimeout].
	StopTimeout time.Duration
	// Logger takes what went wrong; nil drops it.
	Logger *slog.Logger
}

// Server answers the calls of other agents.
type Server struct {
	cfg   ServerConfig
	grpc  *grpc.Server
	quick QuickHandler // the handler, if it is one

	stopping context.Context // ends with errStopping when the Server stops
	stop     context.CancelCauseFunc

	calls          atomic.Int64
	receiving      atomic.Int64
	receivingBytes atomic.Int64
	exchanges      atomic.Int64
	exchanging     sync.WaitGroup // the same, to wait for

	jobs chan func()  // of short calls, for the goroutines that wait for one
	idle atomic.Int64 // how many wait

	mu     sync.Mutex
	conns  map[*serverConn]struct{}
	nodes  map[string]int // connections by the node ID in their requests
	ended  bool           // connections that end now were ended by the Server
	warned time.Time      // when a refused call was last logged
}

// errStopping ends the context of queries when a server stops.
var errStopping = &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the server is shutting down"}

// NewServer returns a Server. Nothing is accepted before Run.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = DefaultStopTimeout
	}
	s := &Server{cfg: cfg, conns: make(map[*serverConn]struct{}), nodes: make(map[string]int), jobs: make(chan func())}
	s.quick, _ = cfg.Handler.(QuickHandler)
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxBodyBytes+headRoom+itemRoom),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.MaxHeaderListSize(MaxHeaderBytes),
		grpc.ConnectionTimeout(HandshakeTimeout),
		grpc.StaticStreamWindowSize(MaxMessageBytes),
		grpc.StaticConnWindowSize(ConnWindowBytes),
		grpc.ReadBufferSize(ReadBufferBytes),
		grpc.WriteBufferSize(WriteBufferBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: ServerKeepaliveTime, Timeout: ServerKeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: KeepaliveMinTime, PermitWithoutStream: true}),
	)
	s.grpc.RegisterService(&service, s)
	return s
}

// Run serves until ctx ends, which gives nil, or until the listener fails. It
// then takes no more calls, ends the queries that wait, lets other calls end
// within the configured time, cuts the connections, and returns when all
// handlers have. A handler that outlives its context by as long again is an
// error.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(&serverListener{s.cfg.Listener, s}) }()
	short := make(chan struct{})
	go func() {
		defer close(short)
		if s.cfg.Short != nil {
			s.serveShort()
		}
	}()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		served <- nil
		if errors.Is(err, net.ErrClosed) {
			err = fmt.Errorf("the listener of calls was closed: %w", err)
		}
	}
	return errors.Join(err, s.end(served, short))
}

// quiet is closed when no call was under way for flushTime, unless ended is before.
func (s *Server) quiet(ended <-chan struct{}) <-chan struct{} {
	quiet := make(chan struct{})
	go func() {
		look := time.NewTicker(flushTime / 10)
		defer look.Stop()
		for looks := 0; looks < 10; {
			select {
			case <-ended:
				return
			case <-look.C:
			}
			if looks++; s.calls.Load() > 0 {
				looks = 0
			}
		}
		close(quiet)
	}()
	return quiet
}

// end stops the Server in the order that Run promises.
func (s *Server) end(served <-chan error, short <-chan struct{}) error {
	s.mu.Lock()
	s.ended = true
	for conn := range s.conns {
		if !conn.begun.Load() {
			_ = conn.Conn.Close() // the library would wait for its preface
		}
	}
	s.mu.Unlock()
	s.stop(errStopping)
	if s.cfg.Short != nil {
		_ = s.cfg.Short.Close()
	}
	<-short
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
		s.exchanging.Wait()
	}()
	timer := time.NewTimer(s.cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-graceful:
	case <-s.quiet(graceful):
		// What is left are connections whose other end does not close them: it may
		// not even hear that it should.
		s.cut()
		s.grpc.Stop()
	case <-timer.C:
		s.cfg.Logger.Warn("calls did not end in time: cutting their connections", "calls", s.calls.Load(), "limit", s.cfg.StopTimeout)
		s.cut()
		s.grpc.Stop()
	}
	timer.Reset(s.cfg.StopTimeout)
	select {
	case <-graceful: // it waits for the handlers, too
	case <-timer.C:
		return fmt.Errorf("%d calls did not end within %v after their connections were cut", s.calls.Load(), s.cfg.StopTimeout)
	}
	<-served
	return nil
}

// cut closes all connections.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Conn.Close()
	}
}

// serverListener makes each connection known to its Server.
type serverListener struct {
	net.Listener
	server *Server
}

// Accept waits for the next connection.
func (l *serverListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.server.known(conn, prefaceBytes), nil
}

// known makes a connection known to the Server, which begins when some bytes have
// come in.
func (s *Server) known(conn net.Conn, preface int64) *serverConn {
	c := &serverConn{Conn: conn, server: s}
	c.unread.Store(preface)
	c.begun.Store(preface == 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if s.ended {
		_ = conn.Close()
	}
	return c
}

// prefaceBytes is how long a client's preface of HTTP/2 and the head of its
// settings are.
const prefaceBytes = 24 + 9

// serverConn is a connection that a Server knows.
type serverConn struct {
	net.Conn
	server *Server
	once   sync.Once
	unread atomic.Int64 // of the preface
	begun  atomic.Bool
	from   atomic.Pointer[string] // the node ID in its requests, once there was one
}

// Read reads, and notes when the preface is there.
func (c *serverConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.begun.Load() && c.unread.Add(-int64(n)) <= 0 {
		c.begun.Store(true)
	}
	return n, err
}

// RemoteAddr returns the address, which leads a call to its connection.
func (c *serverConn) RemoteAddr() net.Addr { return connAddr{c.Conn.RemoteAddr(), c} }

type connAddr struct {
	net.Addr
	conn *serverConn
}

// Close closes the connection and makes the Server forget it.
func (c *serverConn) Close() error {
	c.once.Do(func() {
		s := c.server
		s.mu.Lock()
		delete(s.conns, c)
		gone := ""
		if from := c.from.Load(); from != nil {
			if s.nodes[*from]--; s.nodes[*from] == 0 {
				delete(s.nodes, *from)
				gone = *from
			}
		}
		tell := gone != "" && !s.ended && s.cfg.Broke != nil
		s.mu.Unlock()
		if tell {
			s.cfg.Broke(gone)
		}
	})
	return c.Conn.Close()
}

// name notes whose connection it is, by the first request that says so.
func (c *serverConn) name(from string) {
	if from == "" || c.from.Load() != nil {
		return
	}
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.conns[c]; open && c.from.CompareAndSwap(nil, &from) {
		s.nodes[from]++
	}
}

// node returns the node ID of earlier requests.
func (c *serverConn) node() string {
	if from := c.from.Load(); from != nil {
		return *from
	}
	return ""
}

// connOf returns the connection of a call.
func connOf(ctx context.Context) *serverConn {
	if p, ok := peer.FromContext(ctx); ok {
		if address, ok := p.Addr.(connAddr); ok {
			return address.conn
		}
	}
	return nil
}

// refused is an error that a call gets before its handler sees it.
type refused struct {
	code mvcc.Code
	text string
}

func (r *refused) Error() string { return r.text }

// busy refuses a call above a limit.
func busy(what string, limit int64) error {
	return &refused{mvcc.Internal, fmt.Sprintf("the server is busy: %s, the limit is %d", what, limit)}
}

// serve answers one call.
func (s *Server) serve(stream grpc.ServerStream, query bool) error {
	conn := connOf(stream.Context())
	if conn == nil {
		return status.Error(codes.Internal, "a call without a connection")
	}
	defer s.calls.Add(-1)
	if s.calls.Add(1) > MaxCalls {
		return s.fail(stream, stream.Context(), busy("too many calls at once", MaxCalls))
	}
	if s.stopping.Err() != nil {
		return s.fail(stream, stream.Context(), &refused{errStopping.Code, errStopping.Text})
	}
	head, body, err := s.receive(stream, conn, query)
	if err != nil {
		return s.fail(stream, stream.Context(), err)
	}
	conn.name(head.from)
	if !query {
		return s.apply(stream, head, body)
	}
	return s.query(stream, head, body)
}

// receive reads a request. A client that is too slow loses its connection: what
// its half requests hold is then free.
func (s *Server) receive(stream grpc.ServerStream, conn *serverConn, query bool) (head request, data []byte, err error) {
	defer s.receiving.Add(-1)
	if s.receiving.Add(1) > MaxReceiving {
		return head, nil, busy("too many requests are coming in", MaxReceiving)
	}
	timer := time.AfterFunc(RequestTimeout, func() {
		s.cfg.Logger.Warn("closed a connection: a request came in too slowly", "from", conn.Conn.RemoteAddr(), "node", conn.node(), "limit", RequestTimeout)
		_ = conn.Conn.Close()
	})
	defer timer.Stop()
	var in message
	if err := stream.RecvMsg(&in); err != nil {
		return head, nil, err
	}
	first, beyond := in.first()
	head, part, total, err := decodeRequest(first, beyond, query, conn.node())
	if err != nil {
		in.free()
		return head, nil, &refused{mvcc.Invalid, "the request cannot be read: " + err.Error()}
	}
	var b body
	b.begin(&in, part, total)
	in.free()
	if b.whole() {
		return head, b.data, nil
	}
	timer.Reset(RequestTimeout + time.Duration(total)*time.Second/SlowestRequest)
	held := int64(0)
	defer func() { s.receivingBytes.Add(-held) }()
	for !b.whole() {
		if err := stream.RecvMsg(&in); err != nil {
			return head, nil, err
		}
		first, beyond := in.first()
		n := int64(len(first) + beyond)
		held += n
		full := s.receivingBytes.Add(n) > MaxReceivingBytes
		err := b.add(&in, first)
		in.free()
		switch {
		case full:
			return head, nil, busy("too many bytes of requests are coming in", MaxReceivingBytes)
		case err != nil:
			return head, nil, &refused{mvcc.Invalid, "the request cannot be read: " + err.Error()}
		}
	}
	return head, b.data, nil
}

// apply has the handler carry out a command.
func (s *Server) apply(stream grpc.ServerStream, head request, command []byte) error {
	result, err := s.handleApply(stream.Context(), head.toApply(command))
	if err == nil && len(result) > MaxBodyBytes {
		err = resultTooLong(len(result))
	}
	if err != nil {
		return s.fail(stream, stream.Context(), err)
	}
	return stream.SendMsg(encodeResult(result))
}

func resultTooLong(n int) error {
	return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("the result has %d bytes, the limit is %d; the command was carried out", n, MaxBodyBytes)}
}

func answerTooLong(n int) error {
	return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("the answer has %d bytes, the limit is %d", n, MaxBodyBytes)}
}

func (s *Server) handleApply(ctx context.Context, r *ApplyRequest) (result []byte, err error) {
	defer s.rescue(&err, "Apply", r.From)
	return s.cfg.Handler.Apply(ctx, r)
}

// query has the handler answer. Its context ends when the Server stops.
func (s *Server) query(stream grpc.ServerStream, head request, query []byte) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	release := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	defer release()
	err := s.handleQuery(ctx, head.toQuery(query), func(r Reply) error { return sendReply(stream, r) })
	if err != nil {
		return s.fail(stream, ctx, err)
	}
	return nil
}

func (s *Server) handleQuery(ctx context.Context, r *QueryRequest, send func(Reply) error) (err error) {
	defer s.rescue(&err, "Query", r.From)
	return s.cfg.Handler.Query(ctx, r, send)
}

// rescue makes an error of a handler's panic: one request must not end the
// agent.
func (s *Server) rescue(err *error, method, from string) {
	if p := recover(); p != nil {
		s.cfg.Logger.Error("a call panicked", "method", method, "from", from, "panic", p, "stack", string(debug.Stack()))
		*err = &mvcc.Error{Code: mvcc.Internal, Text: fmt.Sprintf("the server failed at the call: %v", p)}
	}
}

// sendReply sends one reply, in as many messages as it takes.
func sendReply(stream grpc.ServerStream, r Reply) error {
	if len(r.Body) > MaxBodyBytes {
		return answerTooLong(len(r.Body))
	}
	a := answer{r.Meta, r.More, r.Same}
	head, first := a.append(newHead(headRoom, len(r.Body)), len(r.Body), MaxReplyMessageBytes)
	if err := stream.SendMsg(joined(head, r.Body[:first])); err != nil {
		return err
	}
	for rest := r.Body[first:]; len(rest) > 0; {
		part := rest[:min(len(rest), MaxReplyMessageBytes-2)]
		rest = rest[len(part):]
		if err := stream.SendMsg(joined(append(newHead(2, len(part)), wireForm, replyPart), part)); err != nil {
			return err
		}
	}
	return nil
}

// fail ends a call with an error. What went wrong between the two sides is the
// library's to tell, all else crosses as it is.
func (s *Server) fail(stream grpc.ServerStream, ctx context.Context, err error) error {
	kind, code, text := describe(ctx, err)
	var refusal *refused
	switch {
	case errors.As(err, &refusal):
		s.warn(connOf(stream.Context()), refusal)
	case kind == errorCoded && code == mvcc.Internal && status.Code(err) != codes.Unknown:
		return err // of the stream itself
	}
	return stream.SendMsg(encodeError(kind, code, text))
}

// describe says how an error crosses.
func describe(ctx context.Context, err error) (kind byte, code mvcc.Code, text string) {
	var refusal *refused
	var coded *mvcc.Error
	switch {
	case errors.As(err, &refusal):
		return errorRefused, refusal.code, refusal.text
	case errors.Is(context.Cause(ctx), errStopping) && errors.Is(err, context.Canceled):
		return errorCoded, errStopping.Code, errStopping.Text
	case errors.As(err, &coded):
		return errorCoded, coded.Code, coded.Text
	case errors.Is(err, context.Canceled):
		return errorCanceled, 0, ""
	case errors.Is(err, context.DeadlineExceeded):
		return errorDeadline, 0, ""
	}
	return errorCoded, mvcc.Internal, err.Error()
}

// warn logs a refused call, but not those that follow it soon.
func (s *Server) warn(conn *serverConn, refusal *refused) {
	now := time.Now()
	s.mu.Lock()
	recent := now.Sub(s.warned) < refusalLogInterval
	if !recent {
		s.warned = now
	}
	s.mu.Unlock()
	if !recent && conn != nil {
		s.cfg.Logger.Warn("refused a call", "reason", refusal.text, "from", conn.Conn.RemoteAddr(), "node", conn.node(), "calls", s.calls.Load())
	}
}
