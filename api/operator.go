package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// raftProtocol is the protocol of Raft that all servers speak, as clients read
// it.
const raftProtocol = "3"

// byOperator serves an endpoint that needs the operator's part of the agent.
func byOperator(serve handler) handler {
	return func(c *call) (any, error) {
		if c.h.Operator == nil {
			return unimplemented(c)
		}
		return serve(c)
	}
}

// readNow reads where the answer is wanted from and how fresh; it is never
// waited for.
func (c *call) readNow() (mvcc.ReadOptions, error) {
	o, err := c.readOptions()
	o.Index, o.Wait = 0, 0
	return o, err
}

// raftServer is a server that takes part in Raft.
type raftServer struct {
	ID              string
	Node            string
	Address         string
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// raftConfiguration lists who takes part in Raft.
func raftConfiguration(c *call) (any, error) {
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	known, err := c.h.Operator.RaftConfiguration(c.r.Context(), o)
	if err != nil {
		return nil, err
	}
	servers := make([]raftServer, 0, len(known.Servers))
	for _, s := range known.Servers {
		shown := raftServer{s.ID, s.Node, s.Address, s.Leader, raftProtocol, s.Voter, s.LastIndex}
		if shown.Node == "" {
			shown.Node = textUnknownServer
		}
		servers = append(servers, shown)
	}
	return struct {
		Servers []raftServer
		Index   uint64
	}{servers, known.Index}, nil
}

// removePeer ends the part of one server in Raft.
func removePeer(c *call) (any, error) {
	p := PeerName{ID: c.value("id"), Address: c.value("address")}
	switch {
	case p == PeerName{}:
		return nil, badRequest(textNoPeer)
	case p.ID != "" && p.Address != "":
		return nil, badRequest(textTwoPeers)
	}
	err := c.h.Operator.RemovePeer(c.r.Context(), c.datacenter(), p)
	switch {
	case err == nil:
		return empty{}, nil
	case mvcc.CodeOf(err) != mvcc.Unknown:
		return nil, err
	case p.ID != "":
		return nil, refuse(http.StatusInternalServerError, "id %q was not found in the Raft configuration", p.ID)
	}
	return nil, refuse(http.StatusInternalServerError, "address %q was not found in the Raft configuration", p.Address)
}

// transferLeader makes another server the leader.
func transferLeader(c *call) (any, error) {
	id := c.value("id")
	err := c.h.Operator.TransferLeader(c.r.Context(), c.datacenter(), id)
	switch {
	case err == nil:
		return struct{ Success bool }{true}, nil
	case mvcc.CodeOf(err) != mvcc.Unknown:
		return nil, err
	case id == "" || err.Error() == textNoOtherServer:
		return nil, refuse(http.StatusInternalServerError, textNoOtherServer)
	}
	return nil, refuse(http.StatusInternalServerError, "Could not find address for server id %s", id)
}

// span is a time span that is always written as text.
type span time.Duration

// MarshalJSON writes the span with its units.
func (s span) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, time.Duration(s).String()), nil
}

// UnmarshalJSON reads text with a unit, or whole nanoseconds.
func (s *span) UnmarshalJSON(b []byte) error { return (*duration)(s).UnmarshalJSON(b) }

// autopilotConfig is how servers are looked after.
type autopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    span
	MaxTrailingLogs         uint64
	MinQuorum               uint
	ServerStabilizationTime span
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	CreateIndex             uint64
	ModifyIndex             uint64
}

func newAutopilotConfig(a AutopilotConfig) autopilotConfig {
	return autopilotConfig{
		a.CleanupDeadServers, span(a.LastContactThreshold), a.MaxTrailingLogs, a.MinQuorum, span(a.ServerStabilizationTime),
		a.RedundancyZoneTag, a.DisableUpgradeMigration, a.UpgradeVersionTag, a.CreateIndex, a.ModifyIndex,
	}
}

// config is what a body asks for. Its indexes say nothing.
func (a autopilotConfig) config() AutopilotConfig {
	return AutopilotConfig{
		CleanupDeadServers:      a.CleanupDeadServers,
		LastContactThreshold:    time.Duration(a.LastContactThreshold),
		MaxTrailingLogs:         a.MaxTrailingLogs,
		MinQuorum:               a.MinQuorum,
		ServerStabilizationTime: time.Duration(a.ServerStabilizationTime),
		RedundancyZoneTag:       a.RedundancyZoneTag,
		DisableUpgradeMigration: a.DisableUpgradeMigration,
		UpgradeVersionTag:       a.UpgradeVersionTag,
	}
}

// getAutopilot shows how servers are looked after.
func getAutopilot(c *call) (any, error) {
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	config, err := c.h.Operator.AutopilotConfig(c.r.Context(), o)
	return fetched(newAutopilotConfig(config), err)
}

// putAutopilot says how servers are to be looked after. What the body leaves out
// becomes the default, whatever it was before.
func putAutopilot(c *call) (any, error) {
	var cas *uint64
	if c.has("cas") {
		index, err := strconv.ParseUint(c.value("cas"), 10, 64)
		if err != nil {
			return nil, badRequest("Error parsing cas value: %q is not an index", c.value("cas"))
		}
		cas = &index
	}
	body := newAutopilotConfig(DefaultAutopilot())
	if err := c.decode(&body); err != nil {
		return nil, err
	}
	for _, field := range []struct {
		name  string
		value span
	}{{"LastContactThreshold", body.LastContactThreshold}, {"ServerStabilizationTime", body.ServerStabilizationTime}} {
		if field.value < 0 {
			return nil, badRequest("%s must not be negative, and is %s", field.name, time.Duration(field.value))
		}
	}
	if body.MinQuorum > maxMinQuorum {
		return nil, badRequest("MinQuorum must be at most %d, and is %d", maxMinQuorum, body.MinQuorum)
	}
	return fetched(c.h.Operator.SetAutopilot(c.r.Context(), c.datacenter(), body.config(), cas))
}

// serverHealth is what the leader knows of one server.
type serverHealth struct {
	ID          string
	Name        string
	Address     string
	SerfStatus  string
	Version     string
	Leader      bool
	LastContact span
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	Voter       bool
	StableSince time.Time
}

// autopilotHealth shows the health of the servers. The status of the answer
// tells whether all is well, for those who only look at that.
func autopilotHealth(c *call) (any, error) {
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	health, err := c.h.Operator.AutopilotHealth(c.r.Context(), o)
	if err != nil {
		return nil, err
	}
	servers := make([]serverHealth, 0, len(health.Servers))
	for _, s := range health.Servers {
		servers = append(servers, serverHealth{
			s.ID, s.Name, s.Address, s.Status, s.Version, s.Leader, span(s.LastContact), s.LastTerm, s.LastIndex,
			s.Healthy, s.Voter, s.StableSince.UTC(),
		})
	}
	status := http.StatusOK
	if !health.Healthy {
		status = http.StatusTooManyRequests
	}
	return judged{status, struct {
		Healthy          bool
		FailureTolerance int
		Servers          []serverHealth
	}{health.Healthy, health.FailureTolerance, servers}}, nil
}

// autopilotServer is one server in the state of autopilot.
type autopilotServer struct {
	ID          string
	Name        string
	Address     string
	NodeStatus  string
	Version     string
	LastContact span
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	StableSince time.Time
	ReadReplica bool
	Status      string
	Meta        map[string]string
	NodeType    string
}

func newAutopilotServer(s ServerHealth) autopilotServer {
	status := "non-voter"
	switch {
	case s.Leader:
		status = "leader"
	case s.Voter:
		status = "voter"
	}
	meta := s.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return autopilotServer{
		ID: s.ID, Name: s.Name, Address: s.Address, NodeStatus: s.Status, Version: s.Version,
		LastContact: span(s.LastContact), LastTerm: s.LastTerm, LastIndex: s.LastIndex,
		Healthy: s.Healthy, StableSince: s.StableSince.UTC(), Status: status, Meta: meta,
		// Every server is to vote once it is stable; there are no other types.
		NodeType: "voter",
	}
}

// autopilotState shows the health of the servers by their IDs.
func autopilotState(c *call) (any, error) {
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	state, err := c.h.Operator.AutopilotState(c.r.Context(), o)
	if err != nil {
		return nil, err
	}
	leader, voters := "", []string{}
	servers := make(map[string]autopilotServer, len(state.Servers))
	for _, s := range state.Servers {
		servers[s.ID] = newAutopilotServer(s)
		if s.Voter {
			voters = append(voters, s.ID)
		}
		if s.Leader {
			leader = s.ID
		}
	}
	return struct {
		Healthy                    bool
		FailureTolerance           int
		OptimisticFailureTolerance int
		Servers                    map[string]autopilotServer
		Leader                     string
		Voters                     []string
	}{state.Healthy, state.FailureTolerance, state.OptimisticFailureTolerance, servers, leader, voters}, nil
}

// meshKinds are the kinds of instances that a mesh has. Clients find all of them
// counted.
var meshKinds = []string{"api-gateway", "connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway"}

// usage is how much is registered in a datacenter.
type usage struct {
	Nodes                    int
	Services                 int
	ServiceInstances         int
	ConnectServiceInstances  map[string]int
	BillableServiceInstances int
}

func newUsage(u Usage) usage {
	connect := make(map[string]int, len(meshKinds))
	for _, kind := range meshKinds {
		connect[kind] = u.Connect[kind]
	}
	return usage{u.Nodes, u.Services, u.Instances, connect, u.Billable}
}

// operatorUsage counts what is registered.
func operatorUsage(c *call) (any, error) {
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	counted, meta, err := ask(c, o, c.has("global"), c.h.Operator.Usage)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	shown := make(map[string]usage, len(counted))
	for dc, u := range counted {
		shown[dc] = newUsage(u)
	}
	return struct {
		Usage map[string]usage
		// The rest repeats the headers, for clients that read bodies only.
		Index                 uint64
		LastContact           time.Duration
		KnownLeader           bool
		ConsistencyLevel      string
		NotModified           bool
		Backend               int
		ResultsFilteredByACLs bool
	}{
		Usage: shown, Index: max(meta.Index, 1), LastContact: meta.LastContact, KnownLeader: meta.KnownLeader,
		ConsistencyLevel: meta.Mode.String(),
	}, nil
}
