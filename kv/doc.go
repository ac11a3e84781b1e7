// Package kv owns the key/value entries of the cluster: their table, the
// commands that change it and the queries that read it.
//
// The package is pure: no I/O, no clock, no goroutines. Time and identifiers
// come in with the commands, so that every server applies them alike.
package kv
