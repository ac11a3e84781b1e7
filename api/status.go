package api

import (
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// statusLeader tells the server port of the leader; it is empty if none is
// known.
func statusLeader(c *call) (any, error) {
	return fetched(c.h.Status.Leader(c.r.Context(), c.datacenter()))
}

// statusPeers tells the server ports of all who take part.
func statusPeers(c *call) (any, error) {
	peers, err := c.h.Status.Peers(c.r.Context(), c.datacenter())
	return fetched(listed(peers), err)
}

// datacenters lists the known datacenters, the agent's own first.
func datacenters(c *call) (any, error) {
	names, err := c.h.Status.Datacenters(c.r.Context())
	return fetched(listed(names), err)
}

// fetched is an answer, or the error instead.
func fetched[T any](value T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}

// listed is a list that is never null.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ownDatacenter refuses writes to other datacenters.
func (c *call) ownDatacenter(dc string) error {
	if dc != "" && !strings.EqualFold(dc, c.h.Config.Datacenter) {
		return &mvcc.Error{Code: mvcc.NoPath, Text: textNoPath}
	}
	return nil
}
