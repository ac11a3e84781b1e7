// Package local keeps what is registered at this agent: its services and
// checks, on disk and in memory, and true in the catalog.
//
// The agent is the authority on its own services. Whatever the catalog says of
// this node is compared with the registry and corrected, with two exceptions
// that belong to the cluster: the instance of the server itself and the check
// that gossip decides.
package local
