package gossip

import (
	"testing"

	"github.com/hashicorp/memberlist"
)

// What memberlist still finds out when the pool is closed is nobody's news.
func TestClosedPoolGivesNobodyUp(t *testing.T) {
	nodes := cluster(t, 2, 1)
	a, b := nodes[0], nodes[1]
	a.waitAll(patience, Alive, b)
	name := b.Self().Name
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delegate{a.Pool}.NotifyLeave(&memberlist.Node{Name: name})
	if got := a.status(name); got != Alive {
		t.Errorf("after the close, %s is %v", name, got)
	}
}
