package health_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// naive is a table of checks as a Go map, by node in lower case and ID.
type naive map[[2]string]health.Check

// list returns the checks that match, by node and ID.
func (n naive) list(match func(health.Check) bool) []health.Check {
	out := []health.Check{}
	for _, c := range n {
		if match(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b health.Check) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Node), strings.ToLower(b.Node)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (n naive) of(node, service string) []health.Check {
	return n.list(func(c health.Check) bool { return strings.EqualFold(c.Node, node) && c.ServiceID == service })
}

// TestModel drives a table with random changes beside a naive map: reads and
// joins are answered alike, now and after a replay, and the index of all checks
// moves exactly when one of them changes.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 4)), 120) })
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	table, model := health.NewTable(), naive{}
	var sum mvcc.Sum
	var index, last uint64 = 0, 1
	for range steps {
		index += 1 + uint64(r.IntN(3))
		before := maps.Clone(model)
		j := newJournal()
		tx := table.Txn(j, index)
		for range 1 + r.IntN(3) {
			c := health.Check{Node: pick("n1", "N1", "n2", "n10"), ID: pick("a", "b", "c", "serfHealth"), ServiceID: pick("", "w", "w1", "d"), Status: health.Status(pick("passing", "critical"))}
			key := [2]string{strings.ToLower(c.Node), c.ID}
			old, had := model[key]
			if r.IntN(3) == 0 {
				if got := tx.DeleteCheck(c.Node, c.ID); (got != nil) != had {
					t.Fatalf("the deletion of %q found %+v, want %v", key, got, had)
				}
				delete(model, key)
				continue
			}
			c.CreateIndex, c.ModifyIndex = index, index
			if had {
				c.CreateIndex = old.CreateIndex
			}
			was, now := tx.SetCheck(c)
			if same := c; had {
				same.ModifyIndex = old.ModifyIndex
				if reflect.DeepEqual(same, old) {
					if was != nil || now != nil {
						t.Fatalf("an equal check came to %+v and %+v", was, now)
					}
					continue
				}
			}
			if (was != nil) != had || !reflect.DeepEqual(*now, c) {
				t.Fatalf("%+v came to %+v and %+v", c, was, now)
			}
			model[key] = c
		}
		base := table
		table = tx.Commit()
		tx.Notify()
		sum = sum.Add(j.Delta())
		checkReads(t, table, model)
		checkReplay(t, base, table, model, j, sum)
		now := table.Index(nil)
		if changed := !reflect.DeepEqual(before, model); now < last || (changed && now != index) || now > max(index, 1) {
			t.Fatalf("at %d, with checks changed: %v, their index went from %d to %d", index, changed, last, now)
		}
		last = now
	}
}

func rows(checks []*health.Check) []health.Check {
	out := []health.Check{}
	for _, c := range checks {
		out = append(out, *c)
	}
	return out
}

func checkReads(t *testing.T, table health.Table, n naive) {
	t.Helper()
	same := func(what string, got []*health.Check, want []health.Check) {
		t.Helper()
		if len(got)+len(want) > 0 && !reflect.DeepEqual(rows(got), want) {
			t.Fatalf("%s are %+v, want %+v", what, rows(got), want)
		}
	}
	c, tx := services(), table.Txn(nil, 0)
	for _, node := range []string{"n1", "N2", "n10", "n3"} {
		want := n.list(func(c health.Check) bool { return strings.EqualFold(c.Node, node) })
		got, _ := table.NodeChecks(&health.NodeChecks{Node: node}, nil)
		same("checks of node "+node, got, want)
		same("checks on "+node, tx.ChecksOn(node), want)
		for _, service := range []string{"", "w", "w1", "d", "none"} {
			same("checks of "+node+"/"+service, tx.ChecksOf(node, service), n.of(node, service))
		}
	}
	critical, _ := table.StateChecks(c, &health.StateChecks{State: "critical"}, nil)
	same("critical checks", critical, n.list(func(c health.Check) bool { return c.Status == health.Critical }))
	for _, service := range []string{"web", "db"} {
		list, _ := table.Service(c, &health.ServiceQuery{Service: service}, nil)
		var all []health.Check
		for _, e := range list {
			own := n.of(e.Node.Name, e.Service.ID)
			same("checks of the entry "+e.Node.Name+"/"+e.Service.ID, e.Checks, slices.Concat(n.of(e.Node.Name, ""), own))
			all = append(all, own...)
		}
		got, _ := table.ServiceChecks(c, &health.ServiceChecks{Service: service}, nil)
		same("checks of service "+service, got, all)
	}
}

// checkReplay makes the table anew, from its rows as a snapshot does and from
// the changed rows as a history does, and looks at rows, reads and the sum.
func checkReplay(t *testing.T, before, table health.Table, n naive, j *mvcc.Journal, sum mvcc.Sum) {
	t.Helper()
	restored := health.NewTable().Txn(newJournal(), 0)
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
	for how, again := range map[string]health.Table{"restored": restored.Commit(), "replayed": replayed.Commit()} {
		if got, want := rowsOf(again), rowsOf(table); !reflect.DeepEqual(got, want) {
			t.Fatalf("the %s table holds %+v, want %+v", how, got, want)
		}
		checkReads(t, again, n)
	}
}

func rowsOf(table health.Table) []any {
	var rows []any
	table.Rows(func(row any) bool { rows = append(rows, row); return true })
	return rows
}
