package catalog

// Registration is the node and, if Service is not nil, the instance that a
// registration writes.
type Registration struct {
	Node Node `codec:"Node"`
	// SkipNodeUpdate leaves a node that exists as it is.
	SkipNodeUpdate bool     `codec:"SkipNodeUpdate"`
	Service        *Service `codec:"Service"`
}

// Deregister removes an instance with its checks if ServiceID is set, else a
// check if CheckID is set, else the whole node. Removing what is not there
// succeeds.
type Deregister struct {
	Node      string `codec:"Node"`
	ServiceID string `codec:"ServiceID"`
	CheckID   string `codec:"CheckID"`
}
