package gossip

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"
)

// eventKey tells events apart.
type eventKey struct {
	time, id uint64
	lifeOf
}

// eventLog remembers the events that were told.
type eventLog struct {
	seen   map[eventKey]struct{}
	ring   []eventKey
	next   int
	newest uint64
}

// take reports whether an event was not told before, and is not so old that it
// may have been forgotten.
func (l *eventLog) take(k eventKey) bool {
	if _, told := l.seen[k]; told || k.time+eventWindow < l.newest {
		return false
	}
	if l.seen == nil {
		l.seen = map[eventKey]struct{}{}
	}
	if len(l.ring) < maxEventsKept {
		l.ring = append(l.ring, k)
	} else {
		delete(l.seen, l.ring[l.next])
		l.ring[l.next] = k
		l.next = (l.next + 1) % len(l.ring)
	}
	l.seen[k] = struct{}{}
	l.newest = max(l.newest, k.time)
	return true
}

// Broadcast sends an event to all members, this one included.
func (p *Pool) Broadcast(kind byte, payload []byte) error {
	if len(payload) > MaxEvent {
		return fmt.Errorf("cannot broadcast an event of %d bytes: the limit is %d", len(payload), MaxEvent)
	}
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	p.mu.Lock()
	m := message{
		kind: kindEvent, time: p.tick(), name: p.name, life: p.life,
		id: binary.BigEndian.Uint64(id[:]), event: kind, payload: append([]byte{}, payload...),
	}
	p.takeEvent(m)
	p.mu.Unlock()
	p.gossip(m)
	return nil
}

// takeEvent has an event told unless it was, and reports whether it was news.
// The mutex is held.
func (p *Pool) takeEvent(m message) bool {
	if !p.seen.take(eventKey{m.time, m.id, lifeOf{m.name, m.life}}) {
		return false
	}
	select {
	case p.events <- m:
	default:
		if ok, suppressed := p.limit.allow("event queue", time.Now()); ok {
			p.logger.Warn("dropped an event: too many wait", "limit", maxEventQueue, "suppressed", suppressed)
		}
	}
	return true
}

// tellEvents tells events one at a time.
func (p *Pool) tellEvents() {
	for {
		select {
		case m := <-p.events:
			if p.event != nil {
				p.event(m.event, m.payload)
			}
		case <-p.ctx.Done():
			return
		}
	}
}
