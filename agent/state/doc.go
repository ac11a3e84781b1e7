// Package state is the replicated state machine: what the cluster has agreed on
// as one immutable [View], changed only by commands.
//
// Two switches are its tables of contents: apply says what can be done, and
// Answer what can be asked. What one table's change means for another stands in
// cascade.go, and the numbers of the formats on disk in wire.go.
package state
