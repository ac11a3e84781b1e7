package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport carries memberlist's packets and streams. It drops what memberlist
// would take too much memory for, and what comes from networks that are not
// allowed, and lets a filter do to the rest what networks do.
type transport struct {
	tcp       *net.TCPListener
	udp       *net.UDPConn
	advertise netip.AddrPort
	filter    Filter
	allowed   []netip.Prefix
	sealed    bool // whatever is not encrypted with the key is refused by memberlist
	logger    *slog.Logger
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	places    chan struct{} // taken by streams that memberlist works on
	done      chan struct{}
	group     sync.WaitGroup
	screen    packetScreen
	shunned   shunned
	budget    streamBudget
	closing   sync.Once
	ctx       context.Context // of what was dialed; ends with the transport
	cancel    context.CancelFunc
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// bind listens on one port with UDP and TCP.
func bind(at netip.AddrPort) (*net.TCPListener, *net.UDPConn, error) {
	tries := 1
	if at.Port() == 0 {
		tries = bindTries
	}
	var err error
	for range tries {
		var tcp *net.TCPListener
		if tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
			return nil, nil, fmt.Errorf("cannot listen for gossip on TCP %s: %w", at, err)
		}
		port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port))); err == nil {
			_ = udp.SetReadBuffer(1 << 20) // as much as the system allows is enough
			return tcp, udp, nil
		}
		err = fmt.Errorf("cannot listen for gossip on UDP %s port %d: %w", at.Addr(), port, err)
		_ = tcp.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, nil, err
}

// start begins to read. It is called once.
func (t *transport) start() {
	t.packets = make(chan *memberlist.Packet)
	t.streams = make(chan net.Conn)
	t.places = make(chan struct{}, maxExchanges)
	t.done = make(chan struct{})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.budget.open = map[*streamConn]struct{}{}
	t.group.Go(t.readPackets)
	t.group.Go(t.acceptStreams)
}

// FinalAdvertiseAddr returns the address that others are told, which was
// settled before memberlist began.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: address})
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot send a packet: %w", err)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if t.shunned.has(to) {
		return time.Now(), nil
	}
	if t.filter == nil {
		_, err = t.udp.WriteToUDPAddrPort(b, to)
		return time.Now(), err
	}
	for _, delay := range t.filter.Packet(t.advertise, to) {
		if delay <= 0 {
			_, err = t.udp.WriteToUDPAddrPort(b, to)
			continue
		}
		late := append([]byte{}, b...)
		time.AfterFunc(delay, func() { _, _ = t.udp.WriteToUDPAddrPort(late, to) })
	}
	return time.Now(), err
}

// PacketCh is where memberlist takes packets from.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is where memberlist takes streams from.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a stream.
func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, err
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if a.Name != "" && t.shunned.has(to) {
		// memberlist asks by itself: a join, which may clear things up, names nobody.
		return nil, fmt.Errorf("the member at %s belongs to another cluster", to)
	}
	conn, err := t.dial(to, timeout)
	if err != nil {
		return nil, err
	}
	return &streamConn{Conn: conn, budget: &t.budget}, nil
}

// dial opens a bare connection to a gossip port.
func (t *transport) dial(to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	if t.filter != nil {
		if err := t.filter.Stream(t.advertise, to); err != nil {
			return nil, err
		}
	}
	plain, err := (&net.Dialer{Timeout: timeout}).DialContext(t.ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	conn := &dialedConn{Conn: plain}
	conn.forget = context.AfterFunc(t.ctx, func() { _ = plain.Close() })
	if t.filter == nil {
		return conn, nil
	}
	return &filteredConn{Conn: conn, filter: t.filter, from: t.advertise, to: to}, nil
}

// dialedConn is a connection that this agent opened: it is cut when the transport
// ends, so that nobody waits for an answer that would be of no use.
type dialedConn struct {
	net.Conn
	forget func() bool
}

// Close closes it.
func (c *dialedConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// Shutdown closes the sockets and waits for those who read from them.
func (t *transport) Shutdown() error {
	t.closing.Do(func() {
		close(t.done)
		t.cancel()
		_ = t.tcp.Close()
		_ = t.udp.Close()
		t.budget.close()
	})
	t.group.Wait()
	return nil
}

func (t *transport) closed() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *transport) allows(addr netip.Addr) bool {
	if len(t.allowed) == 0 {
		return true
	}
	for _, prefix := range t.allowed {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

func (t *transport) readPackets() {
	buf := make([]byte, maxPacket+1)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if t.closed() || errors.Is(err, net.ErrClosed) {
				return
			}
			t.logger.Warn("cannot read a gossip packet", "error", err)
			t.pause()
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if t.shunned.has(from) {
			continue
		}
		if reason := t.refusesPacket(buf[:n], from, at); reason != "" {
			t.logger.Warn("dropped a gossip packet", "from", from, "reason", reason)
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte{}, buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- packet:
		case <-t.done:
			return
		}
	}
}

func (t *transport) refusesPacket(b []byte, from netip.AddrPort, at time.Time) string {
	switch {
	case !t.allows(from.Addr()):
		return "its sender is in no network that serf_allowed_cidrs_lan names"
	case len(b) == 0:
		return "it is empty"
	case len(b) > maxPacket:
		return fmt.Sprintf("it has more than %d bytes", maxPacket)
	case t.sealed:
		return ""
	}
	return t.screen.refuses(b, at)
}

func (t *transport) acceptStreams() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if t.closed() || errors.Is(err, net.ErrClosed) {
				return
			}
			t.logger.Warn("cannot accept a gossip connection", "error", err)
			t.pause()
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
		if !t.allows(from.Addr()) {
			t.logger.Warn("refused a gossip connection", "from", from, "reason", "its address is in no network that serf_allowed_cidrs_lan names")
			_ = conn.Close()
			continue
		}
		stream := &streamConn{Conn: conn, budget: &t.budget}
		if !t.budget.enter(stream) {
			_ = conn.Close()
			continue
		}
		t.group.Go(func() { t.handStream(stream, from) })
	}
}

// handStream gives a stream to memberlist once it has said what it brings.
func (t *transport) handStream(stream *streamConn, from netip.AddrPort) {
	_ = stream.SetDeadline(time.Now().Add(headerLimit))
	if err := stream.look(); err != nil {
		_ = stream.Close()
		switch {
		case t.closed():
		case errors.Is(err, errSilent):
			// Who looks whether a port is open says nothing: other agents do, too.
			t.logger.Debug("cut a gossip connection", "from", from, "reason", err)
		default:
			t.logger.Warn("cut a gossip connection", "from", from, "reason", err)
		}
		return
	}
	_ = stream.SetDeadline(time.Time{})
	if !t.place(stream) {
		_ = stream.Close()
		return
	}
	select {
	case t.streams <- stream:
	case <-t.done:
		_ = stream.Close()
	}
}

// place waits until memberlist may work on one more stream.
func (t *transport) place(stream *streamConn) bool {
	wait := time.NewTicker(exchangeWait)
	defer wait.Stop()
	for range maxStreams {
		select {
		case t.places <- struct{}{}:
			return stream.onClose(func() { <-t.places })
		case <-wait.C:
			t.budget.cutOldest()
		case <-t.done:
			return false
		}
	}
	return false
}

// pause keeps a socket that fails again and again from taking all time.
func (t *transport) pause() {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-t.done:
	}
}

// filteredConn is a stream that a filter may cut.
type filteredConn struct {
	net.Conn
	filter   Filter
	from, to netip.AddrPort
}

// Read reads unless the stream is cut.
func (c *filteredConn) Read(b []byte) (int, error) {
	if err := c.filter.Stream(c.from, c.to); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write writes unless the stream is cut.
func (c *filteredConn) Write(b []byte) (int, error) {
	if err := c.filter.Stream(c.from, c.to); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
