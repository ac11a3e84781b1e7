package gossip

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

var errNotBuilt = errors.New("not built yet")

// Pool is the members of one datacenter, as one of them sees them.
type Pool struct{}

// Open binds the pool's port and begins to answer. The pool is of one member
// until Join, or until [Pool.Run] reaches those of the snapshot.
func Open(cfg Config) (*Pool, error) { return nil, errNotBuilt }

// Run rejoins the members of the snapshot, tries failed ones again and forgets
// those gone for too long, until ctx ends.
func (p *Pool) Run(ctx context.Context) error { return errNotBuilt }

// Close ends the pool without a word to the others. It may be called more than
// once.
func (p *Pool) Close() error { return errNotBuilt }

// Addr returns the address that others are told.
func (p *Pool) Addr() netip.AddrPort { return netip.AddrPort{} }

// Self returns this member.
func (p *Pool) Self() Member { return Member{} }

// Members lists all members that are known, in no promised order. The caller
// may keep the list, but not change the tags.
func (p *Pool) Members() []Member { return nil }

// Subscribe returns a channel that is sent a value after members changed.
// Values may be merged, so the reader looks at all members again.
func (p *Pool) Subscribe() (changed <-chan struct{}, cancel func()) { return nil, func() {} }

// Join exchanges members with those at the addresses. It returns how many
// answered, and the reasons of those who did not.
func (p *Pool) Join(ctx context.Context, addresses []string) (n int, err error) {
	return 0, errNotBuilt
}

// Leave tells the others that this member leaves of its own will, and goes on
// answering until they had time to hear it.
func (p *Pool) Leave(ctx context.Context) error { return errNotBuilt }

// ForceLeave declares that a failed member left; with prune it is no longer
// listed either. A member that is alive contradicts and stays. The error is
// [ErrNoSuchMember] if there is none of that name.
func (p *Pool) ForceLeave(ctx context.Context, name string, prune bool) error { return errNotBuilt }

// SetTags replaces the tags of this member.
func (p *Pool) SetTags(tags map[string]string) error { return errNotBuilt }

// Broadcast sends an event to all members, this one included.
func (p *Pool) Broadcast(kind byte, payload []byte) error { return errNotBuilt }

// RTT returns the last measured round trip to a member.
func (p *Pool) RTT(name string) (time.Duration, bool) { return 0, false }

// Probe looks into the end of the connection that the member with a node ID
// kept to this server. It returns at once.
func (p *Pool) Probe(id string) {}
