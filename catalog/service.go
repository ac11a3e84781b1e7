package catalog

// Names that the cluster itself uses.
const (
	// ServerService is the service, and its instance's ID, that stands for each
	// server agent.
	ServerService = "consul"
	// MaxWeight is the largest weight of an instance (RFC 2782 gives it 16 bits).
	MaxWeight = 65535
	// MaxPort is the highest port of TCP and UDP (RFC 9293 gives it 16 bits). Port 0
	// is none at all.
	MaxPort = 65535
)

// Service is one instance of a service on a node. Services that a table
// returned are shared: nobody may write to them.
type Service struct {
	// Node is the name of the node that the instance stands on.
	Node string `codec:"Node"`
	// ID is unique on the node.
	ID string `codec:"ID"`
	// Name is the service's name, which all its instances share.
	Name string   `codec:"Name"`
	Kind string   `codec:"Kind"`
	Tags []string `codec:"Tags"`
	// Address is an IP address or a host name. Empty means the node's address.
	Address         string                    `codec:"Address"`
	TaggedAddresses map[string]ServiceAddress `codec:"TaggedAddresses"`
	// Meta is nil if none was ever given.
	Meta       map[string]string `codec:"Meta"`
	Port       int               `codec:"Port"`
	SocketPath string            `codec:"SocketPath"`
	Weights    Weights           `codec:"Weights"`
	// EnableTagOverride leaves the tags in the catalog to others than the
	// instance's own agent.
	EnableTagOverride bool      `codec:"EnableTagOverride"`
	Locality          *Locality `codec:"Locality"`
	// Proxy is the mesh's part of the definition, as compact JSON; empty if none
	// was given. Muster keeps it and does nothing with it.
	Proxy []byte `codec:"Proxy"`
	// Native is whether the instance speaks the mesh's protocol itself.
	Native bool `codec:"Native"`
	// CreateIndex and ModifyIndex are the Raft indexes of the first and the last
	// effective write.
	CreateIndex uint64 `codec:"CreateIndex"`
	ModifyIndex uint64 `codec:"ModifyIndex"`
}

// ServiceAddress is where an instance is reached over one kind of network.
type ServiceAddress struct {
	Address string `codec:"Address"`
	Port    int    `codec:"Port"`
}

// Weights are an instance's shares of the load while its checks pass and while
// they warn, each from 0 to [MaxWeight].
type Weights struct {
	Passing int `codec:"Passing"`
	Warning int `codec:"Warning"`
}

// Mark is an index row: the Raft index of the last change of what Name names.
type Mark struct {
	Name  string `codec:"Name"`
	Index uint64 `codec:"Index"`
}
