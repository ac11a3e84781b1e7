// Package gossip knows who takes part in the cluster: it finds members, tells
// those who left from those who died, carries small events, and measures how
// far members are. It stands on memberlist, whose opinion of who answers it
// refines.
package gossip
