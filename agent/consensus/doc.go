// Package consensus owns a Raft node: its stores, its first configuration, the
// commands put into its log, and the knowledge of who leads.
//
// It knows nothing of what the commands mean (that is the state machine's), nor
// of how servers reach each other (that is the [Stream]'s). A server's ID also
// stands as its address in the stored configuration, and is resolved by the
// stream in each dial.
package consensus
