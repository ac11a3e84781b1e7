package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// founders are servers that may begin a cluster, each of which does something only
// when it is told to.
type founders struct {
	*founding
	run  map[string]*founder
	down map[string]bool
	// lost is true for what does not arrive.
	lost func(to string, c foundingCall) bool
}

func newFounders(t *testing.T, servers, expects int) *founders {
	y := &founders{founding: newFounding(t, 1, servers, expects), run: map[string]*founder{}, down: map[string]bool{}}
	for id, s := range y.servers {
		y.run[id] = &founder{
			id: id, expects: expects, woken: make(chan struct{}, 1), searched: make(chan struct{}),
			node: founderNode{s, func() bool { return true }}, say: func(string) {},
			look: func() electorate { return electorate{expecting: s.sees} },
			ask: func(_ context.Context, to string, c foundingCall) (foundingAnswer, error) {
				if y.down[to] || y.lost != nil && y.lost(to, c) {
					return foundingAnswer{}, errors.New("no answer")
				}
				return y.run[to].answer(c)
			},
		}
	}
	return y
}

// see lets some servers see each other.
func (y *founders) see(ids ...string) {
	for _, id := range ids {
		y.servers[id].sees = ids
	}
}

// try has servers do what they can, one after the other.
func (y *founders) try(ids ...string) (err error) {
	for _, id := range ids {
		err = y.run[id].try(y.t.Context())
		y.t.Logf("%s tries: %v; it has %v", id, err, y.servers[id].voters)
	}
	return err
}

// oneMade checks that servers have one first configuration and no other.
func (y *founders) oneMade(want string) {
	y.t.Helper()
	if made := y.made(); len(made) != 1 || made[want] == 0 {
		y.t.Errorf("the first configurations are %v, not just %q", made, want)
	}
}

// propose has servers promise a configuration, and none of them make it.
func (y *founders) propose(round uint64, servers ...string) {
	y.t.Helper()
	call := foundingCall{Op: foundAccept, Ballot: ballot{round, servers[0]}, Servers: servers}
	for _, id := range servers {
		if a, err := y.run[id].answer(call); err != nil || a.Refused != "" {
			y.t.Fatal(id, a.Refused, err)
		}
	}
}

// Who has promised to begin with others does not begin alone, whatever it is told
// later: they may rely on it.
func TestAPromiseOutlastsBootstrapMode(t *testing.T) {
	y := newFounders(t, 3, 3)
	y.see("s0", "s1", "s2")
	y.propose(1, "s0", "s1", "s2")
	y.down["s0"] = true
	y.see("s1", "s2")
	if err := y.run["s0"].begins(); !errors.Is(err, errPromised) || !strings.Contains(err.Error(), "s1, s2") {
		t.Errorf("it begins alone: %v", err)
	}
	_ = y.try("s1", "s2")
	y.oneMade("s0 s1 s2")
	// It is part of that, and nothing is wrong with bootstrap mode then.
	y.servers["s0"].voters = []string{"s0", "s1", "s2"}
	if err := y.run["s0"].begins(); err != nil {
		t.Error(err)
	}
}

// Who promised nothing begins.
func TestBootstrapModeBeginsAfterAQuestion(t *testing.T) {
	y := newFounders(t, 2, 2)
	if _, err := y.run["s0"].answer(foundingCall{Op: foundPrepare, Ballot: ballot{1, "s1"}}); err != nil {
		t.Fatal(err)
	}
	if err := y.run["s0"].begins(); err != nil {
		t.Fatal(err)
	}
	y.oneMade("s0")
}
