package mvcc_test

import (
	"fmt"
	"testing"

	"github.com/muster-sd/muster/kv/mvcc"
)

// other is a row of a second table, which may have the keys of the first.
type other struct{ n int }

func encodeBoth(dst []byte, r any) []byte {
	if o, ok := r.(*other); ok {
		return fmt.Appendf(dst, "\x08%d", o.n)
	}
	return encode(dst, r)
}

func TestJournalCoalesces(t *testing.T) {
	type step struct {
		key string
		n   int // 0 deletes
	}
	set := func(key string, n int) step { return step{key, n} }
	del := func(key string) step { return step{key, 0} }
	for _, c := range []struct {
		name  string
		steps []step
		want  string // key:before>after, in the order of first touch
	}{
		{"nothing", nil, ""},
		{"deleted what is not there", []step{del("x")}, ""},
		{"created", []step{set("x", 5)}, " x:->5"},
		{"replaced", []step{set("a", 5)}, " a:1->5"},
		{"deleted", []step{del("a")}, " a:1->"},
		{"created and replaced", []step{set("x", 5), set("x", 6)}, " x:->6"},
		{"replaced twice", []step{set("a", 5), set("a", 6)}, " a:1->6"},
		{"replaced and deleted", []step{set("a", 5), del("a")}, " a:1->"},
		{"deleted and created again", []step{del("a"), set("a", 6)}, " a:1->6"},
		{"created and deleted", []step{set("x", 5), del("x")}, ""},
		{"created, deleted and created", []step{set("x", 5), del("x"), set("x", 6)}, " x:->6"},
		{"in the order of first touch", []step{set("b", 5), set("x", 1), set("a", 6), set("b", 7), del("x")}, " b:2->7 a:1->6"},
	} {
		base := mvcc.New[*row]().Txn(newJournal())
		base.Set("a", &row{"a", 1})
		base.Set("b", &row{"b", 2})
		m := base.Commit()

		j := newJournal()
		tx := m.Txn(j)
		for _, s := range c.steps {
			if s.n == 0 {
				tx.Delete(s.key)
			} else {
				tx.Set(s.key, &row{s.key, s.n})
			}
		}
		number := func(r any) string {
			if r == nil {
				return ""
			}
			return fmt.Sprint(r.(*row).n)
		}
		for range 2 { // asking twice gives the same
			got := ""
			for _, ch := range j.Changes() {
				got += fmt.Sprintf(" %s:%s->%s", ch.Key, number(ch.Before), number(ch.After))
			}
			if got != c.want {
				t.Errorf("%s: changes are%s, want%s", c.name, got, c.want)
			}
		}
	}
}

func TestJournalOfTwoTables(t *testing.T) {
	j := &mvcc.Journal{Encode: encodeBoth}
	rows, others := mvcc.New[*row]().Txn(j), mvcc.New[*other]().Txn(j)
	rows.Set("a", &row{"a", 1})
	others.Set("a", &other{2})
	others.Set("a", &other{3})
	changes := j.Changes()
	if len(changes) != 2 || changes[0].After.(*row).n != 1 || changes[1].After.(*other).n != 3 {
		t.Fatalf("changes are %+v", changes)
	}
	want := mvcc.HashRow(encodeBoth(nil, &row{"a", 1})).Add(mvcc.HashRow(encodeBoth(nil, &other{3})))
	if j.Delta() != want {
		t.Errorf("the sum changed by %v, want %v", j.Delta(), want)
	}
}

func TestJournalBytes(t *testing.T) {
	size := func(n int) int { return len(encode(nil, &row{"a", n})) }
	j := newJournal()
	tx := mvcc.New[*row]().Txn(j)
	tx.Set("a", &row{"a", 1})
	if j.Bytes() != size(1) {
		t.Errorf("a new row of %d bytes is counted as %d", size(1), j.Bytes())
	}
	m := tx.Commit()

	j = newJournal()
	tx = m.Txn(j)
	tx.Set("a", &row{"a", 1000})
	if want := size(1) + size(1000); j.Bytes() != want {
		t.Errorf("a replaced row is counted as %d bytes, want %d", j.Bytes(), want)
	}

	j = newJournal()
	tx = m.Txn(j)
	tx.Delete("a")
	if j.Bytes() != size(1) {
		t.Errorf("a deleted row of %d bytes is counted as %d", size(1), j.Bytes())
	}
	if sum := mvcc.HashRow(encode(nil, &row{"a", 1})).Add(j.Delta()); sum != (mvcc.Sum{}) {
		t.Errorf("the sum of an emptied map is %v", sum)
	}
}
