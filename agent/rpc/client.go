package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// ClientConfig is what a [Client] is made of.
type ClientConfig struct {
	// ID is the node ID of this agent: requests that name no sender have it.
	ID string
	// Cluster returns the ID of this agent's cluster, or zeros while it is
	// not known. Nil means never known.
	Cluster func() [16]byte
	// Resolve returns the address, as host and port, of the server with a
	// node ID. It is asked anew for each dial.
	Resolve func(id string) (address string, err error)
	// Dial opens a connection to an address; nil is plain TCP. The hello is
	// said on what it returns.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger takes what went wrong; nil drops it.
	Logger *slog.Logger
}

// Client makes calls to servers, over one connection for each that it keeps.
// It tries nothing twice: a call that cannot have a connection fails at once.
type Client struct {
	cfg    ClientConfig
	dialer Dialer
	ctx    context.Context // ends when the Client closes
	cancel context.CancelFunc
	tasks  sync.WaitGroup // dials and watches

	mu     sync.Mutex
	links  map[string]*link
	conns  map[*clientConn]*link // those not closed, retired ones with their last calls among them
	closed bool
}

// link is what a Client knows of one server. Its fields are guarded by the
// Client's mutex.
type link struct {
	conn    *clientConn // nil: none now
	dialing *dialling   // nil: nobody dials
	dropped bool        // forgotten: a dial under way ends in nothing

	failed error         // of the last dial
	pause  time.Duration // how long calls fail by it
	until  time.Time
}

// dialling is one dial that calls wait for.
type dialling struct {
	done chan struct{}
	err  error
}

// clientConn is one connection. It is closed when it is retired and its last
// call ended.
type clientConn struct {
	grpc    *grpc.ClientConn
	calls   int
	retired bool
	signs   signs // of the server

	// mu guards what short calls go by. It is taken before the Client's own mutex.
	mu       sync.Mutex
	exchange *exchange // may be nil, or over
	opening  bool      // one is being opened
	again    time.Time // when the next may be opened
	closed   bool
}

// close closes a connection with all that goes with it.
func (conn *clientConn) close() {
	conn.mu.Lock()
	conn.closed = true
	if conn.exchange != nil {
		_ = conn.exchange.conn.Close()
	}
	conn.mu.Unlock()
	_ = conn.grpc.Close()
}

var errClientClosed = errors.New("the client of the agents' calls is closed")

// NewClient returns a Client. Nothing is dialled before the first call.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		cfg:    cfg,
		dialer: Dialer{ID: cfg.ID, Cluster: cfg.Cluster, Resolve: cfg.Resolve, Net: cfg.Dial},
		links:  make(map[string]*link),
		conns:  make(map[*clientConn]*link),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Apply has the server with the node ID to carry out a command.
func (c *Client) Apply(ctx context.Context, to string, r *ApplyRequest) ([]byte, error) {
	head := request{from: r.From, token: r.Token, datacenter: r.Datacenter, forwarded: r.Forwarded}
	var result []byte
	err := c.call(ctx, to, &head, len(r.Command), func(ctx context.Context, conn *clientConn) error {
		if len(r.Command) <= MaxShortBytes {
			reply, err := c.short(ctx, conn, to, itemApply, &head, r.Command)
			if !errors.Is(err, errNoExchange) {
				result = reply.Body
				return err
			}
		}
		buf, first := head.append(newHead(headRoom+head.texts(), len(r.Command)), false, len(r.Command), MaxMessageBytes)
		out := joined(buf, r.Command[:first])
		var in message
		var err error
		ctx, done := conn.untilSilent(ctx)
		defer done()
		if first == len(r.Command) {
			err = conn.grpc.Invoke(ctx, applyMethod, out, &in)
		} else {
			err = applyCut(ctx, conn.grpc, out, r.Command[first:], &in)
		}
		if err != nil {
			return ofSilence(ctx, err)
		}
		defer in.free()
		p, err := decodeReply(in.first())
		switch {
		case err != nil:
			return err
		case p.kind == replyError:
			return p.err
		case p.kind != replyResult:
			return fmt.Errorf("%w: kind %d answers Apply", errMalformed, p.kind)
		}
		var b body
		b.begin(&in, p.part, p.total)
		result = b.data
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// texts is how much of a request's head is texts.
func (r *request) texts() int { return len(r.from) + len(r.token) + len(r.datacenter) }

// applyCut makes the call of a command that takes more than one message.
func applyCut(ctx context.Context, conn *grpc.ClientConn, first mem.BufferSlice, rest []byte, in *message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &service.Streams[0], applyMethod)
	if err != nil {
		return err
	}
	if err := sendParts(stream, first, rest); err != nil {
		return err
	}
	return stream.RecvMsg(in)
}

// sendParts sends a request and says that it is whole. The end of the stream
// before that is no error: what the server says about it is still to be read.
func sendParts(stream grpc.ClientStream, first mem.BufferSlice, rest []byte) error {
	if err := stream.SendMsg(first); err != nil {
		return ignoreEOF(err)
	}
	for len(rest) > 0 {
		part := rest[:min(len(rest), MaxMessageBytes)]
		rest = rest[len(part):]
		if err := stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(part)}); err != nil {
			return ignoreEOF(err)
		}
	}
	return stream.CloseSend()
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// errEach marks an error of the caller's own function.
type errEach struct{ error }

// Query asks the server with the node ID to, and gives each of its replies to
// each. An error of each ends the call and is returned.
func (c *Client) Query(ctx context.Context, to string, r *QueryRequest, each func(Reply) error) error {
	head := request{from: r.From, token: r.Token, datacenter: r.Options.Datacenter, forwarded: r.Forwarded, options: r.Options, have: r.Have}
	return c.call(ctx, to, &head, len(r.Query), func(ctx context.Context, conn *clientConn) error {
		if r.Short && len(r.Query) <= MaxShortBytes {
			reply, err := c.short(ctx, conn, to, itemQuery, &head, r.Query)
			if err == nil {
				if err := each(reply); err != nil {
					return errEach{err}
				}
			}
			if !errors.Is(err, errNoExchange) {
				return err
			}
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := conn.grpc.NewStream(ctx, &service.Streams[1], queryMethod)
		if err != nil {
			return err
		}
		buf, first := head.append(newHead(headRoom+head.texts(), len(r.Query)), true, len(r.Query), MaxMessageBytes)
		if err := sendParts(stream, joined(buf, r.Query[:first]), r.Query[first:]); err != nil {
			return err
		}
		return receiveReplies(stream, each)
	})
}

// receiveReplies puts replies together and gives them on until the stream ends.
func receiveReplies(stream grpc.ClientStream, each func(Reply) error) error {
	var b body
	var now reply
	building := false
	for {
		var in message
		if err := stream.RecvMsg(&in); err != nil {
			if errors.Is(err, io.EOF) && building {
				return fmt.Errorf("%w: an answer ends after %d of %d bytes", errMalformed, len(b.data), b.total)
			}
			return ignoreEOF(err)
		}
		p, err := decodeReply(in.first())
		switch {
		case err != nil:
		case p.kind == replyError:
			err = p.err
		case p.kind == replyAnswer && !building:
			now = p
			b.begin(&in, p.part, p.total)
		case p.kind == replyPart && building:
			err = b.add(&in, p.part)
		default:
			err = fmt.Errorf("%w: kind %d at this place of a reply", errMalformed, p.kind)
		}
		in.free()
		if err != nil {
			return err
		}
		if building = !b.whole(); building {
			continue
		}
		if err := each(Reply{Meta: now.meta, Body: b.data, More: now.more, Same: now.same}); err != nil {
			return errEach{err}
		}
		b.data = nil
		b.total = 0
	}
}

// call makes one call on the connection to a server, and says of its error
// what is known.
func (c *Client) call(ctx context.Context, to string, head *request, size int, do func(context.Context, *clientConn) error) error {
	if head.from == "" {
		head.from = c.cfg.ID
	}
	if err := head.fits(size); err != nil {
		return err
	}
	conn, err := c.take(ctx, to)
	if err != nil {
		return err
	}
	defer c.release(conn)
	err = do(ctx, conn)
	if err == nil {
		return nil
	}
	if conn.grpc.GetState() != connectivity.Ready {
		c.retire(conn) // the next call need not wait for the watch to see it
	}
	var own errEach
	if errors.As(err, &own) {
		return own.error
	}
	return explain(ctx, to, err)
}

// spent is what a connection says that is gone when a call begins on it. The
// library puts it into the text of the call's error, which says that no
// transport had the call.
const spent = "muster: this connection is spent"

// explain makes an error of the library's one of ours.
func explain(ctx context.Context, to string, err error) error {
	state, ok := status.FromError(err)
	if !ok {
		return err // made here, or by the handler
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the call to server %q ended: %w", to, ctx.Err())
	case state.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("the call to server %q ended: %w", to, context.DeadlineExceeded)
	case strings.Contains(state.Message(), spent):
		return &unsent{fmt.Errorf("the connection to server %q was gone when the call began", to)}
	case state.Code() == codes.Unavailable || state.Code() == codes.Canceled:
		return &lost{fmt.Errorf("the connection to server %q broke during the call: %s", to, brokenStream(state.Message()))}
	}
	return fmt.Errorf("the call to server %q failed: %s: %s", to, state.Code(), state.Message())
}

// take returns the connection to a server, with one more call on it. Without
// one it dials; calls that come meanwhile wait for the same dial.
func (c *Client) take(ctx context.Context, to string) (*clientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for dialled := false; ; dialled = true {
		if c.closed {
			return nil, &unsent{errClientClosed}
		}
		l := c.links[to]
		if l == nil {
			l = &link{}
			c.links[to] = l
		}
		switch {
		case ctx.Err() != nil:
			return nil, &unsent{fmt.Errorf("the call to server %q ended before it began: %w", to, ctx.Err())}
		case l.conn != nil && l.conn.calls >= MaxStreams:
			return nil, &unsent{fmt.Errorf("cannot call server %q: %d calls are under way, the limit is %d", to, l.conn.calls, MaxStreams)}
		case l.conn != nil && l.conn.signs.silent.Load() != nil:
			return nil, l.conn.signs.silence(to)
		case l.conn != nil:
			l.conn.calls++
			return l.conn, nil
		case l.dialing == nil && l.failed != nil && time.Now().Before(l.until):
			return nil, &unsent{l.failed}
		case dialled:
			return nil, &unsent{fmt.Errorf("the connection to server %q ended as soon as it was there", to)}
		}
		if l.dialing == nil {
			l.dialing = &dialling{done: make(chan struct{})}
			dial, of := l.dialing, l
			c.tasks.Go(func() { c.dial(to, of, dial) })
		}
		dial := l.dialing
		c.mu.Unlock()
		select {
		case <-dial.done:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() == nil && dial.err != nil {
			return nil, &unsent{dial.err}
		}
	}
}

// dial makes a connection for a link and keeps watch over it.
func (c *Client) dial(to string, l *link, d *dialling) {
	conn, err := c.connect(to)
	c.mu.Lock()
	l.dialing = nil
	switch {
	case err == nil && (l.dropped || c.closed):
		err = fmt.Errorf("cannot call server %q: it was forgotten", to)
		if c.closed {
			err = errClientClosed
		}
		c.tasks.Go(func() { _ = conn.Close() })
	case err != nil:
		l.failed = err
		l.pause = min(max(2*l.pause, RedialMin), RedialMax)
		l.until = time.Now().Add(l.pause)
	default:
		l.failed, l.pause = nil, 0
		l.conn = &clientConn{grpc: conn}
		kept := l.conn
		c.conns[kept] = l
		c.tasks.Go(func() { c.watch(to, kept) })
	}
	d.err = err
	c.mu.Unlock()
	if err != nil {
		c.cfg.Logger.Debug("cannot connect to a server", "to", to, "error", err)
	}
	close(d.done)
}

// connect dials a server, says hello, and waits until HTTP/2 began.
func (c *Client) connect(to string) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, CallDialTimeout)
	defer cancel()
	raw, err := c.dialer.DialContext(ctx, ProtocolCalls, to, CallDialTimeout)
	if err != nil {
		return nil, err
	}
	given := make(chan net.Conn, 1)
	given <- raw
	conn, err := grpc.NewClient("passthrough:///muster",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case raw := <-given:
				return raw, nil
			default:
				return nil, errors.New(spent)
			}
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(MaxBodyBytes+headRoom+itemRoom), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(ReplyWindowBytes),
		grpc.WithStaticConnWindowSize(ConnWindowBytes),
		grpc.WithReadBufferSize(ReplyReadBufferBytes),
		grpc.WithWriteBufferSize(WriteBufferBytes),
		grpc.WithMaxHeaderListSize(MaxHeaderBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: KeepaliveTime, Timeout: KeepaliveTimeout, PermitWithoutStream: true}),
	)
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("cannot dial node %q from node %q: %w", to, c.cfg.ID, err)
	}
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return conn, nil
		}
		if state == connectivity.TransientFailure || state == connectivity.Shutdown || !conn.WaitForStateChange(ctx, state) {
			_ = conn.Close()
			_ = raw.Close()
			return nil, fmt.Errorf("cannot dial node %q from node %q: %s answered the hello but did not begin to speak HTTP/2 (%s)", to, c.cfg.ID, raw.RemoteAddr(), strings.ToLower(state.String()))
		}
	}
}

// watch retires a connection when it breaks or the server says that it stops.
func (c *Client) watch(to string, conn *clientConn) {
	if conn.grpc.WaitForStateChange(c.ctx, connectivity.Ready) {
		c.cfg.Logger.Debug("the connection to a server ended", "to", to)
	}
	c.retire(conn)
}

// retire keeps a connection from further calls, and closes it if it has none.
func (c *Client) retire(conn *clientConn) {
	c.mu.Lock()
	if l := c.conns[conn]; l != nil && l.conn == conn {
		l.conn = nil
	}
	conn.retired = true
	over := c.over(conn)
	c.mu.Unlock()
	if over {
		conn.close()
	}
}

// release gives a call back.
func (c *Client) release(conn *clientConn) {
	c.mu.Lock()
	conn.calls--
	over := c.over(conn)
	c.mu.Unlock()
	if over {
		conn.close()
	}
}

// over reports, once, whether a connection is to be closed now; c.mu is held.
func (c *Client) over(conn *clientConn) bool {
	if _, open := c.conns[conn]; !open || !conn.retired || conn.calls > 0 {
		return false
	}
	delete(c.conns, conn)
	return true
}

// Reachable reports whether a server can be called, as far as is known: the last
// dial did not fail, and the server is not silent. It tries nothing.
func (c *Client) Reachable(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[id]
	switch {
	case l == nil:
		return true
	case l.conn != nil:
		return l.conn.signs.silent.Load() == nil
	}
	return l.failed == nil
}

// Forget closes the connections to a server, with the calls on them. A later
// call dials again.
func (c *Client) Forget(id string) {
	c.mu.Lock()
	l := c.links[id]
	delete(c.links, id)
	if l != nil {
		l.dropped = true
	}
	c.closeAndUnlock(func(of *link) bool { return of == l })
}

// Close ends all calls and closes all connections. Later calls fail. It may be
// called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	clear(c.links)
	c.cancel()
	c.closeAndUnlock(func(*link) bool { return true })
	c.tasks.Wait()
	return nil
}

// closeAndUnlock closes the connections of some links. c.mu is held, and given
// back before they are closed.
func (c *Client) closeAndUnlock(which func(*link) bool) {
	var conns []*clientConn
	for conn, l := range c.conns {
		if which(l) {
			l.conn = nil
			conn.retired = true
			conns = append(conns, conn)
			delete(c.conns, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range conns {
		conn.close()
	}
}
