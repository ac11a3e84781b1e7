package consensus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// network connects nodes of a test in memory. Connections between two of them
// can be delayed, held (nothing arrives until they are let go, as when packets
// get lost) and broken, each direction for itself.
type network struct {
	mu      sync.Mutex
	ports   map[string]*port
	held    map[[2]string]bool
	delay   time.Duration
	changed chan struct{}
}

// port is one node's end of a network.
type port struct {
	network *network
	id      string
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func (n *network) port(id string) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports == nil {
		n.ports = make(map[string]*port)
	}
	p := &port{network: n, id: id, conns: make(chan net.Conn), done: make(chan struct{})}
	n.ports[id] = p
	return p
}

// set changes something, and wakes those that wait for it.
func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held == nil {
		n.held = make(map[[2]string]bool)
	}
	change()
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// hold holds what one node sends to another.
func (n *network) hold(from, to string) { n.set(func() { n.held[[2]string{from, to}] = true }) }

// isolate holds all that a node sends and is sent.
func (n *network) isolate(id string) {
	n.set(func() {
		for other := range n.ports {
			n.held[[2]string{id, other}], n.held[[2]string{other, id}] = true, true
		}
	})
}

// heal lets all go.
func (n *network) heal() { n.set(func() { clear(n.held) }) }

// slow delays all that is sent.
func (n *network) slow(delay time.Duration) { n.set(func() { n.delay = delay }) }

// passes reports whether something may arrive, and what is closed when that
// may have changed.
func (n *network) passes(from, to string) (ok bool, delay time.Duration, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return !n.held[[2]string{from, to}], n.delay, n.changed
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *port) Dial(id string, timeout time.Duration) (net.Conn, error) {
	p.network.mu.Lock()
	target := p.network.ports[id]
	p.network.mu.Unlock()
	if target == nil {
		return nil, fmt.Errorf("no node %q", id)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		there, delay, changed := p.network.passes(p.id, id)
		back, _, _ := p.network.passes(id, p.id)
		if there && back {
			time.Sleep(2 * delay)
			break
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, errors.New("timeout")
		case <-p.done:
			return nil, net.ErrClosed
		}
	}
	near, nearWire := net.Pipe()
	far, farWire := net.Pipe()
	select {
	case target.conns <- far:
	case <-target.done:
		return nil, errors.New("connection refused")
	case <-timer.C:
		return nil, errors.New("timeout")
	}
	ended := make(chan struct{})
	var once sync.Once
	end := func() {
		once.Do(func() {
			close(ended)
			_ = nearWire.Close()
			_ = farWire.Close()
		})
	}
	go p.network.carry(nearWire, farWire, p.id, id, ended, end)
	go p.network.carry(farWire, nearWire, id, p.id, ended, end)
	return near, nil
}

// parcel is what was written at once.
type parcel struct {
	data []byte
	due  time.Time
}

// carry carries what one node writes to another until either end is closed.
func (n *network) carry(from, to net.Conn, fromID, toID string, ended chan struct{}, end func()) {
	parcels := make(chan parcel, 1<<12)
	go func() {
		defer close(parcels)
		for {
			buffer := make([]byte, 64<<10)
			count, err := from.Read(buffer)
			if err != nil {
				return
			}
			_, delay, _ := n.passes(fromID, toID)
			select {
			case parcels <- parcel{buffer[:count], time.Now().Add(delay)}:
			case <-ended:
				return
			}
		}
	}()
	defer end()
	for p := range parcels {
		for {
			ok, _, changed := n.passes(fromID, toID)
			if ok {
				break
			}
			select {
			case <-changed:
			case <-ended:
				return
			case <-time.After(time.Minute): // as a kernel gives up
				return
			}
		}
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}

var _ io.Closer = (*port)(nil)
