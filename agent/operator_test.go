package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
)

// The leader is "a" everywhere, and "dead" is the only one whom gossip holds for gone.
func TestVotersWithout(t *testing.T) {
	voters := func(ids ...string) (peers []consensus.Peer) {
		for _, id := range ids {
			peers = append(peers, consensus.Peer{ID: id, Voter: true})
		}
		return peers
	}
	answers, fresh := consensus.Progress{Voter: true, LastContact: time.Millisecond}, consensus.Progress{Voter: true, LastContact: time.Millisecond, Fresh: true}
	gone, new := consensus.Progress{Voter: true, LastContact: silentFor}, consensus.Progress{Voter: true, LastContact: -1}
	for _, c := range []struct {
		name, id string
		peers    []consensus.Peer
		progress map[string]consensus.Progress
		left     int
		silent   []string
	}{
		{"all answer", "b", voters("a", "b", "c"), map[string]consensus.Progress{"b": answers, "c": answers}, 2, nil},
		{"one is silent", "b", voters("a", "b", "c"), map[string]consensus.Progress{"b": answers, "c": gone}, 2, []string{"c"}},
		{"the silent one goes", "c", voters("a", "b", "c"), map[string]consensus.Progress{"b": answers, "c": gone}, 2, nil},
		{"one came back without its memory", "b", voters("a", "b", "c"), map[string]consensus.Progress{"b": answers, "c": fresh}, 2, []string{"c"}},
		{"that one goes", "c", voters("a", "b", "c"), map[string]consensus.Progress{"b": answers, "c": fresh}, 2, nil},
		{"both is so", "b", voters("a", "b", "c", "d", "e"), map[string]consensus.Progress{"b": answers, "c": fresh, "d": gone, "e": answers}, 4, []string{"c", "d"}},
		{"one without its memory, and without a vote", "b", append(voters("a", "b"), consensus.Peer{ID: "c"}),
			map[string]consensus.Progress{"b": answers, "c": {Fresh: true, LastContact: time.Millisecond}}, 1, nil},
		{"the leader has just begun to lead", "b", voters("a", "b", "c", "dead"), map[string]consensus.Progress{"b": new, "c": new, "dead": new}, 3, []string{"dead"}},
		{"the leader goes", "a", voters("a", "b"), map[string]consensus.Progress{"b": answers}, 1, nil},
		{"who has no vote goes", "c", append(voters("a", "b"), consensus.Peer{ID: "c"}), map[string]consensus.Progress{"b": gone}, 0, nil},
		{"it does not lead any more", "b", voters("a", "b", "c"), nil, 2, nil},
	} {
		left, silent := votersWithout(c.id, "a", c.peers, c.progress, func(id string) bool { return id != "dead" })
		if left != c.left || !slices.Equal(silent, c.silent) {
			t.Errorf("%s: %d voters would be left, silent %q; want %d and %q", c.name, left, silent, c.left, c.silent)
		}
	}
}
