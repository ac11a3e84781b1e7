package consensus

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// idle is a state machine that does nothing.
type idle struct{ counter }

func (*idle) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }

// bare is the ceiling: Raft on the same stores with the same configuration,
// with nothing of ours around it.
func bare(b *testing.B, dir string) func() error {
	config := alone(dir, nil).raftConfigForBench()
	_, transport := raft.NewInmemTransport("a")
	memory := raft.NewInmemStore()
	var logs raft.LogStore = memory
	var stable raft.StableStore = memory
	var snapshots raft.SnapshotStore = raft.NewInmemSnapshotStore()
	if dir != "" {
		db, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "bare.db"), BoltOptions: boltOptions(false)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		cache, err := raft.NewLogCache(cachedEntries, db)
		if err != nil {
			b.Fatal(err)
		}
		logs, stable = cache, db
		if snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, RetainedSnapshots, config.Logger); err != nil {
			b.Fatal(err)
		}
	}
	servers := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}
	if err := raft.BootstrapCluster(config, logs, stable, snapshots, transport, servers); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(config, &idle{}, logs, stable, snapshots, transport)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Shutdown().Error() })
	<-r.LeaderCh()
	data := make([]byte, 256)
	return func() error { return r.Apply(data, time.Minute).Error() }
}

func (cfg Config) raftConfigForBench() *raft.Config {
	cfg.FSM = &idle{}
	cfg.Multiplier = 1
	cfg, err := cfg.withDefaults()
	if err != nil {
		panic(err)
	}
	return cfg.raftConfig()
}

// ours is Apply through a Node.
func ours(b *testing.B, dir string) func() error {
	cfg := alone(dir, nil)
	cfg.FSM = &idle{}
	n := open(b, cfg)
	bootstrap(b, n)
	data := make([]byte, 256)
	return func() error {
		_, err := n.Apply(b.Context(), data)
		return err
	}
}

// BenchmarkApply compares Apply with its ceiling.
func BenchmarkApply(b *testing.B) {
	for _, place := range []string{"memory", "disk"} {
		for _, callers := range []int{1, 64} {
			for _, subject := range []struct {
				name string
				make func(b *testing.B, dir string) func() error
			}{{"ours", ours}, {"ceiling", bare}} {
				name := map[int]string{1: "serial", 64: "64-at-once"}[callers]
				b.Run(place+"/"+name+"/"+subject.name, func(b *testing.B) {
					dir := ""
					if place == "disk" {
						dir = b.TempDir()
					}
					run(b, callers, subject.make(b, dir))
				})
			}
		}
	}
}

// run calls apply b.N times, from some goroutines at once.
func run(b *testing.B, callers int, apply func() error) {
	b.Helper()
	work := make(chan struct{}, callers)
	done := make(chan error, callers)
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		go func() {
			var last error
			for range work {
				if err := apply(); err != nil {
					last = err
				}
			}
			done <- last
		}()
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range callers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
