// Package local keeps what is registered at this agent: its services and
// checks, on disk and in memory, and true in the catalog.
//
// The agent is the authority on its own services. Whatever the catalog says of
// this node is compared with the registry and corrected, with exceptions: the
// instance of the server itself and the check that gossip decides belong to the
// cluster, and what stands in a file that cannot be read is left as it is. What
// others wrote under this node is reported before it is removed, with the index
// of their write, by which the history tells who it was.
//
// A change of status goes to the catalog at once. Output alone waits for
// [Config.CheckUpdateInterval], so that a check which says something else at each
// run costs no writes.
package local
