package api

import (
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

func catalogNodes(c *call) (any, error) {
	o, keep, err := readFiltered[node](c)
	if err != nil {
		return nil, err
	}
	nodes, meta, err := ask(c, o, &catalog.Nodes{Meta: c.nodeMeta()}, c.h.Catalog.Nodes)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	return shared{meta, func() any {
		out := make([]*node, 0, len(nodes))
		for _, n := range nodes {
			if shown := newNode(n, c.shownDatacenter()); keep(shown) {
				out = append(out, shown)
			}
		}
		return out
	}}, nil
}

// catalogServices names all services with their tags. With a filter only
// instances that pass it count.
func catalogServices(c *call) (any, error) {
	if c.value("filter") != "" {
		return filteredServices(c)
	}
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	services, meta, err := ask(c, o, &catalog.Services{NodeMeta: c.nodeMeta()}, c.h.Catalog.Services)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	out := make(map[string][]string, len(services))
	for _, s := range services {
		out[s.Name] = listed(s.Tags)
	}
	return out, nil
}

func filteredServices(c *call) (any, error) {
	o, keep, err := readFiltered[instance](c)
	if err != nil {
		return nil, err
	}
	instances, meta, err := ask(c, o, &catalog.Instances{NodeMeta: c.nodeMeta()}, c.h.Catalog.Instances)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	out := map[string][]string{}
	seen := map[[2]string]bool{}
	for _, i := range instances {
		if !keep(newInstance(i, c.shownDatacenter())) {
			continue
		}
		name := i.Service.Name
		tags := listed(out[name])
		for _, tag := range i.Service.Tags {
			if !seen[[2]string{name, tag}] {
				seen[[2]string{name, tag}] = true
				tags = append(tags, tag)
			}
		}
		out[name] = tags
	}
	return out, nil
}

func catalogService(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingService)
	}
	o, keep, err := readFiltered[instance](c)
	if err != nil {
		return nil, err
	}
	q := &catalog.Instances{Service: c.rest, Tags: c.query["tag"], NodeMeta: c.nodeMeta()}
	instances, meta, err := ask(c, o, q, c.h.Catalog.Instances)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, true)
	return shared{meta, func() any {
		out := make([]*instance, 0, len(instances))
		if c.value("peer") != "" {
			return out // Muster has no peers
		}
		for _, i := range instances {
			if shown := newInstance(i, c.shownDatacenter()); keep(shown) {
				out = append(out, shown)
			}
		}
		return out
	}}, nil
}

// catalogNode shows a node with its instances by ID; null if there is none.
func catalogNode(c *call) (any, error) {
	detail, kept, err := nodeDetail(c)
	if err != nil || detail == nil {
		return nil, err
	}
	services := make(map[string]*nodeService, len(kept))
	for _, s := range kept {
		services[s.ID] = s
	}
	return struct {
		Node     *node
		Services map[string]*nodeService
	}{newNode(detail.Node, c.shownDatacenter()), services}, nil
}

// catalogNodeServices shows a node with a list of its instances; both are null
// if there is no such node.
func catalogNodeServices(c *call) (any, error) {
	detail, kept, err := nodeDetail(c)
	if err != nil {
		return nil, err
	}
	var out struct {
		Node     *node
		Services []*nodeService
	}
	if detail != nil {
		out.Node, out.Services = newNode(detail.Node, c.shownDatacenter()), kept
	}
	return out, nil
}

// nodeDetail reads a node and those of its instances that pass the filter.
func nodeDetail(c *call) (*catalog.NodeDetail, []*nodeService, error) {
	if c.rest == "" {
		return nil, nil, badRequest(textMissingNode)
	}
	o, keep, err := readFiltered[nodeService](c)
	if err != nil {
		return nil, nil, err
	}
	detail, meta, err := ask(c, o, &catalog.NodeServices{Node: c.rest}, c.h.Catalog.NodeServices)
	if err != nil {
		return nil, nil, err
	}
	c.setMeta(meta, true)
	if detail == nil {
		return nil, nil, nil
	}
	kept := make([]*nodeService, 0, len(detail.Services))
	for _, s := range detail.Services {
		if shown := newNodeService(s); keep(shown) {
			kept = append(kept, shown)
		}
	}
	return detail, kept, nil
}

// shownDatacenter is where the answer's rows stand.
func (c *call) shownDatacenter() string {
	if dc := c.datacenter(); dc != "" {
		return dc
	}
	return c.h.Config.Datacenter
}

// registerBody is what is written into the catalog.
type registerBody struct {
	Datacenter      string
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	NodeMeta        map[string]string
	Service         *serviceBody
	Check           *checkBody
	Checks          []checkBody
	SkipNodeUpdate  bool
	Locality        *catalog.Locality
	PeerName        string

	// What clients read of rows they may send back; it is the servers' to set.
	CreateIndex, ModifyIndex uint64
}

// serviceBody is an instance in a registration.
type serviceBody struct {
	Kind              string
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]catalog.ServiceAddress
	Meta              map[string]string
	Port              int
	SocketPath        string
	Weights           *catalog.Weights
	EnableTagOverride bool
	Locality          *catalog.Locality
	Proxy             proxy
	Connect           struct{ Native bool }
	PeerName          string

	CreateIndex, ModifyIndex uint64
}

// checkBody is a check in a registration.
type checkBody struct {
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
	Definition  definitionBody
	PeerName    string

	CreateIndex, ModifyIndex uint64
}

// register writes a node, an instance on it and checks.
func register(c *call) (any, error) {
	var body registerBody
	if err := c.decode(&body); err != nil {
		return nil, hintTenancy(err)
	}
	if body.PeerName != "" || body.Service != nil && body.Service.PeerName != "" {
		return nil, &mvcc.Error{Code: mvcc.Invalid, Text: "cannot register requests with PeerName in them"}
	}
	if err := c.h.Catalog.Register(c.r.Context(), body.Datacenter, body.command()); err != nil {
		return nil, err
	}
	return true, nil
}

func (b *registerBody) command() *health.Register {
	r := &health.Register{Registration: catalog.Registration{
		Node: catalog.Node{ID: b.ID, Name: b.Node, Address: b.Address, TaggedAddresses: b.TaggedAddresses,
			Meta: b.NodeMeta, Locality: b.Locality},
		SkipNodeUpdate: b.SkipNodeUpdate,
	}}
	if s := b.Service; s != nil {
		r.Service = s.service()
		r.Service.Node = b.Node
	}
	if b.Check != nil {
		r.Checks = append(r.Checks, b.Check.check())
	}
	for i := range b.Checks {
		r.Checks = append(r.Checks, b.Checks[i].check())
	}
	return r
}

func (s *serviceBody) service() *catalog.Service {
	out := &catalog.Service{Kind: s.Kind, ID: s.ID, Name: s.Service, Tags: s.Tags, Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port, SocketPath: s.SocketPath,
		EnableTagOverride: s.EnableTagOverride, Locality: s.Locality, Proxy: s.Proxy, Native: s.Connect.Native}
	if s.Weights != nil {
		out.Weights = *s.Weights
	}
	return out
}

func (b *checkBody) check() health.Check {
	return health.Check{Node: b.Node, ID: b.CheckID, Name: b.Name, Status: health.Status(b.Status), Notes: b.Notes,
		Output: b.Output, ServiceID: b.ServiceID, ServiceName: b.ServiceName, ServiceTags: b.ServiceTags, Type: b.Type,
		Interval: b.Interval, Timeout: b.Timeout, ExposedPort: b.ExposedPort, Definition: b.Definition.definition()}
}

// deregister removes an instance, a check or a node.
func deregister(c *call) (any, error) {
	var body struct {
		Datacenter string
		Node       string
		Address    string
		ServiceID  string
		CheckID    string
		// Namespace is taken where it is empty: this body has always had it.
		Namespace string
	}
	if err := c.decode(&body); err != nil {
		return nil, hintTenancy(err)
	}
	if body.Namespace != "" {
		return nil, badRequest("Invalid request body: %q - %s", "Namespace", textNoNamespaces)
	}
	if body.Node == "" {
		return nil, &mvcc.Error{Code: mvcc.Invalid, Text: "Must provide node"}
	}
	d := &catalog.Deregister{Node: body.Node, ServiceID: body.ServiceID, CheckID: body.CheckID}
	if err := c.h.Catalog.Deregister(c.r.Context(), body.Datacenter, d); err != nil {
		return nil, err
	}
	return true, nil
}

// definitionBody is how a check in the catalog is meant to be run. What it does
// not know is passed over, so that checkers may keep their own settings there.
type definitionBody struct {
	checkDefinition
	Interval, Timeout, TTL, DeregisterCriticalServiceAfter duration
}

func (b *definitionBody) definition() health.Definition {
	d := &b.checkDefinition
	return health.Definition{HTTP: d.HTTP, TLSServerName: d.TLSServerName, TLSSkipVerify: d.TLSSkipVerify, Header: d.Header,
		Method: d.Method, Body: d.Body, DisableRedirects: d.DisableRedirects, TCP: d.TCP, TCPUseTLS: d.TCPUseTLS,
		UDP: d.UDP, H2PING: d.H2PING, H2PingUseTLS: d.H2PingUseTLS, OSService: d.OSService,
		Interval: time.Duration(b.Interval), Timeout: time.Duration(b.Timeout), TTL: time.Duration(b.TTL),
		DeregisterCriticalServiceAfter: time.Duration(b.DeregisterCriticalServiceAfter), OutputMaxSize: d.OutputMaxSize,
		ScriptArgs: d.ScriptArgs, DockerContainerID: d.DockerContainerID, Shell: d.Shell, GRPC: d.GRPC,
		GRPCUseTLS: d.GRPCUseTLS, AliasNode: d.AliasNode, AliasService: d.AliasService, SessionName: d.SessionName}
}
