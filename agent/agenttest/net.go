package agenttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
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
	stall   float64
	links   map[*link]bool
}

// NewNet returns a network on which all is well; what happens by chance comes from
// the seed.
func NewNet(seed uint64) *Net {
	return &Net{
		changed: make(chan struct{}), names: map[string]string{}, cuts: map[[2]string]bool{},
		random: rand.New(rand.NewPCG(seed, seed)), links: map[*link]bool{},
	}
}

// Seed makes what happens by chance come from another seed.
func (n *Net) Seed(seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.random = rand.New(rand.NewPCG(seed, seed))
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

// Heal mends all cuts, loses nothing and makes nothing late.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.loss, n.double, n.stall, n.delay, n.jitter = 0, 0, 0, 0, 0
	n.tell()
}

// Mend undoes what Part and Cut did between two agents.
func (n *Net) Mend(a, b string) {
	n.set(a, b, false)
	n.set(b, a, false)
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

// Packets sets the share of gossip's packets that are lost and that come twice.
func (n *Net) Packets(loss, double float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.double = loss, double
}

// Stall sets the share of what is sent on connections that is lost at first, and
// sent again by TCP, while all that comes after it waits.
func (n *Net) Stall(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stall = share
}

// Delay sets how late everything is: by delay, and by chance up to jitter more, so
// that packets overtake each other.
func (n *Net) Delay(delay, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.jitter = delay, jitter
}

// Reset breaks all open connections between two agents.
func (n *Net) Reset(a, b string) {
	n.mu.Lock()
	var broken []*link
	for l := range n.links {
		if l.from == a && n.names[l.to] == b || l.from == b && n.names[l.to] == a {
			broken = append(broken, l)
		}
	}
	n.mu.Unlock()
	for _, l := range broken {
		l.snap()
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

// Stream says why a stream of gossip is cut. It is asked before each step of one,
// and so it takes the time that a step does.
func (n *Net) Stream(from, to netip.AddrPort) error {
	n.mu.Lock()
	a, b := n.names[from.String()], n.names[to.String()]
	cut, late := n.isCut(a, b) || n.isCut(b, a), n.delay
	n.mu.Unlock()
	if cut {
		return errCut
	}
	if late > 0 {
		time.Sleep(late)
	}
	return nil
}

// dialer opens connections of one agent to server ports.
func (n *Net) dialer(from string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		l := &link{net: n, from: from, to: address, broken: make(chan struct{})}
		// There and back again, each on a way that may be cut.
		for _, forth := range []bool{true, false} {
			if !l.await(n.due(true), forth, ctx.Done()) {
				return nil, os.ErrDeadlineExceeded
			}
		}
		far, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		var near net.Conn
		l.far = far
		l.near, near = net.Pipe()
		n.mu.Lock()
		n.links[l] = true
		n.mu.Unlock()
		l.open.Store(2)
		// These may outlive the agent, as bytes in a network do: they are not
		// counted among its goroutines.
		for _, forth := range []bool{true, false} {
			go pprof.Do(context.Background(), pprof.Labels(labelName, "network"), func(context.Context) { l.carry(forth) })
		}
		return &netConn{Conn: near, local: far.LocalAddr(), remote: far.RemoteAddr()}, nil
	}
}

// due is when what is sent now arrives.
func (n *Net) due(opening bool) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	late := n.delay
	if n.jitter > 0 {
		late += time.Duration(n.random.Int64N(int64(n.jitter)))
	}
	again := resend
	if opening {
		again = resendOpening
	}
	for range maxResends {
		if n.random.Float64() >= n.stall {
			break
		}
		late += again
		again *= 2
	}
	return time.Now().Add(late)
}

const (
	// resend is after what time TCP sends again what was lost, and resendOpening
	// what opens a connection; each further time takes twice as long.
	resend, resendOpening = 200 * time.Millisecond, time.Second
	// maxResends bounds how often something is lost in a row.
	maxResends = 4
	// maxUnderWay is how many pieces are under way on a connection.
	maxUnderWay = 1024
	// pieceSize is how many bytes such a piece has at most.
	pieceSize = 16 << 10
)

// link is a connection between an agent and a server port, with a network in
// between: what one side sends arrives later, in order, and waits while its way is
// cut. So does the news that a side has closed it.
type link struct {
	net       *Net
	from, to  string // an agent's name, and an address
	near, far net.Conn
	open      atomic.Int32 // directions
	reset     sync.Once
	broken    chan struct{} // closed by a reset
}

// piece is what is under way.
type piece struct {
	due  time.Time
	data []byte
}

// carry carries what one side sends to the other.
func (l *link) carry(forth bool) {
	source, sink := l.near, l.far
	if !forth {
		source, sink = sink, source
	}
	queue := make(chan piece, maxUnderWay)
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		failed := false
		for p := range queue {
			failed = failed || !l.await(p.due, forth, nil)
			if !failed {
				_, err := sink.Write(p.data)
				failed = err != nil
			}
		}
		// That it was closed is news as well.
		l.await(time.Time{}, forth, nil)
		_ = sink.Close()
	}()
	var last time.Time
	for {
		b := make([]byte, pieceSize)
		read, err := source.Read(b)
		if read > 0 {
			if due := l.net.due(false); due.After(last) {
				last = due
			}
			queue <- piece{last, b[:read]}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	<-delivered
	if l.open.Add(-1) == 0 {
		_ = l.near.Close()
		_ = l.far.Close()
		l.net.mu.Lock()
		delete(l.net.links, l)
		l.net.mu.Unlock()
	}
}

// await waits until a moment has come and a way is free, and reports whether that
// was before the link was reset or done closed.
func (l *link) await(due time.Time, forth bool, done <-chan struct{}) bool {
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.broken:
			return false
		case <-done:
			return false
		}
	}
	for {
		l.net.mu.Lock()
		from, to := l.from, l.net.names[l.to]
		if !forth {
			from, to = to, from
		}
		cut, changed := l.net.isCut(from, to), l.net.changed
		l.net.mu.Unlock()
		if !cut {
			return true
		}
		select {
		case <-changed:
		case <-l.broken:
			return false
		case <-done:
			return false
		}
	}
}

// snap breaks the link on both sides at once.
func (l *link) snap() {
	l.reset.Do(func() {
		close(l.broken)
		_ = l.near.Close()
		_ = l.far.Close()
	})
}

// netConn is an agent's end of a link.
type netConn struct {
	net.Conn
	local, remote net.Addr
}

// LocalAddr is this side's address.
func (c *netConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other side's.
func (c *netConn) RemoteAddr() net.Addr { return c.remote }
