package kv

import "fmt"

// Verb is what an operation of a transaction does with a key.
type Verb string

// Verbs of operations on keys. They stand in logs.
const (
	VerbSet            Verb = "set"
	VerbCAS            Verb = "cas"
	VerbLock           Verb = "lock"
	VerbUnlock         Verb = "unlock"
	VerbGet            Verb = "get"
	VerbGetOrEmpty     Verb = "get-or-empty"
	VerbGetTree        Verb = "get-tree"
	VerbCheckIndex     Verb = "check-index"
	VerbCheckSession   Verb = "check-session"
	VerbCheckNotExists Verb = "check-not-exists"
	VerbDelete         Verb = "delete"
	VerbDeleteTree     Verb = "delete-tree"
	VerbDeleteCAS      Verb = "delete-cas"
)

// TxnOp is one operation of a transaction on a key, or for the verbs of trees on
// all keys that begin with Key (Consul API documentation, page "Transactions").
// Fields that the verb does not need mean nothing.
type TxnOp struct {
	Verb    Verb   `codec:"Verb"`
	Key     string `codec:"Key"`
	Value   []byte `codec:"Value"`
	Flags   uint64 `codec:"Flags"`
	Index   uint64 `codec:"Index"`
	Session string `codec:"Session"`
}

// Check refuses an operation that can never be carried out.
func (o *TxnOp) Check() error {
	switch o.Verb {
	case VerbGetTree, VerbDeleteTree:
		return nil
	case VerbSet, VerbCAS, VerbLock, VerbUnlock, VerbGet, VerbGetOrEmpty, VerbCheckIndex, VerbCheckSession,
		VerbCheckNotExists, VerbDelete, VerbDeleteCAS:
	default:
		return fmt.Errorf("unknown KV operation: %s", o.Verb)
	}
	if o.Key == "" {
		return fmt.Errorf("Must provide key")
	}
	return nil
}

// Reads reports whether the operation changes nothing.
func (o *TxnOp) Reads() bool {
	switch o.Verb {
	case VerbGet, VerbGetOrEmpty, VerbGetTree, VerbCheckIndex, VerbCheckSession, VerbCheckNotExists:
		return true
	}
	return false
}

// Do carries out one operation of a transaction and returns the entries that it
// shows: with their values if it reads them, else without. After an error the
// whole transaction is to be dropped.
func (x *Txn) Do(o *TxnOp) ([]*Entry, error) {
	switch o.Verb {
	case VerbSet:
		x.Set(&Set{Key: o.Key, Value: o.Value, Flags: o.Flags})
		return x.shown(o.Key), nil
	case VerbCAS:
		if !x.CAS(&CAS{Key: o.Key, Value: o.Value, Flags: o.Flags, Index: o.Index}) {
			return nil, fmt.Errorf("failed to set key %q, index is stale", o.Key)
		}
		return x.shown(o.Key), nil
	case VerbLock, VerbUnlock:
		return nil, o.noLock()
	case VerbDelete:
		x.Delete(&Delete{Key: o.Key})
		return nil, nil
	case VerbDeleteTree:
		x.DeleteTree(&DeleteTree{Prefix: o.Key})
		return nil, nil
	case VerbDeleteCAS:
		if !x.DeleteCAS(&DeleteCAS{Key: o.Key, Index: o.Index}) {
			return nil, fmt.Errorf("failed to delete key %q, index is stale", o.Key)
		}
		return nil, nil
	}
	return x.read(o)
}

// noLock says why a key cannot be locked or unlocked: there are no sessions yet,
// so none can hold it.
func (o *TxnOp) noLock() error {
	switch {
	case o.Session == "":
		return fmt.Errorf("missing session")
	case o.Verb == VerbLock:
		return fmt.Errorf("invalid session %q", o.Session)
	}
	return fmt.Errorf("failed to unlock key %q, lock isn't held, or is held by another session", o.Key)
}

// read carries out an operation that changes nothing.
func (x *Txn) read(o *TxnOp) ([]*Entry, error) {
	if o.Verb == VerbGetTree {
		pairs := x.entries.Prefix(o.Key)
		out := make([]*Entry, len(pairs))
		for i, p := range pairs {
			out[i] = p.Row
		}
		return out, nil
	}
	e, ok := x.entries.Get(o.Key)
	switch o.Verb {
	case VerbGet:
		if !ok {
			return nil, fmt.Errorf("key %q doesn't exist", o.Key)
		}
		return []*Entry{e}, nil
	case VerbGetOrEmpty:
		if !ok {
			e = &Entry{Key: o.Key}
		}
		return []*Entry{e}, nil
	case VerbCheckNotExists:
		if ok {
			return nil, fmt.Errorf("key %q exists", o.Key)
		}
		return nil, nil
	case VerbCheckIndex:
		if !ok {
			return nil, fmt.Errorf("failed to check index, key %q doesn't exist", o.Key)
		}
		if e.ModifyIndex != o.Index {
			return nil, fmt.Errorf("failed index check for key %q, current modify index %d != %d", o.Key, e.ModifyIndex, o.Index)
		}
		return x.shown(o.Key), nil
	case VerbCheckSession:
		if !ok {
			return nil, fmt.Errorf("failed to check session, key %q doesn't exist", o.Key)
		}
		if e.Session != o.Session {
			return nil, fmt.Errorf("failed session check for key %q, current session %q != %q", o.Key, e.Session, o.Session)
		}
		return x.shown(o.Key), nil
	}
	return nil, o.Check()
}

// shown is the entry of a key without its value.
func (x *Txn) shown(key string) []*Entry {
	e, _ := x.entries.Get(key)
	bare := *e
	bare.Value = nil
	return []*Entry{&bare}
}
