package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/rpc"
)

// founding is several servers that may begin a cluster, on a network that loses and
// delays, and of which each sees what the test lets it see.
type founding struct {
	t       *testing.T
	mu      sync.Mutex
	rand    *rand.Rand
	loss    float64
	servers map[string]*founderInTest
	expects int
	forgets bool // promises are not kept
}

// founderInTest is one of them: what outlasts its process.
type founderInTest struct {
	w       *founding
	id      string
	expects int
	sees    []string
	up      bool
	dead    bool // for ever
	life    int
	voters  []string
	disk    int // how many it has had
	promise []byte
	run     *founder
	stop    context.CancelFunc
}

func newFounding(t *testing.T, seed uint64, servers, expects int) *founding {
	w := &founding{t: t, rand: rand.New(rand.NewPCG(seed, 1)), expects: expects, servers: map[string]*founderInTest{}}
	for i := range servers {
		id := fmt.Sprintf("s%d", i)
		w.servers[id] = &founderInTest{w: w, id: id, expects: expects, sees: []string{id}}
	}
	return w
}

// chance is true as often as p says.
func (w *founding) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64() < p
}

// loses is whether the network loses what it carries.
func (w *founding) loses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64() < w.loss
}

func (w *founding) wait(most time.Duration) {
	w.mu.Lock()
	d := time.Duration(w.rand.Int64N(int64(most)))
	w.mu.Unlock()
	time.Sleep(d)
}

func (w *founding) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

func (w *founding) ids() []string {
	var ids []string
	for id, s := range w.servers {
		if !s.dead {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// start begins a new life of a server.
func (s *founderInTest) start() {
	s.w.mu.Lock()
	s.up = true
	s.life++
	life := s.life
	s.w.mu.Unlock()
	alive := func() bool {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		return s.up && s.life == life
	}
	f := &founder{
		id: s.id, expects: s.expects, woken: make(chan struct{}, 1), searched: make(chan struct{}),
		node: founderNode{s, alive}, say: func(string) {},
		look: func() electorate {
			s.w.mu.Lock()
			defer s.w.mu.Unlock()
			return electorate{expecting: slices.Clone(s.sees)}
		},
		ask: func(ctx context.Context, id string, call foundingCall) (foundingAnswer, error) {
			return s.w.carry(ctx, id, call)
		},
	}
	s.w.mu.Lock()
	s.run = f
	s.w.mu.Unlock()
	ctx, cancel := context.WithCancel(s.w.t.Context())
	s.stop = cancel
	go func() {
		for ctx.Err() == nil && len(f.node.Voters()) == 0 {
			_ = f.try(ctx)
			select {
			case <-ctx.Done():
			case <-f.woken:
			case <-time.After(expectInterval):
			}
		}
	}()
}

func (s *founderInTest) kill() {
	s.w.mu.Lock()
	s.up = false
	s.w.mu.Unlock()
	s.stop()
}

// carry brings a question to a server, maybe late, maybe never, whether or not
// somebody still waits for the answer.
func (w *founding) carry(ctx context.Context, id string, call foundingCall) (foundingAnswer, error) {
	type result struct {
		a   foundingAnswer
		err error
	}
	done := make(chan result, 1)
	lost := errors.New("lost")
	late := w.chance(0.05)
	go func() {
		w.wait(20 * time.Millisecond)
		if late {
			w.wait(3 * time.Second)
		}
		body, err := json.Marshal(call)
		if err != nil {
			w.t.Error(err)
		}
		read, err := parseFounding(body)
		if err != nil {
			w.t.Errorf("%s: %v", body, err)
		}
		w.mu.Lock()
		var f *founder
		if s := w.servers[id]; s.up {
			f = s.run
		}
		w.mu.Unlock()
		if f == nil || w.loses() {
			done <- result{err: lost}
			return
		}
		a, err := f.answer(read)
		w.wait(20 * time.Millisecond)
		if w.loses() {
			err = lost
		}
		done <- result{a, err}
	}()
	select {
	case r := <-done:
		return r.a, r.err
	case <-ctx.Done():
		return foundingAnswer{}, ctx.Err()
	}
}

// founderNode is the Raft of such a server.
type founderNode struct {
	s     *founderInTest
	alive func() bool
}

func (n founderNode) Voters() []string {
	n.s.w.mu.Lock()
	defer n.s.w.mu.Unlock()
	return n.s.voters
}

func (n founderNode) LastIndex() uint64 { return uint64(min(len(n.Voters()), 1)) }

func (n founderNode) Nonce() string {
	n.s.w.mu.Lock()
	defer n.s.w.mu.Unlock()
	if n.s.voters != nil {
		return ""
	}
	return fmt.Sprintf("%s-%d", n.s.id, n.s.disk)
}

func (n founderNode) Promise() []byte {
	n.s.w.mu.Lock()
	defer n.s.w.mu.Unlock()
	if n.s.w.forgets {
		// Only the ballots are kept, which say nothing of what was promised.
		var p promise
		if json.Unmarshal(n.s.promise, &p) != nil || p.Servers == nil {
			return n.s.promise
		}
		p.Servers, p.Past = nil, nil
		b, _ := json.Marshal(p)
		return b
	}
	return n.s.promise
}

func (n founderNode) KeepPromise(b []byte) error {
	if !n.alive() {
		return errors.New("it died")
	}
	n.s.w.mu.Lock()
	defer n.s.w.mu.Unlock()
	n.s.promise = b
	return nil
}

func (n founderNode) BootstrapServers(ids []string) (bool, error) {
	if !n.alive() {
		return false, errors.New("it died")
	}
	n.s.w.mu.Lock()
	defer n.s.w.mu.Unlock()
	if n.s.voters != nil {
		return false, nil
	}
	n.s.voters, n.s.promise = slices.Clone(ids), nil
	return true, nil
}

// made lists the configurations that servers have, and by how many.
func (w *founding) made() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, s := range w.servers {
		if s.voters != nil {
			out[strings.Join(s.voters, " ")]++
		}
	}
	return out
}

// clusters lists the configurations that have a quorum, and says whether two of
// them have a server in common.
func (w *founding) clusters() (electable [][]string, split bool) {
	for text, by := range w.made() {
		voters := strings.Fields(text)
		if by < quorum(len(voters)) {
			continue
		}
		for _, other := range electable {
			split = split || slices.ContainsFunc(voters, func(id string) bool { return slices.Contains(other, id) })
		}
		electable = append(electable, voters)
	}
	return electable, split
}

// lost reports whether somebody who lives has a configuration of which too many are
// gone for ever: they had promised it, and it was made when they were gone.
func (w *founding) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers {
		living := slices.DeleteFunc(slices.Clone(s.voters), func(id string) bool { return w.servers[id].dead })
		if !s.dead && s.voters != nil && len(living) < quorum(len(s.voters)) {
			return true
		}
	}
	return false
}

// see lets some servers see each other, and some of them something else.
func (w *founding) see() {
	ids := w.ids()
	for _, i := range []int{0, 1} { // two groups at a time, which may overlap
		size := min(len(ids), w.expects+w.pick(2))
		order := slices.Clone(ids)
		w.mu.Lock()
		w.rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		w.mu.Unlock()
		group := order[:size]
		slices.Sort(group)
		for _, id := range group {
			if i == 1 && w.chance(0.3) {
				continue
			}
			sees := group
			if w.chance(0.05) {
				sees = without(group, order[w.pick(size)])
			}
			if !slices.Contains(sees, id) {
				sees = append([]string{id}, sees...)
				slices.Sort(sees)
			}
			w.mu.Lock()
			w.servers[id].sees = slices.Clone(sees)
			w.mu.Unlock()
		}
	}
}

// found lets servers find each other in all the wrong ways and then in the right
// one, and reports whether two clusters came of it.
func found(t *testing.T, seed uint64, forgets bool) (split bool) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 2))
		servers := 3 + r.IntN(4)
		expects := 2 + r.IntN(servers-1)
		w := newFounding(t, seed, servers, expects)
		w.forgets = forgets
		w.loss = max(0, 0.4*r.Float64()-0.1)
		dying := 0 // how many may be gone for ever: two might be a cluster
		if r.IntN(3) == 0 {
			dying = min(servers-expects, 1)
		}
		for _, s := range w.servers {
			s.start()
		}
		defer func() {
			for _, s := range w.servers {
				s.kill()
			}
			time.Sleep(10 * time.Second) // for what is still under way
		}()
		for range 10 + r.IntN(30) {
			w.see()
			w.wait(400 * time.Millisecond)
			if w.chance(0.2) {
				ids := w.ids()
				s := w.servers[ids[w.pick(len(ids))]]
				s.kill()
				if dying > 0 && w.chance(0.5) && len(w.made()) == 0 {
					dying--
					s.dead = true
				} else {
					w.wait(500 * time.Millisecond)
					s.start()
				}
			}
			var list [][]string
			if list, split = w.clusters(); split {
				if !forgets {
					t.Errorf("seed %d: two clusters: %v", seed, list)
				}
				break
			}
		}
		// Everybody who lives sees everybody who lives.
		w.mu.Lock()
		w.loss = 0
		w.mu.Unlock()
		ids := w.ids()
		for _, id := range ids {
			w.mu.Lock()
			w.servers[id].sees = ids
			w.mu.Unlock()
		}
		for range 100 {
			if list, _ := w.clusters(); len(list) > 0 {
				break
			}
			time.Sleep(expectInterval)
		}
		list, again := w.clusters()
		split = split || again
		if !forgets {
			if again {
				t.Errorf("seed %d: two clusters: %v", seed, list)
			}
			if len(list) == 0 {
				var states []string
				void := false
				for _, id := range ids {
					s := w.servers[id]
					err := s.run.try(t.Context())
					// These a person has to settle.
					void = void || errors.Is(err, errVoid) || errors.Is(err, errStuck) && w.lost()
					states = append(states, fmt.Sprintf("%s has %v, promised %s: %v", id, s.voters, s.promise, err))
				}
				if void {
					return
				}
				t.Errorf("seed %d: %d servers that expect %d, of which %d live, began nothing:\n%s", seed, servers, expects, len(ids), strings.Join(states, "\n"))
			}
		}
	})
	return split
}

// However unequal the views of servers are, and whatever is lost, killed and
// started again, no two clusters have a server in common, and one begins as soon as
// all see each other.
func TestServersThatSeeDifferentOthersBeginOneCluster(t *testing.T) {
	first := uint64(time.Now().UnixNano())
	for seed := first; seed < first+300; seed++ {
		if found(t, seed, false); t.Failed() {
			return
		}
	}
}

// Without the promise they would: so the test above can find it.
func TestWithoutPromisesTwoClustersBegin(t *testing.T) {
	for seed := range uint64(3000) {
		if found(t, seed, true) {
			return
		}
	}
	t.Error("no two clusters were found")
}

// A server in bootstrap mode looks for others for as long as there may be some.
func TestHowLongBootstrapModeLooks(t *testing.T) {
	refused, slow := errors.New("dial tcp: connect: connection refused"), errors.New("i/o timeout")
	for _, c := range []struct {
		name      string
		joined    error
		pending   bool
		remembers bool
		meets     bool
		looks     time.Duration
	}{
		{name: "its own address"},
		{name: "nobody listens", joined: errors.Join(fmt.Errorf("first: %w", refused), errors.Join(refused, refused))},
		{name: "one is slow", joined: errors.Join(refused, slow), looks: aloneLook},
		{name: "others are known", meets: true, looks: aloneLook},
		{name: "others were known", remembers: true, looks: aloneLook},
		{name: "not all were asked", pending: true, looks: aloneLimit},
	} {
		f := &founder{searched: make(chan struct{}), woken: make(chan struct{}, 1), remembers: c.remembers}
		a := &Agent{founder: f}
		if !c.pending {
			a.searchedAll(c.joined)
		}
		if c.looks > 0 && f.mayBegin(c.looks-1, c.meets) || !f.mayBegin(c.looks, c.meets) {
			t.Errorf("%s: it does not look for %s", c.name, c.looks)
		}
	}
}

// What is asked about the first configuration is read or refused, whatever it is.
func FuzzFounding(f *testing.F) {
	for _, seed := range []string{
		`{"Op":"look"}`,
		`{"Op":"prepare","Ballot":{"Round":1,"By":"a"}}`,
		`{"Op":"accept","Ballot":{"Round":1,"By":"a"},"Servers":["a","b"],"Nonces":["a-0","b-0"],"Dead":[{"First":{"Round":1,"By":"b"},"Ballot":{"Round":1,"By":"b"},"Servers":["b","c"],"Nonces":["b-0","c-0"]}]}`,
		`{"Op":"accept","Ballot":{"Round":1,"By":"a"},"Servers":["a","b"],"Nonces":["a-0"]}`,
		`{"Op":"accept","Ballot":{"Round":1,"By":"a"},"Servers":["b","a"]}`,
		`{"Op":"accept"`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseFounding(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseFounding(again); err != nil {
			t.Errorf("%s is read, but not %s: %v", body, again, err)
		}
		s := &founderInTest{w: newFounding(nil, 1, 1, 2), id: "a", sees: []string{"a", "b"}}
		run := &founder{
			id: "a", expects: 2, woken: make(chan struct{}, 1), node: founderNode{s, func() bool { return true }},
			look: func() electorate { return electorate{expecting: s.sees} },
		}
		got, err := run.answer(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Promise.Servers) > 0 && !slices.Equal(got.Promise.Servers, s.sees) {
			t.Errorf("%s makes it promise %q", body, got.Promise.Servers)
		}
	})
}

func TestServersThatStartAreNoAlarm(t *testing.T) {
	other := errors.New("connection refused")
	for _, c := range []struct{ err, want error }{
		{nil, nil},
		{other, other},
		{fmt.Errorf("cannot ask: %w", &rpc.Refusal{Status: rpc.StatusNotServed, Protocol: 2}), errStarting},
	} {
		if got := startingOr(c.err); !errors.Is(got, c.want) || got != nil && strings.Contains(got.Error(), "protocol") {
			t.Errorf("%v is told as %v, want %v", c.err, got, c.want)
		}
	}
	refused := &rpc.Refusal{Status: rpc.StatusWrongCluster}
	if got := startingOr(refused); got != error(refused) {
		t.Errorf("%v is told as %v", refused, got)
	}
}

// What a server sees is the same, and so is said in the same words, in whatever order
// it sees the others.
func TestElectorateHasNoOrder(t *testing.T) {
	var servers []gossip.Member
	for i, tags := range []map[string]string{
		{"expect": "3"}, {"expect": "3"}, {"expect": "5"}, {"expect": "2"}, {}, {"bootstrap": "1"}, {"bootstrap": "1"},
	} {
		servers = append(servers, gossip.Member{Name: fmt.Sprintf("n%d", i), ID: fmt.Sprintf("id%d", i), Tags: tags})
	}
	want := electorate{
		expecting: []string{"id0", "id1"}, others: []string{"id2", "id3", "id4", "id5", "id6"},
		begins: "n5", disagrees: `n2 expects "5", n3 expects "2"`,
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		random.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
		if got := electorateOf("id0", 3, servers); !reflect.DeepEqual(got, want) {
			t.Fatalf("it sees %+v, want %+v", got, want)
		}
	}
	for i := range 20 {
		servers = append(servers, gossip.Member{Name: fmt.Sprintf("more%02d", i), ID: fmt.Sprintf("more%02d", i), Tags: map[string]string{"expect": "7"}})
	}
	if got := electorateOf("id0", 3, servers).disagrees; !strings.HasSuffix(got, ", 12 more expect other numbers") {
		t.Errorf("of many that disagree it says %q", got)
	}
}
