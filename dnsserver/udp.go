package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// packetSocket reads queries from a UDP socket and writes replies to it.
type packetSocket struct {
	conn net.PacketConn
	// udp is conn if it is a real one.
	udp *net.UDPConn
	// wildcard says that conn is bound to all addresses: a reply has to leave from
	// the one that its query came to, which the kernel tells beside the packet.
	wildcard bool
}

// sender is who sent a packet, in the form that the socket needs.
type sender struct {
	address netip.AddrPort
	session *dns.SessionUDP
	generic net.Addr
}

func newPacketSocket(conn net.PacketConn) (*packetSocket, error) {
	p := &packetSocket{conn: conn}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return p, nil
	}
	p.udp = udp
	local, ok := udp.LocalAddr().(*net.UDPAddr)
	if !ok || !local.IP.IsUnspecified() {
		return p, nil
	}
	p.wildcard = true
	// A socket takes the options of its own family, and one for both takes both.
	err4 := ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	err6 := ipv6.NewPacketConn(udp).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("cannot learn where packets to %s came to: %w", local, err4)
	}
	return p, nil
}

func (p *packetSocket) read(b []byte) (n int, from sender, err error) {
	switch {
	case p.wildcard:
		n, from.session, err = dns.ReadFromSessionUDP(p.udp, b)
	case p.udp != nil:
		n, from.address, err = p.udp.ReadFromUDPAddrPort(b)
	default:
		n, from.generic, err = p.conn.ReadFrom(b)
	}
	return n, from, err
}

func (p *packetSocket) write(b []byte, to sender) error {
	var err error
	switch {
	case p.wildcard:
		_, err = dns.WriteToSessionUDP(p.udp, b, to.session)
	case p.udp != nil:
		_, err = p.udp.WriteToUDPAddrPort(b, to.address)
	default:
		_, err = p.conn.WriteTo(b, to.generic)
	}
	return err
}

// packetServer answers the queries of one socket. Its goroutines take turns at
// reading: who gets a packet answers it, while another waits for the next.
type packetServer struct {
	server *Server
	socket *packetSocket
	// ending is done when no more queries are to be read; queries run on work.
	ending, work context.Context
	// slots bounds the goroutines of all sockets together. One is taken for the
	// first of them.
	slots chan struct{}

	group sync.WaitGroup
	mu    sync.Mutex
	// reading is how many goroutines wait for a packet.
	reading int
	// err is why reading ended, if not because it was told to.
	err error
}

// run serves the socket until ending is done or the socket fails for good.
func (p *packetServer) run() error {
	p.mu.Lock()
	p.reading++
	p.mu.Unlock()
	p.startReader()
	p.group.Wait()
	return p.err
}

// startReader starts a goroutine that has a slot and is counted as reading.
func (p *packetServer) startReader() {
	p.group.Go(func() {
		defer func() { <-p.slots }()
		p.serve()
	})
}

// serve reads and answers until it is told to end, or others read enough.
func (p *packetServer) serve() {
	sc := p.server.scratches.Get().(*scratch)
	defer p.server.scratches.Put(sc)
	if cap(sc.query) < maxUDPQuery {
		sc.query = make([]byte, maxUDPQuery)
	}
	query := sc.query[:maxUDPQuery]
	for {
		n, from, err := p.socket.read(query)
		if err != nil {
			if p.stopReading(err) {
				return
			}
			continue
		}
		p.tookPacket()
		ctx := newQueryContext(p.work, lookupTimeout)
		sc.out = p.server.respond(ctx, query[:n], sc.out[:0], UDP, sc)
		ctx.end()
		if len(sc.out) > 0 {
			if err := p.socket.write(sc.out, from); err != nil {
				p.server.config.Logger.Debug("Cannot send a DNS reply", "error", err)
			}
		}
		if !p.readAgain() {
			return
		}
	}
}

// tookPacket makes sure that somebody waits for the next packet. At the limit
// nobody does until one of the goroutines is done.
func (p *packetServer) tookPacket() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading--
	if p.reading > 0 {
		return
	}
	select {
	case p.slots <- struct{}{}:
		p.reading++
		p.startReader()
	default:
	}
}

// readAgain reports whether the goroutine is to wait for another packet.
func (p *packetServer) readAgain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading >= idleUDPReaders {
		return false
	}
	p.reading++
	return true
}

// stopReading reports whether an error ends the reading of packets.
func (p *packetServer) stopReading(err error) bool {
	if p.ending.Err() != nil {
		return true
	}
	if errors.Is(err, net.ErrClosed) {
		p.mu.Lock()
		p.err = fmt.Errorf("cannot read DNS queries from %s: %w", p.socket.conn.LocalAddr(), err)
		p.mu.Unlock()
		return true
	}
	p.server.config.Logger.Debug("Cannot read a DNS query", "error", err)
	pause(p.ending, retryDelay)
	return p.ending.Err() != nil
}

// pause waits for a time, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
