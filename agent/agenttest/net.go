package agenttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Net is the network between the agents of a cluster, which a test can cut and
// make slow. Agents are named by the names of their nodes. What is cut is not
// refused: bytes wait, packets are lost, as on a network whose cable is out.
type Net struct {
	mu      sync.Mutex
	changed chan struct{} // closed and made anew when a cut changes
	names   map[string]string
	cuts    map[[2]string]bool
	loss    float64
	double  float64
	delay   time.Duration
	jitter  time.Duration
	random  *rand.Rand
	conns   map[*netConn]bool
}

// NewNet returns a network on which all is well; what happens by chance comes from
// the seed.
func NewNet(seed uint64) *Net {
	return &Net{
		changed: make(chan struct{}), names: map[string]string{}, cuts: map[[2]string]bool{},
		random: rand.New(rand.NewPCG(seed, seed)), conns: map[*netConn]bool{},
	}
}

// name notes which agent has some addresses.
func (n *Net) name(agent string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addresses {
		n.names[a] = agent
	}
}

// Cut stops what one agent sends to another; the other way it goes on.
func (n *Net) Cut(from, to string) { n.set(from, to, true) }

// Part cuts both ways between each agent of one group and each of the other.
func (n *Net) Part(group, others []string) {
	for _, a := range group {
		for _, b := range others {
			n.set(a, b, true)
			n.set(b, a, true)
		}
	}
}

// Heal mends all cuts.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.tell()
}

func (n *Net) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]string{from, to}] = cut
	n.tell()
}

// tell wakes those who wait for a cut to be mended. The caller holds the lock.
func (n *Net) tell() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Packets sets the share of gossip's packets that are lost and that come twice,
// and how late all are: by delay, and by chance up to jitter more, so that they
// overtake each other.
func (n *Net) Packets(loss, double float64, delay, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.double, n.delay, n.jitter = loss, double, delay, jitter
}

// Reset breaks all open connections between two agents.
func (n *Net) Reset(a, b string) {
	n.mu.Lock()
	var broken []*netConn
	for c := range n.conns {
		if c.from == a && n.names[c.to] == b || c.from == b && n.names[c.to] == a {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// isCut reports whether nothing goes from one to the other; the caller holds the
// lock.
func (n *Net) isCut(from, to string) bool { return n.cuts[[2]string{from, to}] }

// Packet says what becomes of a packet of gossip.
func (n *Net) Packet(from, to netip.AddrPort) []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isCut(n.names[from.String()], n.names[to.String()]) || n.random.Float64() < n.loss {
		return nil
	}
	late := func() time.Duration {
		if n.jitter <= 0 {
			return n.delay
		}
		return n.delay + time.Duration(n.random.Int64N(int64(n.jitter)))
	}
	if n.random.Float64() < n.double {
		return []time.Duration{late(), late()}
	}
	return []time.Duration{late()}
}

// errCut is why a stream of gossip cannot be used.
var errCut = errors.New("the network is cut")

// Stream says why a stream of gossip is cut.
func (n *Net) Stream(from, to netip.AddrPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b := n.names[from.String()], n.names[to.String()]
	if n.isCut(a, b) || n.isCut(b, a) {
		return errCut
	}
	return nil
}

// dialer opens connections of one agent to server ports.
func (n *Net) dialer(from string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		if err := n.pass(ctx.Done(), nil, from, address); err != nil {
			return nil, err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		c := &netConn{Conn: conn, net: n, from: from, to: address, closed: make(chan struct{})}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns[c] = true
		return c, nil
	}
}

// pass waits until nothing is cut from an agent to an address, and no longer than
// until one of the channels gives something.
func (n *Net) pass(done <-chan struct{}, closed <-chan struct{}, from, address string) error {
	return n.wait(done, closed, func() bool { return n.isCut(from, n.names[address]) || n.isCut(n.names[address], from) })
}

func (n *Net) wait(done, closed <-chan struct{}, cut func() bool) error {
	for {
		n.mu.Lock()
		stop, changed := cut(), n.changed
		n.mu.Unlock()
		if !stop {
			return nil
		}
		select {
		case <-changed:
		case <-done:
			return os.ErrDeadlineExceeded
		case <-closed:
			return net.ErrClosed
		}
	}
}

// netConn is a connection whose bytes wait while its way is cut.
type netConn struct {
	net.Conn
	net      *Net
	from, to string // an agent's name, and an address

	once   sync.Once
	closed chan struct{}

	mu          sync.Mutex
	read, write time.Time // deadlines
}

// expires returns a channel that is closed at a deadline.
func expires(deadline time.Time) (<-chan struct{}, func()) {
	if deadline.IsZero() {
		return nil, func() {}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	return ctx.Done(), cancel
}

// Read reads what came, once its way is free.
func (c *netConn) Read(b []byte) (int, error) {
	read, err := c.Conn.Read(b)
	c.mu.Lock()
	deadline := c.read
	c.mu.Unlock()
	done, cancel := expires(deadline)
	defer cancel()
	if held := c.net.wait(done, c.closed, func() bool { return c.net.isCut(c.net.names[c.to], c.from) }); held != nil {
		if errors.Is(held, os.ErrDeadlineExceeded) {
			// Bytes that were read are lost with the connection.
			_ = c.Close()
		}
		return 0, held
	}
	return read, err
}

// Write sends bytes, once their way is free.
func (c *netConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	deadline := c.write
	c.mu.Unlock()
	done, cancel := expires(deadline)
	defer cancel()
	if held := c.net.wait(done, c.closed, func() bool { return c.net.isCut(c.from, c.net.names[c.to]) }); held != nil {
		return 0, held
	}
	return c.Conn.Write(b)
}

// Close closes the connection and wakes who waits on it.
func (c *netConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.net.mu.Lock()
		delete(c.net.conns, c)
		c.net.mu.Unlock()
	})
	return c.Conn.Close()
}

// SetDeadline sets both deadlines.
func (c *netConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.read, c.write = t, t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline sets that of reads.
func (c *netConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.read = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline sets that of writes.
func (c *netConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.write = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}
