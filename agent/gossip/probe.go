package gossip

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// pingsPerProbe is how often a member whose connection broke is pinged before
// it is reported.
const pingsPerProbe = 8

// Probe looks into the end of the connection that the member with a node ID
// kept to this server. It returns at once.
//
// If the member's gossip port refuses connections now and still does after
// [Timing].RefusalGrace, and no ping is answered meanwhile, this server says so
// to all. When two servers do, or the only one that is left, the member is
// failed for everybody until somebody hears it again.
func (p *Pool) Probe(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.table {
		if r.id == id && r.status != Left {
			p.beginProbe(r.name, r.meta.life, true)
			return
		}
	}
}

// beginProbe looks at a member unless that is being done. The mutex is held.
func (p *Pool) beginProbe(name string, life uint64, first bool) {
	r, key := p.table[name], lifeOf{name, life}
	if !p.server || name == p.name || p.leaving || r == nil || r.meta.life != life || r.gone() {
		return
	}
	if _, running := p.probing[key]; running || len(p.probing) >= maxProbes {
		return
	}
	p.probing[key] = struct{}{}
	p.spawn(func() {
		p.probe(r, key, first)
		p.mu.Lock()
		delete(p.probing, key)
		p.mu.Unlock()
	})
}

// probe looks at one life of a member, and reports it if nothing of it answers.
func (p *Pool) probe(r *record, key lifeOf, first bool) {
	p.mu.Lock()
	at := r.addrPort()
	p.mu.Unlock()
	begun := time.Now()
	refused := func() bool {
		conn, err := p.transport.dial(at, max(p.timing.RefusalGap, directGap))
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	if !refused() {
		return
	}
	if first {
		p.askServers(key)
	}
	answered := make(chan struct{}, pingsPerProbe)
	for i := range pingsPerProbe {
		p.mu.Lock()
		p.spawn(func() {
			pause(p.ctx, p.timing.RefusalGrace*time.Duration(i)/pingsPerProbe)
			if p.ctx.Err() != nil {
				return
			}
			if _, err := p.list.Load().Ping(key.name, net.UDPAddrFromAddrPort(at)); err == nil {
				answered <- struct{}{}
			}
		})
		p.mu.Unlock()
	}
	for _, wait := range []time.Duration{p.timing.RefusalGrace - p.timing.RefusalGap, p.timing.RefusalGrace} {
		timer := time.NewTimer(time.Until(begun.Add(wait)))
		select {
		case <-answered:
			timer.Stop()
			return
		case <-p.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if !refused() {
			return
		}
	}
	if len(answered) == 0 {
		p.report(r, key)
	}
}

// askServers asks the other servers to look too.
func (p *Pool) askServers(key lifeOf) {
	p.mu.Lock()
	m := message{kind: kindAsk, time: p.tick(), name: key.name, life: key.life, from: p.name}
	var servers []*record
	for _, r := range p.aliveServers(key.name) {
		if r.name != p.name {
			servers = append(servers, r)
		}
	}
	to := addresses(servers)
	p.mu.Unlock()
	p.send(to, m, true)
}

// report tells all that a life of a member is over.
func (p *Pool) report(r *record, key lifeOf) {
	p.mu.Lock()
	if r.meta.life != key.life || r.gone() || p.leaving {
		p.mu.Unlock()
		return
	}
	m := message{kind: kindReport, time: p.tick(), name: key.name, life: key.life, from: p.name}
	p.takeReport(m)
	at := r.addrPort()
	p.mu.Unlock()
	p.logger.Info("a member's gossip port is closed, and it answers no ping", "member", key.name, "address", at)
	p.tellAll(m, true)
}

// takeReport counts a server's word that a life of a member is over, and
// reports whether it was news. The mutex is held.
func (p *Pool) takeReport(m message) bool {
	if m.name == p.name {
		p.contradict(m)
		return false
	}
	r, from := p.table[m.name], p.table[m.from]
	if r == nil || r.meta.life != m.life || !r.answers || m.time <= r.aliveAt ||
		from == nil || !from.isServer() || from.name == m.name {
		return false
	}
	if r.reports[m.from] >= m.time {
		return false
	}
	if r.reports == nil {
		r.reports = map[string]uint64{}
	}
	r.reports[m.from] = m.time
	r.reported = max(r.reported, m.time)
	r.silent = m.kind == kindSilent
	p.judgeReports()
	return true
}

// judgeReports fails the members that enough servers reported: two, or all that
// could. Of one that is reported itself nothing is to be expected. The mutex is
// held.
func (p *Pool) judgeReports() {
	for _, r := range p.table {
		if r.down || len(r.reports) == 0 {
			continue
		}
		could := 0
		for _, s := range p.aliveServers(r.name) {
			if len(s.reports) == 0 || r.reports[s.name] > 0 {
				could++
			}
		}
		if len(r.reports) < min(2, max(1, could)) {
			continue
		}
		r.down = true
		p.settle(r)
		reason := "its process is gone"
		if r.silent {
			reason = "it is silent"
		}
		p.logger.Warn("a member failed: "+reason, "member", r.name, "address", r.addrPort())
	}
}

// receiveSilence takes a server's word that it does not hear a life of a member,
// unless this agent heard it. The mutex is held.
func (p *Pool) receiveSilence(m message) {
	r := p.table[m.name]
	if r == nil || r.meta.life != m.life || m.name == p.name || time.Since(r.heardAt) > p.patience()/2 {
		p.takeReport(m)
		return
	}
	answer := message{kind: kindHeard, time: p.tick(), name: m.name, life: m.life, from: p.name}
	p.spawn(func() { p.tellAll(answer, true) })
}

// takeHeard takes another member's word that it heard a life after all reports
// so far. The mutex is held.
func (p *Pool) takeHeard(m message) bool {
	r := p.table[m.name]
	if r == nil || r.meta.life != m.life {
		return false
	}
	if r.askedAt > 0 && m.time > r.askedAt && m.from != p.name {
		r.askedAt, r.heardAt, r.far = 0, time.Now(), len(r.reports) == 0
	}
	if len(r.reports) == 0 || m.time <= r.reported {
		return false
	}
	r.reports, r.down = nil, false
	r.aliveAt = max(r.aliveAt, r.reported)
	p.settle(r)
	return true
}

// heard takes over that this member itself heard a life of another, by a packet
// that answers one or otherwise. What it returns tells the rest, and is called
// without the mutex, which is held.
func (p *Pool) heard(name string, life uint64, pinged bool) func() {
	r := p.table[name]
	if r == nil || r.meta.life != life || r.name == p.name {
		return func() {}
	}
	r.far = !pinged && (r.far || p.doubted[lifeOf{name, life}] && len(r.reports) == 0)
	r.heardAt, r.askedAt = time.Now(), 0
	if len(r.reports) == 0 {
		return func() {}
	}
	m := message{kind: kindHeard, time: p.tick(), name: name, life: life, from: p.name}
	p.takeHeard(m)
	return func() { p.tellAll(m, true) }
}
