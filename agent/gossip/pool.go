package gossip

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Pool is the members of one datacenter, as one of them sees them.
type Pool struct {
	ran     atomic.Bool            // whether Run was called
	cluster atomic.Pointer[string] // as ClusterTag says

	name, id, datacenter string
	life                 uint64
	addr                 netip.AddrPort
	server               bool
	versions             versions
	timing               Timing
	reconnectTimeout     time.Duration
	snapshot             string
	rejoinAfterLeave     bool
	lookup               func(ctx context.Context, host string) ([]netip.Addr, error)
	event                func(kind byte, payload []byte)
	logger               *slog.Logger
	limit                *limiter
	transport            *transport
	queue                *memberlist.TransmitLimitedQueue
	size                 atomic.Int64 // members, for the queue, which asks under its own lock
	list                 atomic.Pointer[memberlist.Memberlist]
	events               chan message

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  sync.WaitGroup
	ending sync.Mutex // Leave, SetTags and Close, one at a time
	closed bool
	left   bool

	mu            sync.Mutex
	selfMeta      []byte
	table         map[string]*record
	early         map[lifeOf]early
	clock         uint64
	seen          eventLog
	probing       map[lifeOf]struct{}
	parted        map[lifeOf]time.Time       // members of another cluster that were dropped, and when
	lost          map[netip.AddrPort]dropped // where they were
	meeting       map[netip.AddrPort]bool    // who is asked whether a life is over: true until the answer is there
	movingUntil   time.Time                  // this member has left a cluster, and may come to another
	seeks         uint64                     // how often it began to look for those of its new cluster
	doubted       map[lifeOf]bool            // by this server, which does not hear them
	answering     int                        // questions of servers about members that they doubt
	watchers      map[chan struct{}]struct{}
	known         []snapshotMember // of the snapshot, until it is clear who of them is there
	awaited       *takers          // while this member leaves
	recent        bool             // the snapshot is so young that those who left since are still told of
	dirty         bool
	leaving       bool
	reassertUntil time.Time
	catchUps      []time.Time // when to exchange state once more
	rejection     error
	refused       error // of the last round of joins, if somebody refused this member
}

// Open binds the pool's port and begins to answer. The pool is of one member
// until Join, or until [Pool.Run] reaches those of the snapshot.
func Open(cfg Config) (*Pool, error) {
	p, err := newPool(cfg)
	if err != nil {
		return nil, err
	}
	tcp, udp, err := bind(cfg.Bind)
	if err != nil {
		return nil, err
	}
	if p.addr, err = advertised(cfg, udp.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		_, _ = tcp.Close(), udp.Close()
		return nil, err
	}
	p.transport = &transport{
		tcp: tcp, udp: udp, advertise: p.addr, filter: cfg.Filter, allowed: cfg.Allowed,
		sealed: len(cfg.Key) > 0 && cfg.VerifyIncoming, logger: slog.New(limitedHandler{p.logger.Handler(), p.limit}),
	}
	if !p.transport.allows(p.addr.Addr()) {
		_, _ = tcp.Close(), udp.Close()
		return nil, fmt.Errorf("cannot open the gossip pool: its own address %s is in no network that serf_allowed_cidrs_lan names", p.addr.Addr())
	}
	p.restore()
	p.transport.start()
	list, err := memberlist.Create(p.listConfig(cfg))
	if err != nil {
		_ = p.transport.Shutdown()
		return nil, fmt.Errorf("cannot open the gossip pool: %w", err)
	}
	p.list.Store(list)
	p.group.Go(p.tellEvents)
	return p, nil
}

func newPool(cfg Config) (*Pool, error) {
	if cfg.Self.Name == "" || len(cfg.Self.Name) > maxName || len(cfg.Self.ID) > maxName || cfg.Self.ID == "" {
		return nil, fmt.Errorf("cannot open the gossip pool: the name %q has %d bytes and the ID %q %d, 1 to %d are possible",
			cfg.Self.Name, len(cfg.Self.Name), cfg.Self.ID, len(cfg.Self.ID), maxName)
	}
	if n := len(cfg.Key); n != 0 && n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("cannot open the gossip pool: the key has %d bytes, 16, 24 and 32 are possible", n)
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var life [8]byte
	_, _ = rand.Read(life[:])
	p := &Pool{
		name: cfg.Self.Name, id: cfg.Self.ID, datacenter: cfg.Datacenter, life: binary.BigEndian.Uint64(life[:]),
		timing: cfg.Timing.filled(), reconnectTimeout: cfg.ReconnectTimeout, snapshot: cfg.SnapshotPath,
		rejoinAfterLeave: cfg.RejoinAfterLeave, lookup: cfg.Lookup, event: cfg.Event, logger: logger, limit: &limiter{},
		events: make(chan message, maxEventQueue), table: map[string]*record{}, early: map[lifeOf]early{},
		probing: map[lifeOf]struct{}{}, doubted: map[lifeOf]bool{}, parted: map[lifeOf]time.Time{},
		lost: map[netip.AddrPort]dropped{}, meeting: map[netip.AddrPort]bool{}, watchers: map[chan struct{}]struct{}{},
	}
	if p.reconnectTimeout <= 0 {
		p.reconnectTimeout = 72 * time.Hour
	}
	if p.lookup == nil {
		p.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	p.queue = &memberlist.TransmitLimitedQueue{
		NumNodes:       func() int { return max(int(p.size.Load()), 1) },
		RetransmitMult: p.timing.RetransmitMult,
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	tags := p.ownTags(cfg.Self.Tags)
	var err error
	if p.versions, err = versionsOf(tags); err != nil {
		return nil, fmt.Errorf("cannot open the gossip pool: %w", err)
	}
	m := meta{life: p.life, tags: tags}
	if p.selfMeta, err = m.encode(); err != nil {
		return nil, err
	}
	if err := p.fits(m); err != nil {
		return nil, fmt.Errorf("cannot open the gossip pool: this agent would be refused: %w", err)
	}
	p.server = tags["role"] == RoleServer
	return p, nil
}

// ownTags returns the tags of this member with those that every member has.
func (p *Pool) ownTags(tags map[string]string) map[string]string {
	out := map[string]string{"role": RoleClient, "vsn": "2", "vsn_min": "2", "vsn_max": "3"}
	maps.Copy(out, tags)
	out["dc"], out["id"] = p.datacenter, p.id
	return out
}

// filled returns the timing with the defaults for its zeros.
func (t Timing) filled() Timing {
	d := DefaultTiming()
	for _, pair := range [][2]*time.Duration{
		{&t.GossipInterval, &d.GossipInterval}, {&t.ProbeInterval, &d.ProbeInterval}, {&t.ProbeTimeout, &d.ProbeTimeout},
		{&t.PushPullInterval, &d.PushPullInterval}, {&t.StreamTimeout, &d.StreamTimeout}, {&t.LeaveTimeout, &d.LeaveTimeout},
		{&t.LeaveSettle, &d.LeaveSettle}, {&t.ReapInterval, &d.ReapInterval}, {&t.ReconnectInterval, &d.ReconnectInterval},
		{&t.LeftTimeout, &d.LeftTimeout}, {&t.ReclaimTime, &d.ReclaimTime}, {&t.RefusalGrace, &d.RefusalGrace},
		{&t.RefusalGap, &d.RefusalGap},
	} {
		if *pair[0] <= 0 {
			*pair[0] = *pair[1]
		}
	}
	if t.WatchInterval <= 0 {
		t.WatchInterval = t.ProbeInterval / 2
	}
	for _, pair := range [][2]*int{
		{&t.GossipNodes, &d.GossipNodes}, {&t.IndirectChecks, &d.IndirectChecks},
		{&t.SuspicionMult, &d.SuspicionMult}, {&t.RetransmitMult, &d.RetransmitMult},
	} {
		if *pair[0] <= 0 {
			*pair[0] = *pair[1]
		}
	}
	return t
}

// advertised returns the address that others are told.
func advertised(cfg Config, bound netip.AddrPort) (netip.AddrPort, error) {
	addr, port := cfg.Self.Addr.Unmap(), cfg.Self.Port
	if port == 0 {
		port = bound.Port()
	}
	if !addr.IsValid() {
		addr = bound.Addr().Unmap()
	}
	if addr.IsUnspecified() {
		var err error
		if addr, err = privateAddr(); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(addr.WithZone(""), port), nil
}

// privateAddr returns an address of this machine that others may know.
func privateAddr() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot find an address of this machine to advertise: %w", err)
	}
	var other netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		if addr = addr.Unmap(); !ok || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
			continue
		}
		if addr.IsPrivate() && addr.Is4() {
			return addr, nil
		}
		if !other.IsValid() {
			other = addr
		}
	}
	if !other.IsValid() {
		return netip.Addr{}, errors.New("cannot find an address of this machine to advertise: give one")
	}
	return other, nil
}

func (p *Pool) listConfig(cfg Config) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = p.name
	c.Transport = p.transport
	c.BindAddr, c.BindPort = p.addr.Addr().String(), int(p.addr.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.ProtocolVersion = ProtocolCur
	c.DelegateProtocolVersion, c.DelegateProtocolMin, c.DelegateProtocolMax = DelegateCur, DelegateMin, DelegateMax
	c.TCPTimeout = p.timing.StreamTimeout
	c.IndirectChecks = p.timing.IndirectChecks
	c.RetransmitMult = p.timing.RetransmitMult
	c.SuspicionMult = p.timing.SuspicionMult
	c.SuspicionMaxTimeoutMult = suspicionMax
	c.PushPullInterval = p.timing.PushPullInterval
	c.ProbeInterval, c.ProbeTimeout = p.timing.ProbeInterval, p.timing.ProbeTimeout
	c.GossipInterval, c.GossipNodes = p.timing.GossipInterval, p.timing.GossipNodes
	c.GossipToTheDeadTime = p.timing.PushPullInterval
	c.DeadNodeReclaimTime = 1 // names are kept by admit
	c.EnableCompression = false
	c.UDPBufferSize = packetSize
	if len(cfg.Key) > 0 {
		c.SecretKey = slices.Clone(cfg.Key)
		c.GossipVerifyIncoming, c.GossipVerifyOutgoing = cfg.VerifyIncoming, cfg.VerifyOutgoing
	}
	for _, prefix := range cfg.Allowed {
		prefix = prefix.Masked()
		c.CIDRsAllowed = append(c.CIDRsAllowed, net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	d := delegate{p}
	c.Delegate, c.Events, c.Conflict, c.Merge, c.Ping, c.Alive = d, d, d, d, d, d
	c.Logger = newLibraryLog(p.logger, p.limit)
	return c
}

// suspicionMax times the suspicion time is how long a suspected member has if
// no other suspects it too.
const suspicionMax = 1

// Close ends the pool without a word to the others. It may be called more than
// once.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.cancel() // nothing is spawned after it
	p.mu.Unlock()
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	err := p.list.Load().Shutdown()
	p.group.Wait()
	if p.ran.Load() {
		// A pool that was never run belongs to an agent that refused to start: it
		// leaves the file as it was.
		p.saveIfDirty()
	}
	return err
}

// Addr returns the address that others are told.
func (p *Pool) Addr() netip.AddrPort { return p.addr }

// Self returns this member.
func (p *Pool) Self() Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.table[p.name].member()
}

// Members lists all members that are known, in no promised order. The caller
// may keep the list, but not change the tags.
func (p *Pool) Members() []Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Member, 0, len(p.table))
	for _, r := range p.table {
		if !r.hidden() {
			out = append(out, r.member())
		}
	}
	return out
}

// Subscribe returns a channel that is sent a value after members changed.
// Values may be merged, so the reader looks at all members again.
func (p *Pool) Subscribe() (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[c] = struct{}{}
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, c)
	}
}

// RTT returns the last measured round trip to a member.
func (p *Pool) RTT(name string) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.table[name]
	if r == nil || r.rtt <= 0 {
		return 0, false
	}
	return r.rtt, true
}

// selfCandidate is this member as others see it. The mutex is held.
func (p *Pool) selfCandidate() candidate {
	m, _ := decodeMeta(p.selfMeta)
	return candidate{name: p.name, at: p.addr, meta: m}
}

// SetTags replaces the tags of this member.
func (p *Pool) SetTags(tags map[string]string) error {
	m := meta{life: p.life, tags: p.ownTags(tags)}
	raw, err := m.encode()
	before, cluster := p.ownCluster(), tags[ClusterTag]
	if err == nil {
		p.cluster.Store(&cluster)
		err = p.fits(m)
	}
	if err != nil {
		return fmt.Errorf("cannot set the tags: %w", err)
	}
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.left {
		return nil // nobody listens to it any more
	}
	p.mu.Lock()
	p.selfMeta = raw
	if before != cluster {
		p.moved(before)
	}
	p.mu.Unlock()
	// An error says that the others were not told yet, which goes on anyway.
	if err := p.list.Load().UpdateNode(tagsLimit); err != nil {
		p.logger.Debug("the new tags are still on their way", "error", err)
	}
	return nil
}

// Leave tells the others that this member leaves of its own will, and returns as
// soon as all living servers said that they took it over, or any member if there
// is no server. It waits for that no longer than [Timing].LeaveSettle, and its
// error says if nobody said so.
func (p *Pool) Leave(ctx context.Context) error {
	p.ending.Lock()
	defer p.ending.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case p.left:
		return nil
	}
	p.left = true
	ctx, cancel := context.WithTimeout(ctx, p.timing.LeaveSettle)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	p.announce(leaveOwn)
	p.saveIfDirty()
	pause(ctx, min(p.timing.GossipInterval/4, directGap/2))
	p.mu.Lock()
	awaited := p.newTakers()
	p.awaited = awaited
	others := len(awaited.who)
	p.mu.Unlock()
	p.announce(leaveOwn | leaveFinal)
	announced := p.list.Load().Leave(min(p.timing.LeaveTimeout, p.timing.LeaveSettle))
	if others == 0 {
		return nil
	}
	select {
	case <-awaited.done:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited = nil
	if awaited.heard == 0 {
		return errors.Join(fmt.Errorf("cannot be sure that others heard that this member leaves: none of %d said so within %s",
			others, p.timing.LeaveSettle), announced)
	}
	return nil
}

// HeardLately reports whether anything was heard of any other member since about
// when [Pool.Leave] began, if that ended just now.
func (p *Pool) HeardLately() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.table {
		if r.name != p.name && time.Since(r.heardAt) < p.timing.LeaveSettle+heardProbes*p.timing.ProbeInterval {
			return true
		}
	}
	return false
}

// announce tells all members of this one's leave.
func (p *Pool) announce(flags byte) {
	p.mu.Lock()
	p.leaving = true
	m := message{kind: kindLeave, time: p.tick(), name: p.name, life: p.life, flags: flags}
	p.takeLeave(p.table[p.name], m)
	p.mu.Unlock()
	p.tellAll(m, true)
}

// pause waits, or less if the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ForceLeave declares that a failed member left; with prune it is no longer
// listed either. A member that is alive contradicts and stays. The error is
// [ErrNoSuchMember] if there is none of that name.
func (p *Pool) ForceLeave(ctx context.Context, name string, prune bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	p.mu.Lock()
	r := p.table[name]
	if r == nil || r.hidden() {
		p.mu.Unlock()
		return fmt.Errorf("cannot force %q to leave: %w", name, ErrNoSuchMember)
	}
	var flags byte
	if prune {
		flags = leavePrune
	}
	if name == p.name || r.leaves() && r.flags|flags == r.flags {
		p.mu.Unlock()
		return nil
	}
	m := message{kind: kindLeave, time: p.tick(), name: name, life: r.meta.life, flags: flags | r.flags&leaveOwn}
	p.takeLeave(r, m)
	if prune {
		p.changed()
	}
	p.mu.Unlock()
	p.tellAll(m, true)
	return nil
}

// others returns the members that may hear this one. The mutex is held.
func (p *Pool) others() []*record {
	out := make([]*record, 0, len(p.table))
	for _, r := range p.table {
		if r.name != p.name && r.answers && r.status != Left {
			out = append(out, r)
		}
	}
	return out
}
