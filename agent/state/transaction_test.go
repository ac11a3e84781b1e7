package state

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

var (
	keyVerbs = []kv.Verb{kv.VerbSet, kv.VerbSet, kv.VerbCAS, kv.VerbLock, kv.VerbGet, kv.VerbGetOrEmpty, kv.VerbGetTree,
		kv.VerbCheckNotExists, kv.VerbDelete, kv.VerbDeleteTree, kv.VerbDeleteCAS}
	rowVerbs = []catalog.Verb{catalog.VerbSet, catalog.VerbSet, catalog.VerbSet, catalog.VerbCAS, catalog.VerbDelete,
		catalog.VerbDeleteCAS}
)

// randomTransaction makes a transaction on the names of randomCommand. Of all
// that it makes, some succeed and some fail.
func randomTransaction(r *rand.Rand) *health.Transaction {
	t := &health.Transaction{}
	node := fmt.Sprintf("n%d", r.IntN(5))
	service := fmt.Sprintf("s%d", r.IntN(4))
	index := uint64(r.IntN(2)) * uint64(r.IntN(300))
	verb := func() catalog.Verb { return rowVerbs[r.IntN(len(rowVerbs))] }
	for range r.IntN(4) {
		var o health.TxnOp
		switch r.IntN(4) {
		case 0:
			o.KV = &kv.TxnOp{Verb: keyVerbs[r.IntN(len(keyVerbs))], Key: fmt.Sprintf("k/%d/%d", r.IntN(4), r.IntN(6)),
				Value: []byte{byte(r.IntN(3))}, Index: index}
		case 1:
			o.Node = &catalog.NodeOp{Verb: verb(), Node: catalog.Node{Name: node, ID: []string{"", "id-1", "id-2"}[r.IntN(3)],
				Address: fmt.Sprintf("10.0.0.%d", r.IntN(3)), ModifyIndex: index}}
		case 2:
			o.Service = &catalog.ServiceOp{Verb: verb(), Service: catalog.Service{Node: node, ID: service,
				Name: fmt.Sprintf("web%d", r.IntN(3)), ModifyIndex: index}}
		default:
			owner := []string{"", service}[r.IntN(2)]
			o.Check = &health.CheckOp{Verb: verb(), Check: health.Check{Node: node, ID: "c" + service, ServiceID: owner,
				Status: []health.Status{health.Passing, health.Critical}[r.IntN(2)], ModifyIndex: index}}
		}
		t.Ops = append(t.Ops, o)
	}
	return t
}

// Short ways to write operations.

func onKey(verb kv.Verb, key string) health.TxnOp {
	return health.TxnOp{KV: &kv.TxnOp{Verb: verb, Key: key, Value: []byte("new")}}
}

func onKeyAt(verb kv.Verb, key string, index uint64) health.TxnOp {
	o := onKey(verb, key)
	o.KV.Index = index
	return o
}

func onKeyBy(verb kv.Verb, key, session string) health.TxnOp {
	o := onKey(verb, key)
	o.KV.Session = session
	return o
}

func onNode(verb catalog.Verb, name, id string, index uint64) health.TxnOp {
	return health.TxnOp{Node: &catalog.NodeOp{Verb: verb, Node: catalog.Node{Name: name, ID: id, Address: "10.0.0.9", ModifyIndex: index}}}
}

func onService(verb catalog.Verb, node, id string, index uint64) health.TxnOp {
	return health.TxnOp{Service: &catalog.ServiceOp{Verb: verb, Service: catalog.Service{Node: node, ID: id, Name: "web", Port: 81, ModifyIndex: index}}}
}

func onCheck(verb catalog.Verb, node, id, service string, index uint64) health.TxnOp {
	return health.TxnOp{Check: &health.CheckOp{Verb: verb, Check: health.Check{Node: node, ID: id, ServiceID: service, Status: health.Warning, ModifyIndex: index}}}
}

// stage is a machine with a key (index 1), a node with an ID (2), an instance
// and its check (3) and a node without an ID (4).
func stage(t *testing.T) *Machine {
	t.Helper()
	m := NewMachine()
	web := &catalog.Service{Node: "n1", ID: "web1", Name: "web", Port: 80, Tags: []string{"x"}}
	full := func(n string) *health.Register { return node(n, "10.0.0.1") }
	first := full("n1")
	first.Node.ID = "id-1"
	for i, cmd := range []any{
		&kv.Set{Key: "a/k", Value: []byte("old"), Flags: 3},
		first,
		on(node("n1", ""), web, health.Check{ID: "c1", ServiceID: "web1", Status: health.Passing}),
		full("n2"),
	} {
		m.Apply(entry(t, uint64(i+1), cmd))
	}
	return m
}

// show is a result in few words.
func show(r health.TxnResult) string {
	switch {
	case r.KV != nil:
		return fmt.Sprintf("%s=%s@%d-%d", r.KV.Key, r.KV.Value, r.KV.CreateIndex, r.KV.ModifyIndex)
	case r.Node != nil:
		return fmt.Sprintf("%s %s@%d-%d", r.Node.Name, r.Node.Address, r.Node.CreateIndex, r.Node.ModifyIndex)
	case r.Service != nil:
		return fmt.Sprintf("%s/%s:%d@%d-%d", r.Service.Node, r.Service.ID, r.Service.Port, r.Service.CreateIndex, r.Service.ModifyIndex)
	case r.Check != nil:
		return fmt.Sprintf("%s/%s %s of %q@%d-%d", r.Check.Node, r.Check.ID, r.Check.Status, r.Check.ServiceName, r.Check.CreateIndex, r.Check.ModifyIndex)
	}
	return "nothing"
}

func TestVerbsOfTransactions(t *testing.T) {
	const index = 9
	for _, c := range []struct {
		what  string
		op    health.TxnOp
		shows string // one result
		fails string
	}{
		{what: "set", op: onKey(kv.VerbSet, "a/new"), shows: "a/new=@9-9"},
		{what: "set over", op: onKey(kv.VerbSet, "a/k"), shows: "a/k=@1-9"},
		{what: "set the same", op: health.TxnOp{KV: &kv.TxnOp{Verb: kv.VerbSet, Key: "a/k", Value: []byte("old"), Flags: 3}}, shows: "a/k=@1-1"},
		{what: "cas", op: onKeyAt(kv.VerbCAS, "a/k", 1), shows: "a/k=@1-9"},
		{what: "cas creates", op: onKeyAt(kv.VerbCAS, "a/new", 0), shows: "a/new=@9-9"},
		{what: "cas of another index", op: onKeyAt(kv.VerbCAS, "a/k", 2), fails: `failed to set key "a/k", index is stale`},
		{what: "cas of what is there", op: onKeyAt(kv.VerbCAS, "a/k", 0), fails: `failed to set key "a/k", index is stale`},
		{what: "cas of what is not", op: onKeyAt(kv.VerbCAS, "a/none", 1), fails: `failed to set key "a/none", index is stale`},
		{what: "get", op: onKey(kv.VerbGet, "a/k"), shows: "a/k=old@1-1"},
		{what: "get nothing", op: onKey(kv.VerbGet, "a/none"), fails: `key "a/none" doesn't exist`},
		{what: "get-or-empty", op: onKey(kv.VerbGetOrEmpty, "a/k"), shows: "a/k=old@1-1"},
		{what: "get-or-empty of nothing", op: onKey(kv.VerbGetOrEmpty, "a/none"), shows: "a/none=@0-0"},
		{what: "get-tree", op: onKey(kv.VerbGetTree, "a"), shows: "a/k=old@1-1"},
		{what: "get-tree of nothing", op: onKey(kv.VerbGetTree, "z")},
		{what: "check-index", op: onKeyAt(kv.VerbCheckIndex, "a/k", 1), shows: "a/k=@1-1"},
		{what: "check-index of another", op: onKeyAt(kv.VerbCheckIndex, "a/k", 7), fails: `failed index check for key "a/k", current modify index 1 != 7`},
		{what: "check-index of nothing", op: onKeyAt(kv.VerbCheckIndex, "a/none", 1), fails: `failed to check index, key "a/none" doesn't exist`},
		{what: "check-session", op: onKeyBy(kv.VerbCheckSession, "a/k", ""), shows: "a/k=@1-1"},
		{what: "check-session of another", op: onKeyBy(kv.VerbCheckSession, "a/k", "s"), fails: `failed session check for key "a/k", current session "" != "s"`},
		{what: "check-session of nothing", op: onKeyBy(kv.VerbCheckSession, "a/none", "s"), fails: `failed to check session, key "a/none" doesn't exist`},
		{what: "check-not-exists", op: onKey(kv.VerbCheckNotExists, "a/none")},
		{what: "check-not-exists of a key", op: onKey(kv.VerbCheckNotExists, "a/k"), fails: `key "a/k" exists`},
		{what: "delete", op: onKey(kv.VerbDelete, "a/k")},
		{what: "delete nothing", op: onKey(kv.VerbDelete, "a/none")},
		{what: "delete-tree", op: onKey(kv.VerbDeleteTree, "a")},
		{what: "delete-cas", op: onKeyAt(kv.VerbDeleteCAS, "a/k", 1)},
		{what: "delete-cas of another index", op: onKeyAt(kv.VerbDeleteCAS, "a/k", 2), fails: `failed to delete key "a/k", index is stale`},
		{what: "lock without a session", op: onKey(kv.VerbLock, "a/k"), fails: "missing session"},
		{what: "unlock without a session", op: onKey(kv.VerbUnlock, "a/k"), fails: "missing session"},
		{what: "lock by an unknown session", op: onKeyBy(kv.VerbLock, "a/k", "s"), fails: `invalid session "s"`},
		{what: "unlock by an unknown session", op: onKeyBy(kv.VerbUnlock, "a/k", "s"), fails: `failed to unlock key "a/k", lock isn't held, or is held by another session`},

		{what: "get a node", op: onNode(catalog.VerbGet, "N1", "", 0), shows: "n1 10.0.0.1@2-2"},
		{what: "get a node by its ID", op: onNode(catalog.VerbGet, "other", "ID-1", 0), shows: "n1 10.0.0.1@2-2"},
		{what: "get no node", op: onNode(catalog.VerbGet, "nobody", "", 0), fails: `node "nobody" doesn't exist`},
		{what: "get no node by ID", op: onNode(catalog.VerbGet, "", "id-9", 0), fails: `node "id-9" doesn't exist`},
		{what: "set a node", op: onNode(catalog.VerbSet, "n3", "", 0), shows: "n3 10.0.0.9@9-9"},
		{what: "set a node again", op: onNode(catalog.VerbSet, "n2", "", 0), shows: "n2 10.0.0.9@4-9"},
		{what: "rename a node", op: onNode(catalog.VerbSet, "n9", "id-1", 0), shows: "n9 10.0.0.9@9-9"},
		{what: "cas of a node", op: onNode(catalog.VerbCAS, "n2", "", 4), shows: "n2 10.0.0.9@4-9"},
		{what: "cas gives a node an ID", op: onNode(catalog.VerbCAS, "n2", "id-2", 4), shows: "n2 10.0.0.9@4-9"},
		{what: "cas creates a node", op: onNode(catalog.VerbCAS, "n3", "", 0), shows: "n3 10.0.0.9@9-9"},
		{what: "cas of a node with another index", op: onNode(catalog.VerbCAS, "n2", "", 3), fails: `failed to set node "n2", index is stale`},
		{what: "delete a node", op: onNode(catalog.VerbDelete, "n1", "", 0)},
		{what: "delete no node", op: onNode(catalog.VerbDelete, "nobody", "", 0)},
		{what: "delete-cas of a node", op: onNode(catalog.VerbDeleteCAS, "n1", "", 2)},
		{what: "delete-cas of a node with another index", op: onNode(catalog.VerbDeleteCAS, "n1", "", 3), fails: `failed to delete node "n1", index is stale`},

		{what: "get an instance", op: onService(catalog.VerbGet, "n1", "web1", 0), shows: "n1/web1:80@3-3"},
		{what: "get no instance", op: onService(catalog.VerbGet, "n1", "none", 0), fails: `service "none" on node "n1" doesn't exist`},
		{what: "set an instance", op: onService(catalog.VerbSet, "N2", "web1", 0), shows: "n2/web1:81@9-9"},
		{what: "set an instance of no node", op: onService(catalog.VerbSet, "nobody", "web1", 0), fails: "Missing node registration"},
		{what: "cas of an instance", op: onService(catalog.VerbCAS, "n1", "web1", 3), shows: "n1/web1:81@3-9"},
		{what: "cas of an instance with another index", op: onService(catalog.VerbCAS, "n1", "web1", 2), fails: `failed to set service "web1" on node "n1", index is stale`},
		{what: "delete an instance", op: onService(catalog.VerbDelete, "n1", "web1", 0)},
		{what: "delete-cas of an instance", op: onService(catalog.VerbDeleteCAS, "n1", "web1", 3)},
		{what: "delete-cas of an instance with another index", op: onService(catalog.VerbDeleteCAS, "n1", "web1", 4), fails: `failed to delete service "web1" on node "n1", index is stale`},

		{what: "get a check", op: onCheck(catalog.VerbGet, "n1", "c1", "", 0), shows: `n1/c1 passing of "web"@3-3`},
		{what: "get no check", op: onCheck(catalog.VerbGet, "n1", "none", "", 0), fails: `check "none" on node "n1" doesn't exist`},
		{what: "set a check", op: onCheck(catalog.VerbSet, "n1", "c1", "web1", 0), shows: `n1/c1 warning of "web"@3-9`},
		{what: "set a check of a node", op: onCheck(catalog.VerbSet, "N1", "c2", "", 0), shows: `n1/c2 warning of ""@9-9`},
		{what: "set a check of no node", op: onCheck(catalog.VerbSet, "nobody", "c2", "", 0), fails: "Missing node registration"},
		{what: "set a check of no instance", op: onCheck(catalog.VerbSet, "n1", "c2", "none", 0), fails: "Unknown service ID 'none' for check ID 'c2'"},
		{what: "cas of a check", op: onCheck(catalog.VerbCAS, "n1", "c1", "web1", 3), shows: `n1/c1 warning of "web"@3-9`},
		{what: "cas of a check with another index", op: onCheck(catalog.VerbCAS, "n1", "c1", "web1", 2), fails: `failed to set check "c1" on node "n1", index is stale`},
		{what: "delete a check", op: onCheck(catalog.VerbDelete, "n1", "c1", "", 0)},
		{what: "delete-cas of a check", op: onCheck(catalog.VerbDeleteCAS, "n1", "c1", "", 3)},
		{what: "delete-cas of a check with another index", op: onCheck(catalog.VerbDeleteCAS, "n1", "c1", "", 2), fails: `failed to delete check "c1" on node "n1", index is stale`},
		{what: "nothing", op: health.TxnOp{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := stage(t)
			before := m.View()
			cmd := &health.Transaction{Ops: []health.TxnOp{onKey(kv.VerbSet, "beside"), c.op}}
			res := m.Apply(entry(t, index, cmd)).(Result)
			if res.Err != nil {
				t.Fatal(res.Err)
			}
			if c.fails != "" {
				want := []health.TxnError{{Op: 1, Text: c.fails}}
				if res.OK || !reflect.DeepEqual(res.Txn.Errors, want) || res.Txn.Results != nil {
					t.Errorf("got %+v, want %+v", res.Txn, want)
				}
				if m.View() != before {
					t.Error("a transaction that failed left something behind")
				}
				return
			}
			var shows []string
			for _, r := range res.Txn.Results[1:] {
				shows = append(shows, show(r))
			}
			want := []string(nil)
			if c.shows != "" {
				want = []string{c.shows}
			}
			if !res.OK || len(res.Txn.Errors) > 0 || !reflect.DeepEqual(shows, want) {
				t.Errorf("got %q, errors %+v, want %q", shows, res.Txn.Errors, want)
			}
			if got, want := m.View().Hash(), m.View().Recount(); got != want {
				t.Errorf("hash %s, recount %s", got, want)
			}
		})
	}
}

func TestTransactionsNameAllFailures(t *testing.T) {
	m := stage(t)
	before := m.View()
	watch := &mvcc.Watch{}
	if _, err := before.Answer(&kv.Get{Key: "a/k"}, watch); err != nil {
		t.Fatal(err)
	}
	res := m.Apply(entry(t, 9, &health.Transaction{Ops: []health.TxnOp{
		onKey(kv.VerbGet, "none"),
		onKey(kv.VerbSet, "a/k"),
		onNode(catalog.VerbDelete, "n1", "", 0),
		onService(catalog.VerbGet, "n1", "web1", 0),
		onKeyAt(kv.VerbCheckIndex, "a/k", 1),
	}})).(Result)
	want := []health.TxnError{
		{Op: 0, Text: `key "none" doesn't exist`},
		{Op: 3, Text: `service "web1" on node "n1" doesn't exist`},
		{Op: 4, Text: `failed index check for key "a/k", current modify index 9 != 1`},
	}
	if !reflect.DeepEqual(res.Txn.Errors, want) {
		t.Errorf("got %+v", res.Txn.Errors)
	}
	if m.View() != before {
		t.Error("the transaction left something behind")
	}
	ctx, cancel := canceled()
	defer cancel()
	if watch.Wait(ctx, nil) {
		t.Error("a transaction that failed woke a reader")
	}
	if steps, err := m.History().Since(4); err != nil || len(steps) != 0 {
		t.Errorf("history has %d steps, %v", len(steps), err)
	}
}

func TestTransactionIsOneIndex(t *testing.T) {
	m := stage(t)
	res := m.Apply(entry(t, 9, &health.Transaction{Ops: []health.TxnOp{
		onKey(kv.VerbSet, "x"),
		onNode(catalog.VerbSet, "n3", "", 0),
		onService(catalog.VerbSet, "n3", "web3", 0),
		onCheck(catalog.VerbSet, "n3", "c3", "web3", 0),
	}})).(Result)
	var got []string
	for _, r := range res.Txn.Results {
		got = append(got, show(r))
	}
	want := []string{"x=@9-9", "n3 10.0.0.9@9-9", "n3/web3:81@9-9", `n3/c3 warning of "web"@9-9`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	for _, q := range []any{&kv.Get{Key: "x"}, &catalog.Nodes{}, &catalog.Services{}, &health.ServiceQuery{Service: "web"}} {
		if a, err := m.View().Answer(q, nil); err != nil || a.Index != 9 {
			t.Errorf("%T has index %d, %v", q, a.Index, err)
		}
	}
}

func TestTransactionsThatReadAreQueries(t *testing.T) {
	m := stage(t)
	hash := m.View().Hash()
	a, err := m.View().Answer(&health.Transaction{Ops: []health.TxnOp{
		onKey(kv.VerbGetTree, ""), onNode(catalog.VerbGet, "n1", "", 0), {},
	}}, nil)
	if err != nil || a.Index != 4 || len(a.Value.(*health.Outcome).Results) != 2 {
		t.Errorf("got %+v, %v", a, err)
	}
	_, err = m.View().Answer(&health.Transaction{Ops: []health.TxnOp{onKey(kv.VerbSet, "x")}}, nil)
	if mvcc.CodeOf(err) != mvcc.Internal {
		t.Errorf("a transaction that writes was answered: %v", err)
	}
	if m.View().Hash() != hash {
		t.Error("a question changed the state")
	}
	if a, err := NewMachine().View().Answer(&health.Transaction{}, nil); err != nil || a.Index != 1 {
		t.Errorf("before any write: %+v, %v", a, err)
	}
}

func TestTransactionsRefusedBeforeTheyAreTried(t *testing.T) {
	bad := func(o health.TxnOp) []health.TxnError {
		return (&health.Transaction{Ops: []health.TxnOp{onKey(kv.VerbGet, "none"), o}}).Normalize()
	}
	nodeOp := func(n catalog.Node) health.TxnOp {
		return health.TxnOp{Node: &catalog.NodeOp{Verb: catalog.VerbSet, Node: n}}
	}
	serviceOp := func(v catalog.Verb, s catalog.Service) health.TxnOp {
		return health.TxnOp{Service: &catalog.ServiceOp{Verb: v, Service: s}}
	}
	for _, c := range []struct {
		op   health.TxnOp
		text string
	}{
		{onKey("shout", "a"), "unknown KV operation: shout"},
		{onKey("", "a"), "unknown KV operation: "},
		{onKey(kv.VerbSet, ""), "Must provide key"},
		{onKey(kv.VerbGetTree, ""), ""},
		{onKey(kv.VerbDeleteTree, ""), ""},
		{onNode("shout", "n", "", 0), "unknown Node operation: shout"},
		{onNode(catalog.VerbGet, "", "", 0), "Must provide node"},
		{nodeOp(catalog.Node{ID: "0e5f6b6e-0000-4000-8000-000000000001"}), "Must provide node"},
		{nodeOp(catalog.Node{Name: "n", ID: "zz"}), `Bad node ID: "zz" is not a UUID`},
		{nodeOp(catalog.Node{Name: "n\x00"}), `Invalid node name "n\x00": it must not contain a NUL byte`},
		{onService("shout", "n", "s", 0), "unknown Service operation: shout"},
		{onService(catalog.VerbGet, "", "s", 0), "Must provide node"},
		{serviceOp(catalog.VerbGet, catalog.Service{Node: "n", ID: "s"}), ""},
		{serviceOp(catalog.VerbDelete, catalog.Service{Node: "n", ID: "s"}), "Must provide service name (Service.Service) when service ID is provided"},
		{serviceOp(catalog.VerbSet, catalog.Service{Node: "n"}), "Must provide service name (Service.Service)"},
		{serviceOp(catalog.VerbSet, catalog.Service{Node: "n", Name: "a\x00"}), `Invalid service name "a\x00": it must not contain a NUL byte`},
		{onCheck("shout", "n", "c", "", 0), "unknown Check operation: shout"},
		{onCheck(catalog.VerbSet, "", "c", "", 0), "Must provide node"},
		{onCheck(catalog.VerbSet, "n", "", "", 0), "Must provide check ID"},
		{onCheck(catalog.VerbSet, "n", "c\x00", "", 0), `Invalid check ID "c\x00": it must not contain a NUL byte`},
		{health.TxnOp{}, ""},
	} {
		errs := bad(c.op)
		var want []health.TxnError
		if c.text != "" {
			want = []health.TxnError{{Op: 1, Text: c.text}}
		}
		if !reflect.DeepEqual(errs, want) {
			t.Errorf("got %+v, want %+v", errs, want)
		}
	}
}

func TestRefusedTransactionInABatchLeavesTheOthers(t *testing.T) {
	m, alone := NewMachine(), NewMachine()
	good := []*raft.Log{entry(t, 1, &kv.Set{Key: "a"}), entry(t, 3, &kv.Set{Key: "b"})}
	failed := entry(t, 2, &health.Transaction{Ops: []health.TxnOp{onKey(kv.VerbSet, "c"), onKey(kv.VerbGet, "none")}})
	m.ApplyBatch([]*raft.Log{good[0], failed, good[1]})
	alone.ApplyBatch(good)
	mustEqual(t, "with a refused transaction between", m.View(), alone.View())
}
