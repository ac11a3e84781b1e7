// Package mvcc is the one data structure under every table of Muster: a
// persistent, ordered map whose rows can be watched.
//
// A transaction makes the next version of a map and leaves the one before as
// it was, so a reader needs no lock, a snapshot is a pointer, and a failed
// transaction is simply dropped. The package also holds the few words that all
// layers share about reads: [ReadOptions], [Meta], [Error] and [Origin].
package mvcc
