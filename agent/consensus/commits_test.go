package consensus

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// called says when a leader last called a follower with news.
func (m *members) called(leader *member, id string) time.Duration {
	c := leader.transport.commits
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followed[raft.ServerID(id)]; f != nil {
		return f.asked
	}
	return never
}

// What is committed is applied by the followers as soon as it is by the leader, long
// before Raft would tell them: commands, and what only the log knows, as a leader's
// first entry is.
func TestFollowersLearnAtOnce(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		m.until("followers have the leader's first entries", 2*commitPause, func() bool {
			return m.applied(leader.raft.CommitIndex())
		})
		var late []time.Duration
		for i := range 40 {
			time.Sleep(time.Duration(i) * time.Millisecond)
			began := time.Now()
			apply(t, leader.Node, 1)
			index := leader.raft.CommitIndex()
			m.until("all have applied it", time.Second, func() bool { return m.applied(index) })
			late = append(late, time.Since(began))
		}
		if worst := slices.Max(late); worst > 2*commitPause {
			t.Errorf("it took followers up to %v to apply what was committed: %v", worst, late)
		}
	})
}

func (m *members) applied(index uint64) bool {
	return !slices.ContainsFunc(m.all, func(one *member) bool { return !one.hasApplied(index) })
}

// An idle leader says nothing beside what Raft does, and nobody is told of what it
// has not got: a follower that is cut off is not called, and learns when it is back.
func TestOnlyNewsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, "", three...)
		defer m.stop()
		leader := m.leader()
		apply(t, leader.Node, 3)
		index := leader.raft.CommitIndex()
		m.until("followers know", 2*commitPause, func() bool { return m.applied(index) })
		one, cut := m.others(leader)[0].cfg.ID, m.others(leader)[1].cfg.ID
		before := []time.Duration{m.called(leader, one), m.called(leader, cut)}
		time.Sleep(5 * time.Second)
		if after := []time.Duration{m.called(leader, one), m.called(leader, cut)}; !slices.Equal(before, after) {
			t.Errorf("an idle leader called last at %v, and before that at %v", after, before)
		}
		m.net.isolate(cut)
		apply(t, leader.Node, 5)
		time.Sleep(3 * commitPause)
		if m.called(leader, one) == before[0] || m.called(leader, cut) != before[1] {
			t.Errorf("last called: %v a follower, and %v one that is cut off; before that at %v", m.called(leader, one), m.called(leader, cut), before)
		}
		m.net.heal()
		m.until("the follower is back", 20*time.Second, func() bool { return m.applied(leader.raft.CommitIndex()) })
	})
}

// One who writes one thing after the other has not every write told by itself.
func TestNewsAreTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, "", three...)
		defer m.stop()
		leader := m.leader()
		m.net.set(func() { m.net.delay = 100 * time.Microsecond })
		c := leader.transport.commits
		asked := map[time.Duration]bool{}
		began := time.Now()
		for time.Since(began) < time.Second {
			apply(t, leader.Node, 1)
			c.mu.Lock()
			for _, f := range c.followed {
				asked[f.asked] = true
			}
			c.mu.Unlock()
		}
		most := 2 * int(time.Since(began)/commitPause+1)
		if n := len(asked); n > most || n < 10 {
			t.Errorf("in %v the followers were called at %d moments, want 10 to %d", time.Since(began), n, most)
		}
	})
}

// A server that was gone for long gets what it lacks as soon as it is back.
func TestServerThatIsBackCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, t.TempDir(), three...)
		defer m.stop()
		leader := m.leader()
		apply(t, leader.Node, 1)
		gone := m.others(leader)[0]
		if err := gone.Stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		apply(t, leader.Node, 3)
		m.start(gone)
		took := m.until("it has all", 20*time.Second, func() bool { return gone.hasApplied(leader.raft.CommitIndex()) })
		if took > 10*reachAgain {
			t.Errorf("a server that is back gets what it lacks after %v", took)
		}
	})
}
