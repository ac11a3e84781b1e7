package agent

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// On a full disk, writes are refused with the path and the space, and reads go
// on; writes do too, when there is room again.
func TestWritesOnFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		machine, dir := state.NewMachine(), filepath.Join(disk, "raft")
		node, err := consensus.Open(consensus.Config{ID: "a", Dir: dir, FSM: machine, Stream: &nobody{closed: make(chan struct{})}, Multiplier: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := node.Stop(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := node.Bootstrap(); err != nil {
			t.Fatal(err)
		}
		b := &backend{datacenter: "dc1", nodeName: "n1", machine: machine, node: node, hold: testHold, now: time.Now}
		set(t, b, "kept", "1")

		filler, err := os.Create(filepath.Join(disk, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		defer filler.Close()
		if _, err := io.Copy(filler, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
		time.Sleep(2 * time.Second) // of the bubble's time
		_, err = b.ApplyKey(t.Context(), &kv.Set{Key: "refused"})
		if mvcc.CodeOf(err) != mvcc.DiskFull || !strings.Contains(err.Error(), dir+" has 0.0 MiB free, and a reserve of 8.0 MiB") {
			t.Errorf("a write: %v", err)
		}
		for _, mode := range []mvcc.Mode{mvcc.Default, mvcc.Consistent, mvcc.Stale} {
			entry, _, err := b.Key(t.Context(), mvcc.ReadOptions{Mode: mode}, &kv.Get{Key: "kept"})
			if err != nil || entry == nil || string(entry.Value) != "1" {
				t.Errorf("a read in mode %v: %+v, %v", mode, entry, err)
			}
		}
		if err := filler.Truncate(0); err != nil {
			t.Fatal(err)
		}
		set(t, b, "kept", "2")
	})
}
