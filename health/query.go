package health

// ServiceQuery asks for the instances of one service, by its name without
// regard to letter case, that have all of Tags (likewise) and stand on nodes
// with each pair of NodeMeta. The answer is an [][Entry] ordered by node and ID,
// whatever the checks say: readers judge health by [Entry.Worst].
type ServiceQuery struct {
	Service  string            `codec:"Service"`
	Tags     []string          `codec:"Tags"`
	NodeMeta map[string]string `codec:"NodeMeta"`
}

// NodeChecks asks for all checks of a node and of the instances on it. The
// answer is an []*[Check] by ID.
type NodeChecks struct {
	Node string `codec:"Node"`
}

// ServiceChecks asks for the checks of all instances of a service on nodes with
// each pair of NodeMeta, without those of the nodes. The answer is an []*[Check]
// by node and ID.
type ServiceChecks struct {
	Service  string            `codec:"Service"`
	NodeMeta map[string]string `codec:"NodeMeta"`
}

// StateChecks asks for all checks with a status, compared without regard to
// letter case, or with any if State is "any". The answer is an []*[Check] by node
// and ID.
type StateChecks struct {
	State    string            `codec:"State"`
	NodeMeta map[string]string `codec:"NodeMeta"`
}
