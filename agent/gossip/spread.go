package gossip

import "github.com/hashicorp/memberlist"

// broadcast is a message of ours that waits to be gossiped.
type broadcast struct {
	b []byte
}

var _ memberlist.UniqueBroadcast = broadcast{}

// Invalidates reports that no message replaces another.
func (broadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message returns the bytes.
func (b broadcast) Message() []byte { return b.b }

// Finished does nothing.
func (broadcast) Finished() {}

// UniqueBroadcast marks it as such.
func (broadcast) UniqueBroadcast() {}

// gossip sends a message on to some members, who send it on.
func (p *Pool) gossip(m message) {
	p.queue.QueueBroadcast(broadcast{m.encode()})
	if p.queue.NumQueued() > maxQueue {
		p.queue.Prune(maxQueue)
	}
}

// tellAll gossips a message and, in pools that are not too large, sends it to
// every member at once as well; with again a second time shortly after.
func (p *Pool) tellAll(m message, again bool) {
	p.gossip(m)
	p.mu.Lock()
	to := addresses(p.others())
	p.mu.Unlock()
	if len(to) > maxDirect {
		return
	}
	p.send(to, m, again)
}

func addresses(records []*record) []memberlist.Address {
	out := make([]memberlist.Address, 0, len(records))
	for _, r := range records {
		out = append(out, memberlist.Address{Addr: r.addrPort().String(), Name: r.name})
	}
	return out
}

// send sends a message to members in packets of their own.
func (p *Pool) send(to []memberlist.Address, m message, again bool) {
	b := m.encode()
	once := func() {
		list := p.list.Load()
		for _, a := range to {
			if p.ctx.Err() != nil {
				return
			}
			if err := list.SendToAddress(a, b); err != nil {
				p.logger.Debug("cannot send a gossip packet", "to", a.Addr, "error", err)
			}
		}
	}
	once()
	if again {
		p.mu.Lock()
		p.spawn(func() {
			pause(p.ctx, directGap)
			once()
		})
		p.mu.Unlock()
	}
}

// receive takes a message of ours from another member, and sends on what is
// news.
func (p *Pool) receive(m message) {
	p.mu.Lock()
	if !p.witness(m.time) {
		p.mu.Unlock()
		return
	}
	var news bool
	switch m.kind {
	case kindLeave:
		news = p.receiveLeave(m)
	case kindAlive:
		news = p.receiveAlive(m)
	case kindEvent:
		news = p.takeEvent(m)
	case kindAsk:
		p.beginProbe(m.name, m.life, false)
		p.beginMeet(m)
	case kindReport:
		news = p.takeReport(m)
	case kindHeard:
		news = p.takeHeard(m)
	case kindDoubt:
		p.answerDoubt(m)
	case kindSilent:
		p.receiveSilence(m)
	case kindCluster:
		p.receiveCluster(m)
	case kindTaken:
		p.receiveTaken(m)
	}
	p.mu.Unlock()
	if news {
		p.gossip(m)
	}
}

// receiveLeave takes a leave of a member. The mutex is held.
func (p *Pool) receiveLeave(m message) bool {
	if m.name == p.name {
		if m.life == p.life {
			p.contradict(m)
		}
		return false
	}
	r := p.table[m.name]
	if r == nil || r.meta.life != m.life {
		return p.keepEarly(m)
	}
	pruned := r.hidden()
	news := p.takeLeave(r, m)
	if news && r.hidden() != pruned {
		p.changed()
	}
	if final := leaveOwn | leaveFinal; news && m.flags&final == final && (p.server || len(p.aliveServers(m.name)) == 0) {
		// Who leaves waits for this word, of servers if there are any.
		taken := message{kind: kindTaken, time: p.tick(), name: m.name, life: m.life, from: p.name}
		to := addresses([]*record{r})
		p.spawn(func() { p.send(to, taken, true) })
	}
	return news
}

// receiveTaken takes a member's word that it took over this one's leave. The mutex
// is held.
func (p *Pool) receiveTaken(m message) {
	if m.name != p.name || m.life != p.life || p.awaited == nil {
		return
	}
	if r := p.table[m.from]; r != nil && p.awaited.who[m.from] {
		delete(p.awaited.who, m.from)
		p.awaited.heard++
		if p.awaited.enough() {
			close(p.awaited.done)
			p.awaited = nil
		}
	}
}

// takers are the members whose word a leave waits for.
type takers struct {
	who     map[string]bool // those that did not say it yet
	servers map[string]bool // of them, those that must
	heard   int
	done    chan struct{} // closed when that is enough
}

// newTakers are all members that may hear this one. The mutex is held.
func (p *Pool) newTakers() *takers {
	t := &takers{who: map[string]bool{}, servers: map[string]bool{}, done: make(chan struct{})}
	for _, r := range p.others() {
		t.who[r.name] = true
		if r.isServer() && r.status == Alive {
			t.servers[r.name] = true
		}
	}
	return t
}

// enough reports whether all servers heard it, or anybody if there are none: the
// servers write it down.
func (t *takers) enough() bool {
	for name := range t.servers {
		if t.who[name] {
			return false
		}
	}
	return t.heard > 0
}

// receiveAlive takes a member's contradiction to all that was said of it. The
// mutex is held.
func (p *Pool) receiveAlive(m message) bool {
	r := p.table[m.name]
	if m.name == p.name || r == nil || r.meta.life != m.life || m.time <= r.aliveAt {
		return false
	}
	r.aliveAt = m.time
	if m.time > r.reported {
		r.reports, r.down = nil, false
	}
	p.settle(r)
	return true
}

// contradict answers a leave or a report about this member, unless it does
// leave. The mutex is held.
func (p *Pool) contradict(about message) {
	self := p.table[p.name]
	// Who said it at the very time of the last contradiction did not know of that,
	// and others may have heard it first: it needs a later one.
	if p.leaving || self == nil || about.life != p.life || about.time < self.aliveAt {
		return
	}
	m := message{kind: kindAlive, time: p.tick(), name: p.name, life: p.life}
	self.aliveAt = m.time
	p.logger.Warn("contradicted what was said of this member", "leave", about.kind == kindLeave, "from", about.from)
	p.spawn(func() { p.tellAll(m, true) })
}

// spawn runs what takes memberlist's locks, which the caller may hold. The mutex
// is held.
func (p *Pool) spawn(f func()) {
	if p.ctx.Err() == nil {
		p.group.Go(f)
	}
}
