package consensus

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// After a long log was applied, and not before, memory is given back once; after
// a short one it is not.
func TestMemoryIsGivenBackAfterALongReplay(t *testing.T) {
	for _, entries := range []uint64{longReplay - 1, longReplay} {
		synctest.Test(t, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			n := open(t, alone(dir, new(counter)))
			bootstrap(t, n)
			stop(t, n)
			fillLog(t, dir, entries)
			var freed atomic.Int32
			machine := &counter{hold: make(chan struct{})}
			cfg := alone(dir, machine)
			cfg.faults.freeMemory = func() { freed.Add(1) }
			n = open(t, cfg)
			time.Sleep(5 * replayLook)
			if freed.Load() != 0 {
				t.Error("memory was given back before the log was applied")
			}
			close(machine.hold)
			await(t, n)
			time.Sleep(5 * replayLook)
			want := int32(0)
			if entries == longReplay {
				want = 1
			}
			if freed.Load() != want {
				t.Errorf("after %d entries memory was given back %d times, want %d", entries, freed.Load(), want)
			}
			stop(t, n)
		})
	}
}

// fillLog fills the log of a stopped server up to an entry.
func fillLog(t *testing.T, dir string, to uint64) {
	t.Helper()
	s, err := openBolt(filepath.Join(dir, logFile), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	last, err := s.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var more []*raft.Log
	for i := last + 1; i <= to; i++ {
		more = append(more, &raft.Log{Index: i, Term: 1, Data: number(i)})
	}
	if err := s.StoreLogs(more); err != nil {
		t.Fatal(err)
	}
}
