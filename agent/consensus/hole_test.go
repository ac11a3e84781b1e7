package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// restoredData makes a folder with three numbers, a snapshot of 42 restored over
// them, and three more. So the log has a hole at the snapshot's index, and an
// entry of Raft's own behind it.
func restoredData(t *testing.T) (dir string, in Inspection) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "raft")
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
	apply(t, n, 3)
	restoreCount(t, n, 42)
	apply(t, n, 3)
	stop(t, n)
	in, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, in
}

// restoreCount restores a snapshot of a state machine with so many numbers.
func restoreCount(t *testing.T, n *Node, count uint64) {
	t.Helper()
	data := string(append(number(100), number(count)...))
	if err := n.RestoreSnapshot(t.Context(), 2, 1, strings.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

// removeFrom removes entries of a log file, from an index to another.
func removeFrom(t *testing.T, dir string, first, last uint64) {
	t.Helper()
	alter(t, filepath.Join(dir, logFile), func(logs *bbolt.Bucket) error {
		for index := first; index <= last; index++ {
			if err := logs.Delete(number(index)); err != nil {
				return err
			}
		}
		return nil
	})
}

// recoverOne makes a server of a folder the only one, and returns how many
// numbers its state machine has when it was started then.
func recoverOne(t *testing.T, dir string, byFile bool) uint64 {
	t.Helper()
	if byFile {
		if err := os.WriteFile(filepath.Join(dir, peersFile), []byte(`[{"id":"a"}]`), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if err := Recover(Config{ID: "a", Dir: dir, FSM: new(counter)}, []Peer{{ID: "a", Voter: true}}); err != nil {
		t.Fatal(err)
	}
	machine := new(counter)
	n := open(t, alone(dir, machine))
	await(t, n)
	if _, err := n.ReadIndex(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	_, count := machine.state()
	apply(t, n, 1)
	stop(t, n)
	if again, err := reopen(t, dir); err != nil || again != count+1 {
		t.Errorf("%d numbers after one more than %d and a restart, %v", again, count, err)
	}
	return count
}

// What a restore leaves in the log is whole: it can be inspected, started and
// recovered, whatever is missing up to the snapshot, and however little follows
// it.
func TestHoleOfARestore(t *testing.T) {
	whole, about := restoredData(t)
	snapshot := about.SnapshotIndex
	if snapshot == 0 || about.FirstIndex != 1 || about.LastIndex != snapshot+4 || about.LastTerm != about.Term || len(about.Peers) != 1 {
		t.Fatalf("stored: %+v", about)
	}
	for _, c := range []struct {
		name         string
		first, last  uint64 // what is removed
		index, count uint64 // of the last entry, and of the numbers
	}{
		{"the hole alone", snapshot, snapshot, snapshot + 4, 45},
		{"older entries too", 3, snapshot - 1, snapshot + 4, 45},
		{"nothing older", 1, snapshot - 1, snapshot + 4, 45},
		{"nothing follows", snapshot + 1, snapshot + 4, snapshot, 42},
		{"no entry at all", 1, snapshot + 4, snapshot, 42},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copied(t, whole)
			removeFrom(t, dir, c.first, c.last)
			in, err := Inspect(dir)
			if err != nil || in.LastIndex != c.index || in.LastTerm != about.SnapshotTerm || in.SnapshotIndex != snapshot || len(in.Peers) != 1 {
				t.Errorf("Inspect: %+v, %v", in, err)
			}
			for _, byFile := range []bool{true, false} {
				if count := recoverOne(t, copied(t, dir), byFile); count != c.count {
					t.Errorf("by file %v: recovered %d of %d numbers", byFile, count, c.count)
				}
			}
			if count, err := reopen(t, dir); err != nil || count < 42 {
				t.Errorf("started with %d numbers, %v", count, err)
			}
		})
	}
}

// An entry that is missing above the snapshot is damage, for whoever inspects,
// recovers or starts: also the first one above it.
func TestHoleAboveTheSnapshot(t *testing.T) {
	whole, about := restoredData(t)
	for above := uint64(1); above <= 3; above++ {
		dir, missing := copied(t, whole), about.SnapshotIndex+above
		removeFrom(t, dir, missing, missing)
		_, inspecting := Inspect(dir)
		recovering := Recover(Config{ID: "a", Dir: dir, FSM: new(counter)}, []Peer{{ID: "a", Voter: true}})
		_, starting := reopen(t, dir)
		for what, err := range map[string]error{"Inspect": inspecting, "Recover": recovering, "Open": starting} {
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("entry %d cannot be read", missing)) {
				t.Errorf("%s without entry %d: %v", what, missing, err)
			}
		}
	}
}

// Inspect refuses what a start would refuse.
func TestInspectRefusesDamage(t *testing.T) {
	whole, snapshots := stored(t)
	for name, damage := range map[string]func(dir string){
		"newest snapshot": func(dir string) { remove(t, filepath.Join(dir, snapshotFolder, snapshots[0])) },
		"no snapshot":     func(dir string) { remove(t, filepath.Join(dir, snapshotFolder)) },
		"entry 50":        func(dir string) { removeFrom(t, dir, 50, 50) },
	} {
		dir := copied(t, whole)
		damage(dir)
		if in, err := Inspect(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
}

// Entries of a deposed leader that a later leader's snapshot has replaced, and
// that Raft had not removed yet, do not count, and do not come back.
func TestReplacedEntries(t *testing.T) {
	whole, about := restoredData(t)
	db, err := openBolt(filepath.Join(whole, logFile), whole, false)
	if err != nil {
		t.Fatal(err)
	}
	for index := about.SnapshotIndex + 1; index <= about.LastIndex; index++ {
		var entry raft.Log
		if err := db.GetLog(index, &entry); err != nil {
			t.Fatal(err)
		}
		entry.Term = about.SnapshotTerm - 1
		if err := db.StoreLog(&entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := Inspect(whole)
	if err != nil || in.LastIndex != about.SnapshotIndex || in.LastTerm != about.SnapshotTerm {
		t.Errorf("Inspect: %+v, %v", in, err)
	}
	for _, byFile := range []bool{true, false} {
		if count := recoverOne(t, copied(t, whole), byFile); count != 42 {
			t.Errorf("by file %v: recovered %d numbers", byFile, count)
		}
	}
}

// Of three servers, of which one has missed a restore, those that have it have
// the newer log, and one of them goes on with all of it.
func TestRecoveryAfterARestore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, dir, three...)
		leader := m.leader()
		apply(t, leader.Node, 3)
		m.agree(3, m.all...)
		behind := m.others(leader)[0]
		stop(t, behind.Node)
		m.all = m.others(behind)
		restoreCount(t, leader.Node, 42)
		leader = m.leader()
		apply(t, leader.Node, 1)
		m.agree(43, m.all...)
		m.stop()
		old, err := Inspect(behind.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range m.all {
			in, err := Inspect(one.cfg.Dir)
			if err != nil || in.SnapshotIndex <= old.LastIndex || in.LastIndex <= in.SnapshotIndex || in.LastTerm < old.LastTerm {
				t.Errorf("%s has stored %+v, %v; the one that missed the restore %+v", one.cfg.ID, in, err, old)
			}
		}
		left := m.others(leader)[0]
		text := fmt.Sprintf(`[{"id":%q}]`, left.cfg.ID)
		if err := os.WriteFile(filepath.Join(left.cfg.Dir, peersFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.all = []*member{left}
		m.start(left)
		m.leader()
		if _, count := left.machine.state(); count != 43 {
			t.Errorf("%d of 43 numbers", count)
		}
		m.stop()
	})
}
