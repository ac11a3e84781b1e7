package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParsePeers(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Peer
		err  string // what the error says
	}{
		{`[{"id":"a","address":"10.0.0.1:8300","non_voter":false},{"id":"b","address":"x","non_voter":true}]`, []Peer{{ID: "a", Voter: true}, {ID: "b"}}, ""},
		{`[{"id":"a"}]`, []Peer{{ID: "a", Voter: true}}, ""},
		{`[{"address":"10.0.0.1:8300"}]`, nil, `server 1 of it (address "10.0.0.1:8300") has no id`},
		{`[{"id":"a"},{"id":"","address":"10.0.0.2:8300"}]`, nil, `server 2 of it (address "10.0.0.2:8300") has no id`},
		{`["10.0.0.1:8300"]`, nil, "server 1 of it is not an object"},
		{`[{"id":"a","voter":true}]`, nil, "voter"},
		{`[{"id":7}]`, nil, "server 1 of it is not an object"},
		{`[{"id":"a"},{"id":"a"}]`, nil, `names server "a" twice`},
		{`[{"id":"a","non_voter":true}]`, nil, "names no server that votes"},
		{`[]`, nil, "names no server that votes"},
		{``, nil, "not a JSON array"},
		{`{"id":"a"}`, nil, "not a JSON array"},
		{`[{"id":"a"}] more`, nil, "not a JSON array"},
		{"[" + strings.Repeat(`{"id":"a"},`, maxPeers) + `{"id":"b"}]`, nil, "1001 servers, 1000 are possible"},
	} {
		got, err := parsePeers([]byte(c.text))
		if c.err == "" {
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%.60s: %v, %v", c.text, got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.60s: %v, want %q", c.text, err, c.err)
		}
	}
}

// Whatever a peers file holds, it is servers that can be a configuration, or an
// error.
func FuzzParsePeers(f *testing.F) {
	f.Add([]byte(`[{"id":"a","address":"10.0.0.1:8300","non_voter":false}]`))
	f.Add([]byte(`["10.0.0.1:8300"]`))
	f.Add([]byte(`[{"id":"a"},{"id":"a"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		peers, err := parsePeers(data)
		if err != nil {
			return
		}
		if err := checkPeers(peers); err != nil {
			t.Error(err)
		}
	})
}

// One of three servers that is left goes on alone, with all that was in its log,
// when a peers file says so, or after Recover; what it has stored can be looked
// at before.
func TestRecovery(t *testing.T) {
	for _, byFile := range []bool{true, false} {
		t.Run(map[bool]string{true: "peers file", false: "Recover"}[byFile], func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				m := gather(t, dir, three...)
				leader := m.leader()
				apply(t, leader.Node, 3)
				if err := leader.Snapshot(); err != nil {
					t.Fatal(err)
				}
				apply(t, leader.Node, 2)
				m.agree(5, m.all...)
				left := m.others(leader)[0]
				term := left.raft.CurrentTerm()
				if _, err := Inspect(left.cfg.Dir); !errors.Is(err, ErrLocked) {
					t.Errorf("inspecting a server that runs: %v", err)
				}
				m.stop()
				for _, one := range m.all {
					in, err := Inspect(one.cfg.Dir)
					if err != nil {
						t.Fatal(err)
					}
					if in.Term != term || in.LastTerm != term || in.LastIndex < 7 || len(in.Peers) != 3 || in.PeersIndex != 1 || in.Fresh {
						t.Errorf("%s has stored %+v", one.cfg.ID, in)
					}
					if one == leader && (in.SnapshotIndex == 0 || in.SnapshotTerm != term) {
						t.Errorf("%s has stored %+v", one.cfg.ID, in)
					}
				}
				m.all = []*member{left}
				if byFile {
					text := fmt.Sprintf(`[{"id":%q,"address":"10.0.0.1:8300"}]`, left.cfg.ID)
					if err := os.WriteFile(filepath.Join(left.cfg.Dir, peersFile), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				} else {
					cfg := left.cfg
					cfg.FSM, cfg.Stream = new(counter), nil
					if err := Recover(cfg, []Peer{{ID: left.cfg.ID, Voter: true}}); err != nil {
						t.Fatal(err)
					}
				}
				m.start(left)
				m.leader()
				if _, count := left.machine.state(); count != 5 {
					t.Errorf("%d of 5 numbers", count)
				}
				apply(t, left.Node, 1)
				if peers := left.Peers(); len(peers) != 1 {
					t.Errorf("peers %v", peers)
				}
				if _, err := os.Stat(filepath.Join(left.cfg.Dir, peersFile)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the peers file is still there: %v", err)
				}
				if data, err := os.ReadFile(filepath.Join(left.cfg.Dir, peersInfo)); err != nil || !strings.Contains(string(data), peersFile) {
					t.Errorf("%s, %v", data, err)
				}
				stop(t, left.Node)
				m.start(left)
				m.leader()
				if _, count := left.machine.state(); count != 6 {
					t.Errorf("after a restart %d of 6 numbers", count)
				}
				m.stop()
			})
		})
	}
}

// A peers file that cannot be used keeps the server from starting, and is named.
func TestBadPeersFile(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no id", `[{"address":"10.0.0.1:8300"}]`, "has no id"},
		{"not JSON", `a, b`, "not a JSON array"},
		{"nothing to recover", `[{"id":"a"}]`, "no Raft data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			n := open(t, alone(dir, new(counter)))
			if c.name != "nothing to recover" {
				bootstrap(t, n)
			}
			stop(t, n)
			path := filepath.Join(dir, peersFile)
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(alone(dir, new(counter)))
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want it to name %s and say %q", err, path, c.want)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the peers file is gone: %v", err)
			}
		})
	}
}

// A restored snapshot is the state of all servers, whatever they had.
func TestRestoreSnapshot(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 3)
		m.agree(3, m.all...)
		data := string(append(number(100), number(42)...))
		err := leader.RestoreSnapshot(t.Context(), 1000, 1, strings.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		m.agree(42, m.all...)
		leader = m.leader()
		apply(t, leader.Node, 1)
		m.agree(43, m.all...)
		index, err := leader.ReadIndex(t.Context(), false)
		if err != nil || index <= 1000 {
			t.Errorf("committed %d, %v", index, err)
		}
		for _, one := range m.all {
			if err := one.WaitApplied(t.Context(), index); err != nil {
				t.Error(err)
			}
		}
		err = m.others(leader)[0].RestoreSnapshot(t.Context(), 2000, 1, strings.NewReader(data), int64(len(data)))
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("on a follower: %v", err)
		}
		err = leader.RestoreSnapshot(t.Context(), 2000, 1, strings.NewReader(data[:3]), int64(len(data)))
		if err == nil {
			t.Error("restored a snapshot that is too short")
		}
		m.leader()
	})
}

// A leader that cannot store a new configuration does not take it for its own.
func TestConfigurationCannotBeStored(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 1)
		gone := m.others(leader)[0]
		leader.disk.fail(errDisk, nil)
		change := begin(func() error { return leader.RemoveServer(t.Context(), gone.cfg.ID) })
		m.until("it does not lead", 3*time.Second, func() bool { return !leader.Leading() && leader.Fault() != nil })
		next := m.leader(m.others(leader)...)
		apply(t, next.Node, 1)
		if got := len(leader.Peers()); got != 3 {
			t.Errorf("the old leader knows %d servers", got)
		}
		leader.disk.fail(nil, nil)
		m.agree(2, m.all...)
		<-change
		m.until("all have three servers", 5*time.Second, func() bool {
			for _, one := range m.all {
				if len(one.Peers()) != 3 {
					return false
				}
			}
			return true
		})
	})
}

// A follower that has cut off the end of its log, and then cannot store what
// comes in its place, goes on by itself when it can.
func TestFollowerCutsAndCannotStore(t *testing.T) {
	several(t, three, func(t *testing.T, m *members) {
		leader := m.leader()
		apply(t, leader.Node, 1)
		m.agree(1, m.all...)
		m.net.isolate(leader.cfg.ID)
		for range 3 { // which only it has
			begin(func() error { _, err := leader.Apply(t.Context(), number(1000)); return err })
		}
		next := m.leader(m.others(leader)...)
		apply(t, next.Node, 2)
		leader.disk.fail(errDisk, nil)
		m.net.heal()
		m.until("it cannot store", 10*time.Second, func() bool { return leader.Fault() != nil })
		time.Sleep(5 * BaseTimeout)
		apply(t, next.Node, 1)
		leader.disk.fail(nil, nil)
		m.agree(4, m.all...)
		if sum, _ := leader.machine.state(); sum >= 1000 {
			t.Errorf("the sum is %d", sum)
		}
	})
}

var errDisk = errors.New("input/output error")
