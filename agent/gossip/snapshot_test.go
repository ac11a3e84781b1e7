package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func kept(path string) func(*Config) {
	return func(cfg *Config) { cfg.SnapshotPath = path }
}

// at has a pool listen where it did before.
func at(n *node) func(*Config) {
	return func(cfg *Config) { cfg.Bind = n.Addr() }
}

func TestRejoinFromSnapshot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "serf", "local.snapshot")
	nodes := cluster(t, 3, 1)
	rejoins := open(t, 7, kept(path))
	rejoins.join(nodes[0])
	rejoins.waitAll(patience, Alive, nodes...)
	rejoins.kill()
	again := open(t, 7, kept(path))
	again.waitAll(patience, Alive, nodes...)
	for _, n := range nodes {
		n.wait(patience, "it is back", func() bool {
			m, _ := n.find("n7")
			return m.Status == Alive && m.AddrPort() == again.Addr()
		})
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %o", info.Mode().Perm())
	}
}

func TestNoRejoinAfterLeave(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "local.snapshot")
	nodes := cluster(t, 2, 1)
	leaves := open(t, 7, kept(path))
	leaves.join(nodes[0])
	leaves.waitAll(patience, Alive, nodes...)
	if err := leaves.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	leaves.end()
	apart := open(t, 7, kept(path))
	apart.never(500*time.Millisecond, "it rejoined", func() bool { return len(apart.Members()) > 1 })
}

func TestRejoinAfterLeaveIfWanted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "local.snapshot")
	nodes := cluster(t, 2, 1)
	leaves := open(t, 7, kept(path))
	leaves.join(nodes[0])
	leaves.waitAll(patience, Alive, nodes...)
	_ = leaves.Leave(context.Background())
	leaves.end()
	again := open(t, 7, kept(path), func(cfg *Config) { cfg.RejoinAfterLeave = true })
	again.waitAll(patience, Alive, nodes...)
	for _, n := range nodes {
		n.waitAll(patience, Alive, again)
	}
}

// Those who failed are remembered over a restart of everybody who knew, and so
// is one who was alive and did not come back.
func TestFailedAreRememberedOverRestarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "local.snapshot")
	keeper := open(t, 0, kept(path), server)
	failed, missing, back := open(t, 1), open(t, 2), open(t, 3)
	for _, n := range []*node{failed, missing, back} {
		n.join(keeper)
	}
	keeper.waitAll(patience, Alive, failed, missing, back)
	failed.kill()
	keeper.waitAll(patience, Failed, failed)
	keeper.kill()
	missing.kill()
	back.kill()
	again := open(t, 0, kept(path), server)
	if got := again.status("n1"); got != Failed {
		t.Errorf("the failed one is %s", got)
	}
	open(t, 3, at(back))
	again.waitAll(patience, Alive, back)
	again.waitAll(patience, Failed, missing, failed)
}

func TestDamagedSnapshotIsIgnored(t *testing.T) {
	t.Parallel()
	good := func() []byte {
		m := meta{life: 1, tags: map[string]string{"role": RoleClient, "dc": "dc1", "id": nodeID(1), "vsn": "2", "vsn_min": "2", "vsn_max": "3"}}
		raw, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		s := snapshotFile{Saved: time.Now(), Members: []snapshotMember{{Name: "n1", Meta: raw, Status: Failed, Since: time.Now()}}}
		b, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	if _, err := decodeSnapshot(good); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string][]byte{
		"empty": {}, "garbage": []byte("garbage\nand more"), "cut": good[:len(good)-5],
		"flipped": bytes.Replace(good, []byte(`"n1"`), []byte(`"n2"`), 1), "old": bytes.Replace(good, []byte("gossip 1"), []byte("gossip 0"), 1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "local.snapshot")
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			n := open(t, 0, kept(path))
			if !n.log.has("ignored the file of gossip members") || !n.log.has("local.snapshot") {
				t.Error("there is no warning")
			}
			if len(n.Members()) != 1 {
				t.Errorf("it knows %s", n.describe())
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		n := open(t, 0, kept(t.TempDir()))
		if !n.log.has("ignored the file of gossip members") {
			t.Error("there is no warning")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	b, err := (&snapshotFile{Members: []snapshotMember{{Name: "a"}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("muster gossip 1 00000000\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSnapshot(b); err == nil && len(s.Members) > maxMembers {
			t.Error("it has too many members")
		}
	})
}

// An agent that refuses to start changes nothing in its folder.
func TestPoolThatNeverRanLeavesItsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "local.snapshot")
	nodes := cluster(t, 2, 1)
	first := open(t, 7, kept(path))
	first.join(nodes[0])
	first.waitAll(patience, Alive, nodes...)
	first.end()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Config{
		Self: Member{Name: "n7", ID: nodeID(7), Tags: map[string]string{"role": RoleClient, "build": "1.0.0:abcdef12"}},
		Bind: netip.MustParseAddrPort("127.0.0.1:0"), Datacenter: "dc1", Timing: quick(), SnapshotPath: path,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetTags(map[string]string{"role": RoleClient, "build": "1.0.0:abcdef12", "new": "1"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was %q and is %q: %v", before, after, err)
	}
}
