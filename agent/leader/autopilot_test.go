package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// servers is a configuration of Raft, and what each server says of itself.
type servers struct {
	mu       sync.Mutex
	voters   map[string]bool // by ID; false follows without a vote
	stats    map[string]ServerStats
	admitted []string
	forced   []string
	changes  []string
	kept     map[string]string // why servers may not be added, by ID
}

func (s *servers) Servers() []RaftServer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []RaftServer
	for _, id := range slices.Sorted(maps.Keys(s.voters)) {
		out = append(out, RaftServer{id, s.voters[id]})
	}
	return out
}

func (s *servers) change(what, id string, fn func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, what+" "+id)
	fn()
	return nil
}

func (s *servers) AddNonvoter(_ context.Context, id string) error {
	return s.change("follow", id, func() { s.voters[id] = false })
}
func (s *servers) AddVoter(_ context.Context, id string) error {
	return s.change("vote", id, func() { s.voters[id] = true })
}
func (s *servers) DemoteVoter(_ context.Context, id string) error {
	return s.change("demote", id, func() { s.voters[id] = false })
}
func (s *servers) RemoveServer(_ context.Context, id string) error {
	return s.change("remove", id, func() { delete(s.voters, id) })
}

func (s *servers) ask(_ context.Context, id string) (ServerStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats, ok := s.stats[id]
	if !ok {
		return ServerStats{}, errors.New("it does not answer")
	}
	return stats, nil
}

func (s *servers) mayAdd(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why := s.kept[id]; why != "" {
		return errors.New(why)
	}
	return nil
}

func (s *servers) admit(_ context.Context, id, nonce string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted = append(s.admitted, id)
	if s.stats[id].Fresh != nonce {
		return errors.New("another nonce")
	}
	stats := s.stats[id]
	stats.Fresh = ""
	s.stats[id] = stats
	return nil
}

// took returns the changes of the configuration since it was last asked.
func (s *servers) took() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.changes
	s.changes = nil
	return c
}

func (s *servers) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// serverMember is the server of a number; its ID is its name.
func serverMember(n int, status gossip.Status) gossip.Member {
	m := member("s1", gossip.RoleServer, status)
	m.Name = fmt.Sprint("s", n)
	m.ID = m.Name
	return m
}

// looksAfter does the leader's duties for a number of voters that all are well, of
// which s1 leads.
func looksAfter(t *testing.T, voters int, config state.AutopilotConfig, check func(w *world, s *servers, p *Autopilot)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.self.ID = "s1"
		s := &servers{voters: map[string]bool{}, stats: map[string]ServerStats{}}
		w.members = nil
		for n := 1; n <= voters; n++ {
			w.members = append(w.members, serverMember(n, gossip.Alive))
			s.voters[fmt.Sprint("s", n)] = true
			s.stats[fmt.Sprint("s", n)] = ServerStats{LastIndex: 1000, LastTerm: 3}
		}
		p := &Autopilot{}
		d := w.deps()
		d.Raft, d.Stats, d.Admit, d.Autopilot, d.Initial = s, s.ask, s.admit, p, config
		d.MayAdd, d.Logger = s.mayAdd, slog.New(slog.NewTextHandler(w, nil))
		d.Address = func(id string) string { return id + ":8300" }
		d.ForceLeave = func(_ context.Context, name string) error {
			return s.change("force", name, func() { s.forced = append(s.forced, name) })
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = Run(ctx, d) }()
		synctest.Wait()
		check(w, s, p)
		cancel()
		synctest.Wait()
	})
}

// A server that may belong to another cluster takes no part in Raft for a moment, and
// the log says once why, and again when that changes.
func TestStrangersAreNotAdded(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, _ *Autopilot) {
		s.set(func() { s.kept = map[string]string{"s4": "it does not say"} })
		w.change(append(slices.Clone(w.members), serverMember(4, gossip.Alive), serverMember(5, gossip.Alive))...)
		if got := s.took(); !slices.Equal(got, []string{"follow s5"}) {
			t.Errorf("with a server that may not be added, and one that may, the changes are %q", got)
		}
		time.Sleep(20 * askAgain)
		s.set(func() { s.kept["s4"] = "it is foreign" })
		time.Sleep(20 * askAgain)
		if got := s.took(); len(got) != 0 {
			t.Errorf("the server that may not be added came to %q", got)
		}
		for _, why := range []string{"it does not say", "it is foreign"} {
			if n := strings.Count(w.logged(), why); n != 1 {
				t.Errorf("the log says %d times that %s", n, why)
			}
		}
		s.set(func() { delete(s.kept, "s4") })
		time.Sleep(2 * askAgain)
		if got := s.took(); !slices.Equal(got, []string{"follow s4"}) {
			t.Errorf("once it may be added the changes are %q", got)
		}
	})
}

func TestNewServerVotesOnceItIsStable(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		s.set(func() { s.stats["s4"] = ServerStats{LastIndex: 10, LastTerm: 3, Fresh: "n"} })
		w.change(append(slices.Clone(w.members), serverMember(4, gossip.Alive))...)
		if got := s.took(); !slices.Equal(got, []string{"follow s4"}) {
			t.Fatalf("it was added by %v", got)
		}
		time.Sleep(30 * time.Second) // it is too far behind
		if got := s.took(); len(got) > 0 {
			t.Errorf("a server that is behind led to %v", got)
		}
		s.set(func() { s.stats["s4"] = ServerStats{LastIndex: 990, LastTerm: 3, Fresh: "n"} })
		time.Sleep(9 * time.Second)
		if got := s.took(); len(got) > 0 {
			t.Errorf("before it was stable for long enough: %v", got)
		}
		time.Sleep(5 * time.Second)
		if got := s.took(); !slices.Equal(got, []string{"vote s4"}) || !slices.Equal(s.admitted, []string{"s4"}) {
			t.Errorf("it got its vote by %v, admitted %v", got, s.admitted)
		}
	})
}

func TestWipedVoterLosesItsVoteUntilItHasCaughtUp(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		s.set(func() { s.stats["s2"] = ServerStats{LastIndex: 1, LastTerm: 3, Fresh: "n"} })
		time.Sleep(2 * StatsInterval)
		if got := s.took(); !slices.Equal(got, []string{"demote s2"}) {
			t.Fatalf("it led to %v", got)
		}
		s.set(func() { s.stats["s2"] = ServerStats{LastIndex: 1000, LastTerm: 3, Fresh: "n"} })
		time.Sleep(15 * time.Second)
		if got := s.took(); !slices.Equal(got, []string{"vote s2"}) {
			t.Errorf("it led to %v", got)
		}
	})
}

func TestServerThatLeftIsRemoved(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		w.change(serverMember(1, gossip.Alive), serverMember(2, gossip.Alive), serverMember(3, gossip.Left))
		if got := s.took(); !slices.Equal(got, []string{"remove s3"}) {
			t.Errorf("it led to %v", got)
		}
	})
}

func TestDeadServersAreRemovedAsFarAsIsSafe(t *testing.T) {
	off, least := state.DefaultAutopilot(), state.DefaultAutopilot()
	off.CleanupDeadServers = false
	least.MinQuorum = 5
	for _, c := range []struct {
		name   string
		voters int
		dead   []int
		config state.AutopilotConfig
		want   []string
	}{
		{"one of three", 3, []int{2}, state.DefaultAutopilot(), []string{"force s2", "remove s2"}},
		{"two of five", 5, []int{2, 3}, state.DefaultAutopilot(), []string{"force s2", "remove s2", "force s3", "remove s3"}},
		{"switched off", 3, []int{2}, off, nil},
		{"below the least", 5, []int{2}, least, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			looksAfter(t, c.voters, c.config, func(w *world, s *servers, p *Autopilot) {
				members := slices.Clone(w.members)
				s.set(func() {
					for _, n := range c.dead {
						members[n-1].Status = gossip.Failed
						delete(s.stats, fmt.Sprint("s", n))
					}
				})
				w.change(members...)
				if got := s.took(); len(got) > 0 {
					t.Errorf("at once: %v", got)
				}
				time.Sleep(CleanupInterval + StatsInterval)
				if got := s.took(); !slices.Equal(got, c.want) {
					t.Errorf("it led to %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestReport(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		if r := p.Report(); r == nil || !r.Healthy || r.FailureTolerance != 1 || r.Leader != "s1" || len(r.Servers) != 3 {
			t.Fatalf("the report is %+v", r)
		}
		for name, sick := range map[string]ServerStats{
			"out of contact": {LastIndex: 1000, LastTerm: 3, LastContact: time.Second},
			"another term":   {LastIndex: 1000, LastTerm: 2},
			"far behind":     {LastIndex: 700, LastTerm: 3},
			"its disk full":  {LastIndex: 1000, LastTerm: 3, Full: true},
		} {
			s.set(func() { s.stats["s3"] = sick })
			time.Sleep(StatsInterval)
			synctest.Wait()
			r := p.Report()
			if r.Healthy || r.FailureTolerance != 0 || r.Servers[2].Healthy {
				t.Errorf("%s: the report is %+v", name, r)
			}
		}
	})
}

// A server whose disk is full is told of, but keeps its vote and its place.
func TestFullServerKeepsItsVote(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		s.set(func() { s.stats["s3"] = ServerStats{LastIndex: 1000, LastTerm: 3, Full: true} })
		time.Sleep(10 * CleanupInterval)
		if got := s.took(); len(got) > 0 {
			t.Errorf("it led to %v", got)
		}
		if r := p.Report(); r.Healthy || r.Servers[2].Healthy || !r.Servers[2].Voter {
			t.Errorf("the report is %+v", r)
		}
		s.set(func() { s.stats["s3"] = ServerStats{LastIndex: 1000, LastTerm: 3} })
		time.Sleep(StatsInterval)
		synctest.Wait()
		if r := p.Report(); !r.Healthy || r.FailureTolerance != 1 {
			t.Errorf("when it has room again the report is %+v", r)
		}
	})
}

// A server that lost its data and its ID comes back by its name under another. The
// vote of the ID that nobody has any more goes as soon as that of a dead server, also
// if another server led when it happened.
func TestTheVoteOfALostIDIsNotWaitedFor(t *testing.T) {
	for name, known := range map[string]func(w *world, p *Autopilot){
		"it was a member before this server led": func(_ *world, p *Autopilot) { p.Meet("lost") },
		"the catalog has it by that name": func(w *world, _ *Autopilot) {
			node := catalog.Node{ID: "lost", Name: "s3", Address: "192.0.2.3"}
			r := &health.Register{Registration: catalog.Registration{Node: node}, Checks: []health.Check{liveness("s3", health.Passing, health.SerfAlive)}}
			w.do(&catalog.Deregister{Node: "s3"})
			w.do(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
				s.set(func() { s.voters["lost"] = true })
				known(w, p)
				w.change(w.members...)
				s.took()
				time.Sleep(CleanupInterval + StatsInterval)
				if got := s.took(); !slices.Equal(got, []string{"remove lost"}) {
					t.Errorf("it led to %v", got)
				}
			})
		})
	}
}

// One that may only not have found the others yet is waited for.
func TestAVoterNeverMetIsWaitedFor(t *testing.T) {
	looksAfter(t, 3, state.DefaultAutopilot(), func(w *world, s *servers, p *Autopilot) {
		s.set(func() { s.voters["late"] = true })
		time.Sleep(OrphanGrace - 2*CleanupInterval)
		if got := s.took(); len(got) > 0 {
			t.Errorf("too soon: %v", got)
		}
		time.Sleep(4 * CleanupInterval)
		if got := s.took(); !slices.Equal(got, []string{"remove late"}) {
			t.Errorf("it led to %v", got)
		}
	})
}
