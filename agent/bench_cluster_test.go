package agent_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/config"
)

const (
	// benchReady is how long the agents of a benchmark may take to be one cluster.
	benchReady = time.Minute
	// benchLook is between two looks whether they are.
	benchLook = 10 * time.Millisecond
)

// member is an agent of a benchmark's cluster. Unlike those of package agenttest,
// its connections are the system's own: nothing that could cut them stands between.
type member struct {
	*agent.Agent
	http string
}

// startMember runs an agent, and waits for nothing.
func startMember(b *testing.B, name string, servers int, server bool, join []string) *member {
	b.Helper()
	hcl := []string{fmt.Sprintf(`node_name = %q`, name), `bind_addr = "127.0.0.1"`, `ports { dns = -1 }`,
		`performance { raft_multiplier = 1 }`, `retry_interval = "200ms"`, fmt.Sprintf(`data_dir = %q`, b.TempDir())}
	if len(join) > 0 {
		hcl = append(hcl, fmt.Sprintf(`retry_join = ["%s"]`, strings.Join(join, `", "`)))
	}
	if server {
		hcl = append(hcl, `server = true`, fmt.Sprintf(`bootstrap_expect = %d`, servers))
	}
	cfg, err := config.Load(config.Sources{HCL: hcl})
	if err != nil {
		b.Fatal(err)
	}
	sockets := agent.Listeners{HTTP: []net.Listener{listenTCP(b)}}
	if server {
		sockets.Server = listenTCP(b)
	}
	a, err := agent.New(agent.Options{
		Config: cfg, Logger: slog.New(slog.DiscardHandler), Listeners: sockets,
		Network: agent.Network{GossipAddr: netip.MustParseAddrPort("127.0.0.1:0")},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("agent %s did not stop in order: %v", name, err)
		}
	})
	return &member{a, sockets.HTTP[0].Addr().String()}
}

func listenTCP(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// startMembers runs three servers and a client agent, and returns them when each
// takes writes: the leader first, then the followers, then the client agent.
func startMembers(b *testing.B) []*member {
	b.Helper()
	const servers = 3
	var all []*member
	var join []string
	for i := range servers + 1 {
		m := startMember(b, fmt.Sprintf("m%d", i+1), servers, i < servers, join)
		all, join = append(all, m), append(join, m.GossipAddr())
	}
	await(b, "one of the servers leads", func() bool {
		for i, m := range all[:servers] {
			if m.Leads() {
				all[0], all[i] = all[i], all[0]
				return true
			}
		}
		return false
	})
	for _, m := range all {
		await(b, "all agents take writes", func() bool {
			got, err := try(b.Context(), "PUT", "http://"+m.http+"/v1/kv/ready", "x")
			return err == nil && got.code == http.StatusOK
		})
	}
	return all
}

// await looks again and again until something is so.
func await(b *testing.B, what string, look func() bool) {
	b.Helper()
	deadline := time.NewTimer(benchReady)
	defer deadline.Stop()
	tick := time.NewTicker(benchLook)
	defer tick.Stop()
	for !look() {
		select {
		case <-tick.C:
		case <-deadline.C:
			b.Fatalf("waited %s until %s", benchReady, what)
		}
	}
}

// bareLayer is TCP on the loopback interface as Raft wants it.
type bareLayer struct{ net.Listener }

// Dial connects to a server by its address.
func (bareLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// bareRaftOfThree is Raft on three servers, on the same stores and with the same
// settings as the agent's, with state machines that do nothing. It returns the
// leader.
func bareRaftOfThree(b *testing.B) *raft.Raft {
	b.Helper()
	const servers = 3
	var listeners []net.Listener
	var configuration raft.Configuration
	for range servers {
		l := listenTCP(b)
		address := l.Addr().String()
		listeners = append(listeners, l)
		configuration.Servers = append(configuration.Servers, raft.Server{ID: raft.ServerID(address), Address: raft.ServerAddress(address)})
	}
	var all []*raft.Raft
	for i, l := range listeners {
		config := raft.DefaultConfig()
		config.LocalID = configuration.Servers[i].ID
		config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
		config.CommitTimeout = 10 * time.Millisecond
		config.SnapshotThreshold, config.SnapshotInterval, config.TrailingLogs = 16384, 20*time.Second, 10240
		config.NoLegacyTelemetry = true
		config.Logger = hclog.NewNullLogger()
		dir := b.TempDir()
		db, err := raftboltdb.New(raftboltdb.Options{
			Path: filepath.Join(dir, "raft.db"), MsgpackUseNewTimeFormat: true,
			BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
		})
		if err != nil {
			b.Fatal(err)
		}
		logs, err := raft.NewLogCache(512, db)
		if err != nil {
			b.Fatal(err)
		}
		snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, config.Logger)
		if err != nil {
			b.Fatal(err)
		}
		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: bareLayer{l}, MaxPool: 5, Timeout: 10 * time.Second, Logger: config.Logger, MsgpackUseNewTimeFormat: true,
		})
		if err := raft.BootstrapCluster(config, logs, db, snapshots, transport, configuration); err != nil {
			b.Fatal(err)
		}
		r, err := raft.NewRaft(config, idle{}, logs, db, snapshots, transport)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _, _, _ = r.Shutdown().Error(), transport.Close(), db.Close() })
		all = append(all, r)
	}
	var leader *raft.Raft
	await(b, "one of the bare servers leads", func() bool {
		for _, r := range all {
			if r.State() == raft.Leader && r.Barrier(time.Second).Error() == nil {
				leader = r
				return true
			}
		}
		return false
	})
	return leader
}

// putting writes keys of 256 bytes, none of which is written twice.
func putting(out []byte, serial uint64) []byte {
	const values = 10_000
	out = append(out, "PUT /v1/kv/bench/"...)
	out = strconv.AppendUint(out, serial%values, 10)
	out = append(out, " HTTP/1.1\r\nHost: muster\r\nContent-Length: 256\r\n\r\n"...)
	out = strconv.AppendUint(out, 1e15+serial, 10)
	return append(out, padding...)
}

var padding = strings.Repeat("v", 256-16)

// BenchmarkPutKeyOfThree writes keys that last on a cluster of three servers, from
// 64 clients at once, through the leader, a follower and a client agent. The
// ceiling hands the bodies to the leader of three bare Rafts.
func BenchmarkPutKeyOfThree(b *testing.B) {
	const atOnce = 64
	members := startMembers(b)
	r := bareRaftOfThree(b)
	bare := serve(b, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		data, err := io.ReadAll(request.Body)
		if err == nil {
			err = r.Apply(data, time.Minute).Error()
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Vary"] = []string{"Accept-Encoding"}
		w.Header()["X-Consul-Default-Acl-Policy"] = []string{"allow"}
		_, _ = io.WriteString(w, "true")
	}))
	// A connection that asks nothing for a while is closed: each asks at once.
	connect := func(address string) func(n int) {
		run := clients(b, atOnce, dialHTTP(address, putting))
		run(4 * atOnce)
		return run
	}
	ceiling := connect(bare)
	for _, through := range []struct {
		name string
		*member
	}{{"leader", members[0]}, {"follower", members[1]}, {"client-agent", members[3]}} {
		ours := connect(through.http)
		b.Run("through-"+through.name, func(b *testing.B) { compare(b, ours, ceiling) })
	}
	if !members[0].Leads() {
		b.Error("another server leads than did at first: what was measured through the leader was not")
	}
}
