package catalog

// Nodes asks for all nodes whose metadata has each pair of Meta. The answer is
// an []*[Node] by name.
type Nodes struct {
	Meta map[string]string `codec:"Meta"`
}

// NodeQuery asks for one node by its name, without regard to letter case. The
// answer is a *[Node], nil if there is none.
type NodeQuery struct {
	Name string `codec:"Name"`
}

// NodeServices asks for a node and all instances on it, by the node's name, or
// by an unambiguous prefix of its ID of at least two characters if no node has
// that name. The answer is a *[NodeDetail], nil if there is none.
type NodeServices struct {
	Node string `codec:"Node"`
}

// NodeDetail is a node with all instances on it, ordered by ID.
type NodeDetail struct {
	Node     *Node      `codec:"Node"`
	Services []*Service `codec:"Services"`
}

// Instances asks for the instances of one service, by its name without regard
// to letter case, that have all of Tags (likewise) and stand on nodes with each
// pair of NodeMeta. An empty Service asks for all instances of all services.
// The answer is an []*[Instance] ordered by service name, node and ID.
type Instances struct {
	Service  string            `codec:"Service"`
	Tags     []string          `codec:"Tags"`
	NodeMeta map[string]string `codec:"NodeMeta"`
}

// Instance is a service instance together with its node.
type Instance struct {
	Node    *Node    `codec:"Node"`
	Service *Service `codec:"Service"`
}

// Services asks for the names of all services with the tags that any of their
// instances on nodes with each pair of NodeMeta have. The answer is a
// [ServiceTags], ordered by name.
type Services struct {
	NodeMeta map[string]string `codec:"NodeMeta"`
}

// ServiceTags lists services by name, each with its distinct tags in the order
// in which they are first met.
type ServiceTags []NamedTags

// NamedTags is a service's name and the distinct tags of its instances.
type NamedTags struct {
	Name string   `codec:"Name"`
	Tags []string `codec:"Tags"`
}

// AddressQuery asks who has an IP address: the first node with that address or,
// if there is none, the first instance. The answer is an *[AddressOwner], nil
// if nobody has it.
type AddressQuery struct {
	Address string `codec:"Address"`
}

// AddressOwner is who has an address: a node, or an instance by its service.
type AddressOwner struct {
	Node    *Node    `codec:"Node"`
	Service *Service `codec:"Service"`
}
