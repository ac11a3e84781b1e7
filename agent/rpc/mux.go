package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// MuxConfig is what a [Mux] is made of.
type MuxConfig struct {
	// Listener is the server port. The Mux owns it and closes it.
	Listener net.Listener
	// ID is the node ID of this agent, 1 to [MaxIDBytes] bytes: connections
	// that mean another are refused.
	ID string
	// Cluster returns the ID of this agent's cluster, or zeros while it is
	// not known. Nil means never known.
	Cluster func() [16]byte
	// ConnsPerClient is how many connections of one protocol an IP address may
	// have at once, and Conns how many all have; zeros are
	// [DefaultConnsPerClient] and [DefaultConns].
	ConnsPerClient, Conns int
	// HandshakeTimeout is how long a connection may take to the end of its hello;
	// zero is [HandshakeTimeout].
	HandshakeTimeout time.Duration
	// Logger takes what went wrong; nil drops it.
	Logger *slog.Logger
}

// Mux shares the server port: it reads the hello of each connection and hands
// the connection to the listener of its protocol.
type Mux struct {
	cfg   MuxConfig
	raft  *queue
	calls *queue
	short *queue

	mu       sync.Mutex
	greeting map[net.Conn]netip.Addr // connections whose hello is not finished, and whence they come
	held     map[place]int           // connections in their hello or handed out, by whence

	perClient int // connections of one protocol and address
	closed    bool
	warned    time.Time // when a refusal was last logged as a warning
}

// place is what connections are counted by: protocol (zero in the hello) and
// the address they come from (the zero one for all together).
type place struct {
	protocol byte
	from     netip.Addr
}

// NewMux returns a Mux on the listener of cfg. Nothing is accepted before Run.
func NewMux(cfg MuxConfig) *Mux {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Cluster == nil {
		cfg.Cluster = func() [16]byte { return [16]byte{} }
	}
	if cfg.Conns <= 0 {
		cfg.Conns = DefaultConns
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = HandshakeTimeout
	}
	m := &Mux{
		cfg:      cfg,
		raft:     newQueue(cfg.Listener.Addr()),
		calls:    newQueue(cfg.Listener.Addr()),
		short:    newQueue(cfg.Listener.Addr()),
		greeting: make(map[net.Conn]netip.Addr),
		held:     make(map[place]int),
	}
	m.calls.lazy, m.short.lazy = true, true
	m.SetConnsPerClient(cfg.ConnsPerClient)
	return m
}

// Raft returns the listener of connections that speak [ProtocolRaft]. Closing
// it refuses further ones; the connections it gave out belong to their taker.
func (m *Mux) Raft() net.Listener { return m.raft }

// Calls returns the listener of connections that speak [ProtocolCalls], as
// Raft does for its own. Nobody is served before its first Accept.
func (m *Mux) Calls() net.Listener { return m.calls }

// Short returns the listener of connections that speak [ProtocolShort], as Calls
// does for its own.
func (m *Mux) Short() net.Listener { return m.short }

// SetConnsPerClient changes how many connections of one protocol an IP address
// may have; those that are there stay. Zero is [DefaultConnsPerClient].
func (m *Mux) SetConnsPerClient(n int) {
	if n <= 0 {
		n = DefaultConnsPerClient
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.perClient = n
}

// Run serves the port until ctx ends or Close is called, which give nil, or
// until the listener fails. It then closes what was not handed out, and returns
// when all its goroutines have.
func (m *Mux) Run(ctx context.Context) error {
	if len(m.cfg.ID) == 0 || len(m.cfg.ID) > MaxIDBytes {
		return errors.Join(fmt.Errorf("the node ID %q has %d bytes, 1 to %d are possible", m.cfg.ID, len(m.cfg.ID), MaxIDBytes), m.Close())
	}
	release := context.AfterFunc(ctx, func() { _ = m.Close() })
	defer release()
	var handshakes sync.WaitGroup
	err := m.accept(ctx, &handshakes)
	err = errors.Join(err, m.Close())
	handshakes.Wait()
	return err
}

// Close stops the port and all that wait on it. Connections that were handed
// out stay open. It may be called more than once.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	for conn := range m.greeting {
		_ = conn.Close()
	}
	m.mu.Unlock()
	_ = m.raft.Close()
	_ = m.calls.Close()
	_ = m.short.Close()
	if err := m.cfg.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot close the server port: %w", err)
	}
	return nil
}

// accept takes connections until the listener is closed.
func (m *Mux) accept(ctx context.Context, handshakes *sync.WaitGroup) error {
	pause := acceptRetryMin
	for {
		conn, err := m.cfg.Listener.Accept()
		switch {
		case err == nil:
			pause = acceptRetryMin
			m.greet(conn, handshakes)
		case m.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("the server port was closed: %w", err)
		default:
			m.cfg.Logger.Error("cannot accept a connection", "error", err, "retry_in", pause)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, acceptRetryMax)
		}
	}
}

// greet starts the handshake of one connection, if there is room for it.
func (m *Mux) greet(conn net.Conn, handshakes *sync.WaitGroup) {
	from := addressOf(conn)
	m.mu.Lock()
	room := len(m.greeting) < MaxHandshakes && m.held[place{0, from}] < MaxHandshakesPerClient
	closed := m.closed
	if room && !closed {
		m.greeting[conn] = from
		m.hold(0, from, 1)
	}
	m.mu.Unlock()
	switch {
	case closed:
		_ = conn.Close()
	case !room:
		// The answer fits any send buffer, and nobody waits here for it to
		// be read: being refused must cost less than being served.
		_ = conn.SetDeadline(time.Now().Add(lingerTimeout))
		_, _ = conn.Write(m.refusal(StatusBusy))
		_ = conn.Close()
		m.cfg.Logger.Log(context.Background(), m.refusalLevel(), "refused a connection: too many handshakes", "from", conn.RemoteAddr(),
			"limit", MaxHandshakes, "limit_per_client", MaxHandshakesPerClient)
	default:
		handshakes.Go(func() { m.handshake(conn, from) })
	}
}

// addressOf returns the IP address that a connection comes from, or the zero
// one, for which no limit per client holds.
func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// hold counts connections of a client; m.mu is held. Clients without an
// address are not counted one by one.
func (m *Mux) hold(protocol byte, from netip.Addr, change int) {
	if !from.IsValid() {
		return
	}
	at := place{protocol, from}
	if m.held[at] += change; m.held[at] == 0 {
		delete(m.held, at)
	}
}

// admit counts a connection that is to be handed out, if the limits let it.
func (m *Mux) admit(protocol byte, from netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := place{protocol, netip.Addr{}}
	if m.held[all] >= m.cfg.Conns || m.held[place{protocol, from}] >= m.perClient && from.IsValid() {
		return false
	}
	m.held[all]++
	m.hold(protocol, from, 1)
	return true
}

// dismiss takes back what admit counted.
func (m *Mux) dismiss(protocol byte, from netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[place{protocol, netip.Addr{}}]--
	m.hold(protocol, from, -1)
}

// counted is a connection that its Mux counts until it is closed.
type counted struct {
	net.Conn
	once    sync.Once
	dismiss func()
}

// Close closes the connection. It may be called more than once.
func (c *counted) Close() error {
	c.once.Do(c.dismiss)
	return c.Conn.Close()
}

// CloseWrite ends what is sent, if the connection can.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// handshake reads one hello, answers it, and hands the connection on.
func (m *Mux) handshake(conn net.Conn, from netip.Addr) {
	defer m.greeted(conn)
	_ = conn.SetDeadline(time.Now().Add(m.cfg.HandshakeTimeout))
	h, err := readHello(conn)
	status := m.judge(h, err)
	if status == StatusAccepted && !m.admit(h.protocol, from) {
		status = StatusTooMany
	}
	if status != StatusAccepted {
		m.refuse(conn, h, status, err)
		return
	}
	taken := &counted{Conn: conn, dismiss: func() { m.dismiss(h.protocol, from) }}
	if _, err := conn.Write([]byte{byte(StatusAccepted)}); err != nil {
		_ = taken.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	m.greeted(conn) // from here on it is its taker's to close
	if err := m.queueOf(h.protocol).put(taken); err != nil {
		_ = taken.Close()
	}
}

// greeted forgets a connection whose handshake is over.
func (m *Mux) greeted(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from, ok := m.greeting[conn]; ok {
		delete(m.greeting, conn)
		m.hold(0, from, -1)
	}
}

// queueOf returns the queue of a protocol, or nil if there is no such.
func (m *Mux) queueOf(protocol byte) *queue {
	switch protocol {
	case ProtocolRaft:
		return m.raft
	case ProtocolCalls:
		return m.calls
	case ProtocolShort:
		return m.short
	}
	return nil
}

// judge decides how a hello, or the failure to read it, is answered.
func (m *Mux) judge(h hello, err error) Status {
	switch {
	case errors.Is(err, errUnknownForm):
		return StatusUnknownForm
	case err != nil:
		return StatusMalformed
	case m.queueOf(h.protocol) == nil:
		return StatusUnknownProtocol
	case !sameCluster(h.cluster, m.cfg.Cluster()):
		return StatusWrongCluster
	case h.target != m.cfg.ID:
		return StatusWrongTarget
	}
	return m.queueOf(h.protocol).room()
}

// refuse answers a hello that is not accepted, and ends its connection.
func (m *Mux) refuse(conn net.Conn, h hello, status Status, cause error) {
	defer conn.Close()
	if m.isClosed() || errors.Is(cause, io.EOF) && h == (hello{}) {
		return // nothing was said: a port check
	}
	level := slog.LevelDebug // who comes before this server is ready comes again
	if status != StatusNotServed {
		level = m.refusalLevel()
	}
	args := []any{"reason", status.String(), "from", conn.RemoteAddr(), "protocol", h.protocol, "form", h.form,
		"wanted_node", h.target, "wanted_cluster", clusterText(h.cluster), "cluster", clusterText(m.cfg.Cluster())}
	if cause != nil {
		args = append(args, "error", cause)
	}
	m.cfg.Logger.Log(context.Background(), level, "refused a connection", args...)
	_ = conn.SetDeadline(time.Now().Add(lingerTimeout))
	if _, err := conn.Write(m.refusal(status)); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// refusalLevel is the level at which a refusal is logged: a warning, but those
// that follow it within refusalLogInterval are for debugging.
func (m *Mux) refusalLevel() slog.Level {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(m.warned) < refusalLogInterval {
		return slog.LevelDebug
	}
	m.warned = now
	return slog.LevelWarn
}

// refusal is the answer with the given status, and who gives it.
func (m *Mux) refusal(status Status) []byte {
	return appendIdentity([]byte{byte(status)}, m.cfg.Cluster(), m.cfg.ID)
}

func (m *Mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// queue is the listener of one protocol: connections whose hello is done, and
// which wait to be accepted.
type queue struct {
	address net.Addr
	conns   chan net.Conn
	done    chan struct{}
	lazy    bool        // refuses until the first Accept
	served  atomic.Bool // there was an Accept

	mu     sync.Mutex // held while closing and while adding, so that nothing is added after the end
	closed bool
}

func newQueue(address net.Addr) *queue {
	return &queue{address: address, conns: make(chan net.Conn, AcceptBacklog), done: make(chan struct{})}
}

// Accept waits for the next connection, and fails with net.ErrClosed after
// Close.
func (q *queue) Accept() (net.Conn, error) {
	q.served.Store(true)
	select {
	case <-q.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Addr returns the address of the server port.
func (q *queue) Addr() net.Addr { return q.address }

// Close ends all accepts and closes the connections that waited for one. It
// may be called more than once.
func (q *queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	close(q.done)
	for {
		select {
		case conn := <-q.conns:
			_ = conn.Close()
		default:
			return nil
		}
	}
}

// room answers a hello by what put would do.
func (q *queue) room() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed || q.lazy && !q.served.Load():
		return StatusNotServed
	case len(q.conns) == cap(q.conns):
		return StatusBusy
	}
	return StatusAccepted
}

// put adds a connection without waiting.
func (q *queue) put(conn net.Conn) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	select {
	case q.conns <- conn:
		return nil
	default:
		return errors.New("the accept queue is full")
	}
}
