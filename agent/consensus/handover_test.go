package consensus

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A request to take over that comes late, when another term has begun or the
// leader has not been heard of, is refused.
func TestLateHandOverIsRefused(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 1)
		m.agree(1, m.all...)
		target := m.others(leader)[0]
		ask := func(term uint64, from string) error {
			return target.transport.checkHandOver(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
				ID: []byte(from), Addr: binary.BigEndian.AppendUint64([]byte(handOver), term),
			}})
		}
		term := leader.raft.CurrentTerm()
		if err := ask(term, leader.cfg.ID); err != nil {
			t.Errorf("the leader: %v", err)
		}
		for name, err := range map[string]error{
			"an older term":    ask(term-1, leader.cfg.ID),
			"another server":   ask(term, m.others(leader)[1].cfg.ID),
			"no term":          target.transport.checkHandOver(&raft.TimeoutNowRequest{}),
			"a term cut short": target.transport.checkHandOver(&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{Addr: []byte(handOver + "1234")}}),
		} {
			if err == nil || !strings.HasPrefix(err.Error(), refusedHandOver) {
				t.Errorf("%s: %v", name, err)
			}
		}
		m.net.isolate(target.cfg.ID)
		time.Sleep(BaseTimeout + time.Millisecond)
		if err := ask(target.raft.CurrentTerm(), leader.cfg.ID); err == nil {
			t.Error("the leader was not heard of, and it takes over")
		}
		m.net.heal()
	})
}

// While leadership is handed over, the one who hands it over does not lead; if
// the other was told and does not act, leadership is given up all the same.
func TestHandOverThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, "", three...)
		defer m.stop()
		leader := m.leader()
		apply(t, leader.Node, 1)
		m.agree(1, m.all...)
		term := leader.raft.CurrentTerm()
		target := m.others(leader)[0]
		// Its answers do not arrive, so nobody knows whether it was told.
		m.net.hold(target.cfg.ID, leader.cfg.ID)
		m.net.hold(target.cfg.ID, m.others(leader, target)[0].cfg.ID)
		handing := begin(func() error { return leader.TransferLeadership(t.Context(), target.cfg.ID) })
		synctest.Wait()
		if leader.Leading() {
			t.Error("it leads while it hands over")
		}
		if o := <-handing; o.err == nil && leader.raft.State() == raft.Leader {
			t.Error("it still leads")
		}
		m.until("it does not lead in that term", 5*time.Second, func() bool { return leader.raft.State() != raft.Leader || leader.raft.CurrentTerm() > term })
		m.net.heal()
		if next := m.leader(); next.raft.CurrentTerm() <= term {
			t.Errorf("%s leads in term %d", next.cfg.ID, term)
		}
	})
}

// The faults of a configuration stand in the way of storing.
func TestConfiguredFaults(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) {
			var failing atomic.Bool
			broken := errors.New("broken")
			fault := func() error {
				if failing.Load() {
					return broken
				}
				return nil
			}
			cfg := alone(dir, new(counter))
			cfg.Faults = Faults{Log: fault, Stable: fault}
			n := open(t, cfg)
			defer stop(t, n)
			bootstrap(t, n)
			failing.Store(true)
			_, err := n.Apply(t.Context(), number(1))
			isFault(t, "Apply", err, ErrStore, broken.Error())
			failing.Store(false)
			await(t, n)
			apply(t, n, 1)
		})
	})
}

func TestStats(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 3)
		m.agree(3, m.all...)
		s := leader.Stats()
		if s.State != "Leader" || s.Term == 0 || s.LastLogTerm != s.Term || s.CommitIndex != s.LastLogIndex || len(s.Peers) != 3 || s.PeersIndex != 1 || s.LastContact != 0 || s.LeaseLeft <= 0 {
			t.Errorf("the leader has %+v", s)
		}
		text := s.Map()
		for key, want := range map[string]string{"state": "Leader", "num_peers": "2", "last_contact": "0", "latest_configuration_index": "1"} {
			if text[key] != want {
				t.Errorf("%s is %q, want %q", key, text[key], want)
			}
		}
		follower := m.others(leader)[0].Stats()
		if follower.State != "Follower" || follower.LeaseLeft != 0 || follower.LastContact > BaseTimeout {
			t.Errorf("a follower has %+v", follower)
		}
		for id, p := range leader.FollowerProgress() {
			if !p.Voter || p.Fresh || p.LastContact < 0 || p.LastContact > BaseTimeout || p.Match != s.LastLogIndex {
				t.Errorf("of %s the leader knows %+v", id, p)
			}
		}
		if p := m.others(leader)[0].FollowerProgress(); p != nil {
			t.Errorf("a follower knows %v", p)
		}
	})
}
