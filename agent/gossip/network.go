package gossip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Network is a [Filter] that several pools of a test share. Its faults come
// from a seed, and may be changed at any time.
type Network struct {
	mu      sync.Mutex
	random  *rand.Rand
	loss    float64
	double  float64
	delay   time.Duration
	jitter  time.Duration
	cut     map[[2]netip.AddrPort]struct{}
	silent  map[netip.AddrPort]struct{}
	packets int
	lost    int
}

var _ Filter = (*Network)(nil)

// NewNetwork returns a network without faults.
func NewNetwork(seed uint64) *Network {
	return &Network{
		random: rand.New(rand.NewPCG(seed, seed)),
		cut:    map[[2]netip.AddrPort]struct{}{}, silent: map[netip.AddrPort]struct{}{},
	}
}

// SetLoss sets which part of packets, 0 to 1, is lost, and which comes twice.
func (n *Network) SetLoss(loss, double float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.double = loss, double
}

// SetDelay sets how long packets take, and how much longer some do, which
// reorders them.
func (n *Network) SetDelay(delay, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.jitter = delay, jitter
}

// Cut ends all that goes from one address to another. The way back stays open
// to packets; streams need both ways.
func (n *Network) Cut(from, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]netip.AddrPort{from, to}] = struct{}{}
}

// Mend undoes Cut.
func (n *Network) Mend(from, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, [2]netip.AddrPort{from, to})
}

// Silence ends all that goes to and from an address.
func (n *Network) Silence(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[at] = struct{}{}
}

// Wake undoes Silence.
func (n *Network) Wake(at netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.silent, at)
}

// Count returns how many packets were sent, and how many of them were lost.
func (n *Network) Count() (packets, lost int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.packets, n.lost
}

// Packet says what becomes of a packet.
func (n *Network) Packet(from, to netip.AddrPort) []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.packets++
	if n.closed(from, to) || n.random.Float64() < n.loss {
		n.lost++
		return nil
	}
	copies := []time.Duration{n.late()}
	if n.random.Float64() < n.double {
		copies = append(copies, n.late())
	}
	return copies
}

// Stream says whether a stream is cut.
func (n *Network) Stream(from, to netip.AddrPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed(from, to) || n.closed(to, from) {
		return fmt.Errorf("the network between %s and %s is cut", from, to)
	}
	return nil
}

func (n *Network) late() time.Duration {
	d := n.delay
	if n.jitter > 0 {
		d += time.Duration(n.random.Int64N(int64(n.jitter)))
	}
	return d
}

func (n *Network) closed(from, to netip.AddrPort) bool {
	_, cut := n.cut[[2]netip.AddrPort{from, to}]
	_, a := n.silent[from]
	_, b := n.silent[to]
	return cut || a || b
}
