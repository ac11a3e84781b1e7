package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/leader"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// memberFile is where the members known last are kept, below the data directory.
var memberFile = filepath.Join("serf", "local.snapshot")

// openPool joins nothing yet, but listens for those who join.
func (a *Agent) openPool() error {
	c := a.config
	cfg := gossip.Config{
		Self:           selfMember(c, a.id, a.serverPort()),
		Bind:           netip.AddrPortFrom(c.SerfLANAddr, uint16(max(c.Ports.SerfLAN, 0))),
		Datacenter:     c.Datacenter,
		Key:            c.Encrypt,
		VerifyIncoming: c.EncryptVerifyIncoming, VerifyOutgoing: c.EncryptVerifyOutgoing,
		Allowed: c.SerfLANAllowed,
		Timing: gossip.Timing{
			GossipInterval: c.GossipLAN.GossipInterval, GossipNodes: c.GossipLAN.GossipNodes,
			ProbeInterval: c.GossipLAN.ProbeInterval, ProbeTimeout: c.GossipLAN.ProbeTimeout,
			SuspicionMult: c.GossipLAN.SuspicionMult, RetransmitMult: c.GossipLAN.RetransmitMult,
			ReconnectInterval: a.network.Reconnect,
		},
		ReconnectTimeout: c.ReconnectTimeout,
		RejoinAfterLeave: c.RejoinAfterLeave,
		Filter:           a.network.Gossip,
		Event:            a.heard,
		Logger:           a.part("gossip"),
	}
	if a.network.GossipAddr.IsValid() {
		cfg.Bind = a.network.GossipAddr
	}
	if c.DataDir != "" {
		cfg.SnapshotPath = filepath.Join(c.DataDir, memberFile)
	}
	p, err := gossip.Open(cfg)
	if err != nil {
		return fmt.Errorf("cannot take part in gossip (see ports.serf_lan): %w", err)
	}
	a.undo.push("gossip pool", p.Close)
	a.pool = p
	a.router = newRouter(a.id, c.Datacenter, ours{p, a.cluster}, time.Now)
	return nil
}

// openCalls makes what other servers are asked through.
func (a *Agent) openCalls() error {
	a.rpcClient = rpc.NewClient(rpc.ClientConfig{
		ID: a.id, Cluster: a.cluster, Resolve: a.resolve, Dial: a.network.Dial, Logger: a.part("client.rpc"),
	})
	a.undo.push("calls to other agents", a.rpcClient.Close)
	a.remote = &remote{self: a.id, calls: a.rpcClient, router: a.router, hold: a.config.RPCHoldTimeout}
	a.remote.follow(a.config)
	a.router.probe = a.remote.hasLeader
	a.uploads = &uploads{a: a}
	a.undo.push("archives under way", a.uploads.close)
	return nil
}

// cluster is the ID of this agent's cluster, or zeros while it is not known. A
// client agent's is that of the servers that it found first.
func (a *Agent) cluster() [16]byte {
	if a.machine == nil {
		if id := a.joined.Load(); id != nil {
			return *id
		}
		return [16]byte{}
	}
	return a.machine.View().Cluster()
}

// nameCluster tells the other members which cluster this agent belongs to, once it
// is known, so that no two clusters grow into one.
func (a *Agent) nameCluster(ctx context.Context) error {
	changed, cancel := a.pool.Subscribe()
	defer cancel()
	look := time.NewTicker(clusterLook)
	defer look.Stop()
	for {
		if a.machine == nil {
			a.learnCluster()
		}
		a.tellCluster()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		case <-a.naming.due:
		}
	}
}

// clusterTags returns tags with the one that names a cluster.
func clusterTags(tags map[string]string, id [16]byte) map[string]string {
	out := maps.Clone(tags)
	delete(out, gossip.ClusterTag)
	if id != ([16]byte{}) {
		out[gossip.ClusterTag] = hex.EncodeToString(id[:])
	}
	return out
}

// learnCluster finds out which cluster the servers of a client agent belong to. It
// stays with one for as long as a server of it is a member that lives. The catalog of
// the next one knows nothing of what is registered here.
func (a *Agent) learnCluster() {
	var found [16]byte
	own := a.cluster()
	for _, m := range a.pool.Members() {
		id, ok := clusterOf(&m)
		if !m.IsServer() || m.Status != gossip.Alive || !ok {
			continue
		}
		if id == own {
			return
		}
		if found == ([16]byte{}) || bytes.Compare(id[:], found[:]) < 0 {
			found = id
		}
	}
	last, none := a.last, [16]byte{}
	if found != none && last != none && found != last {
		a.logger.Info(PhraseMoved, "left", hex.EncodeToString(last[:]), "joined", hex.EncodeToString(found[:]))
	}
	if found != none || own != none {
		a.joined.Store(&found)
	}
	if found != none && found != last {
		a.last = found
		a.local.Moved()
	}
}

// clusterOf is the cluster that a member says it belongs to.
func clusterOf(m *gossip.Member) (id [16]byte, ok bool) {
	b, err := hex.DecodeString(m.Tags[gossip.ClusterTag])
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return [16]byte(b), true
}

// ours are the members of the pool that do not say they belong to another cluster:
// two pools may have met before their clusters were known.
type ours struct {
	*gossip.Pool
	cluster func() [16]byte
}

// Members lists them.
func (o ours) Members() []gossip.Member {
	own := o.cluster()
	return slices.DeleteFunc(o.Pool.Members(), func(m gossip.Member) bool {
		id, ok := clusterOf(&m)
		return ok && own != ([16]byte{}) && id != own
	})
}

// server finds a server among the members by its ID: one that lives, if there are
// several.
func (a *Agent) server(id string) (gossip.Member, bool) {
	var found gossip.Member
	ok := false
	for _, m := range a.pool.Members() {
		if m.ID == id && m.IsServer() && (!ok || m.Status == gossip.Alive) {
			found, ok = m, true
		}
	}
	return found, ok
}

// resolve finds the address of a server by its ID among the members.
func (a *Agent) resolve(id string) (string, error) {
	if m, ok := a.server(id); ok {
		return net.JoinHostPort(m.Addr.String(), m.Tags["port"]), nil
	}
	return "", fmt.Errorf("no server with the ID %s is a member", id)
}

// join finds the pool that the configuration names, over and over until one of
// its members answered.
func (a *Agent) join(ctx context.Context) error {
	c := a.config
	if len(c.RetryJoin) == 0 {
		a.searchedAll(nil)
		return nil
	}
	wait := c.RetryInterval
	if c.RetryMax == 0 {
		// Agents that start together miss each other by a moment: the first tries
		// come soon.
		wait = min(joinFirstRetry, c.RetryInterval)
	}
	for attempt := 1; ; attempt++ {
		n, err := 0, errNothingToJoin
		if addresses := known(c.RetryJoin, a.logger); len(addresses) > 0 {
			n, err = a.pool.Join(ctx, addresses)
		}
		if attempt == 1 {
			a.searchedAll(err)
		}
		// The list may name this agent's own address, which always answers.
		if n > 0 && !gossip.IsRefusal(err) {
			a.local.ServersUp()
			a.logger.Info(PhraseJoined, "contacted", n)
			a.notifyReady()
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if c.RetryMax > 0 && attempt >= c.RetryMax {
			return fmt.Errorf("no address of retry_join answered in %d attempts, which is retry_max: %w", attempt, err)
		}
		a.logger.Warn("Join cluster failed, will retry", "attempt", attempt, "retry_in", wait, "error", err)
		timer := time.NewTimer(wait)
		wait = min(2*wait, c.RetryInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// undisputed is the catalog as the local registry writes it: not at all while the
// pool refuses this agent, since its name or ID is another node's.
type undisputed struct {
	*backend
	pool *gossip.Pool
}

// Register writes what the registry has.
func (u undisputed) Register(ctx context.Context, dc string, r *health.Register) error {
	if err := u.settled(); err != nil {
		return err
	}
	return u.backend.Register(ctx, dc, r)
}

// Deregister removes what the registry no longer has.
func (u undisputed) Deregister(ctx context.Context, dc string, d *catalog.Deregister) error {
	if err := u.settled(); err != nil {
		return err
	}
	return u.backend.Deregister(ctx, dc, d)
}

func (u undisputed) settled() error {
	if err := u.pool.Refused(); err != nil {
		return fmt.Errorf("this agent writes nothing to the catalog while the pool refuses it: %w", err)
	}
	return nil
}

// errNothingToJoin says that an attempt had nobody to ask.
var errNothingToJoin = errors.New("no entry of retry_join stands for an address")

// known returns the entries of a list of addresses that are some. Those that ask a
// provider for addresses are an error in the log with each attempt, since they
// look as if they worked.
func known(entries []string, log *slog.Logger) []string {
	var out []string
	for _, entry := range entries {
		if name, ok := config.Provider(entry); ok {
			log.Error("Cannot look up addresses to join", "error", fmt.Sprintf("unknown provider %q", name))
			continue
		}
		out = append(out, entry)
	}
	return out
}

// followPool closes connections to servers that failed or left, so that who waits
// for them looks for another. When servers are there that were not, the catalog is
// compared soon: they may have taken this agent for gone.
func (a *Agent) followPool(ctx context.Context) error {
	changed, cancel := a.pool.Subscribe()
	defer cancel()
	alive := map[string]string{} // the IDs of the servers, by name
	for {
		back, now := false, map[string]string{}
		for _, m := range a.pool.Members() {
			if !m.IsServer() || m.ID == a.id {
				continue
			}
			if m.Status != gossip.Alive && m.Status != gossip.Leaving && !a.livesElsewhere(m) {
				a.rpcClient.Forget(m.ID)
			}
			a.autopilot.Meet(m.ID)
			if m.Status == gossip.Alive {
				now[m.Name] = m.ID
				back = back || alive[m.Name] != m.ID
			}
		}
		alive = now
		if back {
			a.local.ServersUp()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// livesElsewhere reports whether the server with the ID of m is alive by another
// name.
func (a *Agent) livesElsewhere(m gossip.Member) bool {
	other, ok := a.server(m.ID)
	return ok && other.Status == gossip.Alive
}

// initialAutopilot are the settings of autopilot from files.
func initialAutopilot(c *config.Config) state.AutopilotConfig {
	return state.AutopilotConfig{
		CleanupDeadServers:      c.Autopilot.CleanupDeadServers,
		LastContactThreshold:    c.Autopilot.LastContactThreshold,
		MaxTrailingLogs:         uint64(max(c.Autopilot.MaxTrailingLogs, 0)),
		MinQuorum:               uint64(max(c.Autopilot.MinQuorum, 0)),
		ServerStabilizationTime: c.Autopilot.ServerStabilizationTime,
	}
}

// duties is what the leader's duties need.
func (a *Agent) duties() leader.Deps {
	return leader.Deps{
		Pool: ours{a.pool, a.cluster},
		Self: func() catalog.Node { return *a.self.Load() },
		View: a.machine.View,
		Apply: func(ctx context.Context, cmd any) error {
			_, err := a.backend.apply(a.duty(ctx), cmd)
			return err
		},
		Now:       a.network.now,
		Raft:      raftServers{a},
		Autopilot: &a.autopilot,
		Initial:   initialAutopilot(a.config),
		Stats: func(ctx context.Context, id string) (leader.ServerStats, error) {
			s, err := a.statsOf(ctx, id)
			return s.ServerStats, err
		},
		Admit: func(ctx context.Context, id, nonce string) error {
			_, err := a.remote.call(ctx, id, append([]byte{callAdmit}, nonce...))
			return err
		},
		MayAdd:     a.mayAdd,
		Address:    a.serverAddress,
		ForceLeave: func(ctx context.Context, name string) error { return a.pool.ForceLeave(ctx, name, false) },
		Check:      a.check,
		MayPropose: a.mayPropose,
	}
}

// raftServers is the configuration of Raft in the words of package leader.
type raftServers struct{ a *Agent }

// Servers lists the servers of the configuration.
func (r raftServers) Servers() []leader.RaftServer {
	var out []leader.RaftServer
	for _, p := range r.a.node.Peers() {
		out = append(out, leader.RaftServer{ID: p.ID, Voter: p.Voter})
	}
	return out
}

// AddNonvoter lets a server follow.
func (r raftServers) AddNonvoter(ctx context.Context, id string) error {
	return r.a.node.AddNonvoter(ctx, id)
}

// AddVoter gives a server its vote.
func (r raftServers) AddVoter(ctx context.Context, id string) error {
	return r.a.node.AddVoter(ctx, id)
}

// DemoteVoter takes a server's vote.
func (r raftServers) DemoteVoter(ctx context.Context, id string) error {
	return r.a.node.DemoteVoter(ctx, id)
}

// RemoveServer takes a server out.
func (r raftServers) RemoveServer(ctx context.Context, id string) error {
	return r.a.node.RemoveServer(ctx, id)
}

// logTag is the tag by which a server tells which version of the log it reads.
const logTag = "log_vsn"

// mayPropose reports whether all servers that live read a version of the log.
func (a *Agent) mayPropose(version int) bool {
	for _, m := range a.pool.Members() {
		if !m.IsServer() || m.Status != gossip.Alive || m.ID == a.id {
			continue
		}
		if n, err := strconv.Atoi(m.Tags[logTag]); err != nil || n < version {
			return false
		}
	}
	return true
}

// Join makes the agent a member of the pool that an address belongs to.
func (s about) Join(ctx context.Context, address string, wan bool) error {
	var err error
	switch {
	case address == "":
		err = errors.New("an address is missing")
	case wan && !s.a.config.Server:
		return errors.New("WAN federation disabled: this agent is not a server")
	case wan && s.a.config.Ports.SerfWAN <= 0:
		return errors.New("WAN federation disabled")
	case wan:
		if s.a.isOwn(withPort(address, s.a.config.Ports.SerfWAN), s.a.config.Ports.SerfWAN) {
			return nil
		}
		err = errWANLater
	default:
		if err = s.a.joinPool(ctx, address); err != nil {
			return fmt.Errorf("1 error occurred:\n\t* %w\n\n", err)
		}
		return nil
	}
	return fmt.Errorf("1 error occurred:\n\t* Failed to join %s: %w\n\n", address, err)
}

// errWANLater says that other datacenters cannot be joined in this version.
var errWANLater = errors.New("joining other datacenters is not supported in this version of Muster")

// ForceLeave makes a member that failed one that left. One that is alive stays
// what it is.
func (s about) ForceLeave(ctx context.Context, node string, wan, prune bool) error {
	unknown := &mvcc.Error{Code: mvcc.Unknown, Text: fmt.Sprintf("agent: No node found with name '%s'", node)}
	name := node
	if wan {
		// Of the pool of all datacenters this server sees its own part.
		short, dc, ok := cutLast(node, '.')
		if !ok || dc != s.a.config.Datacenter {
			return unknown
		}
		name = short
	}
	for _, m := range s.a.pool.Members() {
		if m.Name != name || wan && !m.IsServer() {
			continue
		}
		if m.ID == s.a.id || m.Status == gossip.Alive {
			s.a.logger.Warn("force-leave does nothing: the member is alive, and would contradict. Stop it first, or have it leave by itself with: muster leave",
				"member", m.Name, "address", netip.AddrPortFrom(m.Addr, m.Port))
			return nil
		}
		err := s.a.pool.ForceLeave(ctx, name, prune)
		if errors.Is(err, gossip.ErrNoSuchMember) {
			return nil // it went while it was looked for
		}
		return err
	}
	return unknown
}

// cutLast cuts a text at the last of a separator.
func cutLast(s string, sep byte) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
