package agent

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// TestMemoryIsNeverStale asks everything again after each of many random
// changes, and compares what is kept with what is read anew.
func TestMemoryIsNeverStale(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := state.NewMachine()
	var keep memo
	var queries []any
	for _, name := range []string{"web0", "web1", "WEB1", "none"} {
		for _, tags := range [][]string{nil, {"a"}, {"a", "b"}} {
			for _, meta := range []map[string]string{nil, {"rack": "1"}, {"rack": "1", "os": "x"}} {
				queries = append(queries,
					&health.ServiceQuery{Service: name, Tags: tags, NodeMeta: meta},
					&catalog.Instances{Service: name, Tags: tags, NodeMeta: meta},
					&health.ServiceChecks{Service: name, NodeMeta: meta}, &catalog.Nodes{Meta: meta})
			}
		}
	}
	for i := range 800 {
		change(t, m, r, uint64(i+1))
		if i%200 == 199 {
			restore(t, m)
		}
		for _, q := range queries {
			got, err := keep.answer(m.View(), q, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := m.View().Answer(q, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d: %T%+v from memory\n%+v, is\n%+v", i, q, q, got, want)
			}
		}
	}
}

func change(t *testing.T, m *state.Machine, r *rand.Rand, index uint64) {
	node := fmt.Sprintf("n%d", r.IntN(4))
	id := fmt.Sprintf("s%d", r.IntN(3))
	var cmd any
	switch r.IntN(8) {
	case 0:
		cmd = &catalog.Deregister{Node: node}
	case 1:
		cmd = &catalog.Deregister{Node: node, ServiceID: id}
	case 2:
		cmd = &catalog.Deregister{Node: node, CheckID: "c"}
	default:
		reg := &health.Register{Registration: catalog.Registration{
			Node:           catalog.Node{Name: node, Address: fmt.Sprint(r.IntN(2)), Meta: map[string]string{"rack": fmt.Sprint(r.IntN(2)), "os": "x"}},
			SkipNodeUpdate: r.IntN(2) == 0,
		}}
		if r.IntN(2) == 0 {
			reg.Service = &catalog.Service{ID: id, Name: fmt.Sprintf("web%d", r.IntN(2)), Tags: []string{"a", "b"}[:r.IntN(3)], Port: r.IntN(2)}
		}
		if r.IntN(2) == 0 {
			reg.Checks = []health.Check{{ID: "c", Status: []health.Status{health.Passing, health.Critical}[r.IntN(2)]}}
		}
		cmd = reg
	}
	b, err := state.Encode(cmd, 1, mvcc.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(&raft.Log{Index: index, Data: b})
}

// restore puts the machine back to its own state, with other contents under the
// same indexes beside it.
func restore(t *testing.T, m *state.Machine) {
	other := state.NewMachine()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range m.View().Index {
		change(t, other, r, i+1)
	}
	var b bytes.Buffer
	if err := state.WriteSnapshot(&b, other.View()); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(io.NopCloser(&b)); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var keep memo
	v := state.NewMachine().View()
	for i := range maxMemo + 100 {
		if _, err := keep.answer(v, &health.ServiceQuery{Service: fmt.Sprint(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(keep.kept) != maxMemo {
		t.Errorf("%d answers are kept, limit %d", len(keep.kept), maxMemo)
	}
}

func TestQueriesHaveKeysOfTheirOwn(t *testing.T) {
	seen := map[string]any{}
	for _, q := range []any{
		&health.ServiceQuery{Service: "a"},
		&health.ServiceQuery{Service: "a", Tags: []string{"b"}},
		&health.ServiceQuery{Service: "a", Tags: []string{"b", "c"}},
		&health.ServiceQuery{Service: "a", Tags: []string{"bc"}},
		&health.ServiceQuery{Service: "a", NodeMeta: map[string]string{"b": "c"}},
		&health.ServiceQuery{Service: "a", Tags: []string{"b"}, NodeMeta: map[string]string{"b": "c"}},
		&health.ServiceQuery{Service: "a?,1:b"},
		&catalog.Instances{Service: "a"},
		&health.ServiceChecks{Service: "a"},
		&catalog.Nodes{}, &catalog.Nodes{Meta: map[string]string{"a": "b"}},
	} {
		key, ok := memoKey(q)
		if other, double := seen[key]; double || !ok {
			t.Errorf("%+v and %+v share the key %q", q, other, key)
		}
		seen[key] = q
	}
}
