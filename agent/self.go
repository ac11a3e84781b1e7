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
	counts := map[gossip.Status]int{}
	servers := 0
	members := a.pool.Members()
	for _, m := range members {
		counts[m.Status]++
		if m.IsServer() && m.Status == gossip.Alive {
			servers++
		}
	}
	version := strings.SplitN(Version, "-", 2)
	prerelease := ""
	if len(version) == 2 {
		prerelease = version[1]
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
		"serf_lan": {
			"members": strconv.Itoa(len(members)), "failed": strconv.Itoa(counts[gossip.Failed]), "left": strconv.Itoa(counts[gossip.Left]),
			"encrypted": strconv.FormatBool(a.config.Encrypt != nil),
		},
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
	out["raft"] = a.node.Stats().Map()
	view := a.machine.View()
	out["state"] = map[string]string{
		"index": strconv.FormatUint(view.Index, 10), "hash": view.Hash().String(),
	}
	return out
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
