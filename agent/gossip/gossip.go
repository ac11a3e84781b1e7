package gossip

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"
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

// ErrNoSuchMember says that no member has the name.
var ErrNoSuchMember = errors.New("no such member")

// ErrClosed says that the pool is closed.
var ErrClosed = errors.New("the gossip pool is closed")

// Member is an agent as the pool sees it.
type Member struct {
	Name   string
	ID     string
	Addr   netip.Addr
	Port   uint16
	Tags   map[string]string
	Status Status
	// Since is when this agent learnt of the status.
	Since time.Time
}

// IsServer reports whether the member is a server agent.
func (m *Member) IsServer() bool { return m.Tags["role"] == RoleServer }

// AddrPort returns where the member gossips.
func (m *Member) AddrPort() netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.Port) }

// Config is what a pool needs.
type Config struct {
	// Self is this agent: Name, ID and Tags; Addr and Port are what it
	// advertises. Without an Addr it is that of Bind, or a private one of the
	// machine; without a Port it is the bound one.
	Self Member
	// Bind is where to listen, with UDP and TCP alike. With port 0 the kernel
	// chooses one for both.
	Bind netip.AddrPort
	// Datacenter is the only one whose members are let in.
	Datacenter string
	// Key of 16, 24 or 32 bytes encrypts what is sent. Nil does not.
	Key []byte
	// VerifyIncoming refuses what is not encrypted with the key, and
	// VerifyOutgoing encrypts what is sent. Without a key both mean nothing.
	VerifyIncoming, VerifyOutgoing bool
	// Allowed are the networks that members may be in. None allows all.
	Allowed []netip.Prefix
	// Timing has the intervals. Its zeros mean [DefaultTiming].
	Timing Timing
	// ReconnectTimeout is how long failed members are kept and tried again,
	// unless their own tag rc_tm says otherwise. Zero means 72 hours.
	ReconnectTimeout time.Duration
	// SnapshotPath is the file of the members known last. Empty keeps none.
	SnapshotPath string
	// RejoinAfterLeave joins the members of the file even if this agent left
	// before it ended.
	RejoinAfterLeave bool
	// Filter stands between the pool and the network, for tests. Nil passes all.
	Filter Filter
	// Event is called once for every event that a member broadcast, this one
	// included, one at a time. Nil drops them.
	Event func(kind byte, payload []byte)
	// Lookup returns the addresses of a host name. Nil asks the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Logger gets what is worth reading.
	Logger *slog.Logger
}

// Timing has the intervals of a pool. Zeros mean those of [DefaultTiming].
type Timing struct {
	// GossipInterval is between two packets of news, each of which goes to
	// GossipNodes members.
	GossipInterval time.Duration
	GossipNodes    int
	// ProbeInterval is between two probes of a member, which has ProbeTimeout to
	// answer before IndirectChecks others are asked to probe it.
	ProbeInterval  time.Duration
	ProbeTimeout   time.Duration
	IndirectChecks int
	// SuspicionMult times the probe interval (and the logarithm of the number
	// of members, if above 1) is how long a suspected member may contradict.
	SuspicionMult int
	// RetransmitMult times the logarithm of the number of members is how often
	// news is sent on.
	RetransmitMult int
	// PushPullInterval is between two exchanges of all state with one member.
	PushPullInterval time.Duration
	// StreamTimeout bounds each such exchange.
	StreamTimeout time.Duration
	// LeaveTimeout bounds the announcement of a leave, and LeaveSettle how long the
	// pool then goes on answering until others said that they took it over.
	LeaveTimeout time.Duration
	LeaveSettle  time.Duration
	// ReapInterval is between two looks at who has been gone for too long.
	ReapInterval time.Duration
	// ReconnectInterval is between two tries to reach a failed member.
	ReconnectInterval time.Duration
	// LeftTimeout is how long those who left stay listed.
	LeftTimeout time.Duration
	// ReclaimTime is how long the name of a failed member is kept for it.
	ReclaimTime time.Duration
	// RefusalGrace is how long a member whose connection broke may take to
	// listen again, and RefusalGap is between the two refusals that end it.
	RefusalGrace time.Duration
	RefusalGap   time.Duration
	// WatchInterval is in what time a server pings every member by itself; zero is
	// half the probe interval. Patience is how long one that answers nothing, and
	// that nobody else hears, is given; zero is as long as it has at best if the
	// ordinary probes find it, a probe and a suspicion.
	WatchInterval time.Duration
	Patience      time.Duration
}

// DefaultTiming is for a local network.
func DefaultTiming() Timing {
	return Timing{
		GossipInterval: 200 * time.Millisecond, GossipNodes: 3,
		ProbeInterval: time.Second, ProbeTimeout: 500 * time.Millisecond, IndirectChecks: 3,
		SuspicionMult: 4, RetransmitMult: 4,
		PushPullInterval: 30 * time.Second, StreamTimeout: 10 * time.Second,
		LeaveTimeout: 5 * time.Second, LeaveSettle: 2 * time.Second,
		ReapInterval: 15 * time.Second, ReconnectInterval: 30 * time.Second,
		LeftTimeout: 24 * time.Hour, ReclaimTime: 30 * time.Second,
		RefusalGrace: time.Second, RefusalGap: 300 * time.Millisecond,
	}
}

// Filter stands between a pool and the network, for tests. Its methods are
// called by many at once.
type Filter interface {
	// Packet says what becomes of a packet: it is sent once for each duration
	// returned, that much later. None loses it.
	Packet(from, to netip.AddrPort) []time.Duration
	// Stream says why a stream that from opened to to is cut, or nil. It is
	// asked at its opening and at each read and write.
	Stream(from, to netip.AddrPort) error
}

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
