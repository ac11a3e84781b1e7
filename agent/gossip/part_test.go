package gossip

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// settleCluster lets a member know which cluster it belongs to.
func settleCluster(t *testing.T, n *node, id string) {
	t.Helper()
	tags := maps.Clone(n.Self().Tags)
	tags[ClusterTag] = id
	if err := n.SetTags(tags); err != nil {
		t.Error(err)
	}
}

// onlySees reports whether a member lists just some others, and its library holds
// nobody else for alive.
func (n *node) onlySees(others []*node) bool {
	if len(n.Members()) != len(others) || n.list.Load().NumMembers() != len(others) {
		return false
	}
	for _, other := range others {
		if n.status(other.name) != Alive {
			return false
		}
	}
	return true
}

// Two clusters whose members met before they knew of any cluster part again.
func TestMixedPoolsPart(t *testing.T) {
	t.Parallel()
	both := cluster(t, 6, 6)
	left, right := both[:3], both[3:]
	for i := range left {
		settleCluster(t, left[i], strings.Repeat("a", 32))
		settleCluster(t, right[i], strings.Repeat("b", 32))
	}
	for _, side := range [][]*node{left, right} {
		for _, n := range side {
			n.wait(time.Minute, "the other cluster is gone", func() bool { return n.onlySees(side) })
			if got := strings.Count(n.log.String(), "dropped a gossip member: it belongs to another cluster"); got != 3 {
				t.Errorf("%s says %d times that it drops a member", n.name, got)
			}
		}
	}
	if text := left[0].tryJoin(right[0]); !strings.Contains(text, "two clusters cannot become one") {
		t.Errorf("a join of the other cluster gives %q", text)
	}
	left[0].never(time.Second, "they mix again", func() bool { return len(left[0].Members()) != 3 })

	// An agent that is moved, with nothing of the old cluster, is let in at the same
	// address.
	at := right[2].Addr()
	right[2].kill()
	moved := open(t, 5, server, func(cfg *Config) { cfg.Bind = at })
	moved.join(left[1])
	for _, n := range left {
		n.wait(time.Minute, "the moved agent is there", func() bool { return n.status("n5") == Alive })
	}
}

// A member of another cluster that was dropped a moment ago is not joined again with
// success, though it still hears this one.
func TestJoinOfADroppedMemberFails(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 2, 2)
	began := time.Now()
	if err := nodes[0].DroppedSince(began); err != nil {
		t.Errorf("before anybody was dropped: %v", err)
	}
	for i, n := range nodes {
		settleCluster(t, n, strings.Repeat(string(rune('a'+i)), 32))
	}
	for i, n := range nodes {
		n.wait(time.Minute, "the other is dropped", func() bool { return len(n.Members()) == 1 })
		for _, text := range []string{n.DroppedSince(began).Error(), n.tryJoin(nodes[1-i])} {
			for _, part := range []string{nodes[0].ownCluster(), nodes[1].ownCluster(), nodes[1-i].name, "empty data directory"} {
				if !strings.Contains(text, part) {
					t.Errorf("the error does not say %q: %s", part, text)
				}
			}
		}
		if err := n.DroppedSince(time.Now()); err != nil {
			t.Errorf("since nobody was dropped: %v", err)
		}
	}
}

// A member that learns its cluster only later leaves the others alone, too.
func TestLateStrangerIsDropped(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 4, 3)
	for _, n := range nodes[:3] {
		settleCluster(t, n, strings.Repeat("a", 32))
	}
	for _, n := range nodes {
		n.wait(time.Minute, "all know the cluster", func() bool {
			m, _ := n.find("n2")
			return m.Tags[ClusterTag] != ""
		})
	}
	settleCluster(t, nodes[3], strings.Repeat("b", 32))
	for _, n := range nodes[:3] {
		n.wait(time.Minute, "the stranger is gone", func() bool { return n.onlySees(nodes[:3]) })
	}
	nodes[3].wait(time.Minute, "it is alone", func() bool { return nodes[3].onlySees(nodes[3:]) })
}
