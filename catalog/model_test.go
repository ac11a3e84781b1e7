package catalog_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// naive is a catalog of Go maps, without any index row.
type naive struct {
	nodes    map[string]catalog.Node    // by name in lower case
	services map[string]catalog.Service // by node in lower case, a slash and ID
}

func (n naive) clone() naive { return naive{maps.Clone(n.nodes), maps.Clone(n.services)} }

func (n naive) setNode(row catalog.Node, index uint64) {
	key := strings.ToLower(row.Name)
	row.CreateIndex, row.ModifyIndex = index, index
	if old, ok := n.nodes[key]; ok {
		row.CreateIndex, row.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(old, row) {
			return
		}
		row.ModifyIndex = index
	}
	n.nodes[key] = row
}

func (n naive) setService(row catalog.Service, index uint64) {
	key := strings.ToLower(row.Node) + "/" + row.ID
	row.CreateIndex, row.ModifyIndex = index, index
	if old, ok := n.services[key]; ok {
		row.CreateIndex, row.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(old, row) {
			return
		}
		row.ModifyIndex = index
	}
	n.services[key] = row
}

// on returns the IDs of the instances on a node.
func (n naive) on(node string) []string {
	var ids []string
	for _, s := range n.services {
		if strings.EqualFold(s.Node, node) {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// instances returns those of a service, or of all if it is empty, in order.
func (n naive) instances(service string) []catalog.Instance {
	var out []catalog.Instance
	for _, s := range n.services {
		if service == "" || strings.EqualFold(s.Name, service) {
			node := n.nodes[strings.ToLower(s.Node)]
			out = append(out, catalog.Instance{Node: &node, Service: &s})
		}
	}
	slices.SortFunc(out, func(a, b catalog.Instance) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Service.Name), strings.ToLower(b.Service.Name)),
			cmp.Compare(strings.ToLower(a.Node.Name), strings.ToLower(b.Node.Name)), cmp.Compare(a.Service.ID, b.Service.ID))
	})
	return out
}

var (
	modelNodes    = []string{"n1", "n10", "N2", "x"}
	modelServices = []string{"web", "web2", "db", "Api", "gone"}
	modelIDs      = []string{"", "aa00" + uuid[4:], "aa11" + uuid[4:], "bb00" + uuid[4:]}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// anyCase gives a name in one of the ways in which it may be written.
func anyCase(r *rand.Rand, name string) string {
	if r.IntN(4) == 0 {
		return strings.ToUpper(name)
	}
	return name
}

// randomOp returns a change that respects what callers promise: an instance's
// node exists, a node that goes has none, and no two nodes have one ID. It makes
// the change in the naive catalog at once.
func randomOp(r *rand.Rand, n naive, index uint64) (string, op) {
	node := anyCase(r, pick(r, modelNodes))
	_, there := n.nodes[strings.ToLower(node)]
	switch kind := r.IntN(10); {
	case !there || kind < 2:
		row := catalog.Node{Name: node, Address: pick(r, []string{"10.0.0.1", "10.0.0.2"}), ID: pick(r, modelIDs)}
		if r.IntN(3) == 0 {
			row.Meta = map[string]string{"rack": pick(r, []string{"1", "2"})}
		}
		for key, other := range n.nodes {
			if other.ID == row.ID && key != strings.ToLower(node) {
				row.ID = ""
			}
		}
		n.setNode(row, index)
		return fmt.Sprintf("SetNode(%+v)", row), func(tx *catalog.Txn) { tx.SetNode(row) }
	case kind < 3:
		for _, id := range n.on(node) {
			delete(n.services, strings.ToLower(node)+"/"+id)
		}
		delete(n.nodes, strings.ToLower(node))
		return "noNode " + node, noNode(node)
	case kind < 5:
		id := pick(r, []string{"1", "2", "3"})
		delete(n.services, strings.ToLower(node)+"/"+id)
		return "DeleteService " + node + "/" + id, noService(node, id)
	default:
		row := catalog.Service{Node: node, ID: pick(r, []string{"1", "2", "3"}), Name: anyCase(r, pick(r, modelServices[:4])), Port: r.IntN(2), Tags: []string{pick(r, []string{"a", "b"})}}
		n.setService(row, index)
		return fmt.Sprintf("SetService(%+v)", row), func(tx *catalog.Txn) { tx.SetService(row) }
	}
}

// TestModel drives a table with random changes beside a naive catalog: all reads
// are answered alike, no index falls, the index of a read is that of the change
// exactly when its answer changed, and its reader is woken then.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 3)), 300) })
		})
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	table, model := catalog.NewTable(), naive{map[string]catalog.Node{}, map[string]catalog.Service{}}
	last := map[string]uint64{}
	var sum mvcc.Sum
	var index uint64
	for range steps {
		index += 1 + uint64(r.IntN(3))
		next := model.clone()
		var said []string
		var ops []op
		for range 1 + max(0, r.IntN(6)-3) {
			text, do := randomOp(r, next, index)
			said, ops = append(said, text), append(ops, do)
		}
		reads := allReads(model, next)
		for i := range reads {
			reads[i].check(t, table, reads[i].before, &reads[i].watch)
		}
		j := newJournal()
		tx := table.Txn(j, index)
		for _, do := range ops {
			do(tx)
		}
		checkIDs(t, tx, next)
		before := table
		table = tx.Commit()
		tx.Notify()
		sum = sum.Add(j.Delta())
		checkReplay(t, before, table, j, sum)

		for i := range reads {
			rd := &reads[i]
			now := rd.check(t, table, rd.after, nil)
			moved := !reflect.DeepEqual(rd.before, rd.after)
			switch {
			case now < last[rd.name]:
				t.Fatalf("after %q at %d the index of %s fell from %d to %d", said, index, rd.name, last[rd.name], now)
			case moved && now != index:
				t.Fatalf("after %q at %d the index of %s is %d", said, index, rd.name, now)
			case moved && !woken(t, &rd.watch):
				t.Fatalf("after %q the reader of %s sleeps on", said, rd.name)
			case !moved && len(ops) == 1 && rd.there && now != last[rd.name]:
				t.Fatalf("after %q, which does not concern %s, its index went from %d to %d", said, rd.name, last[rd.name], now)
			}
			last[rd.name] = now
		}
		model = next
	}
}

// reading is a query with its answer before and after a change. What is there
// has an index of its own, which nothing else moves.
type reading struct {
	name          string
	before, after any
	there         bool
	ask           func(t catalog.Table, w *mvcc.Watch) (any, uint64)
	watch         mvcc.Watch
}

func (rd *reading) check(t *testing.T, table catalog.Table, want any, w *mvcc.Watch) uint64 {
	t.Helper()
	got, index := rd.ask(table, w)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s is answered with\n%+v, want\n%+v", rd.name, got, want)
	}
	if index == 0 {
		t.Fatalf("the index of %s is zero", rd.name)
	}
	return index
}

func allReads(before, after naive) []reading {
	add := func(out []reading, name string, answer func(naive) (any, bool), ask func(catalog.Table, *mvcc.Watch) (any, uint64)) []reading {
		a, there := answer(before)
		b, _ := answer(after)
		return append(out, reading{name: name, before: a, after: b, there: there, ask: ask})
	}
	var out []reading
	for _, name := range append([]string{""}, modelServices...) {
		out = add(out, "service "+name,
			func(n naive) (any, bool) {
				list := n.instances(name)
				return list, len(list) > 0 && name != ""
			},
			func(t catalog.Table, w *mvcc.Watch) (any, uint64) {
				list, index := t.Instances(&catalog.Instances{Service: strings.ToUpper(name)}, w)
				var out []catalog.Instance
				for _, in := range list {
					out = append(out, *in)
				}
				return out, index
			})
	}
	for _, name := range modelNodes {
		out = add(out, "node "+name,
			func(n naive) (any, bool) {
				row, ok := n.nodes[strings.ToLower(name)]
				if !ok {
					return "none", false
				}
				var services []catalog.Service
				for _, id := range n.on(name) {
					services = append(services, n.services[strings.ToLower(name)+"/"+id])
				}
				return fmt.Sprintf("%+v %+v", row, services), true
			},
			func(t catalog.Table, w *mvcc.Watch) (any, uint64) {
				d, index := t.NodeServices(&catalog.NodeServices{Node: name}, w)
				if d == nil {
					return "none", index
				}
				var services []catalog.Service
				for _, s := range d.Services {
					services = append(services, *s)
				}
				return fmt.Sprintf("%+v %+v", *d.Node, services), index
			})
	}
	for _, prefix := range []string{"aa", "AA0", "bb00", "a-", "cc"} {
		out = add(out, "ID "+prefix,
			func(n naive) (any, bool) {
				var found []catalog.Node
				for _, row := range n.nodes {
					if strings.HasPrefix(row.ID, strings.ToLower(prefix)) {
						found = append(found, row)
					}
				}
				if len(found) != 1 {
					return "none", false
				}
				return fmt.Sprintf("%+v %q", found[0], n.on(found[0].Name)), false
			},
			func(t catalog.Table, w *mvcc.Watch) (any, uint64) {
				d, index := t.NodeServices(&catalog.NodeServices{Node: prefix}, w)
				if d == nil {
					return "none", index
				}
				var ids []string
				for _, s := range d.Services {
					ids = append(ids, s.ID)
				}
				return fmt.Sprintf("%+v %q", *d.Node, ids), index
			})
	}
	return out
}

// checkIDs compares the map from IDs to nodes with the nodes.
func checkIDs(t *testing.T, tx *catalog.Txn, n naive) {
	t.Helper()
	for _, id := range modelIDs[1:] {
		var want string
		for _, row := range n.nodes {
			if row.ID == id {
				want = row.Name
			}
		}
		got := ""
		if row := tx.NodeByID(strings.ToUpper(id)); row != nil {
			got = row.Name
		}
		if got != want {
			t.Fatalf("ID %s is that of node %q, want %q", id, got, want)
		}
	}
}

// checkReplay makes the table anew, from its rows as a snapshot does and from
// the changed rows as a history does, and compares every row, what is derived
// from them, and the sum.
func checkReplay(t *testing.T, before, table catalog.Table, j *mvcc.Journal, sum mvcc.Sum) {
	t.Helper()
	restored := catalog.NewTable().Txn(newJournal(), 0)
	var recount mvcc.Sum
	for _, row := range rowsOf(table) {
		recount = recount.Add(mvcc.HashRow(encode(nil, row)))
		restored.Load(nil, row)
	}
	if recount != sum {
		t.Fatalf("the kept sum is %v, a recount says %v", sum, recount)
	}
	replayed := before.Txn(newJournal(), 0)
	for _, c := range j.Changes() {
		replayed.Load(c.Before, c.After)
	}
	for how, again := range map[string]catalog.Table{"restored": restored.Commit(), "replayed": replayed.Commit()} {
		if got, want := rowsOf(again), rowsOf(table); !reflect.DeepEqual(got, want) {
			t.Fatalf("the %s table holds %+v, want %+v", how, got, want)
		}
		got, _ := again.Instances(&catalog.Instances{}, nil)
		want, _ := table.Instances(&catalog.Instances{}, nil)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("the %s table has the instances %+v, want %+v", how, got, want)
		}
		a, b := again.Txn(nil, 0), table.Txn(nil, 0)
		for _, id := range modelIDs {
			if !reflect.DeepEqual(a.NodeByID(id), b.NodeByID(id)) {
				t.Fatalf("in the %s table ID %q is that of %+v, want %+v", how, id, a.NodeByID(id), b.NodeByID(id))
			}
		}
	}
}

func rowsOf(table catalog.Table) []any {
	var rows []any
	table.Rows(func(row any) bool { rows = append(rows, row); return true })
	return rows
}
