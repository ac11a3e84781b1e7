package gossip

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// errForeign says that a member belongs to another cluster.
var errForeign = errors.New("two clusters cannot become one")

// foreign reports whether tags are those of a member of another cluster.
func (p *Pool) foreign(tags map[string]string) bool {
	ours, theirs := p.ownCluster(), tags[ClusterTag]
	return ours != "" && theirs != "" && ours != theirs
}

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
	p.logger.Warn("dropped a gossip member: it belongs to another cluster, and two clusters cannot become one. "+
		"To move an agent, stop it and start it with an empty data directory",
		"member", r.name, "address", r.addrPort(), "cluster", m.tags[ClusterTag], "own_cluster", p.ownCluster())
	at, to := r.addrPort(), addresses([]*record{r})
	// Its friends do not pass on what they refuse, so gossip alone may miss it.
	word := message{kind: kindCluster, time: p.tick(), name: p.name, life: p.life, from: p.ownCluster()}
	p.parted[lifeOf{r.name, m.life}] = time.Now()
	p.forget(r)
	p.spawn(func() {
		p.send(to, word, true)
		pause(p.ctx, partGrace)
		p.transport.shunned.add(at, time.Now().Add(shunFor))
	})
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
	_, lately := p.parted[lifeOf{c.name, c.meta.life}]
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
