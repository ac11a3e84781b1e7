package gossip

import "time"

// ForgetAfter is how long after it failed a member is forgotten by this agent: as
// long as the member's own tag says, or else this agent's configuration.
func (p *Pool) ForgetAfter(m *Member) time.Duration {
	r := record{meta: meta{tags: m.Tags}}
	return r.failedTimeout(p.reconnectTimeout)
}
