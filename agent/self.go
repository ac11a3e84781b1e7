package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/local"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Metadata of every agent's node, which clients compare whole.
const (
	metaVersion = "consul-version"
	metaSegment = "consul-network-segment"
)

// selfNode is this agent's node as it must stand in the catalog.
func selfNode(c *config.Config, id string) catalog.Node {
	addresses := map[string]string{}
	maps.Copy(addresses, c.TaggedAddresses)
	addresses["lan"] = c.AdvertiseAddr.String()
	addresses["wan"] = c.AdvertiseAddrWAN.String()
	for kind, addr := range map[string]netip.Addr{
		"lan_ipv4": c.AdvertiseIPv4, "lan_ipv6": c.AdvertiseIPv6,
		"wan_ipv4": c.AdvertiseWANIPv4, "wan_ipv6": c.AdvertiseWANIPv6,
	} {
		if addr.IsValid() {
			addresses[kind] = addr.String()
		}
	}
	meta := map[string]string{metaVersion: CompatVersion, metaSegment: ""}
	maps.Copy(meta, c.NodeMeta)
	return catalog.Node{
		ID: id, Name: c.NodeName, Address: c.AdvertiseAddr.String(),
		TaggedAddresses: addresses, Meta: meta, Locality: c.Locality,
	}
}

// setSelf replaces what must stand in the catalog about this agent's node.
func (a *Agent) setSelf(n catalog.Node) { a.self.Store(&n) }

// selfMember is this agent as other members see it. The port is that of the server
// port.
func selfMember(c *config.Config, id string, port int) gossip.Member {
	tags := map[string]string{
		"role": gossip.RoleClient, "dc": c.Datacenter, "id": id,
		"build": CompatVersion + ":" + buildRevision(), "segment": "",
		"vsn": strconv.Itoa(gossip.ProtocolCur), "vsn_min": "2", "vsn_max": "3",
	}
	if c.AdvertiseReconnectTimeout > 0 {
		tags["rc_tm"] = c.AdvertiseReconnectTimeout.String()
	}
	m := gossip.Member{Name: c.NodeName, ID: id, Addr: c.AdvertiseAddr, Tags: tags}
	if !c.Server {
		return m
	}
	maps.Copy(tags, map[string]string{
		"role": gossip.RoleServer, "port": strconv.Itoa(port), "raft_vsn": "3", "acls": "0", "ft_fs": "1", "ft_si": "1",
		logTag: strconv.Itoa(state.ProtocolVersion),
	})
	switch {
	case c.Bootstrap || c.Dev:
		tags["bootstrap"] = "1"
	case c.BootstrapExpect > 0:
		tags["expect"] = strconv.Itoa(c.BootstrapExpect)
	}
	if c.Ports.SerfWAN > 0 {
		tags["wan_join_port"] = strconv.Itoa(c.Ports.SerfWAN)
	}
	return m
}

// buildRevision is the revision in the form that the tag has: eight characters.
func buildRevision() string {
	revision, _, _ := strings.Cut(Revision(), "+")
	return fmt.Sprintf("%.8s", revision+"00000000")
}

// status answers who leads and who takes part.
type status struct{ a *Agent }

// Leader returns the address of the leader's server port, or "" if none is known.
func (s status) Leader(ctx context.Context, dc string) (string, error) {
	if err := s.a.backend.ours(dc); err != nil {
		return "", err
	}
	now, err := s.a.statusNow(ctx)
	return now.Leader, err
}

// Peers returns the addresses of all servers of the Raft configuration.
func (s status) Peers(ctx context.Context, dc string) ([]string, error) {
	if err := s.a.backend.ours(dc); err != nil {
		return nil, err
	}
	now, err := s.a.statusNow(ctx)
	return now.Peers, err
}

// Datacenters lists the known datacenters.
func (s status) Datacenters(context.Context) ([]string, error) {
	return []string{s.a.config.Datacenter}, nil
}

// serverAddress is the address of a server's port as others reach it, or its ID
// while no member has that ID.
func (a *Agent) serverAddress(id string) string {
	if id == a.id {
		return a.ServerAddr()
	}
	address, err := a.resolve(id)
	if err != nil {
		return id
	}
	return address
}

// registry is the local registry in the words of package api.
type registry struct {
	*local.Registry
	node string
}

// Services lists the instances that are registered here.
func (r registry) Services() []api.LocalService {
	services := r.Registry.Services()
	out := make([]api.LocalService, len(services))
	for i, s := range services {
		out[i] = api.LocalService{Service: s}
	}
	return out
}

// Checks lists the checks that are registered here.
func (r registry) Checks() []*health.Check { return r.Registry.Checks() }

// AddService registers an instance with its checks.
func (r registry) AddService(ctx context.Context, reg check.Registration, replace bool) error {
	return r.Registry.AddService(ctx, reg, replace)
}

// about tells what this agent is.
type about struct{ a *Agent }

// Members lists the members of the pool.
func (s about) Members() []api.Member {
	var out []api.Member
	for _, m := range s.a.pool.Members() {
		out = append(out, asMember(m))
	}
	return out
}

// MembersWAN lists the servers by where they are for other datacenters: under the
// address that they advertise there, with the port that is configured for it. A
// client agent is in no such pool, nor is a server that has it switched off.
func (s about) MembersWAN() []api.Member {
	if !s.a.config.Server || s.a.config.Ports.SerfWAN <= 0 {
		return nil
	}
	table := s.a.machine.View().Catalog
	var out []api.Member
	for _, m := range s.a.pool.Members() {
		port, err := strconv.ParseUint(m.Tags["wan_join_port"], 10, 16)
		if !m.IsServer() || err != nil || port == 0 {
			continue
		}
		shown := asMember(m)
		shown.Name += "." + s.a.config.Datacenter
		shown.Port = uint16(port)
		if addr := wanAddress(s.a, table, m); addr != "" {
			shown.Addr = addr
		}
		shown.Tags = maps.Clone(m.Tags)
		delete(shown.Tags, "segment")
		out = append(out, shown)
	}
	return out
}

// wanAddress is the address that a member advertises to other datacenters, as the
// catalog has it, or "" while it has none.
func wanAddress(a *Agent, table catalog.Table, m gossip.Member) string {
	n := a.self.Load()
	if m.ID != a.id {
		n, _ = table.Node(&catalog.NodeQuery{Name: m.Name}, nil)
	}
	if n == nil || !strings.EqualFold(n.ID, m.ID) {
		return ""
	}
	return n.TaggedAddresses["wan"]
}

func asMember(m gossip.Member) api.Member {
	return api.Member{
		Name: m.Name, Addr: m.Addr.String(), Port: m.Port, Tags: m.Tags, Status: int(m.Status),
		ProtocolMin: gossip.ProtocolMin, ProtocolMax: gossip.ProtocolMax, ProtocolCur: gossip.ProtocolCur,
		DelegateMin: gossip.DelegateMin, DelegateMax: gossip.DelegateMax, DelegateCur: gossip.DelegateCur,
	}
}

// Self describes this agent.
func (s about) Self() api.Self {
	c := s.a.config
	date := ""
	if t := BuildDate(); !t.IsZero() {
		date = t.Format("2006-01-02T15:04:05Z")
	}
	return api.Self{
		Datacenter: c.Datacenter, PrimaryDatacenter: c.PrimaryDatacenter,
		NodeName: c.NodeName, NodeID: s.a.id, Server: c.Server,
		Version: CompatVersion, Revision: Revision(), BuildDate: date, MusterVersion: Version,
		Meta: s.a.self.Load().Meta, Debug: s.a.debugConfig(), Stats: s.a.stats(), Member: asMember(s.a.pool.Self()),
	}
}

// debugConfig is the running configuration by names that may change.
func (a *Agent) debugConfig() map[string]any {
	c := a.config
	return map[string]any{
		"AdvertiseAddrLAN":     c.AdvertiseAddr.String(),
		"AdvertiseAddrWAN":     c.AdvertiseAddrWAN.String(),
		"BindAddr":             c.BindAddr.String(),
		"Bootstrap":            c.Bootstrap,
		"BootstrapExpect":      c.BootstrapExpect,
		"DNSDomain":            c.Domain,
		"DNSPort":              c.Ports.DNS,
		"DataDir":              c.DataDir,
		"Datacenter":           c.Datacenter,
		"DevMode":              c.Dev,
		"EnableDebug":          a.running.Load().EnableDebug,
		"HTTPPort":             c.Ports.HTTP,
		"NodeID":               a.id,
		"NodeName":             c.NodeName,
		"SerfAdvertiseAddrLAN": "tcp://" + a.GossipAddr(),
		"SerfPortLAN":          int(a.pool.Addr().Port()),
		"SerfPortWAN":          c.Ports.SerfWAN,
		"ServerMode":           c.Server,
		"ServerPort":           c.Ports.Server,
	}
}

// stats are groups of values for people; every value is text.
func (a *Agent) stats() map[string]map[string]string {
	version := strings.SplitN(Version, "-", 2)
	prerelease := ""
	if len(version) == 2 {
		prerelease = version[1]
	}
	members := about{a}.Members()
	servers := 0
	for _, m := range members {
		if m.Tags["role"] == gossip.RoleServer && m.Status == int(gossip.Alive) {
			servers++
		}
	}
	out := map[string]map[string]string{
		"agent": a.local.Stats(),
		"build": {"version": CompatVersion, "prerelease": "", "revision": Revision(), "version_metadata": "",
			"muster_version": version[0], "muster_prerelease": prerelease},
		"consul": {"acl": "disabled", "known_servers": strconv.Itoa(servers), "server": "false"},
		"runtime": {
			"arch": runtime.GOARCH, "os": runtime.GOOS, "version": runtime.Version(),
			"cpu_count": strconv.Itoa(runtime.NumCPU()), "goroutines": strconv.Itoa(runtime.NumGoroutine()),
			"max_procs": strconv.Itoa(runtime.GOMAXPROCS(0)), "pid": strconv.Itoa(os.Getpid()),
		},
		"serf_lan": a.poolStats(members),
	}
	if a.node == nil {
		return out
	}
	leaderAddr := ""
	if id, ok := a.node.Leader(); ok {
		leaderAddr = a.serverAddress(id)
	}
	out["consul"] = map[string]string{
		"acl": "disabled", "bootstrap": strconv.FormatBool(a.config.Bootstrap), "known_datacenters": "1",
		"leader": strconv.FormatBool(a.node.Leading()), "leader_addr": leaderAddr, "server": "true",
	}
	raft := a.node.Stats()
	out["raft"] = raft.Map()
	out["raft"]["latest_configuration"] = a.describePeers(raft.Peers)
	if a.config.Ports.SerfWAN > 0 {
		out["serf_wan"] = a.poolStats(about{a}.MembersWAN())
	}
	view := a.machine.View()
	out["state"] = map[string]string{
		"index": strconv.FormatUint(view.Index, 10), "hash": view.Hash().String(),
	}
	return out
}

// poolStats are the figures of a pool of members. There is one gossip for both
// pools, so that both have the same clock and health. Nobody can send queries, and
// no coordinates are kept, so that nothing of them waits or is reset.
func (a *Agent) poolStats(members []api.Member) map[string]string {
	failed, left := 0, 0
	for _, m := range members {
		switch gossip.Status(m.Status) {
		case gossip.Failed:
			failed++
		case gossip.Left:
			left++
		}
	}
	f := a.pool.Figures()
	return map[string]string{
		"members": strconv.Itoa(len(members)), "failed": strconv.Itoa(failed), "left": strconv.Itoa(left),
		"encrypted": strconv.FormatBool(a.config.Encrypt != nil), "health_score": strconv.Itoa(f.Health),
		"member_time": strconv.FormatUint(f.Clock, 10), "intent_queue": strconv.Itoa(f.News),
		"event_time": strconv.FormatUint(f.Newest, 10), "event_queue": strconv.Itoa(f.Events),
		"query_time": "0", "query_queue": "0", "coordinate_resets": "0",
	}
}

// describePeers are the servers of Raft with their addresses, in the form that
// scripts know.
func (a *Agent) describePeers(peers []consensus.Peer) string {
	servers := make([]string, len(peers))
	for i, p := range peers {
		suffrage := "Nonvoter"
		if p.Voter {
			suffrage = "Voter"
		}
		servers[i] = fmt.Sprintf("{Suffrage:%s ID:%s Address:%s}", suffrage, p.ID, a.serverAddress(p.ID))
	}
	return "[" + strings.Join(servers, " ") + "]"
}

// dnsSettings are the DNS settings in the words of package dnsserver.
func dnsSettings(c *config.Config) dnsserver.Settings {
	d := c.DNS
	return dnsserver.Settings{
		AllowStale: d.AllowStale, MaxStale: d.MaxStale, NodeTTL: d.NodeTTL, ServiceTTL: d.ServiceTTL,
		EnableTruncate: d.EnableTruncate, OnlyPassing: d.OnlyPassing,
		UDPAnswerLimit: d.UDPAnswerLimit, ARecordLimit: d.ARecordLimit,
		DisableCompression: d.DisableCompression, EnableAdditionalNodeMetaTXT: d.EnableAdditionalNodeMetaTXT,
		SOA: dnsserver.SOA(d.SOA),
	}
}

// duty marks what the leader does by itself as the origin of a change.
func (a *Agent) duty(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, dutyKey{}, true)
	return mvcc.WithOrigin(ctx, mvcc.Origin{Node: a.config.NodeName, Endpoint: "leader"})
}
