package agent

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/rpc"
)

// pool is what the agent needs to know of the members.
type pool interface {
	Members() []gossip.Member
	RTT(name string) (time.Duration, bool)
	Subscribe() (changed <-chan struct{}, cancel func())
}

// router chooses the servers that this agent asks. Which of several near ones
// comes first depends on the agent, so that many agents spread over the servers,
// and keep theirs for as long as it serves.
type router struct {
	self, datacenter string
	pool             pool
	now              func() time.Time

	// probe asks a server for something that needs a leader, and says if it could
	// not. Nil asks nothing: servers are then avoided for a time and no longer.
	probe func(ctx context.Context, id string) error
	// led finds a server that could.
	led rounds[string]

	mu      sync.Mutex
	avoided map[string]*avoidance // servers that failed
	changes map[string]*underWay  // servers that have changes to make
	doubt   bool                  // the last change that ended was not made, or not for certain
}

// underWay are the changes that a server was asked for and has not answered.
type underWay struct {
	n     int
	since time.Time // when the first was sent, or one was made last
}

// avoidance is why and until when other servers go before one.
type avoidance struct {
	until time.Time
	// then is how much longer, if the server cannot do then what needs a leader.
	then    time.Duration
	probing bool // that is being found out
	// leaderless says that it told us so: what needs none is no proof that it can.
	leaderless bool
}

func newRouter(self, datacenter string, p pool, now func() time.Time) *router {
	r := &router{self: self, datacenter: datacenter, pool: p, now: now, avoided: map[string]*avoidance{}, changes: map[string]*underWay{}}
	r.led.ask = r.findLed
	return r
}

// candidate is a server that could be asked.
type candidate struct {
	id      string
	avoided bool
	far     bool
	draw    uint64 // the agent's own order
}

// servers lists the IDs of the servers that are alive, best first.
func (r *router) servers() []string {
	var list []candidate
	trips := map[string]time.Duration{}
	nearest := time.Duration(-1)
	now := r.now()
	for _, m := range r.pool.Members() {
		if !m.IsServer() || m.Status != gossip.Alive || m.ID == r.self || m.Tags["dc"] != r.datacenter {
			continue
		}
		if trip, ok := r.pool.RTT(m.Name); ok {
			trips[m.ID] = trip
			if nearest < 0 || trip < nearest {
				nearest = trip
			}
		}
		list = append(list, candidate{id: m.ID, draw: draw(r.self, m.ID), avoided: r.avoids(m.ID, now)})
	}
	for i := range list {
		trip, known := trips[list[i].id]
		list[i].far = known && trip > 2*nearest+nearTrip
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(compareBool(a.avoided, b.avoided), compareBool(a.far, b.far), cmp.Compare(a.draw, b.draw))
	})
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.id
	}
	return out
}

// metAny reports whether any server is a member, or was one lately, alive or not.
func (r *router) metAny() bool {
	return slices.ContainsFunc(r.pool.Members(), func(m gossip.Member) bool {
		return m.IsServer() && m.ID != r.self
	})
}

// name is what people know a server by: its name, or else its ID.
func (r *router) name(id string) string {
	for _, m := range r.pool.Members() {
		if m.ID == id {
			return m.Name
		}
	}
	return strconv.Quote(id)
}

// failed puts a server behind the others for a while, and for longer if it then
// cannot do what needs a leader.
func (r *router) failed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.avoid(id)
}

// leaderless puts a server behind the others that said that it has no leader, until
// it does what needs one.
func (r *router) leaderless(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.avoid(id).leaderless = true
}

// avoid puts a server behind the others; r.mu is held.
func (r *router) avoid(id string) *avoidance {
	a := r.avoided[id]
	if a == nil {
		if len(r.avoided) >= maxAvoided {
			clear(r.avoided)
		}
		a = &avoidance{then: avoidFor}
		r.avoided[id] = a
	}
	a.until = r.now().Add(a.then)
	return a
}

// served takes back what failed did: the server answered something.
func (r *router) served(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.avoided[id]; a != nil && !a.leaderless {
		delete(r.avoided, id)
	}
}

// begin notes that a server is asked for a change.
func (r *router) begin(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.changes[id]
	if c == nil {
		c = &underWay{since: r.now()}
		r.changes[id] = c
	}
	c.n++
}

// end notes that a server is asked for a change no more, and whether it made it: then
// it has a leader.
func (r *router) end(id string, made bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.changes[id]
	if made {
		delete(r.avoided, id)
		c.since, r.doubt = r.now(), false
	}
	if c.n--; c.n == 0 {
		delete(r.changes, id)
	}
}

// doubts notes that a change was not made, or not for certain: the next server may
// have no leader either.
func (r *router) doubts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubt = true
}

// doubtful reports whether a server is to be asked whether it has a leader before it
// is asked for a change. One that has none holds changes for long before it says so.
func (r *router) doubtful(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.probe == nil {
		return false
	}
	c := r.changes[id]
	return r.doubt || c != nil && r.now().Sub(c.since) > patience
}

// findLed asks all servers for something that needs a leader, and returns the first
// that could; none, if that cannot be found out this way, as of servers that are slow.
// Its error is that no server has a leader, or that none can be reached.
func (r *router) findLed(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type asked struct {
		id  string
		err error
	}
	servers := r.servers()
	answers := make(chan asked, len(servers))
	for _, id := range servers {
		go func() { answers <- asked{id, r.probe(ctx, id)} }()
	}
	var why error
	known := true
	for range servers {
		a := <-answers
		switch {
		case a.err == nil:
			return a.id, nil
		case leaderless(a.err):
			why = a.err
		case !rpc.Unsent(a.err):
			known = false
		case why == nil:
			why = a.err
		}
	}
	if !known {
		return "", nil
	}
	return "", why
}

// suspect puts servers behind the others until it is found out, beside the requests,
// that they can be asked.
func (r *router) suspect(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if r.avoided[id] == nil {
			r.avoid(id).until = r.now()
		}
	}
}

// avoids reports whether other servers go before one. When that has been so for a
// while, it is found out, beside the requests, whether it can be asked again.
func (r *router) avoids(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.avoided[id]
	switch {
	case a == nil:
		return false
	case a.probing || !now.After(a.until):
	case r.probe == nil:
		delete(r.avoided, id)
		return false
	default:
		a.probing = true
		go r.tryAgain(id, a)
	}
	return true
}

// tryAgain finds out whether a server can be asked again.
func (r *router) tryAgain(id string, a *avoidance) {
	can := r.probe(context.Background(), id) == nil
	r.mu.Lock()
	defer r.mu.Unlock()
	a.probing = false
	if can {
		if r.avoided[id] == a {
			delete(r.avoided, id)
		}
		return
	}
	a.then = min(2*a.then, avoidMost)
	a.until = r.now().Add(a.then)
}

// draw is a number that orders the servers for one agent: the order of rendezvous
// hashing (Thaler and Ravishankar, 1998), so a server that comes or goes moves
// only the agents that get it or lose it.
func draw(agent, server string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(agent))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(server))
	x := h.Sum64()
	// FNV's upper bits depend little on the last bytes: mix them (Steele et al., 2014).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
