package consensus

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// loopback is a Stream over TCP.
type loopback struct {
	net.Listener
	addresses map[string]string
}

func (l loopback) Dial(id string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", l.addresses[id], timeout)
}

// listen opens a port of the loopback interface for each of three servers.
func listen(b *testing.B) (map[string]net.Listener, map[string]string) {
	listeners, addresses := make(map[string]net.Listener), make(map[string]string)
	for _, id := range three {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners[id], addresses[id] = l, l.Addr().String()
	}
	return listeners, addresses
}

// oursOfThree is Apply on the leader of three nodes.
func oursOfThree(b *testing.B) func() error {
	dir := b.TempDir()
	listeners, addresses := listen(b)
	var nodes []*Node
	for _, id := range three {
		nodes = append(nodes, open(b, Config{
			ID: id, Dir: filepath.Join(dir, id), FSM: &idle{}, Multiplier: 1, Stream: loopback{listeners[id], addresses},
		}))
	}
	for _, n := range nodes {
		if _, err := n.BootstrapServers(three); err != nil {
			b.Fatal(err)
		}
	}
	var leader *Node
	for ; leader == nil; time.Sleep(time.Millisecond) {
		for _, n := range nodes {
			if n.Leading() {
				leader = n
			}
		}
	}
	data := make([]byte, 256)
	return func() error {
		_, err := leader.Apply(b.Context(), data)
		return err
	}
}

// bareOfThree is the ceiling: three bare Rafts with raft-boltdb and the same
// settings.
func bareOfThree(b *testing.B) func() error {
	dir := b.TempDir()
	listeners, addresses := listen(b)
	var servers raft.Configuration
	for _, id := range three {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	var nodes []*raft.Raft
	for _, id := range three {
		cfg := Config{ID: id, Stream: loopback{listeners[id], addresses}, FSM: &idle{}, Multiplier: 1}
		cfg, err := cfg.withDefaults()
		if err != nil {
			b.Fatal(err)
		}
		config := cfg.raftConfig()
		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: newStreamLayer(cfg.Stream, id), MaxPool: pooledConnections, Timeout: transportTimeout,
			Logger: config.Logger, MsgpackUseNewTimeFormat: true,
		})
		db, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, id), BoltOptions: boltOptions(false)})
		if err != nil {
			b.Fatal(err)
		}
		cache, err := raft.NewLogCache(cachedEntries, db)
		if err != nil {
			b.Fatal(err)
		}
		snapshots := raft.NewInmemSnapshotStore()
		if err := raft.BootstrapCluster(config, cache, db, snapshots, transport, servers); err != nil {
			b.Fatal(err)
		}
		r, err := raft.NewRaft(config, &idle{}, cache, db, snapshots, transport)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = r.Shutdown().Error(); _ = transport.Close(); _ = db.Close() })
		nodes = append(nodes, r)
	}
	var leader *raft.Raft
	for ; leader == nil; time.Sleep(time.Millisecond) {
		for _, r := range nodes {
			if r.State() == raft.Leader && r.Barrier(0).Error() == nil {
				leader = r
			}
		}
	}
	data := make([]byte, 256)
	return func() error { return leader.Apply(data, time.Minute).Error() }
}

// BenchmarkApplyOfThree compares durable commands on three servers with their
// ceiling.
func BenchmarkApplyOfThree(b *testing.B) {
	for _, callers := range []int{1, 64} {
		for _, subject := range []struct {
			name string
			make func(b *testing.B) func() error
		}{{"ours", oursOfThree}, {"ceiling", bareOfThree}} {
			name := map[int]string{1: "serial", 64: "64-at-once"}[callers]
			b.Run(name+"/"+subject.name, func(b *testing.B) { run(b, callers, subject.make(b)) })
		}
	}
}
