package health_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
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
type op func(*health.Txn)

// step carries out ops at one index, and wakes who has to be woken.
func step(t health.Table, index uint64, ops ...op) health.Table {
	tx := t.Txn(newJournal(), index)
	for _, do := range ops {
		do(tx)
	}
	next := tx.Commit()
	tx.Notify()
	return next
}

// after returns the table after ops at the indexes 1, 2, and so on.
func after(ops ...op) health.Table {
	t := health.NewTable()
	for i, do := range ops {
		t = step(t, uint64(i+1), do)
	}
	return t
}

// check sets a check of an instance or, if service is empty, of a node.
func check(node, id, service string, status health.Status) op {
	return func(tx *health.Txn) {
		tx.SetCheck(health.Check{Node: node, ID: id, ServiceID: service, Status: status})
	}
}

func noCheck(node, id string) op { return func(tx *health.Txn) { tx.DeleteCheck(node, id) } }

// services are the instances that the tests join with checks: web on three
// nodes, twice on one of them, and db.
func services() catalog.Table {
	tx := catalog.NewTable().Txn(newJournal(), 50)
	for name, rack := range map[string]string{"n1": "1", "n10": "1", "N2": "2"} {
		tx.SetNode(catalog.Node{Name: name, Address: "10.0.0.1", Meta: map[string]string{"rack": rack}})
	}
	tx.SetService(catalog.Service{Node: "n1", ID: "w1", Name: "web", Tags: []string{"a"}})
	tx.SetService(catalog.Service{Node: "n1", ID: "w", Name: "Web", Tags: []string{"A", "b"}})
	tx.SetService(catalog.Service{Node: "n2", ID: "w1", Name: "web"})
	tx.SetService(catalog.Service{Node: "n10", ID: "w1", Name: "web"})
	tx.SetService(catalog.Service{Node: "n1", ID: "d", Name: "db"})
	return tx.Commit()
}

func ids(checks []*health.Check) string {
	var out []string
	for _, c := range checks {
		out = append(out, strings.ToLower(c.Node)+"/"+c.ID)
	}
	return strings.Join(out, " ")
}

func entries(list []health.Entry) string {
	var out []string
	for _, e := range list {
		var checks []string
		for _, c := range e.Checks {
			checks = append(checks, c.ID)
		}
		out = append(out, e.Node.Name+"/"+e.Service.ID+"["+strings.Join(checks, " ")+"]")
	}
	return strings.Join(out, " ")
}

func full() health.Table {
	return after(
		check("n1", "serfHealth", "", health.Passing), check("N2", "serfHealth", "", health.Critical),
		check("n1", "w1:b", "w1", health.Passing), check("n1", "w1:a", "w1", health.Warning),
		check("n1", "w:a", "w", health.Passing), check("n2", "x", "w1", "so-so"),
		check("n1", "a-node", "", health.Critical), check("n1", "d:a", "d", health.Passing),
	)
}

func TestServiceJoin(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		q    health.ServiceQuery
		want string
	}{
		{health.ServiceQuery{Service: "web"},
			"n1/w[a-node serfHealth w:a] n1/w1[a-node serfHealth w1:a w1:b] n10/w1[] N2/w1[serfHealth x]"},
		{health.ServiceQuery{Service: "DB"}, "n1/d[a-node serfHealth d:a]"},
		{health.ServiceQuery{Service: "web", Tags: []string{"a"}}, "n1/w[a-node serfHealth w:a] n1/w1[a-node serfHealth w1:a w1:b]"},
		{health.ServiceQuery{Service: "web", Tags: []string{"B", "a"}}, "n1/w[a-node serfHealth w:a]"},
		{health.ServiceQuery{Service: "web", NodeMeta: m{"rack": "2"}}, "N2/w1[serfHealth x]"},
		{health.ServiceQuery{Service: "web", Tags: []string{"a"}, NodeMeta: m{"rack": "2"}}, ""},
		{health.ServiceQuery{Service: "none"}, ""},
		{health.ServiceQuery{Service: "web\x00n1"}, ""},
	} {
		got, index := full().Service(services(), &c.q, nil)
		if text := entries(got); got == nil || text != c.want || index != 50 {
			t.Errorf("%+v is answered with %q at %d, want %q at 50", c.q, text, index, c.want)
		}
		for _, e := range got {
			if e.Checks == nil {
				t.Errorf("the checks of %s/%s are nil, want a list", e.Node.Name, e.Service.ID)
			}
		}
	}
}

func TestCheckReads(t *testing.T) {
	type m = map[string]string
	table, c := full(), services()
	read := func(checks []*health.Check, index uint64) string { return fmt.Sprintf("%s @%d", ids(checks), index) }
	for _, x := range []struct{ name, got, want string }{
		{"node n1", read(table.NodeChecks(&health.NodeChecks{Node: "n1"}, nil)), "n1/a-node n1/d:a n1/serfHealth n1/w1:a n1/w1:b n1/w:a @8"},
		{"node n2", read(table.NodeChecks(&health.NodeChecks{Node: "n2"}, nil)), "n2/serfHealth n2/x @8"},
		{"node n", read(table.NodeChecks(&health.NodeChecks{Node: "n"}, nil)), " @8"},
		{"node n10", read(table.NodeChecks(&health.NodeChecks{Node: "n10"}, nil)), " @8"},
		{"node ''", read(table.NodeChecks(&health.NodeChecks{}, nil)), " @8"},
		{"service web", read(table.ServiceChecks(c, &health.ServiceChecks{Service: "WEB"}, nil)), "n1/w:a n1/w1:a n1/w1:b n2/x @50"},
		{"service web, rack 2", read(table.ServiceChecks(c, &health.ServiceChecks{Service: "web", NodeMeta: m{"rack": "2"}}, nil)), "n2/x @50"},
		{"service none", read(table.ServiceChecks(c, &health.ServiceChecks{Service: "none"}, nil)), " @50"},
		{"critical", read(table.StateChecks(c, &health.StateChecks{State: "CRITICAL"}, nil)), "n1/a-node n2/serfHealth @8"},
		{"warning", read(table.StateChecks(c, &health.StateChecks{State: "warning"}, nil)), "n1/w1:a @8"},
		{"so-so", read(table.StateChecks(c, &health.StateChecks{State: "So-So"}, nil)), "n2/x @8"},
		{"unknown", read(table.StateChecks(c, &health.StateChecks{State: "unknown"}, nil)), " @8"},
		{"any", read(table.StateChecks(c, &health.StateChecks{State: "Any"}, nil)), "n1/a-node n1/d:a n1/serfHealth n1/w1:a n1/w1:b n1/w:a n2/serfHealth n2/x @8"},
		{"any, rack 2", read(table.StateChecks(c, &health.StateChecks{State: "any", NodeMeta: m{"rack": "2"}}, nil)), "n2/serfHealth n2/x @50"},
		{"critical, rack 3", read(table.StateChecks(c, &health.StateChecks{State: "critical", NodeMeta: m{"rack": "3"}}, nil)), " @50"},
		{"an empty table", read(health.NewTable().StateChecks(catalog.NewTable(), &health.StateChecks{State: "any"}, nil)), " @1"},
	} {
		if x.got != x.want {
			t.Errorf("%s: %q, want %q", x.name, x.got, x.want)
		}
	}
	for name, list := range map[string][]*health.Check{
		"node":    first(table.NodeChecks(&health.NodeChecks{Node: "none"}, nil)),
		"service": first(table.ServiceChecks(c, &health.ServiceChecks{Service: "none"}, nil)),
		"state":   first(table.StateChecks(c, &health.StateChecks{State: "none"}, nil)),
	} {
		if list == nil {
			t.Errorf("the checks of no %s are nil, want an empty list", name)
		}
	}
}

func first(checks []*health.Check, _ uint64) []*health.Check { return checks }

func TestSetCheck(t *testing.T) {
	table := after(check("n1", "c", "w", health.Passing))
	tx := table.Txn(newJournal(), 7)
	if old, now := tx.SetCheck(health.Check{Node: "n1", ID: "c", ServiceID: "w", Status: health.Passing}); old != nil || now != nil {
		t.Errorf("an equal check came to %+v and %+v", old, now)
	}
	if old, now := tx.SetCheck(health.Check{Node: "N1", ID: "c", ServiceID: "w", Status: health.Critical}); old.Status != health.Passing || now.Status != health.Critical || now.CreateIndex != 1 || now.ModifyIndex != 7 {
		t.Errorf("a changed check came to %+v and %+v", old, now)
	}
	if old, now := tx.SetCheck(health.Check{Node: "n1", ID: "new", CreateIndex: 3, ModifyIndex: 3}); old != nil || now.CreateIndex != 7 || now.ModifyIndex != 7 {
		t.Errorf("a new check came to %+v and %+v", old, now)
	}
	if old := tx.DeleteCheck("N1", "c"); old == nil || old.Status != health.Critical {
		t.Errorf("a deleted check was %+v", old)
	}
	if old := tx.DeleteCheck("n1", "c"); old != nil {
		t.Errorf("a check that is not there was %+v", old)
	}
	if got := ids(tx.ChecksOn("N1")) + ", " + ids(tx.ChecksOf("n1", "w")); got != "n1/new, " {
		t.Errorf("the checks are %q", got)
	}
}

// TestCheckChangesOwner moves a check from one instance to another, to the node
// and back.
func TestCheckChangesOwner(t *testing.T) {
	owners := []string{"w", "w1", "", "w"}
	table := health.NewTable()
	for i, owner := range owners {
		table = step(table, uint64(i+1), check("n1", "c", owner, health.Passing))
		tx := table.Txn(nil, 99)
		for _, other := range []string{"w", "w1", ""} {
			want := ""
			if other == owner {
				want = "n1/c"
			}
			if got := ids(tx.ChecksOf("n1", other)); got != want {
				t.Errorf("after the check was given to %q, those of %q are %q", owner, other, got)
			}
		}
	}
	table = step(table, 9, noCheck("n1", "c"))
	if got, _ := table.Service(services(), &health.ServiceQuery{Service: "web"}, nil); entries(got) != "n1/w[] n1/w1[] n10/w1[] N2/w1[]" {
		t.Errorf("after the check is gone, the entries are %s", entries(got))
	}
}

// TestWakes has what moves the index of all checks.
func TestWakes(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    op
		moves bool
	}{
		{"a new check", check("n1", "new", "", health.Passing), true},
		{"another status", check("n1", "w:a", "w", health.Critical), true},
		{"a check goes", noCheck("n1", "w:a"), true},
		{"the same again", check("n1", "w:a", "w", health.Passing), false},
		{"a check goes that is not there", noCheck("n1", "none"), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			table := full()
			var w mvcc.Watch
			table.NodeChecks(&health.NodeChecks{Node: "n2"}, &w)
			table.StateChecks(services(), &health.StateChecks{State: "any"}, &w)
			next := step(table, 20, c.do)
			want := uint64(8)
			if c.moves {
				want = 20
			}
			if woken := w.Wait(t.Context(), time.After(time.Second)); woken != c.moves || next.Index(nil) != want {
				t.Errorf("%s: woken is %v, the index %d", c.name, woken, next.Index(nil))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		table := full()
		var w mvcc.Watch
		table.Index(&w)
		tx := table.Txn(newJournal(), 9)
		for _, do := range []op{check("n1", "new", "", health.Passing), noCheck("n1", "w:a"), check("n1", "d:a", "", health.Critical)} {
			do(tx)
		}
		if got, _ := table.NodeChecks(&health.NodeChecks{Node: "n1"}, nil); len(got) != 6 || table.Index(nil) != 8 || w.Wait(t.Context(), time.After(time.Second)) {
			t.Errorf("a dropped transaction left %s at %d, or woke a reader", ids(got), table.Index(nil))
		}
	})
}

func TestLoadOfForeignRows(t *testing.T) {
	tx := health.NewTable().Txn(newJournal(), 1)
	for _, row := range []any{nil, "text", health.Check{}, &catalog.Mark{}} {
		if tx.Load(row, nil) || tx.Load(nil, row) {
			t.Errorf("a row of type %T was taken for one of this package's", row)
		}
	}
}
