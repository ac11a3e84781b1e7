package api

import (
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// The shapes below are what clients read. Fields marked filter:"-" cannot be
// named in a filter; their order is that of the answers.

// node is a node of the catalog.
type node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	PeerName        string            `json:",omitempty"`
	Locality        *catalog.Locality `json:",omitempty" filter:"-"`
	CreateIndex     uint64            `filter:"-"`
	ModifyIndex     uint64            `filter:"-"`
}

func newNode(n *catalog.Node, dc string) *node {
	return &node{ID: n.ID, Node: n.Name, Address: n.Address, Datacenter: dc, TaggedAddresses: n.TaggedAddresses,
		Meta: n.Meta, Locality: n.Locality, CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex}
}

// connect is the mesh's mark of an instance.
type connect struct {
	Native bool `json:",omitempty"`
}

// nodeService is an instance where its node is shown beside it.
type nodeService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]catalog.ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int    `json:",omitempty"`
	SocketPath        string `json:",omitempty"`
	Weights           catalog.Weights
	EnableTagOverride bool
	Locality          *catalog.Locality `json:",omitempty" filter:"-"`
	Proxy             proxy
	Connect           connect
	PeerName          string
	CreateIndex       uint64 `filter:"-"`
	ModifyIndex       uint64 `filter:"-"`
}

func newNodeService(s *catalog.Service) *nodeService {
	return &nodeService{Kind: s.Kind, ID: s.ID, Service: s.Name, Tags: listed(s.Tags), Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port, SocketPath: s.SocketPath, Weights: s.Weights,
		EnableTagOverride: s.EnableTagOverride, Locality: s.Locality, Proxy: s.Proxy, Connect: connect{s.Native},
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex}
}

// instance is an instance with what is worth knowing of its node.
type instance struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]catalog.ServiceAddress `json:",omitempty"`
	ServiceWeights           catalog.Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceSocketPath        string
	ServiceEnableTagOverride bool
	ServiceProxy             proxy
	ServiceConnect           connect
	ServiceLocality          *catalog.Locality `filter:"-"`
	PeerName                 string            `json:",omitempty"`
	CreateIndex              uint64            `filter:"-"`
	ModifyIndex              uint64            `filter:"-"`
}

func newInstance(i *catalog.Instance, dc string) *instance {
	n, s := i.Node, i.Service
	out := &instance{ID: n.ID, Node: n.Name, Address: n.Address, Datacenter: dc, TaggedAddresses: n.TaggedAddresses,
		NodeMeta: n.Meta, ServiceKind: s.Kind, ServiceID: s.ID, ServiceName: s.Name, ServiceTags: listed(s.Tags),
		ServiceAddress: s.Address, ServiceTaggedAddresses: s.TaggedAddresses, ServiceWeights: s.Weights,
		ServiceMeta: s.Meta, ServicePort: s.Port, ServiceSocketPath: s.SocketPath,
		ServiceEnableTagOverride: s.EnableTagOverride, ServiceProxy: s.Proxy, ServiceConnect: connect{s.Native},
		ServiceLocality: s.Locality, CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex}
	if out.ServiceMeta == nil {
		out.ServiceMeta = map[string]string{}
	}
	return out
}

// healthCheck is the state of a check.
type healthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	Definition  checkDefinition `filter:"-"`
	PeerName    string          `json:",omitempty"`
	CreateIndex uint64          `filter:"-"`
	ModifyIndex uint64          `filter:"-"`
}

func newHealthCheck(c *health.Check) *healthCheck {
	return &healthCheck{Node: c.Node, CheckID: c.ID, Name: c.Name, Status: string(c.Status), Notes: c.Notes,
		Output: c.Output, ServiceID: c.ServiceID, ServiceName: c.ServiceName, ServiceTags: listed(c.ServiceTags),
		Type: c.Type, Interval: c.Interval, Timeout: c.Timeout, ExposedPort: c.ExposedPort,
		Definition: newCheckDefinition(&c.Definition), CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex}
}

func newHealthChecks(checks []*health.Check) []*healthCheck {
	out := make([]*healthCheck, len(checks))
	for i, c := range checks {
		out[i] = newHealthCheck(c)
	}
	return out
}

// checkDefinition is how a check in the catalog is meant to be run.
type checkDefinition struct {
	HTTP                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	H2PingUseTLS                   bool                `json:",omitempty"`
	Interval                       string              `json:",omitempty"`
	OutputMaxSize                  int                 `json:",omitempty"`
	Timeout                        string              `json:",omitempty"`
	DeregisterCriticalServiceAfter string              `json:",omitempty"`
	ScriptArgs                     []string            `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	SessionName                    string              `json:",omitempty"`
	TTL                            string              `json:",omitempty"`
}

func newCheckDefinition(d *health.Definition) checkDefinition {
	return checkDefinition{HTTP: d.HTTP, TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify, Header: d.Header,
		Method: d.Method, Body: d.Body, DisableRedirects: d.DisableRedirects, TCP: d.TCP, TCPUseTLS: d.TCPUseTLS,
		UDP: d.UDP, H2PING: d.H2PING, OSService: d.OSService, H2PingUseTLS: d.H2PingUseTLS,
		Interval: durationText(d.Interval), OutputMaxSize: d.OutputMaxSize, Timeout: durationText(d.Timeout),
		DeregisterCriticalServiceAfter: durationText(d.DeregisterCriticalServiceAfter), ScriptArgs: d.ScriptArgs,
		DockerContainerID: d.DockerContainerID, Shell: d.Shell, GRPC: d.GRPC, GRPCUseTLS: d.GRPCUseTLS,
		AliasNode: d.AliasNode, AliasService: d.AliasService, SessionName: d.SessionName, TTL: durationText(d.TTL)}
}

// serviceEntry is an instance with its node and the checks that decide its
// health.
type serviceEntry struct {
	Node    *node
	Service *nodeService
	Checks  []*healthCheck
}

func newServiceEntry(e *health.Entry, dc string) *serviceEntry {
	return &serviceEntry{Node: newNode(e.Node, dc), Service: newNodeService(e.Service), Checks: newHealthChecks(e.Checks)}
}
