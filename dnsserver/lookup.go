package dnsserver

import (
	"context"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Lookup is what the server asks the catalog. What it returns is shared: the
// server never writes to it.
type Lookup interface {
	// Service returns all instances that the query matches, healthy or not.
	Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error)
	// Node returns the node of that name, or nil.
	Node(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error)
	// Address returns who has an IP address, or nil.
	Address(ctx context.Context, o mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error)
}
