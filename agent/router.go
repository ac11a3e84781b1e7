package agent

import (
	"cmp"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
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

	mu      sync.Mutex
	avoided map[string]time.Time // servers that failed, and until when others go first
}

func newRouter(self, datacenter string, p pool, now func() time.Time) *router {
	return &router{self: self, datacenter: datacenter, pool: p, now: now, avoided: map[string]time.Time{}}
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

// failed puts a server behind the others for a while.
func (r *router) failed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.avoided) >= maxAvoided {
		clear(r.avoided)
	}
	r.avoided[id] = r.now().Add(avoidFor)
}

// served takes back what failed did.
func (r *router) served(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.avoided, id)
}

func (r *router) avoids(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.avoided[id]
	if ok && now.After(until) {
		delete(r.avoided, id)
		return false
	}
	return ok
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
