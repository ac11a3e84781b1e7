// Package gossip knows who takes part in the cluster. Today the only pool is
// [Alone], of the agent itself; a pool that speaks to others will have the same
// two methods.
package gossip

import (
	"maps"
	"net/netip"
	"slices"
)

// Status is what is held of a member. The numbers are those that clients read.
type Status int

// What is held of members: nothing, that they answer, that they are about to
// leave, that they left, or that they went without a word.
const (
	None    Status = 0
	Alive   Status = 1
	Leaving Status = 2
	Left    Status = 3
	Failed  Status = 4
)

// String returns the word that people read.
func (s Status) String() string {
	switch s {
	case Alive:
		return "alive"
	case Leaving:
		return "leaving"
	case Left:
		return "left"
	case Failed:
		return "failed"
	default:
		return "none"
	}
}

// Versions of the protocols that members tell of each other. They are those of
// the interface that clients know, not of any wire.
const (
	ProtocolMin = 1
	ProtocolMax = 5
	ProtocolCur = 2
	DelegateMin = 2
	DelegateMax = 5
	DelegateCur = 4
)

// Roles of members, as the value of their tag "role".
const (
	RoleServer = "consul"
	RoleClient = "node"
)

// Member is an agent as the pool sees it.
type Member struct {
	Name   string
	ID     string
	Addr   netip.Addr
	Port   uint16
	Tags   map[string]string
	Status Status
}

// IsServer reports whether the member is a server agent.
func (m *Member) IsServer() bool { return m.Tags["role"] == RoleServer }

// Alone is a pool of one agent, which is always alive.
type Alone struct {
	self Member
}

// NewAlone returns the pool of self.
func NewAlone(self Member) *Alone {
	self.Tags = maps.Clone(self.Tags)
	self.Status = Alive
	return &Alone{self: self}
}

// Members lists the members of the pool, in no promised order. The caller may
// keep the list.
func (a *Alone) Members() []Member { return slices.Clone([]Member{a.self}) }

// Changed is sent a value after the members have changed. Values may be merged,
// so the reader looks at all members again. A pool of one never changes.
func (a *Alone) Changed() <-chan struct{} { return nil }
