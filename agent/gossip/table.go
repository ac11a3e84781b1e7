package gossip

import (
	"net/netip"
	"slices"
	"time"
)

// record is what is known of a member. What was said of it holds for one life.
type record struct {
	name string
	addr netip.Addr
	port uint16
	raw  []byte // meta as it came
	meta meta
	id   string // of the tags

	// answers is memberlist's opinion: not dead. over is that it is not asked,
	// because another life answers there that belongs to another cluster.
	answers, over bool
	// leaveAt and aliveAt are the times of the last leave, and of the member's
	// last contradiction. The later holds. flags are those of the leave.
	leaveAt, aliveAt uint64
	flags            byte
	// reports are the servers that found its port closed, and when. down is that
	// enough of them did, until it is heard again.
	reports  map[string]uint64
	down     bool
	silent   bool // the last of the reports was that it is silent
	reported uint64
	// heardAt is when this agent last heard it, or heard of one who did after it
	// asked at the time askedAt. far is that it did answer, but not to this agent's
	// packets: until one of them is answered it is left to the ordinary probes.
	heardAt time.Time
	askedAt uint64
	far     bool

	status Status
	since  time.Time
	rtt    time.Duration
}

func (r *record) addrPort() netip.AddrPort { return netip.AddrPortFrom(r.addr, r.port) }
func (r *record) isServer() bool           { return r.meta.tags["role"] == RoleServer }

// leaves reports whether a leave holds: the member did not contradict it.
func (r *record) leaves() bool { return r.leaveAt > r.aliveAt }

// gone reports whether nothing is to be expected of the member.
func (r *record) gone() bool {
	return !r.answers || r.down || r.leaves() && r.flags&leaveOwn != 0 && r.flags&leaveFinal != 0
}

// hidden reports whether it is not listed.
func (r *record) hidden() bool { return r.gone() && r.leaves() && r.flags&leavePrune != 0 }

// judge is what all that is known comes to.
func (r *record) judge() Status {
	switch {
	case r.gone() && r.leaves():
		return Left
	case r.gone():
		return Failed
	case r.leaves() && r.flags&leaveOwn != 0:
		return Leaving
	default:
		return Alive
	}
}

func (r *record) member() Member {
	return Member{Name: r.name, ID: r.id, Addr: r.addr, Port: r.port, Tags: r.meta.tags, Status: r.status, Since: r.since}
}

// begin makes the record that of another life.
func (r *record) begin(m meta) {
	r.leaveAt, r.aliveAt, r.flags = 0, 0, 0
	r.reports, r.down, r.reported = nil, false, 0
	r.heardAt, r.askedAt, r.far = time.Time{}, 0, false
	r.meta = m
}

// reportLimit is the time after which a failed member is forgotten: its own
// word counts before this agent's.
func (r *record) failedTimeout(own time.Duration) time.Duration {
	if word, ok := r.meta.tags["rc_tm"]; ok {
		if d, err := time.ParseDuration(word); err == nil && d > 0 {
			return d
		}
	}
	return own
}

// lifeOf names one life of a member.
type lifeOf struct {
	name string
	life uint64
}

// early is a leave that came before its member.
type early struct {
	message
	at time.Time
}

// settle brings a record's status up to date and tells those who watch. The
// mutex is held.
func (p *Pool) settle(r *record) {
	status := r.judge()
	if status == r.status {
		return
	}
	p.logger.Debug("a member changed", "member", r.name, "from", r.status, "to", status)
	r.status, r.since = status, time.Now()
	p.changed()
}

// changed tells those who watch, and the snapshot. The mutex is held.
func (p *Pool) changed() {
	p.dirty = true
	for c := range p.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// tick returns a time of the clock after all others. The mutex is held.
func (p *Pool) tick() uint64 {
	p.clock++
	return p.clock
}

// witness brings the clock up to a time that was heard, and reports whether it
// is to be believed. The mutex is held.
func (p *Pool) witness(t uint64) bool {
	if t > p.clock+maxAhead {
		return false
	}
	p.clock = max(p.clock, t)
	return true
}

// joined takes over what memberlist says of a member that answers. The mutex is
// held.
func (p *Pool) joined(name string, at netip.AddrPort, raw []byte, m meta) {
	r := p.table[name]
	if r == nil {
		r = &record{name: name, since: time.Now(), meta: m}
		p.table[name] = r
		p.size.Store(int64(len(p.table)))
	} else if r.meta.life != m.life {
		r.begin(m)
	}
	if r.addr != at.Addr() || r.port != at.Port() || !slices.Equal(r.raw, raw) {
		p.changed()
	}
	r.addr, r.port = at.Addr(), at.Port()
	r.raw, r.meta, r.id = slices.Clone(raw), m, m.tags["id"]
	r.answers, r.over = true, false
	delete(p.lost, at)
	if e, ok := p.early[lifeOf{name, m.life}]; ok {
		delete(p.early, lifeOf{name, m.life})
		p.takeLeave(r, e.message)
	}
	p.settle(r)
}

// died takes over that memberlist gave a member up. The mutex is held.
func (p *Pool) died(name string) {
	r := p.table[name]
	if r == nil || name == p.name {
		return
	}
	r.answers, r.over = false, false
	r.reports, r.down = nil, false
	if r.status != Failed && r.status != Left {
		p.settle(r)
		if r.status == Failed {
			p.logger.Warn("a member failed", "member", r.name, "address", r.addrPort())
		}
		return
	}
	p.settle(r)
}

// takeLeave applies a leave to the life that it is about, and reports whether
// it was news. The mutex is held.
func (p *Pool) takeLeave(r *record, m message) bool {
	if m.time <= r.aliveAt || m.time < r.leaveAt || m.time == r.leaveAt && m.flags|r.flags == r.flags {
		return false
	}
	if !r.leaves() {
		r.flags = 0
	}
	r.leaveAt = m.time
	r.flags |= m.flags
	p.settle(r)
	p.dirty = true
	return true
}

// forget removes a record. The mutex is held.
func (p *Pool) forget(r *record) {
	delete(p.table, r.name)
	p.size.Store(int64(len(p.table)))
	p.changed()
}

// reap forgets those who have been gone for too long. The mutex is held.
func (p *Pool) reap(now time.Time) {
	for _, r := range p.table {
		if r.answers {
			continue
		}
		limit := p.timing.LeftTimeout
		if r.status == Failed {
			limit = r.failedTimeout(p.reconnectTimeout)
		}
		if now.Sub(r.since) >= limit {
			p.logger.Info("forgetting a member", "member", r.name, "status", r.status, "for", now.Sub(r.since).Round(time.Second))
			p.forget(r)
		}
	}
	for key, at := range p.parted {
		if now.Sub(at) >= shunFor {
			delete(p.parted, key)
		}
	}
	for at, d := range p.lost {
		if now.Sub(d.at) >= p.reconnectTimeout {
			delete(p.lost, at)
		}
	}
	for key, e := range p.early {
		if now.Sub(e.at) >= earlyLimit {
			delete(p.early, key)
		}
	}
}

// exchange returns what this member tells in an exchange of state. The mutex is
// held.
func (p *Pool) exchange(now time.Time) exchange {
	e := exchange{clock: p.clock, name: p.name, life: p.life}
	var told []*record
	for _, r := range p.table {
		if r.name != p.name && (!r.answers || r.down || r.leaveAt > 0) {
			told = append(told, r)
		}
	}
	if len(told) > maxShared {
		slices.SortFunc(told, func(a, b *record) int { return b.since.Compare(a.since) })
		told = told[:maxShared]
	}
	for _, r := range told {
		e.shared = append(e.shared, shared{
			name: r.name, addr: r.addr, port: r.port, meta: r.raw, status: r.status, age: now.Sub(r.since),
			leaveAt: r.leaveAt, aliveAt: r.aliveAt, flags: r.flags,
		})
	}
	return e
}

// merge takes over what another member told. The mutex is held.
func (p *Pool) merge(e exchange, now time.Time) {
	if !p.witness(e.clock) {
		return
	}
	for i := range e.shared {
		s := &e.shared[i]
		m, err := decodeMeta(s.meta)
		if err != nil || s.name == p.name && m.life != p.life {
			continue
		}
		if !p.witness(max(s.leaveAt, s.aliveAt)) {
			continue
		}
		leave := message{kind: kindLeave, time: s.leaveAt, name: s.name, life: m.life, flags: s.flags & (leaveOwn | leaveFinal | leavePrune)}
		if s.name == p.name {
			if s.leaveAt > s.aliveAt {
				p.contradict(leave)
			}
			continue
		}
		p.mergeOne(s, m, leave, now)
	}
}

func (p *Pool) mergeOne(s *shared, m meta, leave message, now time.Time) {
	r := p.table[s.name]
	switch {
	case r != nil && r.meta.life == m.life:
		r.aliveAt = max(r.aliveAt, s.aliveAt)
		if s.leaveAt > s.aliveAt {
			p.takeLeave(r, leave)
		}
		p.settle(r)
	case s.status != Failed && s.status != Left:
		if s.leaveAt > s.aliveAt {
			p.keepEarly(leave)
		}
	case r != nil && (r.answers || now.Sub(r.since) <= s.age):
	default:
		p.adopt(s, m, now)
	}
}

// adopt takes over a member that this one never knew to be alive. The mutex is
// held.
func (p *Pool) adopt(s *shared, m meta, now time.Time) bool {
	if len(p.table) >= maxMembers || p.fits(m) != nil {
		return false
	}
	r := &record{
		name: s.name, addr: s.addr, port: s.port, raw: slices.Clone(s.meta), meta: m, id: m.tags["id"],
		leaveAt: s.leaveAt, aliveAt: s.aliveAt, flags: s.flags & (leaveOwn | leaveFinal | leavePrune),
		since: now.Add(-s.age),
	}
	r.status = r.judge()
	limit := p.timing.LeftTimeout
	if r.status == Failed {
		limit = r.failedTimeout(p.reconnectTimeout)
	}
	if s.age >= limit-limit/100 {
		return false // it is about to be forgotten everywhere
	}
	p.table[s.name] = r
	p.size.Store(int64(len(p.table)))
	p.changed()
	return true
}

// keepEarly remembers a leave whose member is not known yet. The mutex is held.
func (p *Pool) keepEarly(m message) bool {
	key := lifeOf{m.name, m.life}
	old, known := p.early[key]
	if known && old.time >= m.time && old.flags|m.flags == old.flags || !known && len(p.early) >= maxEarly {
		return false
	}
	m.flags |= old.flags
	p.early[key] = early{m, time.Now()}
	return true
}

// aliveServers returns the servers of which nothing bad is known, without one.
// The mutex is held.
func (p *Pool) aliveServers(without string) []*record {
	var out []*record
	for _, r := range p.table {
		if r.name != without && r.status == Alive && r.isServer() {
			out = append(out, r)
		}
	}
	return out
}
