package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// errForeign says that a member belongs to another cluster.
var errForeign = errors.New("two clusters cannot become one")

// foreign reports whether tags are those of a member of another cluster.
func (p *Pool) foreign(tags map[string]string) bool {
	ours, theirs := p.ownCluster(), tags[ClusterTag]
	return ours != "" && theirs != "" && ours != theirs
}

// follows reports whether this client is about to go over to the cluster of a server,
// having no other. Then nobody has to do anything, and no log says so. The mutex is held.
func (p *Pool) follows(c candidate) bool {
	if p.server || c.meta.tags["role"] != RoleServer || len(p.aliveServers(c.name)) > 0 {
		return false
	}
	r := p.table[c.name]
	return r == nil || r.status != Alive || r.addrPort() == c.at
}

// howToMove says what has to be done for a member of another cluster to become one of
// this one.
func howToMove(tags map[string]string) string {
	if tags["role"] == RoleClient {
		return textMove + "; a client comes over by itself once no server of its cluster is left"
	}
	return textMove
}

// textMove is how any agent can be moved to another cluster.
const textMove = "To move an agent, stop it and start it with an empty data directory"

// partAll drops the members that are known to belong to another cluster than this
// one: their pool and this one met before either knew. The mutex is held.
func (p *Pool) partAll() {
	for _, r := range p.table {
		if r.name != p.name && p.foreign(r.meta.tags) {
			p.part(r, r.meta)
		}
	}
}

// part drops a member, whose tags now say that it belongs to another cluster. It
// still has partGrace to hear the same of this one; then nothing goes to or comes
// from it any more, until memberlist has forgotten it as well. The mutex is held.
func (p *Pool) part(r *record, m meta) {
	args := []any{"member", r.name, "address", r.addrPort(), "cluster", m.tags[ClusterTag], "own_cluster", p.ownCluster()}
	if p.follows(candidate{name: r.name, at: r.addrPort(), meta: r.meta}) {
		p.logger.Debug("dropped the last server until this agent belongs to its cluster", args...)
	} else {
		p.logger.Warn("dropped a gossip member: it belongs to another cluster, and two clusters cannot become one. "+howToMove(r.meta.tags), args...)
	}
	at, to := r.addrPort(), addresses([]*record{r})
	// Its friends do not pass on what they refuse, so gossip alone may miss it.
	word := message{kind: kindCluster, time: p.tick(), name: p.name, life: p.life, from: p.ownCluster()}
	key, now := lifeOf{r.name, m.life}, time.Now()
	p.parted[key] = now
	if len(p.lost) < maxLost {
		p.lost[at] = dropped{now, r.name, m.tags[ClusterTag]}
	}
	p.forget(r)
	p.spawn(func() {
		p.send(to, word, true)
		pause(p.ctx, partGrace)
		p.mu.Lock()
		defer p.mu.Unlock()
		if since, still := p.parted[key]; still && since.Equal(now) && !p.anyoneAt(at) {
			p.transport.shunned.add(at, time.Now().Add(shunFor))
		}
	})
}

// dropped is a member of another cluster that was a member here for a while.
type dropped struct {
	at            time.Time
	name, cluster string
}

// errDropped is the error of a join of such a member.
func (p *Pool) errDropped(at netip.AddrPort, d dropped) error {
	return fmt.Errorf("%q at %s: it belongs to cluster %s, this agent to cluster %s: %w. %s",
		d.name, at, d.cluster, p.ownCluster(), errForeign, textMove)
}

// DroppedSince says of a member that was dropped since a time, because it belongs to
// another cluster, that two clusters cannot become one. It is nil if there is none.
func (p *Pool) DroppedSince(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, d := range p.lost {
		if !d.at.Before(t) {
			return p.errDropped(at, d)
		}
	}
	return nil
}

// anyoneAt reports whether a member that answers is at an address. The mutex is held.
func (p *Pool) anyoneAt(at netip.AddrPort) bool {
	for _, r := range p.table {
		if r.answers && r.addrPort() == at {
			return true
		}
	}
	return false
}

// moved has this member, which belonged to a cluster or to none before, begin anew
// with whom it holds for strangers. The mutex is held.
func (p *Pool) moved(before string) {
	clear(p.parted)
	p.transport.shunned.clear()
	p.spawn(func() {
		// They may be about to learn the same: only then they are strangers.
		pause(p.ctx, partGrace)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.partAll()
	})
	now := time.Now()
	if before != "" {
		p.movingUntil = now.Add(movingLimit)
	}
	if now.Before(p.movingUntil) {
		p.seeks++
		seek := p.seeks
		p.spawn(func() { p.seek(seek) })
	}
}

// seek exchanges state with those who may belong to this member's new cluster, some
// times, until it changes again: they may have dropped this one for the old.
func (p *Pool) seek(number uint64) {
	wait := seekFirst
	for range seekTries {
		pause(p.ctx, wait+rand.N(wait/4))
		wait *= 2
		p.mu.Lock()
		over := p.seeks != number || p.leaving || p.ctx.Err() != nil
		targets := p.mayBeOurs()
		p.mu.Unlock()
		if over {
			return
		}
		for _, at := range targets {
			ctx, cancel := context.WithTimeout(p.ctx, seekLimit)
			if err := p.joinOne(ctx, at); err != nil {
				p.logger.Debug("cannot exchange state with a member of the new cluster", "address", at, "error", err)
			}
			cancel()
		}
	}
}

// mayBeOurs are some addresses of servers and of members that were dropped. The
// mutex is held.
func (p *Pool) mayBeOurs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, r := range p.table {
		if r.name != p.name && r.isServer() && r.status != Left {
			out = append(out, r.addrPort())
		}
	}
	for at := range p.lost {
		out = append(out, at)
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), seekEach)]
}

// replacedBy is the record of the life that a candidate of another cluster has
// taken the place of, or nil: it has its name and its address. The mutex is held.
func (p *Pool) replacedBy(c candidate) *record {
	r := p.table[c.name]
	if r == nil || r.name == p.name || !r.answers || r.meta.life == c.meta.life || r.addrPort() != c.at || !p.foreign(c.meta.tags) {
		return nil
	}
	return r
}

// meetNext looks whether a candidate of another cluster has taken the place of a
// member. Who tells of it may be behind. The mutex is held.
func (p *Pool) meetNext(c candidate) {
	if r := p.replacedBy(c); r != nil {
		p.meet(r, 0)
	}
}

// meet exchanges state with whoever is at a member's address, within a while: a next
// life of the member is let in by that, or turns out to belong to another cluster.
// The mutex is held.
func (p *Pool) meet(r *record, within time.Duration) {
	at := r.addrPort()
	if _, asked := p.meeting[at]; asked || len(p.meeting) >= maxProbes || p.leaving || r.name == p.name || !r.answers {
		return
	}
	p.meeting[at] = true
	p.spawn(func() {
		if within > 0 {
			pause(p.ctx, rand.N(within))
		}
		if _, err := p.list.Load().Join([]string{at.String()}); err != nil {
			p.logger.Debug("a member is not who it was", "member", r.name, "address", at, "error", err)
		}
		p.mu.Lock()
		p.meeting[at] = false
		p.mu.Unlock()
		pause(p.ctx, p.timing.ProbeInterval) // before it is asked again
		p.mu.Lock()
		delete(p.meeting, at)
		p.mu.Unlock()
	})
}

// endReplaced ends the lives whose place one of another cluster has taken, as that
// one says itself in an exchange of state. memberlist goes on believing in the old
// life for as long as the new one answers to its name.
func (p *Pool) endReplaced(nodes []*memberlist.Node) {
	for _, n := range nodes {
		if n.State == memberlist.StateLeft || n.State == memberlist.StateDead {
			continue
		}
		c, err := candidateOf(n)
		if err != nil {
			continue
		}
		p.mu.Lock()
		if r := p.replacedBy(c); r != nil && p.meeting[c.at] {
			p.end(r, c)
		} else if r != nil {
			p.meet(r, 0)
		}
		p.mu.Unlock()
	}
}

// end takes over that a life is over, and has the others look. The mutex is held.
func (p *Pool) end(r *record, c candidate) {
	r.answers, r.over = false, true
	r.reports, r.down = nil, false
	p.settle(r)
	p.logger.Warn("a member failed: it was started again as one of another cluster",
		"member", r.name, "address", r.addrPort(), "cluster", c.meta.tags[ClusterTag], "own_cluster", p.ownCluster())
	m := message{kind: kindAsk, time: p.tick(), name: r.name, life: r.meta.life, from: p.name}
	if to := addresses(p.others()); len(to) <= maxDirect {
		p.spawn(func() { p.send(to, m, true) })
	}
}

// revive takes back that a life is over, because that very life was heard. The
// mutex is held.
func (p *Pool) revive(name string, life uint64) {
	if r := p.table[name]; r != nil && r.meta.life == life && r.over {
		r.answers, r.over = true, false
		p.settle(r)
	}
}

// beginMeet looks whether a life is over, as a member asks that found it so. Servers
// look by other means. The mutex is held.
func (p *Pool) beginMeet(m message) {
	if r := p.table[m.name]; !p.server && r != nil && r.meta.life == m.life {
		p.meet(r, meetSpread)
	}
}

// partForeign drops the member that a candidate is, if it is one of another
// cluster that was let in, and reports whether it was, now or lately. The mutex is
// held.
func (p *Pool) partForeign(c candidate) bool {
	if p.partedFrom(c) {
		return true
	}
	if r := p.table[c.name]; p.foreign(c.meta.tags) && r != nil && r.meta.life == c.meta.life && c.name != p.name {
		p.part(r, c.meta)
		return true
	}
	return false
}

// receiveCluster takes a member's word which cluster it belongs to. The mutex is
// held.
func (p *Pool) receiveCluster(m message) {
	r := p.table[m.name]
	if r == nil || r.meta.life != m.life || m.name == p.name {
		return
	}
	said := meta{life: m.life, tags: map[string]string{ClusterTag: m.from}}
	if p.foreign(said.tags) {
		p.part(r, said)
	}
}

// partedFrom reports whether a candidate is one that was dropped lately. Others
// may still tell of it by tags that name no cluster. The mutex is held.
func (p *Pool) partedFrom(c candidate) bool {
	key := lifeOf{c.name, c.meta.life}
	_, lately := p.parted[key]
	if own := p.ownCluster(); lately && own != "" && c.meta.tags[ClusterTag] == own {
		// It has come over to this cluster, as a client does whose servers are gone.
		delete(p.parted, key)
		p.transport.shunned.forgive(c.at)
		return false
	}
	return lately
}

// shunned are the addresses of members that were dropped, each for a while.
type shunned struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

// add shuns an address.
func (s *shunned) add(at netip.AddrPort, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil || len(s.until) >= maxMembers {
		s.until = map[netip.AddrPort]time.Time{}
	}
	s.until[at] = until
}

// forgive undoes that: a member of this cluster may come to be at the address.
func (s *shunned) forgive(at netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, at)
}

// clear forgives all.
func (s *shunned) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.until)
}

// has reports whether an address is shunned.
func (s *shunned) has(at netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[at]
	if ok && time.Now().After(until) {
		delete(s.until, at)
		ok = false
	}
	return ok
}
