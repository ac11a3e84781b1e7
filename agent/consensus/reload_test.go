package consensus

import (
	"strings"
	"testing"
	"time"
)

func TestTuneTakesOverAllOrNothing(t *testing.T) {
	cfg := alone(t.TempDir(), new(counter))
	cfg.Multiplier = 1
	n := open(t, cfg)
	bootstrap(t, n)
	usual := Tuning{DefaultSnapshotThreshold, DefaultSnapshotInterval, DefaultTrailingLogs}
	if got := n.Tuning(); got != usual {
		t.Errorf("at first: %+v", got)
	}
	other := Tuning{SnapshotThreshold: 7, SnapshotInterval: time.Hour, TrailingLogs: 3}
	if err := n.Tune(other); err != nil || n.Tuning() != other {
		t.Errorf("afterwards: %+v, %v", n.Tuning(), err)
	}
	if err := n.Tune(Tuning{SnapshotThreshold: 9, SnapshotInterval: time.Nanosecond, TrailingLogs: 9}); err == nil || !strings.Contains(err.Error(), "SnapshotInterval") {
		t.Errorf("a nanosecond: %v", err)
	}
	if err := n.Tune(Tuning{SnapshotThreshold: 9, SnapshotInterval: -1}); err == nil || !strings.Contains(err.Error(), "-1ns") {
		t.Errorf("less than nothing: %v", err)
	}
	if got := n.Tuning(); got != other {
		t.Errorf("after what cannot be: %+v", got)
	}
	if err := n.hurry(); err != nil {
		t.Error(err)
	}
	timeouts := n.raft.ReloadableConfig()
	if got := n.Tuning(); got != other || timeouts.HeartbeatTimeout != cfg.timeout() || timeouts.ElectionTimeout != cfg.timeout() {
		t.Errorf("after a hurry: %+v, %+v", got, timeouts)
	}
	if err := n.Tune(Tuning{}); err != nil || n.Tuning() != usual {
		t.Errorf("zeros: %+v, %v", n.Tuning(), err)
	}
}

// Entries are cut from the log as it was said last.
func TestTuneIsHeededByTheNextSnapshot(t *testing.T) {
	n := open(t, alone(t.TempDir(), new(counter)))
	bootstrap(t, n)
	if err := n.Tune(Tuning{TrailingLogs: 2}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := n.Apply(t.Context(), number(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.TakeSnapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := n.stores.log.FirstIndex()
	last, err2 := n.stores.log.LastIndex()
	if err != nil || err2 != nil || last-first+1 != 2 {
		t.Errorf("entries %d to %d are left, %v, %v", first, last, err, err2)
	}
}
