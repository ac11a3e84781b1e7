// Package health owns the states of checks, and the join of nodes, instances
// and checks that DNS and HTTP ask for.
//
// The package is pure: no I/O, no clock, no goroutines. Running checks is the
// work of package health/check.
package health
