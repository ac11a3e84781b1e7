package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// smallDisk is a file system of some mebibytes, for the length of a test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all that is free on a disk but some bytes, and returns a function
// that gives it back.
func fill(t *testing.T, dir string, but int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := lookAtSpace(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, zeros{}, s.free-but); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// padded is a command of some size that adds a number.
func padded(add uint64, size int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, add), make([]byte, size)...)
}

// fat is a counter whose snapshots are large.
type fat struct{ counter }

func (f *fat) Snapshot() (raft.FSMSnapshot, error) {
	small, err := f.counter.Snapshot()
	return counted(append(small.(counted), make([]byte, 6*mebi)...)), err
}

func (f *fat) Restore(source io.ReadCloser) error {
	data, err := io.ReadAll(source)
	if err != nil {
		return err
	}
	return f.counter.Restore(io.NopCloser(bytes.NewReader(data[:16])))
}

// huge is more than all that was ever stored: no free pages within the file can
// hold it.
const huge = 12 * mebi

// A disk that is really full: nothing that was confirmed is lost, whatever was
// under way, and the server goes on by itself when there is room.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		// under is what is under way while nothing is free. It goes past the
		// check for room, as Raft's own records do.
		under func(t *testing.T, n *Node)
	}{
		{"a write", func(t *testing.T, n *Node) {
			if err := n.raft.Apply(padded(1000, huge), 0).Error(); err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
				t.Errorf("a write onto a full disk: %v", err)
			}
		}},
		{"a snapshot", func(t *testing.T, n *Node) {
			if err := n.Snapshot(); err == nil {
				t.Error("a snapshot onto a full disk succeeded")
			}
			rest, err := os.ReadDir(filepath.Join(n.cfg.Dir, snapshotFolder))
			if len(rest) != 0 || err != nil {
				t.Errorf("left behind: %v, %v", rest, err)
			}
		}},
		{"a truncation", func(_ *testing.T, n *Node) {
			// It may succeed, in pages that are free within the file.
			last, _ := n.stores.log.LastIndex()
			_ = n.stores.log.DeleteRange(1, last/2)
		}},
		{"elections", func(t *testing.T, n *Node) {
			// Each write that fails deposes the leader. The next may lead, if
			// the log has free pages for a term, a vote and its first entry.
			for range 3 {
				if err := n.raft.Apply(padded(1000, huge), 0).Error(); err == nil {
					t.Error("a write onto a full disk succeeded")
				}
				_ = wait(n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := smallDisk(t, "48m")
			machine := new(fat)
			cfg := alone(filepath.Join(disk, "raft"), &machine.counter)
			cfg.FSM, cfg.Multiplier = machine, 1
			n := open(t, cfg)
			bootstrap(t, n)
			for range 20 {
				if _, err := n.Apply(t.Context(), padded(1, mebi/4)); err != nil {
					t.Fatal(err)
				}
			}
			// First the reserve is reached, and then somebody takes that too.
			empty := fill(t, disk, 8*mebi)
			n.stores.room.left = 0 // a second later
			if _, err := n.Apply(t.Context(), padded(1000, 0)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "8.0 MiB free, and a reserve of 12.0 MiB") {
				t.Errorf("Apply: %v", err)
			}
			empty()
			empty = fill(t, disk, 0)
			c.under(t, n)
			if sum, count := machine.state(); sum != 20 || count != 20 {
				t.Errorf("while it is full: %d of %d numbers", sum, count)
			}
			empty()
			await(t, n)
			n.stores.room.left = 0
			if _, err := n.Apply(t.Context(), padded(1, mebi)); err != nil {
				t.Fatal(err)
			}
			// What failed may take effect; nothing else is missing, or doubled.
			sum, _ := machine.state()
			if sum%1000 != 21 {
				t.Errorf("with room: %d", sum)
			}
			if err := n.Snapshot(); err != nil && c.name != "a truncation" {
				t.Error(err)
			}
			restartOnFullDisk(t, n, cfg, disk, sum)
		})
	}
}

// restartOnFullDisk stops a server and starts it again on a full disk. All that
// it had is there.
func restartOnFullDisk(t *testing.T, n *Node, cfg Config, disk string, want uint64) {
	t.Helper()
	stop(t, n)
	empty := fill(t, disk, 0)
	machine := new(fat)
	cfg.FSM, cfg.Stream = machine, new(network).port("a")
	n = open(t, cfg)
	_ = wait(n) // it may lead, if the log has free pages
	empty()
	await(t, n)
	if sum, _ := machine.state(); sum != want {
		t.Errorf("after the restart: %d, want %d", sum, want)
	}
	if _, err := n.Apply(t.Context(), padded(1, 0)); err != nil {
		t.Error(err)
	}
}

// wait waits for a leader for as long as some elections take.
func wait(n *Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*BaseTimeout)
	defer cancel()
	return n.WaitLeader(ctx)
}
