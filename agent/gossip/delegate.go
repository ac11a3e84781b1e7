package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It calls several of these with its own
// lock held, so none may call memberlist back.
type delegate struct{ p *Pool }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.MergeDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta returns the tags of this member.
func (d delegate) NodeMeta(int) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.p.selfMeta
}

// NotifyMsg takes a message of ours.
func (d delegate) NotifyMsg(b []byte) {
	m, err := decodeMessage(b)
	if err != nil {
		if ok, _ := d.p.limit.allow("message", time.Now()); ok {
			d.p.logger.Warn("dropped a gossip message", "reason", err)
		}
		return
	}
	d.p.receive(m)
}

// GetBroadcasts returns messages of ours that wait to be sent.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.p.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns what memberlist does not know.
func (d delegate) LocalState(bool) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.p.exchange(time.Now()).encode()
}

// MergeRemoteState takes over what memberlist does not know.
func (d delegate) MergeRemoteState(b []byte, join bool) {
	e, err := decodeExchange(b)
	if err != nil {
		if ok, _ := d.p.limit.allow("exchange", time.Now()); ok {
			d.p.logger.Warn("dropped the state of a gossip member", "reason", err)
		}
		return
	}
	d.p.mu.Lock()
	d.p.merge(e, time.Now())
	if join {
		d.p.findRejection(e)
	}
	d.p.revive(e.name, e.life)
	tell := d.p.heard(e.name, e.life, false)
	d.p.mu.Unlock()
	tell()
}

// NotifyJoin takes over that a member answers.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.p.nodeAlive(n) }

// NotifyUpdate takes over new tags of a member.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.p.nodeAlive(n) }

// NotifyLeave takes over that a member left or died: which, memberlist does not
// say. A suspicion of memberlist's may run out after the pool was closed: a pool
// that hears nobody any more knows nothing of who died.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.p.ctx.Err() == nil {
		d.p.died(n.Name)
	}
}

// NotifyAlive decides whether a member is let in.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.p.holds(n) {
		return nil
	}
	c, err := candidateOf(n)
	if err == nil {
		if c.name == d.p.name && c.at == d.p.addr && c.meta.life == d.p.life {
			return nil
		}
		if c.name == d.p.name {
			return nil // memberlist contradicts, or reports a conflict of addresses
		}
		if d.p.partForeign(c) {
			return refusal(c, errForeign) // which was said once
		}
		if err = d.p.admit(c, time.Now()); errors.Is(err, errForeign) {
			d.p.meetNext(c)
			if d.p.follows(c) {
				return refusal(c, err)
			}
		}
	}
	if err != nil {
		return d.p.refuse(c, err)
	}
	return nil
}

// NotifyMerge decides whether the state of a member that joins, or that this
// one joins, may be taken over at all.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	d.p.endReplaced(nodes)
	for _, n := range nodes {
		if n.State == memberlist.StateLeft || n.State == memberlist.StateDead {
			continue
		}
		c, err := candidateOf(n)
		if err == nil && c.name == d.p.name && c.at == d.p.addr {
			// A life of this member's own, even if it was one of another cluster:
			// memberlist contradicts what is over.
			continue
		}
		if err == nil {
			err = d.p.fits(c.meta)
		}
		d.p.mu.Lock()
		parted := err != nil && errors.Is(err, errForeign) && d.p.partForeign(c) || d.p.partedFrom(c)
		follows := errors.Is(err, errForeign) && d.p.follows(c)
		d.p.mu.Unlock()
		switch {
		case parted:
			continue // it is known, and is let in by nobody
		case follows:
			return refusal(c, err)
		}
		if err != nil {
			return d.p.refuse(c, err)
		}
		d.p.transport.shunned.forgive(c.at)
		if err := d.p.checkClaim(c); err != nil {
			return err
		}
	}
	return nil
}

// NotifyConflict takes over that a member is said to be at two addresses.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	c, err := candidateOf(other)
	if err != nil {
		return
	}
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if c.name == d.p.name {
		if c.meta.tags["id"] == d.p.id {
			// Others still hold a previous life of this member.
			d.p.reassertUntil = time.Now().Add(reassertLimit)
			return
		}
	}
	if r := d.p.table[c.name]; r != nil && r.id == c.meta.tags["id"] {
		d.p.logger.Debug("a member is said to have moved, and is taken over once it no longer answers where it was",
			"member", c.name, "from", r.addrPort(), "to", c.at)
		return
	}
	if r := d.p.table[c.name]; r != nil {
		if err := d.p.nameConflict(r, c, time.Now()); err != nil {
			_ = d.p.refuse(c, err)
		}
	}
}

// AckPayload tells which life answers: memberlist asks for a name only.
func (d delegate) AckPayload() []byte { return binary.BigEndian.AppendUint64(nil, d.p.life) }

// NotifyPingComplete takes over a round trip. What comes with it from older agents
// is empty.
func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return
	}
	d.p.mu.Lock()
	if life, ok := lifeOfAck(payload); ok && life != m.life {
		// It was started again, and nobody has told of it yet.
		if r := d.p.table[n.Name]; r != nil && r.meta.life == m.life {
			d.p.meet(r, 0)
		}
		d.p.mu.Unlock()
		return
	}
	if r := d.p.table[n.Name]; r != nil && r.meta.life == m.life {
		r.rtt = rtt
	}
	tell := d.p.heard(n.Name, m.life, true)
	d.p.mu.Unlock()
	tell()
}

// lifeOfAck reads what AckPayload wrote.
func lifeOfAck(b []byte) (life uint64, ok bool) {
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// holds reports whether a member that was let in says nothing new, as most
// messages do. The mutex is held.
func (p *Pool) holds(n *memberlist.Node) bool {
	r := p.table[n.Name]
	if r == nil || !r.answers || n.Port != r.port || !bytes.Equal(n.Meta, r.raw) {
		return false
	}
	addr, ok := netip.AddrFromSlice(n.Addr)
	return ok && addr.Unmap() == r.addr
}

func (p *Pool) nodeAlive(n *memberlist.Node) {
	c, err := candidateOf(n)
	if err != nil {
		return // NotifyAlive let nobody in of whom that is so
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joined(c.name, c.at, n.Meta, c.meta)
}

// checkClaim looks at a member of a pool that this one joins, or that joins
// this one, for a claim on this member's own name or ID.
func (p *Pool) checkClaim(c candidate) error {
	p.mu.Lock()
	err, moved := p.claims(c, Alive)
	p.mu.Unlock()
	if err != nil && !p.answersAt(c) {
		// It is gone, and the library of whoever told of it does not know yet.
		p.mu.Lock()
		err, moved = p.claims(c, Failed)
		p.mu.Unlock()
	}
	if err == nil && moved {
		if p.answersAt(c) {
			err = fmt.Errorf("%w: another agent with the name %q and the node ID %s answers at %s, this one is at %s. "+
				"To settle it, give this one a name and an ID of its own: muster agent -node=%s -node-id=%s",
				errSelf, c.name, p.id, c.at, p.addr, c.name+"-2", otherID(p.id, c.name))
		} else {
			p.mu.Lock()
			p.reassertUntil = time.Now().Add(reassertLimit)
			p.mu.Unlock()
		}
	}
	if err != nil {
		return p.refuse(c, err)
	}
	return nil
}

// findRejection looks for members that are gone and yet keep this one out. The
// mutex is held.
func (p *Pool) findRejection(e exchange) {
	for i := range e.shared {
		s := &e.shared[i]
		m, err := decodeMeta(s.meta)
		if err != nil || s.status != Failed {
			continue
		}
		c := candidate{name: s.name, at: netip.AddrPortFrom(s.addr, s.port), meta: m}
		if err, _ := p.claims(c, Failed); err != nil {
			p.rejection = p.refuse(c, err)
			return
		}
		if c.name == p.name && m.tags["id"] != p.id && c.at != p.addr && s.age < p.timing.ReclaimTime {
			p.rejection = p.refuse(p.selfCandidate(), fmt.Errorf("%w: the name %q is that of node %s at %s, which failed %s ago and keeps it for %s; "+
				"node %s at %s wants it. To settle it at once, run: muster force-leave %s",
				errSelf, p.name, m.tags["id"], c.at, s.age.Round(time.Second), p.timing.ReclaimTime, p.id, p.addr, p.name))
			return
		}
	}
}

// answersAt reports whether a member of the candidate's name answers at its
// address. Another that has taken the address over does not.
func (p *Pool) answersAt(c candidate) bool {
	list := p.list.Load()
	if list == nil {
		return false
	}
	for range 2 {
		if _, err := list.Ping(c.name, net.UDPAddrFromAddrPort(c.at)); err == nil {
			return true
		}
	}
	return false
}
