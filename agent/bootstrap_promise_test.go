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

// wipe takes the disk of a server, which keeps its ID.
func (y *founders) wipe(id string) {
	s := y.servers[id]
	s.voters, s.promise, s.disk = nil, nil, s.disk+1
}

// loses has what is asked of one server not arrive, until it is called off.
func (y *founders) loses(id, op string) {
	y.lost = func(to string, c foundingCall) bool { return to == id && c.Op == op }
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
		call.Nonces = append(call.Nonces, y.run[id].node.Nonce())
	}
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

// A server that lost its memory of a promise does not deny that it gave it: here,
// s0 and s2 have begun a cluster, to which s1 is bound.
func TestAWipedServerDeniesNoPromise(t *testing.T) {
	y := newFounders(t, 3, 2)
	y.see("s0", "s1", "s2")
	_ = y.try("s0", "s2")
	y.down["s0"] = true
	y.wipe("s2")
	y.see("s1", "s2")
	if err := y.try("s1"); err == nil || !strings.Contains(err.Error(), "waiting for the servers s0, s2") {
		t.Errorf("it does not say what it waits for: %v", err)
	}
	_ = y.try("s2")
	y.oneMade("s0 s1 s2")
	y.down["s0"] = false
	y.see("s0", "s1", "s2")
	_ = y.try("s1", "s2")
	if made := y.made(); made["s0 s1 s2"] != 3 {
		t.Errorf("they do not come together: %v", made)
	}
}

// If nobody has what was promised, and all can say so, then nobody is waited for,
// whatever was lost.
func TestWipedServersBeginAnew(t *testing.T) {
	y := newFounders(t, 4, 3)
	y.see("s0", "s1", "s2")
	y.propose(1, "s0", "s1", "s2")
	y.wipe("s0")
	y.wipe("s2")
	y.see("s0", "s1", "s2", "s3")
	_ = y.try("s0", "s1", "s2", "s3")
	if made := y.made(); made["s0 s1 s2 s3"] != 4 {
		t.Errorf("they made %v", made)
	}
}

// A proposal that names a data directory which is gone is not accepted.
func TestAWipedServerIsAskedAnew(t *testing.T) {
	y := newFounders(t, 2, 2)
	y.see("s0", "s1")
	call := foundingCall{Op: foundAccept, Ballot: ballot{1, "s0"}, Servers: []string{"s0", "s1"}, Nonces: []string{"s0-0", "s1-0"}}
	y.wipe("s1")
	if a, err := y.run["s1"].answer(call); err != nil || a.Refused == "" || len(a.Promise.Servers) > 0 {
		t.Errorf("it accepts: %+v %v", a, err)
	}
}

// A cluster that has others by now is the one that was promised all the same. Here
// s1 was replaced in it, and gossip has not told of it yet.
func TestAGrownClusterIsNoOther(t *testing.T) {
	y := newFounders(t, 6, 3)
	y.see("s0", "s1", "s2")
	_ = y.try("s0", "s2")
	for _, id := range []string{"s0", "s2"} {
		y.servers[id].voters = []string{"s0", "s2", "s3"}
	}
	y.see("s1", "s4", "s5")
	if err := y.try("s1"); err == nil || !strings.Contains(err.Error(), "a cluster is there already") {
		t.Errorf("it does not wait: %v", err)
	}
	y.oneMade("s0 s2 s3")
}

// What one server gave up is not over for those who did not. Here s1 gives up what
// s0, s2 and s3 can begin without it.
func TestGivingUpAloneIsNoDenial(t *testing.T) {
	y := newFounders(t, 7, 3)
	y.see("s0", "s1", "s2", "s3", "s4")
	_ = y.try("s0")
	y.down["s0"], y.down["s4"] = true, true
	y.see("s1", "s2", "s3")
	y.lost = func(to string, c foundingCall) bool { return (to == "s2" || to == "s3") && c.Op == foundAccept }
	_ = y.try("s1")
	y.lost = nil
	y.down["s4"] = false
	y.see("s4", "s5", "s6")
	if err := y.try("s4"); err == nil {
		t.Error("it begins another")
	}
	y.down["s0"] = false
	y.see("s0", "s2", "s3")
	_ = y.try("s2", "s3", "s4", "s5")
	y.oneMade("s0 s1 s2 s3 s4")
}

// What was given up for a proposal that came to nothing binds again. Here s0 and s2
// begin what s1 has given up, and s1 is not to begin another with those who never
// knew of it.
func TestWhatWasGivenUpInVainBinds(t *testing.T) {
	y := newFounders(t, 5, 3)
	y.see("s0", "s1", "s2")
	_ = y.try("s0")
	y.down["s0"] = true
	y.see("s1", "s2", "s3")
	// Something else came to nothing before, so s1 does not see that all have
	// promised the first.
	if _, err := y.run["s2"].answer(foundingCall{Op: foundPrepare, Ballot: ballot{2, "s1"}}); err != nil {
		t.Fatal(err)
	}
	y.loses("s2", foundAccept)
	_ = y.try("s1") // s1 and s3 promise it
	y.lost = nil
	y.down["s0"] = false
	y.see("s0", "s2")
	_ = y.try("s2") // which makes the first, with s0
	y.oneMade("s0 s1 s2")
	y.down["s0"], y.down["s2"] = true, true
	y.see("s1", "s3", "s4")
	if err := y.try("s1"); err == nil || !strings.Contains(err.Error(), "waiting for the servers s0, s2") {
		t.Errorf("it does not wait: %v", err)
	}
	_ = y.try("s3", "s4")
	y.oneMade("s0 s1 s2")
}

// Between two first configurations none of which can come about, a person is told
// what to do, and that helps.
func TestStuckBetweenTwoConfigurations(t *testing.T) {
	y := newFounders(t, 5, 3)
	y.see("s0", "s1", "s2", "s3", "s4")
	_ = y.try("s0")                         // makes it; all have promised it
	y.down["s0"], y.down["s4"] = true, true // s4 for ever
	y.see("s1", "s2", "s3")
	y.loses("s3", foundAccept)
	_ = y.try("s1")
	y.lost = nil
	y.down["s0"] = false // after a crash
	y.see("s0", "s1", "s2", "s3")
	_ = y.try("s3", "s2", "s0")
	err := y.try("s1")
	if !errors.Is(err, errStuck) || !strings.Contains(err.Error(), "come: s4.") || !strings.Contains(err.Error(), "(s0, s1, s2, s3)") {
		t.Errorf("it does not say what to do: %v", err)
	}
	for _, id := range []string{"s0", "s1", "s2", "s3"} {
		y.wipe(id)
	}
	_ = y.try("s0", "s1", "s2", "s3")
	if list, _ := y.clusters(); len(list) != 1 {
		t.Errorf("that does not help: %v", y.made())
	}
}

// A promise of a server with another ID is not this one's to make.
func TestAPromiseUnderAnotherID(t *testing.T) {
	y := newFounders(t, 3, 2)
	y.see("s0", "s1")
	y.propose(1, "s0", "s1")
	y.servers["s2"].promise = y.servers["s1"].promise
	y.servers["s0"].voters = []string{"s0", "s1"}
	y.see("s0", "s1", "s2")
	_ = y.try("s2")
	if made := y.servers["s2"].voters; made != nil {
		t.Errorf("it makes %v", made)
	}
}
