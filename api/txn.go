package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// TxnOps is the body of a transaction. Clients read the name of this type in the
// refusal of a body that is no list.
type TxnOps []txnOp

// txnOp is one operation; one field is set, or none.
type txnOp struct {
	KV      *txnKV
	Node    *txnNode
	Service *txnService
	Check   *txnCheck
}

type txnKV struct {
	Verb    string
	Key     string
	Value   []byte
	Flags   uint64
	Index   uint64
	Session string
	tenancy
}

type txnNode struct {
	Verb string
	Node struct {
		ID              string
		Node            string
		Address         string
		Datacenter      string
		TaggedAddresses map[string]string
		Meta            map[string]string
		PeerName        string
		Locality        *catalog.Locality
		CreateIndex     uint64
		ModifyIndex     uint64
		tenancy
	}
}

type txnService struct {
	Verb    string
	Node    string
	Service struct {
		serviceBody
		tenancy
		// What is only ever shown, and may come back.
		ContentHash, Datacenter string
	}
	tenancy
}

type txnCheck struct {
	Verb  string
	Check struct {
		checkBody
		tenancy
	}
	tenancy
}

// tenancy are names of namespaces and partitions, which Muster has not. They are
// taken where they are empty.
type tenancy struct{ Namespace, Partition string }

// refuse refuses a name that is not empty: to ignore it would mix what the
// client keeps apart.
func (t *tenancy) refuse() error {
	switch {
	case t.Namespace != "":
		return badRequest("Invalid request body: %q - %s", "Namespace", textNoNamespaces)
	case t.Partition != "":
		return badRequest("Invalid request body: %q - %s", "Partition", textNoPartitions)
	}
	return nil
}

// transact carries out a transaction, or reads one that changes nothing.
func transact(c *call) (any, error) {
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	// A transaction is answered at once, whatever the client has seen before.
	o.Datacenter, o.Index, o.Wait = c.datacenter(), 0, 0
	ops, err := c.decodeTxn()
	if err != nil {
		return nil, err
	}
	t := &health.Transaction{Ops: make([]health.TxnOp, len(ops))}
	for i := range ops {
		if t.Ops[i], err = ops[i].op(i); err != nil {
			return nil, err
		}
	}
	outcome, meta, err := c.h.Txn.Transact(c.r.Context(), o, t)
	if err != nil {
		return nil, err
	}
	return c.showTxn(t, outcome, meta), nil
}

// decodeTxn reads the body within its limits.
func (c *call) decodeTxn() (TxnOps, error) {
	limit := max(c.h.Config.MaxTxnSize, c.h.Config.MaxValueSize)
	if c.r.ContentLength > limit {
		return nil, tooLarge("Request body(%d bytes) too large, max size: %d bytes. See limits.txn_max_req_len.",
			c.r.ContentLength, limit)
	}
	body, received := c.body(limit)
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	var ops TxnOps
	var over *http.MaxBytesError
	switch err := d.Decode(&ops); {
	case errors.As(err, &over):
		return nil, tooLarge("Request body(more than %d bytes) too large, max size: %d bytes. See limits.txn_max_req_len.",
			limit, limit)
	case err != nil && tooSlow(err) != nil:
		return nil, tooSlow(err)
	case err != nil:
		return nil, badRequest("Failed to parse body: %v", err)
	}
	received()
	if len(ops) > maxTxnOps {
		return nil, tooLarge("Transaction contains too many operations (%d > %d)", len(ops), maxTxnOps)
	}
	for i := range ops {
		if e := ops[i].KV; e != nil && int64(len(e.Value)) > c.h.Config.MaxValueSize {
			return nil, tooLarge("Value for key %q is too large (%d > %d bytes)", e.Key, len(e.Value), c.h.Config.MaxValueSize)
		}
	}
	return ops, nil
}

// op is the operation at a place of the transaction.
func (o *txnOp) op(place int) (health.TxnOp, error) {
	var out health.TxnOp
	var tenancies []*tenancy
	kinds, peer := 0, ""
	if e := o.KV; e != nil {
		kinds++
		tenancies = append(tenancies, &e.tenancy)
		out.KV = &kv.TxnOp{Verb: kv.Verb(e.Verb), Key: e.Key, Value: e.Value, Flags: e.Flags, Index: e.Index, Session: e.Session}
	}
	if o.Node != nil {
		kinds++
		n := &o.Node.Node
		tenancies, peer = append(tenancies, &n.tenancy), n.PeerName
		out.Node = &catalog.NodeOp{Verb: catalog.Verb(o.Node.Verb), Node: catalog.Node{ID: n.ID, Name: n.Node,
			Address: n.Address, TaggedAddresses: n.TaggedAddresses, Meta: n.Meta, Locality: n.Locality,
			ModifyIndex: n.ModifyIndex}}
	}
	if o.Service != nil {
		kinds++
		s := &o.Service.Service
		tenancies, peer = append(tenancies, &o.Service.tenancy, &s.tenancy), s.PeerName
		out.Service = &catalog.ServiceOp{Verb: catalog.Verb(o.Service.Verb), Service: *s.service()}
		out.Service.Service.Node, out.Service.Service.ModifyIndex = o.Service.Node, s.ModifyIndex
	}
	if o.Check != nil {
		kinds++
		ch := &o.Check.Check
		tenancies, peer = append(tenancies, &o.Check.tenancy, &ch.tenancy), ch.PeerName
		out.Check = &health.CheckOp{Verb: catalog.Verb(o.Check.Verb), Check: ch.check()}
		out.Check.Check.ModifyIndex = ch.ModifyIndex
	}
	if kinds > 1 {
		return out, badRequest("Failed to parse body: operation %d has %d of KV, Node, Service and Check, and may have one", place, kinds)
	}
	for _, t := range tenancies {
		if err := t.refuse(); err != nil {
			return out, err
		}
	}
	if peer != "" {
		return out, badRequest("Invalid request body: %q - Muster has no peering", "PeerName")
	}
	return out, nil
}

// txnResult is a row that an operation showed; one field is set.
type txnResult struct {
	KV      *entry       `json:",omitempty"`
	Node    *node        `json:",omitempty"`
	Service *nodeService `json:",omitempty"`
	Check   *healthCheck `json:",omitempty"`
}

type txnError struct {
	OpIndex int
	What    string
}

// txnAnswer is the body of an answer. Results is null beside errors, and Errors
// is null beside results.
type txnAnswer struct {
	Results []txnResult
	Errors  []txnError
	*txnMeta
}

// txnMeta is what the answer to a transaction that only reads says in its body
// of what it stands on.
type txnMeta struct {
	Index                 uint64
	LastContact           int64
	KnownLeader           bool
	ConsistencyLevel      string
	NotModified           bool
	Backend               int
	ResultsFilteredByACLs bool
}

// showTxn answers with what a transaction came to.
func (c *call) showTxn(t *health.Transaction, o *health.Outcome, meta mvcc.Meta) any {
	if len(o.Errors) > 0 {
		failed := txnAnswer{Errors: make([]txnError, len(o.Errors))}
		for i, e := range o.Errors {
			failed.Errors[i] = txnError{OpIndex: e.Op, What: e.Text}
		}
		return judged{http.StatusConflict, failed}
	}
	done := txnAnswer{Results: make([]txnResult, len(o.Results))}
	for i := range o.Results {
		done.Results[i] = newTxnResult(&o.Results[i], c.h.Config.Datacenter)
	}
	if t.ReadOnly() {
		c.setContact(meta)
		done.txnMeta = &txnMeta{Index: meta.Index, LastContact: int64(meta.LastContact), KnownLeader: meta.KnownLeader,
			ConsistencyLevel: meta.Mode.String()}
	}
	return done
}

// newTxnResult shows a row. Here alone, tags that are none are null.
func newTxnResult(r *health.TxnResult, dc string) txnResult {
	var out txnResult
	switch {
	case r.KV != nil:
		e := newEntry(r.KV)
		out.KV = &e
	case r.Node != nil:
		out.Node = newNode(r.Node, dc)
	case r.Service != nil:
		out.Service = newNodeService(r.Service)
		if len(out.Service.Tags) == 0 {
			out.Service.Tags = nil
		}
	case r.Check != nil:
		out.Check = newHealthCheck(r.Check)
		if len(out.Check.ServiceTags) == 0 {
			out.Check.ServiceTags = nil
		}
	}
	return out
}
