package consensus

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const mebi = 1 << 20

func TestRoom(t *testing.T) {
	for _, c := range []struct {
		name          string
		free, total   int64 // MiB
		bytes, inside int   // MiB
		err           error
		want          string // or a text that the refusal has
	}{
		{"plenty", 100, 1000, 1, 1, nil, ""},
		{"just enough", 65, 1000, 1, 1, nil, ""},
		{"under the reserve", 60, 1000, 0, 0, nil, "too little disk space on server n1: /data/raft has 60.0 MiB free, and a reserve of 64.0 MiB is kept"},
		{"it would go under the reserve", 65, 1000, 2, 2, nil, "writes of 2.0 MiB are under way"},
		{"others will go under the reserve", 100, 1000, 1, 40, nil, "writes of 40.0 MiB are under way"},
		{"a small disk", 20, 40, 1, 1, nil, ""},
		{"a small disk is full", 9, 40, 0, 0, nil, "a reserve of 10.0 MiB"},
		{"no answer", 0, 0, 1, 1, errors.New("unknown"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &room{server: "n1", dir: "/data/raft", reserve: DefaultReserve, look: func(string) (space, error) {
				return space{c.free * mebi, c.total * mebi}, c.err
			}}
			err := r.admit(c.bytes*mebi, c.inside*mebi)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// The file system is asked again only when what it said is old or used up.
func TestRoomLooksSeldom(t *testing.T) {
	looks := 0
	r := &room{reserve: DefaultReserve, look: func(string) (space, error) {
		looks++
		return space{DefaultReserve + 10*mebi, math.MaxInt64}, nil
	}}
	for range 100 {
		if err := r.admit(mebi, mebi); err != nil {
			t.Fatal(err)
		}
	}
	if looks < 10 || looks > 11 {
		t.Errorf("it was asked %d times for 100 MiB", looks)
	}
}

// Writes are refused while there is too little room, and all else goes on.
func TestTooLittleSpace(t *testing.T) {
	var free atomic.Int64
	free.Store(1000 * mebi)
	dir := filepath.Join(t.TempDir(), "raft")
	machine := new(counter)
	cfg := alone(dir, machine)
	cfg.faults.space = func(string) (space, error) { return space{free.Load(), 10_000 * mebi}, nil }
	n := open(t, cfg)
	bootstrap(t, n)
	apply(t, n, 3)
	free.Store(63 * mebi)
	n.stores.room.left = 0 // a second later
	for range 3 {
		_, err := n.Apply(t.Context(), number(1000))
		if !errors.Is(err, ErrFull) || errors.Is(err, ErrUncertain) || !strings.Contains(err.Error(), dir+" has 63.0 MiB free") {
			t.Errorf("Apply: %v", err)
		}
	}
	if err := n.AddVoter(t.Context(), "b"); !errors.Is(err, ErrFull) {
		t.Errorf("AddVoter: %v", err)
	}
	if err := n.Verify(t.Context()); err != nil || !n.Leading() || n.Fault() != nil {
		t.Errorf("Verify: %v, leading %v, fault %v", err, n.Leading(), n.Fault())
	}
	if err := n.Snapshot(); err != nil {
		t.Errorf("Snapshot: %v", err)
	}
	stop(t, n)

	cfg.FSM, cfg.Stream = machine, new(network).port("a")
	n = open(t, cfg)
	await(t, n)
	if sum, count := machine.state(); sum != 6 || count != 3 {
		t.Errorf("after the restart: %d of %d numbers", sum, count)
	}
	if _, err := n.Apply(t.Context(), number(1000)); !errors.Is(err, ErrFull) {
		t.Errorf("Apply after the restart: %v", err)
	}
	free.Store(1000 * mebi)
	apply(t, n, 1)
}

// A snapshot that does not get its room leaves nothing behind.
func TestUnfinishedSnapshotIsRemoved(t *testing.T) {
	for _, c := range []struct {
		name string
		room int64 // how many bytes of the snapshot there is room for
		end  func(sink raft.SnapshotSink, folder string) error
		want error
	}{
		{"no room to begin", 0, nil, ErrFull},
		{"no room to go on", 3 * mebi, func(sink raft.SnapshotSink, _ string) error { return sink.Cancel() }, ErrFull},
		{"it cannot be finished", math.MaxInt32, func(sink raft.SnapshotSink, folder string) error {
			// Its description cannot be written where a folder is.
			path := filepath.Join(folder, snapshotMeta)
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700), sink.Close())
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			files, err := raft.NewFileSnapshotStoreWithLogger(dir, RetainedSnapshots, hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			left := DefaultReserve/logReserveShare + c.room
			s := &tidySnapshots{SnapshotStore: files, dir: dir, room: &room{reserve: DefaultReserve, look: func(string) (space, error) {
				left -= mebi
				return space{left, math.MaxInt64}, nil
			}}}
			_, transport := raft.NewInmemTransport("a")
			sink, err := s.Create(1, 7, 3, raft.Configuration{}, 1, transport)
			if err == nil {
				_, err = io.CopyN(sink, zeros{}, 8*mebi)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if sink != nil {
				folder := filepath.Join(dir, snapshotFolder, sink.ID()+snapshotUnfinished)
				if err := c.end(sink, folder); c.want == nil && err == nil {
					t.Error("it was finished")
				}
			}
			if rest, err := os.ReadDir(filepath.Join(dir, snapshotFolder)); len(rest) != 0 || err != nil {
				t.Errorf("left behind: %v, %v", rest, err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
