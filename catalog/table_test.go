package catalog_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// encode writes a row so that unequal rows differ.
func encode(dst []byte, row any) []byte {
	b, err := json.Marshal(row)
	if err != nil {
		panic(err)
	}
	return append(fmt.Appendf(dst, "%T", row), b...)
}

func newJournal() *mvcc.Journal { return &mvcc.Journal{Encode: encode} }

// op is one thing that a transaction does.
type op func(*catalog.Txn)

// step carries out ops at one index, and wakes who has to be woken.
func step(t catalog.Table, index uint64, ops ...op) catalog.Table {
	tx := t.Txn(newJournal(), index)
	for _, do := range ops {
		do(tx)
	}
	next := tx.Commit()
	tx.Notify()
	return next
}

// after returns the table after ops at the indexes 1, 2, and so on.
func after(ops ...op) catalog.Table {
	t := catalog.NewTable()
	for i, do := range ops {
		t = step(t, uint64(i+1), do)
	}
	return t
}

func node(name, address string) op {
	return func(tx *catalog.Txn) { tx.SetNode(catalog.Node{Name: name, Address: address}) }
}

func nodeID(name, id string) op {
	return func(tx *catalog.Txn) { tx.SetNode(catalog.Node{Name: name, ID: id, Address: "10.0.0.1"}) }
}

func nodeMeta(name string, meta map[string]string) op {
	return func(tx *catalog.Txn) { tx.SetNode(catalog.Node{Name: name, Address: "10.0.0.1", Meta: meta}) }
}

// service sets an instance with its tags.
func service(node, id, name string, tags ...string) op {
	return func(tx *catalog.Txn) { tx.SetService(catalog.Service{Node: node, ID: id, Name: name, Tags: tags}) }
}

func serviceAt(node, id, name, address string) op {
	return func(tx *catalog.Txn) {
		tx.SetService(catalog.Service{Node: node, ID: id, Name: name, Address: address})
	}
}

func noService(node, id string) op { return func(tx *catalog.Txn) { tx.DeleteService(node, id) } }

// noNode removes a node after its instances.
func noNode(name string) op {
	return func(tx *catalog.Txn) {
		for _, s := range tx.ServicesOn(name) {
			tx.DeleteService(name, s.ID)
		}
		tx.DeleteNode(name)
	}
}

func touch(service string) op { return func(tx *catalog.Txn) { tx.TouchService(service) } }

// read answers a query in short, as "nodes", "services", "all", "service web",
// "node n1", "detail n1" or "address 10.0.0.1".
func read(t catalog.Table, query string, w *mvcc.Watch) (string, uint64) {
	kind, name, _ := strings.Cut(query, " ")
	switch kind {
	case "nodes":
		nodes, index := t.Nodes(&catalog.Nodes{}, w)
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return strings.Join(names, " "), index
	case "services":
		services, index := t.Services(&catalog.Services{}, w)
		var names []string
		for _, s := range services {
			names = append(names, s.Name+"["+strings.Join(s.Tags, " ")+"]")
		}
		return strings.Join(names, " "), index
	case "all", "service":
		return instances(t, &catalog.Instances{Service: name}, w)
	case "node":
		n, index := t.Node(&catalog.NodeQuery{Name: name}, w)
		if n == nil {
			return "none", index
		}
		return n.Name + "@" + n.Address, index
	case "detail":
		d, index := t.NodeServices(&catalog.NodeServices{Node: name}, w)
		if d == nil {
			return "none", index
		}
		text := d.Node.Name + ":"
		for _, s := range d.Services {
			text += " " + s.ID
		}
		return text, index
	case "address":
		o, index := t.Address(&catalog.AddressQuery{Address: name}, w)
		switch {
		case o == nil:
			return "none", index
		case o.Service == nil:
			return o.Node.Name, index
		}
		return o.Node.Name + "/" + o.Service.ID, index
	}
	panic("unknown query " + query)
}

func instances(t catalog.Table, q *catalog.Instances, w *mvcc.Watch) (string, uint64) {
	list, index := t.Instances(q, w)
	var out []string
	for _, in := range list {
		if !strings.EqualFold(in.Node.Name, in.Service.Node) {
			panic("an instance of " + in.Service.Node + " was joined with node " + in.Node.Name)
		}
		out = append(out, in.Node.Name+"/"+in.Service.ID)
	}
	return strings.Join(out, " "), index
}

func TestLookups(t *testing.T) {
	table := after(
		nodeID("n1", "aa00"+uuid[4:]), nodeID("N2", "aa11"+uuid[4:]), node("n10", "10.0.0.10"), node("beef", "10.0.0.4"), nodeID("n5", "bee0"+uuid[4:]),
		service("n1", "web1", "Web", "a", "B"), service("N2", "web1", "web", "b", "C"), service("n1", "web0", "web", "a"),
		service("n10", "web", "web"), service("n1", "db", "db", "x"), service("n1", "w", "webber"),
		serviceAt("n1", "ext", "ext", "10.7.7.7"), serviceAt("n1", "six", "ext", "2001:DB8::1"), serviceAt("n1", "host", "ext", "web.example.com"),
	)
	for query, want := range map[string]string{
		"nodes":    "beef n1 n10 N2 n5",
		"services": "db[x] ext[] web[a B b C] webber[]", // as its first instance writes it
		"all":      "n1/db n1/ext n1/host n1/six n1/web0 n1/web1 n10/web N2/web1 n1/w",

		"service web":          "n1/web0 n1/web1 n10/web N2/web1",
		"service WEB":          "n1/web0 n1/web1 n10/web N2/web1",
		"service webber":       "n1/w",
		"service we":           "",
		"service none":         "",
		"service web\x00n1":    "",
		"service web\x00":      "",
		"service \x00":         "",
		"service db\x00n1\x00": "",

		"node n1":   "n1@10.0.0.1",
		"node n2":   "N2@10.0.0.1",
		"node n":    "none",
		"node ":     "none",
		"node aa00": "none",

		"detail n1":       "n1: db ext host six w web0 web1",
		"detail N1":       "n1: db ext host six w web0 web1",
		"detail n10":      "n10: web",
		"detail aa0":      "n1: db ext host six w web0 web1",
		"detail AA11":     "N2: web1",
		"detail aa":       "none", // of two nodes
		"detail a":        "none", // too short
		"detail bee":      "n5:",
		"detail beef":     "beef:", // the name comes first
		"detail bee0":     "n5:",
		"detail dead":     "none",
		"detail n":        "none",
		"detail ":         "none",
		"detail n1\x00db": "none",

		"address 10.0.0.10":          "n10",
		"address 10.0.0.1":           "n1",
		"address 10.7.7.7":           "n1/ext",
		"address 2001:db8::1":        "n1/six",
		"address 2001:db8:0:0::0:01": "n1/six",
		"address 10.0.0.99":          "none",
		"address web.example.com":    "none", // no address
		"address ":                   "none",
	} {
		if got, index := read(table, query, nil); got != want || index == 0 {
			t.Errorf("%q is answered with %q at %d, want %q", query, got, index, want)
		}
	}
	if d, _ := table.NodeServices(&catalog.NodeServices{Node: "aa11" + strings.ToUpper(uuid[4:])}, nil); d == nil || d.Node.Name != "N2" {
		t.Errorf("a whole ID is answered with %+v", d)
	}
}

// TestEmptyAnswers are lists, never nil, and their index is never zero.
func TestEmptyAnswers(t *testing.T) {
	table := catalog.NewTable()
	nodes, a := table.Nodes(&catalog.Nodes{}, nil)
	list, b := table.Instances(&catalog.Instances{Service: "web"}, nil)
	all, c := table.Instances(&catalog.Instances{}, nil)
	services, d := table.Services(&catalog.Services{}, nil)
	if nodes == nil || list == nil || all == nil || services == nil {
		t.Errorf("empty answers are %v, %v, %v, %v", nodes, list, all, services)
	}
	_, e := table.Node(&catalog.NodeQuery{Name: "n"}, nil)
	_, f := table.NodeServices(&catalog.NodeServices{Node: "abc"}, nil)
	_, g := table.Address(&catalog.AddressQuery{Address: "10.0.0.1"}, nil)
	if got := []uint64{a, b, c, d, e, f, g}; !slices.Equal(got, []uint64{1, 1, 1, 1, 1, 1, 1}) {
		t.Errorf("indexes of an empty table are %v", got)
	}
	full := after(node("n1", "a"), service("n1", "w", "web"))
	got, _ := full.NodeServices(&catalog.NodeServices{Node: "n1"}, nil)
	empty, _ := after(node("n1", "a")).NodeServices(&catalog.NodeServices{Node: "n1"}, nil)
	if len(got.Services) != 1 || empty.Services == nil {
		t.Errorf("instances of a node are %v and %v", got.Services, empty.Services)
	}
}

func TestTagsAndMeta(t *testing.T) {
	table := after(
		nodeMeta("n1", map[string]string{"rack": "1", "os": "linux"}), nodeMeta("n2", map[string]string{"rack": "2", "os": ""}), node("n3", "a"),
		service("n1", "1", "web", "A", "b"), service("n2", "2", "web", "a"), service("n3", "3", "web"), service("n3", "4", "db", "z"),
	)
	type m = map[string]string
	for _, c := range []struct {
		tags []string
		meta m
		want string
	}{
		{nil, nil, "n1/1 n2/2 n3/3"},
		{[]string{"a"}, nil, "n1/1 n2/2"},
		{[]string{"A"}, nil, "n1/1 n2/2"},
		{[]string{"a", "B"}, nil, "n1/1"},
		{[]string{"b", "a", "a"}, nil, "n1/1"},
		{[]string{"a", "z"}, nil, ""},
		{[]string{""}, nil, ""},
		{nil, m{"rack": "1"}, "n1/1"},
		{nil, m{"rack": "1", "os": "linux"}, "n1/1"},
		{nil, m{"rack": "1", "os": ""}, ""},
		{nil, m{"os": ""}, "n2/2"},
		{nil, m{"none": ""}, ""},
		{nil, m{"Rack": "1"}, ""},
		{nil, m{"os": "LINUX"}, ""},
		{[]string{"a"}, m{"rack": "2"}, "n2/2"},
		{[]string{"b"}, m{"rack": "2"}, ""},
		{nil, m{}, "n1/1 n2/2 n3/3"},
	} {
		if got, _ := instances(table, &catalog.Instances{Service: "web", Tags: c.tags, NodeMeta: c.meta}, nil); got != c.want {
			t.Errorf("instances with tags %q on nodes with %q are %q, want %q", c.tags, c.meta, got, c.want)
		}
	}
	nodes, _ := table.Nodes(&catalog.Nodes{Meta: m{"rack": "2"}}, nil)
	if len(nodes) != 1 || nodes[0].Name != "n2" {
		t.Errorf("nodes of rack 2 are %+v", nodes)
	}
	for meta, want := range map[string]string{"1": "[{web [A b]}]", "2": "[{web [a]}]", "3": "[]"} {
		services, _ := table.Services(&catalog.Services{NodeMeta: m{"rack": meta}}, nil)
		if got := fmt.Sprint(services); got != want {
			t.Errorf("services of rack %s are %s, want %s", meta, got, want)
		}
	}
}

// TestIndexes has the index of reads after a few changes.
func TestIndexes(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []op
		want map[string]uint64
	}{
		{"a node", []op{node("n1", "a")}, map[string]uint64{"nodes": 1, "node n1": 1, "detail N1": 1, "services": 1, "service web": 1}},
		{"nodes and instances", []op{node("n1", "a"), node("n2", "b"), service("n1", "w", "web"), service("n2", "d", "db")},
			map[string]uint64{"nodes": 4, "node n1": 3, "node n2": 4, "services": 4, "service web": 3, "service db": 4, "service none": 4, "node none": 4, "all": 4}},
		{"an instance changes", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "d", "db"), service("n1", "w", "web", "new")},
			map[string]uint64{"service web": 4, "service db": 3, "services": 4, "nodes": 4, "node n1": 4}},
		{"the same again", []op{node("n1", "a"), service("n1", "w", "web", "x"), service("n1", "w", "web", "x"), node("n1", "a"), noService("n1", "none"), noNode("none")},
			map[string]uint64{"service web": 2, "services": 2, "nodes": 2, "node n1": 2, "service none": 2, "node none": 2}},
		{"a node changes", []op{node("n1", "a"), node("n2", "a"), service("n1", "w", "web"), service("n2", "d", "db"), node("n1", "b")},
			map[string]uint64{"nodes": 5, "node n1": 5, "node n2": 4, "service web": 5, "service db": 4, "services": 4, "all": 5, "address a": 5}},
		{"a check of an instance changes", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "d", "db"), touch("WEB")},
			map[string]uint64{"service web": 4, "service db": 3, "services": 3, "nodes": 3, "node n1": 3}},
		{"one of two instances goes", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "v", "WEB"), noService("n1", "w")},
			map[string]uint64{"service web": 4, "services": 4, "node n1": 4, "nodes": 4}},
		{"the last instance goes", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "d", "db"), noService("n1", "w"), service("n1", "d", "db", "x")},
			map[string]uint64{"service web": 4, "service db": 5, "service none": 4, "services": 5, "node n1": 5}},
		{"two services go", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "d", "db"), noService("n1", "w"), noService("n1", "d")},
			map[string]uint64{"service web": 5, "service db": 5, "service none": 5}},
		{"a service comes back", []op{node("n1", "a"), service("n1", "w", "web"), noService("n1", "w"), service("n1", "w", "web")},
			map[string]uint64{"service web": 4, "service none": 3}},
		{"an instance gets another name", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "d", "db"), service("n1", "w", "api")},
			map[string]uint64{"service web": 4, "service api": 4, "service db": 3, "service none": 4, "services": 4}},
		{"one of two instances gets another name", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "v", "web"), service("n1", "w", "api")},
			map[string]uint64{"service web": 4, "service api": 4, "service none": 4}},
		{"an instance's name in another case", []op{node("n1", "a"), service("n1", "w", "web"), service("n1", "w", "WEB")},
			map[string]uint64{"service web": 3}},
		{"a node goes", []op{node("n1", "a"), node("n2", "a"), service("n1", "w", "web"), service("n2", "v", "web"), service("n1", "d", "db"), noNode("n1"), node("n3", "a")},
			map[string]uint64{"nodes": 7, "node n1": 6, "node none": 6, "detail none": 6, "detail abc": 7, "node n2": 4, "service web": 6, "service db": 6, "services": 6}},
		{"a node comes back", []op{node("n1", "a"), noNode("N1"), node("n1", "a")},
			map[string]uint64{"nodes": 3, "node n1": 3, "node none": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := after(c.ops...)
			for query, want := range c.want {
				if _, got := read(table, query, nil); got != want {
					t.Errorf("the index of %q is %d, want %d", query, got, want)
				}
			}
		})
	}
}

// TestRowIndexes has the create and modify indexes of rows.
func TestRowIndexes(t *testing.T) {
	table := after(node("n1", "a"), service("n1", "w", "web"), node("N1", "a"), service("N1", "w", "api"), node("N1", "a"), service("N1", "w", "api"))
	d, _ := table.NodeServices(&catalog.NodeServices{Node: "n1"}, nil)
	if n := d.Node; n.Name != "N1" || n.CreateIndex != 1 || n.ModifyIndex != 3 {
		t.Errorf("the node is %+v", *n)
	}
	if len(d.Services) != 1 {
		t.Fatalf("the node has %d instances", len(d.Services))
	}
	if s := d.Services[0]; s.Name != "api" || s.CreateIndex != 2 || s.ModifyIndex != 4 {
		t.Errorf("the instance is %+v", *s)
	}
	table = step(table, 7, noNode("n1"), node("n1", "a"), service("n1", "w", "api"))
	d, _ = table.NodeServices(&catalog.NodeServices{Node: "n1"}, nil)
	if d.Node.CreateIndex != 7 || d.Services[0].CreateIndex != 7 {
		t.Errorf("made anew, the node is %+v, the instance %+v", *d.Node, *d.Services[0])
	}
}

func TestNodeIDs(t *testing.T) {
	const one, two = "aaaaaaaa" + "-1f2a-4b5c-8d7e-9f0a1b2c3d4e", "bbbbbbbb" + "-1f2a-4b5c-8d7e-9f0a1b2c3d4e"
	for _, c := range []struct {
		name string
		ops  []op
		want string // holders of one and two
	}{
		{"two nodes", []op{nodeID("n1", one), nodeID("n2", two)}, "n1 n2"},
		{"in another case", []op{nodeID("n1", strings.ToUpper(one))}, "n1 -"},
		{"another ID", []op{nodeID("n1", one), nodeID("n1", two)}, "- n1"},
		{"no ID any more", []op{nodeID("n1", one), node("n1", "a")}, "- -"},
		{"an ID later", []op{node("n1", "a"), nodeID("n1", one)}, "n1 -"},
		{"the node goes", []op{nodeID("n1", one), noNode("n1")}, "- -"},
		{"a new name", []op{nodeID("n1", one), noNode("n1"), nodeID("n2", one)}, "n2 -"},
		{"two nodes exchange IDs", []op{nodeID("n1", one), nodeID("n2", two), node("n1", "a"), nodeID("n2", one), nodeID("n1", two)}, "n2 n1"},
		{"another address", []op{nodeID("n1", one), func(tx *catalog.Txn) { tx.SetNode(catalog.Node{Name: "n1", ID: one, Address: "b"}) }}, "n1 -"},
	} {
		table := after(c.ops...)
		tx := table.Txn(nil, 99)
		var got []string
		for _, id := range []string{one, two} {
			if n := tx.NodeByID(id); n == nil {
				got = append(got, "-")
			} else {
				got = append(got, n.Name)
				if now := tx.Node(n.Name); now != n {
					t.Errorf("%s: by ID the node is %+v, by name %+v", c.name, n, now)
				}
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: the holders are %q, want %q", c.name, text, c.want)
		}
		if tx.NodeByID("") != nil {
			t.Errorf("%s: a node has the empty ID", c.name)
		}
	}
}

// woken reports whether w has something to wake for. It needs the time of
// synctest, in which the timer passes only when nothing else can happen.
func woken(t *testing.T, w *mvcc.Watch) bool {
	return w.Wait(t.Context(), time.After(time.Second))
}

// TestWakes has who is woken by a change.
func TestWakes(t *testing.T) {
	given := []op{
		nodeID("n1", "aa00"+uuid[4:]), nodeID("n2", "ab00"+uuid[4:]),
		service("n1", "w", "web"), service("n2", "d", "db"), service("n2", "c", "db"), service("n2", "a", "api"),
	}
	for _, c := range []struct {
		name          string
		change        op
		woken, asleep []string
	}{
		{"an instance changes", service("n1", "w", "web", "x"), []string{"service web", "node n1", "detail n1", "detail aa", "nodes", "services", "all"}, []string{"service db", "service api", "node n2"}},
		{"a check changes", touch("web"), []string{"service web"}, []string{"service db", "node n1", "nodes", "services", "detail n1"}},
		{"a first instance comes", service("n2", "n", "new"), []string{"service new", "services", "node n2", "all"}, []string{"service web", "service db", "node n1"}},
		{"one of two instances goes", noService("n2", "c"), []string{"service db", "services", "node n2", "all"}, []string{"service web", "node n1"}},
		{"the last instance goes", noService("n1", "w"), []string{"service web", "services", "node n1", "all"}, []string{"service db", "node n2"}},
		{"an instance gets another name", service("n1", "w", "new"), []string{"service web", "service new", "services"}, []string{"service db"}},
		{"a node's address changes", node("n2", "b"), []string{"node n2", "nodes", "service db", "service api", "all", "address 10.0.0.1"}, []string{"service web", "services", "node n1"}},
		{"a node comes", nodeID("n3", "ac00"+uuid[4:]), []string{"nodes", "node n3", "detail n3", "detail ac", "detail a0", "detail aa"}, []string{"service web", "services", "node n1", "node n2"}},
		{"a node goes", noNode("n1"), []string{"nodes", "node n1", "detail n1", "detail aa", "service web", "services", "all"}, []string{"service db", "node n2"}},
		{"nothing changes", service("n1", "w", "web"), nil, []string{"service web", "node n1", "nodes", "services", "detail aa", "detail n1", "service none", "node none", "all"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			table := after(given...)
			watches := map[string]*mvcc.Watch{}
			before := map[string]uint64{}
			for _, query := range slices.Concat(c.woken, c.asleep) {
				watches[query] = new(mvcc.Watch)
				_, before[query] = read(table, query, watches[query])
			}
			next := step(table, 10, c.change)
			for _, query := range c.woken {
				if !woken(t, watches[query]) {
					t.Errorf("%s: the reader of %q sleeps on", c.name, query)
				}
				if _, index := read(next, query, nil); index != 10 || before[query] >= 10 {
					t.Errorf("%s: the index of %q went from %d to %d, want 10", c.name, query, before[query], index)
				}
			}
			for _, query := range c.asleep {
				if woken(t, watches[query]) {
					t.Errorf("%s: the reader of %q woke", c.name, query)
				}
				if _, index := read(next, query, nil); index != before[query] {
					t.Errorf("%s: the index of %q went from %d to %d", c.name, query, before[query], index)
				}
			}
		})
	}
}

func TestDroppedTxn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := after(nodeID("n1", uuid), service("n1", "w", "web"), node("n2", "a"), service("n2", "d", "db"))
		queries := []string{"nodes", "services", "all", "service web", "node n1", "detail 0b3d", "service none"}
		var w mvcc.Watch
		before := ""
		for _, q := range queries {
			text, index := read(table, q, &w)
			before += fmt.Sprintln(q, text, index)
		}
		tx := table.Txn(newJournal(), 9)
		for _, do := range []op{service("n1", "w", "api"), node("n3", "a"), noNode("n1"), noService("n2", "d"), touch("x")} {
			do(tx)
		}
		after := ""
		for _, q := range queries {
			text, index := read(table, q, nil)
			after += fmt.Sprintln(q, text, index)
		}
		if before != after || woken(t, &w) {
			t.Errorf("a dropped transaction changed\n%s to\n%s", before, after)
		}
	})
}

// Instances hold one copy of the metadata and tags that they have in common with
// the first of their service, and no others.
func TestInstancesShare(t *testing.T) {
	instance := func(id, version string, tags ...string) op {
		return func(tx *catalog.Txn) {
			tx.SetService(catalog.Service{Node: "n1", ID: id, Name: "web", Tags: tags, Meta: map[string]string{"version": version}})
		}
	}
	table := after(node("n1", "10.0.0.1"), instance("a", "1", "x", "y"), instance("b", "1", "x", "y"), instance("c", "2", "x", "z"), instance("d", "1"))
	list, _ := table.Instances(&catalog.Instances{Service: "web"}, nil)
	if len(list) != 4 {
		t.Fatalf("there are %d instances", len(list))
	}
	meta := func(i int) uintptr { return reflect.ValueOf(list[i].Service.Meta).Pointer() }
	for i, want := range []bool{true, true, false, true} {
		if got := meta(i) == meta(0); got != want {
			t.Errorf("instance %s has the metadata of the first: %v, want %v", list[i].Service.ID, got, want)
		}
	}
	if &list[1].Service.Tags[0] != &list[0].Service.Tags[0] {
		t.Error("equal tags are held twice")
	}
	if got := list[2].Service; got.Meta["version"] != "2" || got.Tags[1] != "z" {
		t.Errorf("another instance's metadata and tags are %v, %v", got.Meta, got.Tags)
	}
	if len(list[3].Service.Tags) != 0 {
		t.Errorf("an instance without tags has %v", list[3].Service.Tags)
	}
}

func TestLoadOfForeignRows(t *testing.T) {
	tx := catalog.NewTable().Txn(newJournal(), 1)
	for _, row := range []any{nil, "text", 7, catalog.Node{}, &catalog.Locality{}} {
		if tx.Load(row, nil) || tx.Load(nil, row) {
			t.Errorf("a row of type %T was taken for one of this package's", row)
		}
	}
}
