package kv

// Set writes an entry. Writing an equal value and equal flags again changes
// nothing: no index moves and nobody is woken.
type Set struct {
	Key   string `codec:"Key"`
	Value []byte `codec:"Value"`
	Flags uint64 `codec:"Flags"`
}

// CAS writes an entry if its ModifyIndex is Index. An Index of zero writes only
// if the entry does not exist. The result is whether it was written.
type CAS struct {
	Key   string `codec:"Key"`
	Value []byte `codec:"Value"`
	Flags uint64 `codec:"Flags"`
	Index uint64 `codec:"Index"`
}

// Delete removes an entry. Removing what is not there succeeds.
type Delete struct {
	Key string `codec:"Key"`
}

// DeleteCAS removes an entry if its ModifyIndex is Index. Removing what is not
// there succeeds. The result is whether the entry is gone.
type DeleteCAS struct {
	Key   string `codec:"Key"`
	Index uint64 `codec:"Index"`
}

// DeleteTree removes every entry whose key begins with Prefix. An empty Prefix
// means all of them.
type DeleteTree struct {
	Prefix string `codec:"Prefix"`
}

// Reap forgets the tombstones of deletions up to and including Index.
type Reap struct {
	Index uint64 `codec:"Index"`
}
