// Package catalog owns the nodes of the cluster and the service instances on
// them: their table, the rules of registration and the queries that read it.
//
// The package is pure: no I/O, no clock, no goroutines.
package catalog
