package catalog

// Node is a machine, or anything else that services run on. Nodes that a table
// returned are shared: nobody may write to them.
type Node struct {
	// ID is the node's UUID, or empty for nodes that were registered without.
	ID string `codec:"ID"`
	// Name is unique without regard to letter case.
	Name    string `codec:"Name"`
	Address string `codec:"Address"`
	// TaggedAddresses are further addresses by kind, as in "wan" or "lan_ipv4".
	TaggedAddresses map[string]string `codec:"TaggedAddresses"`
	Meta            map[string]string `codec:"Meta"`
	Locality        *Locality         `codec:"Locality"`
	// CreateIndex and ModifyIndex are the Raft indexes of the first and the last
	// effective write.
	CreateIndex uint64 `codec:"CreateIndex"`
	ModifyIndex uint64 `codec:"ModifyIndex"`
}

// Locality says where a node or an instance stands. Zone needs Region.
type Locality struct {
	Region string `codec:"Region"`
	Zone   string `codec:"Zone"`
}
