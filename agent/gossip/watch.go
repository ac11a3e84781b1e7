package gossip

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"time"
)

// watch has a server ping the members in turn until ctx ends. memberlist's own
// first probe of a member that fell silent comes when chance has it, which may be
// seconds later, and only then does its patience begin.
func (p *Pool) watch(ctx context.Context) {
	if !p.server {
		return
	}
	var round []lifeOf
	pause := time.NewTimer(p.timing.WatchInterval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		p.mu.Lock()
		if len(round) == 0 {
			round = p.watched()
		}
		every := p.timing.WatchInterval
		next := every
		if len(round) > 0 {
			key := round[0]
			round = round[1:]
			next = max(every/time.Duration(p.living()), watchGap)
			p.spawn(func() { p.look(key) })
		}
		p.mu.Unlock()
		pause.Reset(next)
	}
}

// watched are the members that are to be pinged, in a random order. The mutex is
// held.
func (p *Pool) watched() []lifeOf {
	others := p.others()
	if p.leaving || len(others) >= maxDirect {
		return nil
	}
	var out []lifeOf
	for _, r := range others {
		if key := (lifeOf{r.name, r.meta.life}); !p.doubted[key] {
			out = append(out, key)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// look pings a member, and begins to doubt it if it does not answer.
func (p *Pool) look(key lifeOf) {
	sent := time.Now()
	if p.ping(key) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.doubtable(key)
	if r == nil || r.down || r.far || p.doubted[key] || len(p.doubted) >= maxDoubts || r.heardAt.After(sent) {
		return
	}
	p.doubted[key] = true
	p.spawn(func() {
		p.doubt(r, key, sent)
		p.mu.Lock()
		delete(p.doubted, key)
		p.mu.Unlock()
	})
}

// doubtable is the record of a life of which something is to be expected, or nil.
// The mutex is held.
func (p *Pool) doubtable(key lifeOf) *record {
	r := p.table[key.name]
	if p.leaving || r == nil || r.meta.life != key.life || !r.answers || r.status == Left {
		return nil
	}
	return r
}

// ping reports whether a member answers, and takes over that it does.
func (p *Pool) ping(key lifeOf) bool {
	p.mu.Lock()
	r, list := p.doubtable(key), p.list.Load()
	if r == nil || list == nil {
		p.mu.Unlock()
		return false
	}
	at := r.addrPort()
	p.mu.Unlock()
	if _, err := list.Ping(key.name, net.UDPAddrFromAddrPort(at)); err != nil {
		return false
	}
	p.mu.Lock()
	tell := p.heard(key.name, key.life, true)
	p.mu.Unlock()
	tell()
	return true
}

// patience is how long a member may be silent: as long as memberlist takes from
// a probe that is not answered to giving the member up. The mutex is held.
func (p *Pool) patience() time.Duration {
	if p.timing.Patience > 0 {
		return p.timing.Patience
	}
	nodes := math.Max(1, math.Log10(math.Max(1, float64(p.living()))))
	return p.timing.ProbeInterval + time.Duration(float64(p.timing.SuspicionMult)*nodes*float64(p.timing.ProbeInterval))
}

// living is how many members answer, this one included. Those that are gone are
// remembered for days. The mutex is held.
func (p *Pool) living() int { return len(p.others()) + 1 }

// doubt pings a life of a member over and over, after a first ping that was sent
// at since and not answered. Half way it also asks others to do so, the member to
// say something, and for an exchange of state by TCP. If nothing was heard in all
// the time, this server says so.
func (p *Pool) doubt(r *record, key lifeOf, since time.Time) {
	step := p.timing.ProbeTimeout / 2
	p.mu.Lock()
	steps := max(int(p.patience()/step), 4)
	p.mu.Unlock()
	timer := time.NewTimer(step)
	defer timer.Stop()
	for i := 2; i < steps; i++ { // the first ping took two
		p.mu.Lock()
		heard := r.heardAt.After(since) || p.doubtable(key) != r
		if !heard {
			p.spawn(func() { p.ping(key) })
			if i%doubtProbe == doubtProbe/2 {
				// Its process may be gone, and nobody be left who kept a connection to it.
				p.beginProbe(key.name, key.life, true)
			}
		}
		p.mu.Unlock()
		if heard {
			return
		}
		if i == steps/2 {
			p.askAll(r, key)
		}
		begun := time.Now()
		timer.Reset(step)
		select {
		case <-p.ctx.Done():
			return
		case <-timer.C:
		}
		if time.Since(begun) > step+p.timing.ProbeTimeout {
			// It was this agent that stood still: what it did not hear says nothing.
			since, i = time.Now(), 0
		}
	}
	p.reportSilence(r, key, since)
}

// askAll asks some others to ping a life of a member, and the member itself to
// say something, and tries TCP.
func (p *Pool) askAll(r *record, key lifeOf) {
	p.mu.Lock()
	if p.doubtable(key) != r {
		p.mu.Unlock()
		return
	}
	m := message{kind: kindDoubt, time: p.tick(), name: key.name, life: key.life, from: p.name}
	r.askedAt = m.time
	others := p.others()
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	asked := []*record{r}
	for _, other := range others {
		if len(asked) <= doubtAsked && other != r && !other.down {
			asked = append(asked, other)
		}
	}
	at, to, list := r.addrPort(), addresses(asked), p.list.Load()
	// What the exchange brings is heard, as any other is.
	p.spawn(func() { _, _ = list.Join([]string{at.String()}) })
	p.mu.Unlock()
	p.send(to, m, true)
}

// answerDoubt tells a server that asks that this member hears a life of another,
// if it does. The mutex is held.
func (p *Pool) answerDoubt(m message) {
	asker, key := p.table[m.from], lifeOf{m.name, m.life}
	if asker == nil || !asker.isServer() || asker.name == p.name || p.leaving || p.answering >= maxProbes {
		return
	}
	if key.name == p.name && key.life != p.life || key.name != p.name && p.doubtable(key) == nil {
		return
	}
	to := addresses([]*record{asker})
	p.answering++
	p.spawn(func() {
		defer func() {
			p.mu.Lock()
			p.answering--
			p.mu.Unlock()
		}()
		for range doubtPings {
			if p.ctx.Err() != nil {
				return
			}
			if key.name == p.name || p.ping(key) {
				p.mu.Lock()
				answer := message{kind: kindHeard, time: p.tick(), name: key.name, life: key.life, from: p.name}
				p.mu.Unlock()
				p.send(to, answer, true)
				return
			}
		}
	})
}

// reportSilence tells all that a life of a member was not heard, unless it is
// this agent that hears nothing.
func (p *Pool) reportSilence(r *record, key lifeOf, since time.Time) {
	p.mu.Lock()
	if r.heardAt.After(since) || p.doubtable(key) != r {
		p.mu.Unlock()
		return
	}
	others, heard := 0, 0
	for _, other := range p.others() {
		if other != r {
			others++
			if other.heardAt.After(since) {
				heard++
			}
		}
	}
	if others > 0 && heard == 0 {
		p.mu.Unlock()
		p.logger.Debug("heard nothing of any member, so it may be this agent's fault", "member", r.name)
		return
	}
	m := message{kind: kindSilent, time: p.tick(), name: key.name, life: key.life, from: p.name}
	p.takeReport(m)
	at, to := r.addrPort(), addresses(p.others())
	p.mu.Unlock()
	p.logger.Info("a member is silent: it answers no ping, and nobody who was asked hears it",
		"member", key.name, "address", at, "for", time.Since(since).Round(time.Millisecond))
	// It is not gossiped: who hears of it late, after a partition, would believe it.
	p.send(to, m, true)
}
