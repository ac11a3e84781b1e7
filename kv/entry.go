package kv

// Limits that hold for every entry.
const (
	// DefaultMaxValueSize is the largest value in bytes that is accepted unless
	// limits.kv_max_value_size says otherwise.
	DefaultMaxValueSize = 512 << 10
	// TombstoneTTL is how long in milliseconds a deletion is remembered, so that
	// readers of a prefix see their index move.
	TombstoneTTL = 15 * 60 * 1000
)

// Entry is a key with its value. Key and Value are arbitrary bytes. Entries
// that a table returned are shared: nobody may write to them.
type Entry struct {
	Key   string `codec:"Key"`
	Value []byte `codec:"Value"`
	// Flags is an opaque number that belongs to the writer.
	Flags uint64 `codec:"Flags"`
	// Session is the ID of the session that holds the key's lock, or empty.
	Session string `codec:"Session"`
	// LockIndex counts the successful acquisitions of the lock.
	LockIndex uint64 `codec:"LockIndex"`
	// Version counts the writes since the entry was created, beginning at 1.
	Version uint64 `codec:"Version"`
	// CreateIndex and ModifyIndex are the Raft indexes of the first and the last
	// effective write.
	CreateIndex uint64 `codec:"CreateIndex"`
	ModifyIndex uint64 `codec:"ModifyIndex"`
}

// Tombstone remembers the deletion of a key, or of all keys under a prefix, so
// that the index of a prefix moves although its entries are gone.
type Tombstone struct {
	// Key is the deleted key, or the prefix of a deleted tree.
	Key string `codec:"Key"`
	// Tree is whether all keys that begin with Key were deleted.
	Tree bool `codec:"Tree"`
	// Index is the Raft index of the deletion.
	Index uint64 `codec:"Index"`
	// At is when the leader stamped the deletion, in Unix milliseconds.
	At int64 `codec:"At"`
}

// Mark is an index row: the Raft index of the last change of what Name names.
type Mark struct {
	Name  string `codec:"Name"`
	Index uint64 `codec:"Index"`
}
