package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// founder makes the first configuration of a cluster together with other servers
// that expect the same. They may see different servers for a while, so the one with
// the lowest ID proposes all that it sees, and the configuration is made when every
// server in it has promised it: each keeps one promise, over restarts, and only
// promises what it sees itself. Two configurations that have a server in common are
// therefore never both made.
//
// A promise is replaced only if what it was for can not come about any more. That
// is known by ballots, as in Paxos: each proposal has a higher one than all that
// were seen, and who was asked to prepare for a ballot accepts no lower one. A
// proposal is dead when one of its servers never promised it and will not, or when
// those of its servers that are asked for their promise now leave too few to elect
// anybody in it. The latter holds only if they do promise, so what was given up
// is remembered, and has to be dead for each later proposal as well. A server that
// lost its memory of a promise, by which its data directory is another one, is no
// proof of anything. So servers that die never keep others from beginning, unless
// they may be a cluster by now.
type founder struct {
	id      string
	expects int // how many servers begin; what is less than 2 proposes and promises nothing
	look    func() electorate
	ask     func(ctx context.Context, id string, call foundingCall) (foundingAnswer, error)
	node    foundingNode
	say     func(text string)
	// woken is sent a value when there is a reason to try again at once.
	woken chan struct{}
	// searched is closed when all addresses were tried to join once, or there are
	// none.
	searched chan struct{}
	// nobody says, once searched is closed, that none of them leads to another agent
	// that might just be slow, and remembers that members are known from before.
	nobody, remembers bool

	// mu is held while the promise is compared and replaced, and while a
	// configuration is made.
	mu sync.Mutex
}

// foundingNode is what a founder needs of Raft.
type foundingNode interface {
	Voters() []string
	LastIndex() uint64
	Nonce() string
	Promise() []byte
	KeepPromise([]byte) error
	BootstrapServers(ids []string) (bool, error)
}

// electorate is what a server sees of the servers that live, in its datacenter.
type electorate struct {
	expecting []string // IDs of those that expect as many as it does, itself among them; sorted
	others    []string // IDs of all other servers
	begins    string   // the name of one that begins alone, if there is one
	disagrees string   // which others expect another number, and which
}

// ballot orders proposals.
type ballot struct {
	Round uint64
	By    string // who proposes
}

func (b ballot) compare(o ballot) int {
	return cmp.Or(cmp.Compare(b.Round, o.Round), cmp.Compare(b.By, o.By))
}

// promise is what a server has promised: to accept nothing below Floor, and to be
// part of no other first configuration than that of Servers.
type promise struct {
	Floor ballot
	// proposal is what was accepted; without servers if nothing was.
	proposal
	// Past are those that were accepted before, and given up for others.
	Past []proposal `json:",omitempty"`
}

// replaced is a promise after a proposal is accepted.
func (p *promise) replaced(by proposal) promise {
	next := promise{Floor: by.Ballot, proposal: by}
	for _, old := range append(slices.Clone(p.Past), p.proposal) {
		switch {
		case len(old.Servers) == 0:
		case old.sameServers(by):
			if old.First.compare(next.First) < 0 {
				next.First = old.First
			}
		default:
			next.Past = append(next.Past, old)
		}
	}
	return next
}

// firm reports whether a server will still make the configuration that it promised.
func (p *promise) firm() bool { return len(p.Servers) > 0 && p.Floor == p.Ballot }

// foundingCall is what founders ask each other.
type foundingCall struct {
	Op      string
	Ballot  ballot     `json:",omitzero"`
	Servers []string   `json:",omitempty"`
	Nonces  []string   `json:",omitempty"` // of the servers, in their order
	Dead    []proposal `json:",omitempty"` // proposals that will not come about
}

// proposal names a first configuration that somebody may have promised.
type proposal struct {
	// First and Ballot are the lowest and the highest ballot by which the same was
	// accepted.
	First, Ballot ballot
	Servers       []string `json:",omitempty"`
	// Nonces name the data directory that each server had.
	Nonces []string `json:",omitempty"`
}

// What founders ask. The words cross the wire.
const (
	foundLook    = "look"    // how they are
	foundPrepare = "prepare" // to accept nothing below a ballot
	foundAccept  = "accept"  // to promise a configuration
	foundMade    = "made"    // to look at once: it was made
)

// foundingAnswer is how a server is, and why it refused.
type foundingAnswer struct {
	Sees      []string // the servers that expect what it does
	Voters    []string // of its configuration
	LastIndex uint64
	Nonce     string // of its data directory, if it was never part of a cluster
	Promise   promise
	Refused   string
}

// parseFounding reads what another server asks.
func parseFounding(body []byte) (c foundingCall, err error) {
	if len(body) > maxFoundingCall {
		return c, fmt.Errorf("a question about the first configuration has %d bytes, at most %d are possible", len(body), maxFoundingCall)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("cannot read a question about the first configuration: %w", err)
	}
	sets := [][]string{c.Servers}
	for _, d := range c.Dead {
		sets = append(sets, d.Servers)
	}
	for _, set := range sets {
		if len(set) > maxFounders {
			return c, fmt.Errorf("a first configuration has %d servers, at most %d are possible", len(set), maxFounders)
		}
		for i, id := range set {
			if id == "" || i > 0 && set[i-1] >= id {
				return c, fmt.Errorf("the servers of a first configuration are not in order: %q", set)
			}
		}
	}
	switch c.Op {
	case foundLook, foundMade:
		return c, nil
	case foundPrepare:
	case foundAccept:
		if len(c.Servers) == 0 || c.Servers[0] != c.Ballot.By {
			return c, fmt.Errorf("server %q proposes the servers %q: the first of them does that", c.Ballot.By, c.Servers)
		}
		if len(c.Nonces) != len(c.Servers) {
			return c, fmt.Errorf("a first configuration names %d data directories of %d servers", len(c.Nonces), len(c.Servers))
		}
	default:
		return c, fmt.Errorf("the question %q about the first configuration needs a newer Muster", c.Op)
	}
	if c.Ballot.Round == 0 || c.Ballot.By == "" {
		return c, fmt.Errorf("a question about the first configuration has no ballot")
	}
	return c, nil
}

// answer answers another founder, or this one.
func (f *founder) answer(c foundingCall) (foundingAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.state()
	if err != nil {
		return a, err
	}
	next := a.Promise
	switch c.Op {
	case foundPrepare:
		if c.Ballot.compare(next.Floor) > 0 && len(a.Voters) == 0 {
			next.Floor = c.Ballot
		}
	case foundAccept:
		if a.Refused = f.refuses(&a, &c); a.Refused == "" {
			next = a.Promise.replaced(proposal{First: c.Ballot, Ballot: c.Ballot, Servers: c.Servers, Nonces: c.Nonces})
		}
	case foundMade:
		f.wake()
	}
	if next.Floor == a.Promise.Floor && next.Ballot == a.Promise.Ballot {
		return a, nil
	}
	kept, err := json.Marshal(next)
	if err != nil {
		return a, err
	}
	if err := f.node.KeepPromise(kept); err != nil {
		return a, err
	}
	a.Promise = next
	return a, nil
}

// refuses says why a proposal is not accepted, or nothing. The mutex is held.
func (f *founder) refuses(a *foundingAnswer, c *foundingCall) string {
	self := slices.Index(c.Servers, f.id)
	switch {
	case len(a.Voters) > 0:
		return "it has a configuration: " + strings.Join(a.Voters, ", ")
	case a.LastIndex > 0:
		return "it has entries in its log, without a configuration"
	case f.expects < 2:
		return "it does not expect other servers (bootstrap_expect)"
	case c.Ballot.compare(a.Promise.Floor) < 0:
		return fmt.Sprintf("it was asked by %s meanwhile", a.Promise.Floor.By)
	case !slices.Equal(a.Sees, c.Servers):
		return fmt.Sprintf("it sees the servers %q, not %q", a.Sees, c.Servers)
	case self < 0 || c.Nonces[self] != a.Nonce:
		return "its data directory is another one than it was"
	case len(a.Promise.Past) >= maxPastPromises && !slices.Equal(a.Promise.Servers, c.Servers):
		return fmt.Sprintf("it has given up %d promises, which is the limit: stop it, remove what is in its data directory, and start it again", len(a.Promise.Past))
	}
	for _, held := range append(a.Promise.Past, a.Promise.proposal) {
		if len(held.Servers) > 0 && !slices.Equal(held.Servers, c.Servers) && !slices.ContainsFunc(c.Dead, held.is) {
			return fmt.Sprintf("it has promised another first configuration: %q", held.Servers)
		}
		if held.Ballot == c.Ballot && !slices.Equal(held.Nonces, c.Nonces) {
			return fmt.Sprintf("it was asked by %s before, which has lost its memory of that", c.Ballot.By)
		}
	}
	return ""
}

// is reports whether two are the same proposal.
func (p proposal) is(o proposal) bool {
	return p.First == o.First && p.Ballot == o.Ballot && p.sameServers(o)
}

// sameServers reports whether two are about the same servers, with the same memory.
func (p proposal) sameServers(o proposal) bool {
	return slices.Equal(p.Servers, o.Servers) && slices.Equal(p.Nonces, o.Nonces)
}

// state is how this server is. The mutex is held.
func (f *founder) state() (a foundingAnswer, err error) {
	a = foundingAnswer{Sees: f.look().expecting, Voters: f.node.Voters(), LastIndex: f.node.LastIndex(), Nonce: f.node.Nonce()}
	if kept := f.node.Promise(); len(kept) > 0 {
		if err := json.Unmarshal(kept, &a.Promise); err != nil {
			return a, fmt.Errorf("cannot read what this server promised, in its Raft folder: %w", err)
		}
	}
	return a, nil
}

// errPromised says that a server is to begin alone and has promised not to.
var errPromised = errors.New("this server has promised to begin a cluster with others")

// begins makes this server the only one of a new cluster, if it has no data. It
// does not if others may begin a cluster with it, on its word: the two would share
// this server.
func (f *founder) begins() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := f.state()
	if err != nil {
		return err
	}
	others := without(now.Promise.Servers, f.id)
	if len(others) > 0 && len(now.Voters) == 0 && now.LastIndex == 0 {
		return fmt.Errorf("%w: %s. They may have begun it: start this server as it was started before, with bootstrap_expect and their addresses, and it takes part. "+
			"If none of these servers ever had any data, and it is to begin alone, remove what is in the data directories of all of them first",
			errPromised, strings.Join(others, ", "))
	}
	_, err = f.node.BootstrapServers([]string{f.id})
	return err
}

// wake makes the one who waits try again at once.
func (f *founder) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// errDisagree says that servers expect different numbers.
var errDisagree = errors.New("the servers do not expect the same number, so none of them begins a cluster")

// errVoid says that a server made a first configuration and was gone until the
// others had given it up.
var errVoid = errors.New("a server has a configuration in which no leader can be elected, since its other servers have promised another one")

// errStuck says that a configuration lacks servers, and that this one, which is
// in it, is not free to take it over.
var errStuck = errors.New("a configuration is there in which no leader can be elected")

// stuck says which servers a configuration lacks to elect a leader, as long as none
// was ever elected, and which of its servers are here. There are none if it lacks
// none.
func stuck(voters []string, answers map[string]foundingAnswer) (lacks, here []string) {
	able := 0
	for _, id := range voters {
		a, ok := answers[id]
		switch {
		case !ok:
			lacks = append(lacks, id)
			continue
		case a.LastIndex > 1:
			return nil, nil
		case len(a.Voters) > 0, len(a.Promise.Servers) == 0, slices.Equal(a.Promise.Servers, voters):
			able++
		}
		here = append(here, id)
	}
	if able >= quorum(len(voters)) {
		return nil, nil
	}
	return lacks, here
}

// isVoid reports whether too many servers of a configuration have promised another
// one: that is for good, since who has one accepts no proposal of it.
func isVoid(voters []string, answers map[string]foundingAnswer) bool {
	lost := 0
	for _, id := range voters {
		a := answers[id]
		if len(a.Voters) == 0 && len(a.Promise.Servers) > 0 && !slices.Equal(a.Promise.Servers, voters) {
			lost++
		}
	}
	return len(voters) > 0 && len(voters)-lost < quorum(len(voters))
}

// try makes the first configuration if that can be done now. Its error says what
// is waited for; there is none if another server is to act.
func (f *founder) try(ctx context.Context) error {
	sees := f.look()
	answers, err := f.askAll(ctx, slices.Concat(sees.expecting, sees.others), foundingCall{Op: foundLook})
	mine, ok := answers[f.id]
	if !ok {
		return err
	}
	if first := f.firstOf(mine, answers); first != nil {
		return f.make(ctx, first, mine.Promise)
	}
	// In one order, so that what is found twice is said once.
	ids := slices.Sorted(maps.Keys(answers))
	for _, id := range ids {
		if isVoid(answers[id].Voters, answers) {
			return fmt.Errorf("%w: stop server %s, remove what is in its data directory, and start it again", errVoid, id)
		}
	}
	for _, id := range ids {
		a := answers[id]
		if !slices.Contains(a.Voters, f.id) || err != nil {
			continue // who did not answer may lead it
		}
		if lacks, here := stuck(a.Voters, answers); len(lacks) > 0 {
			return fmt.Errorf("%w unless more of its servers come: %s. If they are gone for good, stop those that are here (%s), remove what is in their data directories, which is no data yet, and start them again",
				errStuck, strings.Join(lacks, ", "), strings.Join(here, ", "))
		}
	}
	for _, a := range answers {
		if len(a.Voters) > 0 {
			return errors.New("a cluster is there already: this server waits for its leader to add it")
		}
	}
	switch {
	case sees.begins != "":
		return errors.New("a member has bootstrap mode, so this server waits to be added: " + sees.begins)
	case sees.disagrees != "":
		return fmt.Errorf("%w: %s, this server %d", errDisagree, sees.disagrees, f.expects)
	case len(sees.expecting) < f.expects:
		return fmt.Errorf("waiting for servers: %d of %d are here", len(sees.expecting), f.expects)
	case len(sees.expecting) > maxFounders:
		return fmt.Errorf("%d servers expect to begin a cluster, at most %d can", len(sees.expecting), maxFounders)
	case err != nil:
		return fmt.Errorf("a server does not say whether it belongs to a cluster: %w", err)
	case sees.expecting[0] != f.id:
		return nil // the first one proposes
	}
	for _, id := range ids {
		if slices.Contains(sees.expecting, id) && !slices.Equal(answers[id].Sees, sees.expecting) {
			return errors.New("waiting until all servers that expect each other see the same: server " + id + " does not yet")
		}
	}
	return f.propose(ctx, sees.expecting, answers)
}

// firstOf returns the configuration that this server is to make, because others
// did or can do nothing else, or nil.
func (f *founder) firstOf(mine foundingAnswer, answers map[string]foundingAnswer) []string {
	if len(mine.Voters) > 0 || mine.LastIndex > 0 {
		return nil
	}
	promised := mine.Promise
	// What another server promised, whose ID this one has no more, is not to be made.
	if slices.Contains(promised.Servers, f.id) {
		for _, a := range answers {
			if slices.Equal(a.Voters, promised.Servers) {
				return promised.Servers
			}
		}
		if f.chosen(promised, answers) {
			return promised.Servers
		}
		return nil
	}
	// One that lost its memory in the middle of it cannot tell. If nothing was ever
	// committed, and nobody is bound otherwise, nothing is lost with it.
	if voters := begun(answers); slices.Contains(voters, f.id) && untouched(voters, answers) {
		return voters
	}
	return nil
}

// chosen reports whether all servers of a configuration have promised it by the
// same ballot, and enough of them are here to elect a leader. Who proposed it
// promised before anybody else was asked.
func (f *founder) chosen(p promise, answers map[string]foundingAnswer) bool {
	if !p.firm() {
		return false
	}
	here := 0
	for _, id := range p.Servers {
		a, ok := answers[id]
		switch {
		case ok && (a.Promise.Ballot != p.Ballot || !a.Promise.firm() || !a.Promise.sameServers(p.proposal)):
			return false
		case ok:
			here++
		case id != p.Ballot.By:
			return false
		}
	}
	return here >= quorum(len(p.Servers))
}

// quorum is how many of some voters elect a leader.
func quorum(voters int) int { return voters/2 + 1 }

// begun returns the voters of the one configuration that servers have, or nil.
func begun(answers map[string]foundingAnswer) (voters []string) {
	for _, a := range answers {
		if len(a.Voters) == 0 {
			continue
		}
		if voters != nil && !slices.Equal(voters, a.Voters) {
			return nil
		}
		voters = a.Voters
	}
	return voters
}

// untouched reports whether all voters of a first configuration are there, have
// nothing in their logs but it, and did not promise another one.
func untouched(voters []string, answers map[string]foundingAnswer) bool {
	for _, id := range voters {
		a, ok := answers[id]
		if !ok || a.LastIndex > 1 || len(a.Voters) == 0 && len(a.Promise.Servers) > 0 && !slices.Equal(a.Promise.Servers, voters) {
			return false
		}
	}
	return true
}

// make makes a configuration, unless what was promised has changed meanwhile.
func (f *founder) make(ctx context.Context, servers []string, as promise) error {
	f.mu.Lock()
	now, err := f.state()
	made := false
	if err == nil && len(now.Voters) == 0 && now.Promise.Ballot == as.Ballot && (now.Promise.Floor == as.Floor || !as.firm()) {
		made, err = f.node.BootstrapServers(servers)
	}
	f.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("cannot begin a cluster: %w", err)
	case !made:
		return nil
	}
	f.say(strings.Join(servers, " "))
	// They would find out by themselves, a little later.
	_, _ = f.askAll(ctx, without(servers, f.id), foundingCall{Op: foundMade})
	return nil
}

// propose asks for the promises of all servers of a first configuration, and makes
// it when it has them.
func (f *founder) propose(ctx context.Context, servers []string, answers map[string]foundingAnswer) error {
	next := ballot{By: f.id}
	for _, a := range answers {
		next.Round = max(next.Round, a.Promise.Floor.Round)
	}
	next.Round++
	dead, err := f.clear(ctx, servers, next, answers)
	if err != nil {
		return err
	}
	call := foundingCall{Op: foundAccept, Ballot: next, Servers: servers, Dead: dead}
	for _, id := range servers {
		call.Nonces = append(call.Nonces, answers[id].Nonce)
	}
	// This server's own promise comes first, and stands for it when it is gone.
	for _, ids := range [][]string{{f.id}, without(servers, f.id)} {
		got, err := f.askAll(ctx, ids, call)
		for id, a := range got {
			if a.Promise.Ballot != next {
				err = errors.Join(err, fmt.Errorf("server %s: %s", id, a.Refused))
			}
		}
		if err != nil {
			return fmt.Errorf("not all servers promise the first configuration yet: %w", err)
		}
	}
	return f.make(ctx, servers, promise{Floor: next, proposal: proposal{Ballot: next, Servers: servers}})
}

// clear finds out whether what servers have promised before can be given up, and
// returns it.
func (f *founder) clear(ctx context.Context, servers []string, next ballot, answers map[string]foundingAnswer) ([]proposal, error) {
	held := otherPromises(servers, answers)
	if len(held) == 0 {
		return nil, nil
	}
	concerned := slices.Clone(servers)
	for _, p := range held {
		concerned = append(concerned, p.Servers...)
	}
	slices.Sort(concerned)
	// Those that are gone are asked in vain.
	got, _ := f.askAll(ctx, slices.Compact(concerned), foundingCall{Op: foundPrepare, Ballot: next})
	for _, id := range servers {
		if a, ok := got[id]; !ok || a.Promise.Floor != next {
			return nil, fmt.Errorf("server %s does not answer for a proposal, which will be made again", id)
		}
	}
	held = otherPromises(servers, got)
	for _, p := range held {
		if err := f.isDead(p, servers, got); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// isDead says why a proposal may still come about although servers accept another
// one, or nil.
func (f *founder) isDead(p proposal, servers []string, got map[string]foundingAnswer) error {
	for _, id := range p.Servers {
		// It may have begun as this and have others by now.
		if slices.ContainsFunc(got[id].Voters, func(id string) bool { return slices.Contains(p.Servers, id) }) {
			return errors.New("a cluster is there already, of which server " + id + " is a part")
		}
	}
	var outside []string
	pending := false // whether one may have made it, or may make it first
	for i, id := range p.Servers {
		a, ok := got[id]
		remembers := ok && i < len(p.Nonces) && p.Nonces[i] == a.Nonce
		later := ok && a.Promise.Floor.compare(p.Ballot) > 0
		switch {
		case len(a.Voters) > 0:
			return nil // it is part of another
		case remembers && later && a.Promise.Ballot.compare(p.First) < 0 && !slices.Equal(a.Promise.Servers, p.Servers):
			return nil // it never promised this, and will not
		}
		pending = pending || !later
		if !remembers || !slices.Contains(servers, id) {
			outside = append(outside, id)
		}
	}
	if !pending || len(outside) < quorum(len(p.Servers)) {
		return nil // nobody has it, or whoever does elects nobody
	}
	return fmt.Errorf("waiting for the servers %s: they may have begun a cluster of %d servers. "+
		"If they, or their data, are gone for good, stop the others of these servers (%s), remove what is in their data directories, and start them again",
		strings.Join(outside, ", "), len(p.Servers), strings.Join(slices.DeleteFunc(slices.Clone(p.Servers), func(id string) bool {
			return slices.Contains(outside, id)
		}), ", "))
}

// otherPromises lists what the servers of a configuration have ever promised apart
// from it.
func otherPromises(servers []string, answers map[string]foundingAnswer) (out []proposal) {
	for _, id := range servers {
		a := answers[id].Promise
		for _, p := range append(slices.Clone(a.Past), a.proposal) {
			if len(p.Servers) > 0 && !slices.Equal(p.Servers, servers) && !slices.ContainsFunc(out, p.is) {
				out = append(out, p)
			}
		}
	}
	return out
}

// without returns IDs but for one.
func without(ids []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s == id })
}

// askAll asks several servers at once. The error is about those that did not
// answer.
func (f *founder) askAll(ctx context.Context, ids []string, call foundingCall) (map[string]foundingAnswer, error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		out  = map[string]foundingAnswer{}
		errs []error
	)
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	for _, id := range ids {
		wg.Go(func() {
			var a foundingAnswer
			var err error
			if id == f.id {
				a, err = f.answer(call)
			} else {
				a, err = f.ask(ctx, id, call)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("server %s: %w", id, err))
				return
			}
			out[id] = a
		})
	}
	wg.Wait()
	// In one order, so that the same is the same error, which is logged once.
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return out, errors.Join(errs...)
}
