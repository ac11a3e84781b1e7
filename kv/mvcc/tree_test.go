package mvcc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// A tree holds what a map of the language holds, whatever is set and removed, in
// edits that are kept or dropped; trees before it keep what they held.
func TestTreeAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now, model := newTree[int](), map[string]int{}
	type version struct {
		tree *tree[int]
		want map[string]int
	}
	var kept []version
	for step := range 3000 {
		e, next := now.edit(), map[string]int{}
		for k, v := range model {
			next[k] = v
		}
		for range 1 + random.IntN(6) {
			key := randomKey(random)
			if random.IntN(2) == 0 {
				e.set(key, step)
				next[key] = step
			} else {
				old := e.remove(key)
				if _, there := next[key]; there != (old != nil) {
					t.Fatalf("step %d: removing %q found %v", step, key, old)
				}
				delete(next, key)
			}
		}
		if random.IntN(4) == 0 {
			continue // dropped
		}
		now, model = e.commit(), next
		e.notify()
		if step%100 == 0 {
			kept = append(kept, version{now, next})
		}
		checkTree(t, now, model)
	}
	for _, v := range kept {
		checkTree(t, v.tree, v.want)
	}
}

func randomKey(r *rand.Rand) string {
	b := make([]byte, r.IntN(6))
	for i := range b {
		b[i] = "abc\x00/"[r.IntN(5)]
	}
	return string(b)
}

func checkTree(t *testing.T, got *tree[int], want map[string]int) {
	t.Helper()
	var keys []string
	got.root.each(func(v *value[int]) bool {
		if row, ok := want[v.key]; !ok || row != v.row {
			t.Fatalf("%q holds %d, want %d", v.key, v.row, row)
		}
		keys = append(keys, v.key)
		return true
	})
	if len(keys) != len(want) || got.size != len(want) || !slices.IsSorted(keys) {
		t.Fatalf("%d keys, size %d, want %d: %q", len(keys), got.size, len(want), keys)
	}
	checkNode(t, got.root, true)
}

// checkNode looks for nodes that should have been joined or removed.
func checkNode(t *testing.T, n *node[int], root bool) {
	t.Helper()
	if !root && (n.prefix == "" || n.value == nil && len(n.edges) < 2) {
		t.Fatalf("a node %q has no value and %d edges", n.prefix, len(n.edges))
	}
	for i, e := range n.edges {
		if e.node.prefix[0] != e.label || i > 0 && n.edges[i-1].label >= e.label {
			t.Fatalf("edge %q of %q leads to %q", e.label, n.prefix, e.node.prefix)
		}
		checkNode(t, e.node, false)
	}
}

// Whoever listens before, while or after a bell rings is woken.
func TestBellWakesAll(t *testing.T) {
	for range 200 {
		var b bell
		var listeners sync.WaitGroup
		for range 4 {
			listeners.Go(func() { <-b.listen() })
		}
		listeners.Go(b.ring)
		listeners.Wait()
		<-b.listen()
		b.ring()
	}
}

// A tree without listeners has no channels.
func TestBellsAreFreeUntilHeard(t *testing.T) {
	e := newTree[int]().edit()
	for i := range 100 {
		e.set(fmt.Sprintf("key-%d", i), i)
	}
	tree := e.commit()
	e.notify()
	found, bell := tree.root.get("key-7")
	if bell != &found.bell || bell.channel.Load() != nil {
		t.Error("a bell has a channel that nobody asked for")
	}
}
