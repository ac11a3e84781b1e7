package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/leader"
)

// HideCluster has this agent name no cluster to the other members any more, as one
// does that has only just begun.
func (a *Agent) HideCluster() error {
	a.naming.mu.Lock()
	defer a.naming.mu.Unlock()
	a.naming.told = a.cluster()
	return a.pool.SetTags(clusterTags(a.pool.Self().Tags, [16]byte{}))
}

// NamesCluster reports whether this agent names its cluster to others.
func (a *Agent) NamesCluster() bool { return a.pool.Self().Tags[gossip.ClusterTag] != "" }

func TestBelongs(t *testing.T) {
	ours := []string{"a", "b"}
	logged := leader.ServerStats{LastIndex: 9}
	for _, c := range []struct {
		name, own string
		servers   []string
		says      peerStats
		why       string // part of the error; empty if there is none
	}{
		{"one that is fresh", "1", ours, peerStats{}, ""},
		{"one of the same cluster", "1", ours, peerStats{Cluster: "1", Peers: 1, ServerStats: logged, Voters: []string{"x"}}, ""},
		{"one of another", "1", ours, peerStats{Cluster: "2", Peers: 1, ServerStats: logged, Voters: []string{"x"}}, "cluster 2, this agent to cluster 1"},
		{"one of another that had to do with ours", "1", ours, peerStats{Cluster: "2", Peers: 2, ServerStats: logged, Voters: []string{"a", "x"}}, "cluster 2"},
		{"one of another that says no more than that", "1", ours, peerStats{Cluster: "2"}, "cluster 2"},
		{"one that came back, and was removed meanwhile", "1", ours, peerStats{Peers: 2, ServerStats: logged, Voters: []string{"a", "x"}}, ""},
		{"one that has just begun alone", "1", ours, peerStats{Peers: 1, ServerStats: leader.ServerStats{LastIndex: 1}, Voters: []string{"x"}}, "another cluster, which has no leader now, of the servers x"},
		{"one that has begun, by the name of ours", "1", []string{"x"}, peerStats{Peers: 1, ServerStats: logged, Voters: []string{"x"}}, "another cluster, which has no leader now, of the servers x"},
		{"one with a log and no servers", "1", ours, peerStats{ServerStats: logged}, "it has a log"},
		{"both have just begun, together", "", ours, peerStats{Peers: 2, ServerStats: logged, Voters: ours}, ""},
		{"both have just begun, apart", "", ours, peerStats{Peers: 1, ServerStats: logged, Voters: []string{"x"}}, "another cluster, which has no leader now, of the servers x"},
		{"it has heard first that they began", "", ours, peerStats{Cluster: "1", Peers: 2, ServerStats: logged, Voters: ours}, ""},
		{"this one has just begun, another long ago", "", ours, peerStats{Cluster: "2", Peers: 1, ServerStats: logged, Voters: []string{"x"}}, "cluster 2, this agent to one that has no leader now, of the servers a, b"},
	} {
		err := belongs(c.own, c.servers, "x", &c.says)
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.why != "" && (!errors.Is(err, errStranger) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: got %v, want one that says %q", c.name, err, c.why)
		}
	}
}
