// Package agent puts the parts together: [New] reads, opens and binds, Run
// serves, and a stop undoes everything in order. DESIGN.md tells the way of a
// write, a read and a snapshot.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/leader"
	"github.com/muster-sd/muster/agent/local"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
)

// Options is what an agent is made of.
type Options struct {
	Config *config.Config
	Logger *slog.Logger
	// Level is the level of Logger, which a reload may set. It may be nil.
	Level *slog.LevelVar
	// Listeners are sockets that are already bound, for tests. Where one is
	// given, the configured addresses of its kind are not used.
	Listeners Listeners
	// Reload reads the configuration anew, for those who ask over HTTP. It may be
	// nil.
	Reload func() (*config.Config, error)
	// Network stands between the agent and others, for tests. Its zero value is the
	// real one.
	Network Network
}

// Network is what tests put between an agent, its disk and other agents.
type Network struct {
	// Gossip passes the packets and streams of gossip on; nil passes all.
	Gossip gossip.Filter
	// GossipAddr is where gossip listens instead of where the configuration says.
	GossipAddr netip.AddrPort
	// Dial opens connections to server ports; nil is plain TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Faults are those of the disk.
	Faults consensus.Faults
	// Now is the clock on the wall, which may jump; nil is the real one.
	Now func() time.Time
	// Reconnect is how often gossip looks for members that failed; zero is as
	// often as usual.
	Reconnect time.Duration
}

// now is the clock that entries are stamped by.
func (n *Network) now() time.Time {
	if n.Now != nil {
		return n.Now()
	}
	return time.Now()
}

// Agent is one running agent.
type Agent struct {
	config *config.Config
	logger *slog.Logger
	level  *slog.LevelVar
	undo   undo

	id      string   // the node's ID
	dir     *dataDir // nil if nothing is kept
	self    atomic.Pointer[catalog.Node]
	network Network
	pool    *gossip.Pool
	router  *router
	remote  *remote
	backend *backend
	encoded encodedAnswers
	uploads *uploads

	// The parts of a server; a client agent has none of them.
	machine   *state.Machine
	node      *consensus.Node
	mux       *rpc.Mux
	rpcServer *rpc.Server
	autopilot leader.Autopilot
	founder   *founder

	naming    naming
	joined    atomic.Pointer[[16]byte] // the cluster of a client agent
	last      [16]byte                 // the same, or the last one that was known; of nameCluster alone
	rpcClient *rpc.Client
	notified  atomic.Bool
	local     *local.Registry
	handler   *api.Handler
	dns       *dnsserver.Server // nil if DNS is off
	sockets   Listeners
	started   time.Time

	load      func() (*config.Config, error) // reads the configuration anew; may be nil
	telemetry *telemetry

	reloading sync.Mutex                    // held from reading a configuration until it is taken over
	running   atomic.Pointer[config.Config] // the newest one that was taken over
	left      atomic.Bool
	leave     chan struct{} // closed by Leave
	departed  chan struct{} // closed when the others were told that this agent leaves
	closing   chan struct{} // closed when the agent begins to stop
	replaced  chan string   // the IDs of clusters whose state was replaced
	stopped   chan struct{} // closed when Run has returned
}

// New reads, checks, opens and binds all that the agent needs. Its addresses are
// known afterwards, and nothing is served yet. A New that fails undoes what it
// did, and its error says what to change.
//
//	HTTP ──► api ──┐                  ┌──► machine ──► view      (what is agreed on)
//	               ├──► backend ──────┤       ▲
//	 DNS ──► dns ──┘     ▲  ▲         └──► node ──► raft.db      (how it is agreed on)
//	                     │  │                 ▲
//	checks ──► local ────┘  └── leader        └── mux ◄── server port
//	          (this agent's)    (duties, while this server leads)
func New(o Options) (*Agent, error) {
	a := &Agent{
		config:   o.Config,
		logger:   o.Logger,
		level:    o.Level,
		sockets:  o.Listeners,
		network:  o.Network,
		leave:    make(chan struct{}),
		departed: make(chan struct{}),
		closing:  make(chan struct{}),
		replaced: make(chan string, maxReplaced),
		naming:   naming{due: make(chan struct{}, 1)},
		stopped:  make(chan struct{}),
		started:  time.Now(),
		load:     o.Reload,
	}
	a.running.Store(o.Config)
	for _, step := range []func() error{
		a.openTelemetry,
		a.takeGiven,
		a.openIdentity,
		a.bind,
		a.openPool,
		a.openCalls,
		a.openBackend,
		a.openConsensus,
		a.openLocal,
		a.openEdges,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, a.undo.run(stopLimit))
		}
	}
	return a, nil
}

// openTelemetry lets what the agent logs be followed, and what it does be
// measured.
func (a *Agent) openTelemetry() error {
	t, err := newTelemetry()
	if err != nil {
		return fmt.Errorf("cannot measure: %w", err)
	}
	a.telemetry, a.logger = t, t.tee(a.logger)
	return nil
}

// openIdentity takes the data directory and settles who this node is.
func (a *Agent) openIdentity() error {
	c := a.config
	id := c.NodeID
	if c.DataDir != "" {
		dir, err := openDataDir(c.DataDir)
		if place := c.Place("data_dir"); err != nil && place != "" {
			return fmt.Errorf("%s: data_dir = %q: %w", place, c.DataDir, err)
		} else if err != nil {
			return err
		}
		a.undo.push("data directory", dir.close)
		if !c.Server && dir.hasServer() {
			a.logger.Warn(PhraseServersData, "data_dir", c.DataDir)
		}
		if c.Server && !c.Dev {
			if err := dir.checkSeen(time.Now(), c.ServerRejoinAgeMax); err != nil {
				return err
			}
		}
		if id, err = dir.nodeID(c.NodeID, a.makeNodeID); err != nil {
			return err
		}
		a.dir = dir
	} else if id == "" {
		var err error
		if id, err = a.makeNodeID(); err != nil {
			return err
		}
	}
	a.id = id
	a.setSelf(selfNode(c, id))
	return nil
}

// openBackend makes what answers and applies, here or there.
func (a *Agent) openBackend() error {
	c := a.config
	a.backend = &backend{
		id:         a.id,
		datacenter: c.Datacenter,
		nodeName:   c.NodeName,
		remote:     a.remote,
		hold:       c.RPCHoldTimeout,
		now:        a.network.now,
		measure:    a.telemetry.Command,
	}
	for i := range a.backend.indexes {
		a.backend.indexes[i].ask = func(ctx context.Context) (uint64, error) { return a.backend.committed(ctx, i == 1) }
	}
	return nil
}

// openConsensus opens the state of a server: in memory in dev mode, else from
// disk. The server port belongs to the mux from here on.
func (a *Agent) openConsensus() error {
	c := a.config
	if !c.Server {
		return a.keepID()
	}
	a.machine = state.NewMachine()
	a.mux = rpc.NewMux(rpc.MuxConfig{
		Listener: a.sockets.Server, ID: a.id, Cluster: a.cluster, ConnsPerClient: c.RPCMaxConnsPerClient,
		HandshakeTimeout: c.RPCHandshakeTimeout, Logger: a.part("server.rpc"),
	})
	a.undo.push("server port", a.mux.Close)

	dir := ""
	if c.DataDir != "" && !c.Dev {
		dir = filepath.Join(c.DataDir, raftFolder)
	}
	node, err := consensus.Open(consensus.Config{
		ID:         a.id,
		Name:       a.config.NodeName,
		Dir:        dir,
		FSM:        a.machine,
		CheckEntry: state.CheckEntry,
		Stream: stream{
			Listener: a.mux.Raft(),
			dialer:   rpc.Dialer{ID: a.id, Cluster: a.cluster, Resolve: a.resolve, Net: a.network.Dial},
		},
		Multiplier:        c.RaftMultiplier,
		PreVoteDisabled:   c.RaftPreVoteDisabled,
		SnapshotThreshold: uint64(c.RaftSnapshotThreshold),
		SnapshotInterval:  c.RaftSnapshotInterval,
		TrailingLogs:      uint64(c.RaftTrailingLogs),
		Faults:            a.network.Faults,
		Logger:            a.part("server.raft"),
	})
	if err != nil {
		return err
	}
	a.undo.push("Raft node", node.Stop)
	a.node = node
	a.backend.node, a.backend.machine = node, a.machine
	a.backend.limits = &requestLimits{leads: node.Leading, now: time.Now, logger: a.part("server")}
	a.backend.limits.follow(c)
	if err := a.ownsData(); err != nil {
		return err
	}
	if err := a.keepID(); err != nil {
		return err
	}
	a.rpcServer = rpc.NewServer(rpc.ServerConfig{
		Listener: a.mux.Calls(), Short: a.mux.Short(), Handler: calls{a}, Logger: a.part("server.rpc"),
		StopTimeout: max(minDrain, min(c.LeaveDrainTime, stopLimit/2)),
	})
	return a.openFounder()
}

// keepID writes the node's ID down, if anything is kept.
func (a *Agent) keepID() error {
	if a.dir == nil {
		return nil
	}
	return a.dir.keepNodeID(a.id)
}

// ownsData refuses the data of another server that was alone: this one could never
// lead with it. One of several may have been taken out, and is added again.
func (a *Agent) ownsData() error {
	peers := a.node.Peers()
	if len(peers) != 1 || peers[0].ID == a.id {
		return nil
	}
	return fmt.Errorf("the data in %s belongs to the server with the node ID %s, and this node has the ID %s: configure that node_id, or use another data directory",
		a.dir.path, peers[0].ID, a.id)
}

// stream is what Raft reaches other servers by.
type stream struct {
	net.Listener
	dialer rpc.Dialer
}

// Dial connects to the server with an ID.
func (s stream) Dial(id string, timeout time.Duration) (net.Conn, error) {
	return s.dialer.Dial(rpc.ProtocolRaft, id, timeout)
}

// openLocal loads what is registered at this agent.
func (a *Agent) openLocal() error {
	c := a.config
	registry, err := local.New(local.Config{
		Node:                *a.self.Load(),
		DataDir:             c.DataDir,
		CheckUpdateInterval: c.CheckUpdateInterval,
		CheckOutputMaxSize:  c.CheckOutputMaxSize,
		DiscardCheckOutput:  c.DiscardCheckOutput,
		EnableScriptChecks:  c.EnableScriptChecks,
		EnableLocalScripts:  c.EnableLocalScripts,
		CheckRan:            a.telemetry.CheckRan,
		CheckTurned:         a.telemetry.CheckTurned,
		Members:             func() int { return len(a.pool.Members()) },
		Cluster:             func() string { return clusterText(a.cluster()) },
		Logger:              a.part("anti_entropy"),
	})
	if err != nil {
		return err
	}
	a.local = registry
	return registry.Load(c.Services, c.Checks)
}

// openEdges makes the HTTP and DNS interfaces.
func (a *Agent) openEdges() error {
	c := a.config
	handler, err := api.New(api.Deps{
		Config: api.Config{
			Datacenter:       c.Datacenter,
			NodeName:         c.NodeName,
			Pretty:           c.Dev,
			MaxValueSize:     c.KVMaxValueSize,
			MaxTxnSize:       c.TxnMaxReqLen,
			DefaultQueryTime: c.DefaultQueryTime,
			MaxQueryTime:     c.MaxQueryTime,
			ResponseHeaders:  c.HTTPResponseHeaders,
			BlockEndpoints:   c.HTTPBlockEndpoints,
			AllowWriteFrom:   c.HTTPAllowWriteFrom,
			UseCache:         c.HTTPUseCache,
			AllowUnprintable: c.DisableHTTPUnprintableCharFilter,
			Debug:            c.EnableDebug,

			DiscoveryMaxStale: c.DiscoveryMaxStale,
		},
		Keys:    a.backend,
		Catalog: a.backend,
		Health:  a.backend,
		Txn:     a.backend,
		Status:  status{a},
		Local:   registry{a.local, c.NodeName},
		Agent:   about{a},

		Operator:  operator{a},
		Snapshots: archives{a},
		Why:       explainer{a},

		Telemetry: a.telemetry,
		Logger:    a.part("http"),
	})
	if err != nil {
		return err
	}
	a.handler = handler
	if len(a.sockets.DNSPackets) == 0 {
		return nil
	}
	lookup := dnsserver.Lookup(a.backend)
	if !c.Server {
		remembered, cancel := context.WithCancel(context.Background())
		a.undo.push("memory of DNS", func() error { cancel(); return nil })
		lookup = newRemembering(remembered, whileReachable{a.backend, a.remote})
	}
	a.dns, err = dnsserver.New(dnsserver.Config{
		Datacenter:  c.Datacenter,
		NodeName:    c.NodeName,
		Domain:      c.Domain,
		AltDomain:   c.AltDomain,
		Settings:    dnsSettings(c),
		PacketConns: a.sockets.DNSPackets,
		Listeners:   a.sockets.DNSStreams,
		Lookup:      lookup,
		Measure:     a.measureDNS,
		Logger:      a.part("dns"),
	})
	return err
}

// part is the logger of one part of the agent.
func (a *Agent) part(name string) *slog.Logger { return a.logger.With(ComponentKey, name) }

// Run serves until ctx ends, Leave is called, or a part fails, and then stops
// everything in order: first nothing new is taken and waiting readers are
// answered, then the duties and checks end, then Raft, then the files. It
// returns nil unless something failed. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.stopped)
	// Raft takes the end of its port for a failure, so the port outlives it: the
	// undoing of New ends both.
	port := newGroup(context.WithoutCancel(ctx))
	back := newGroup(context.WithoutCancel(ctx))
	if a.config.Server {
		if a.dir != nil && !a.config.Dev {
			back.start("last seen", a.untilStopped(a.beSeen))
		}
		port.start("server port", a.mux.Run)
		back.start("calls of other agents", a.rpcServer.Run)
		back.start("leader's duties", a.lead)
		back.start("state", a.untilStopped(a.mend))
		back.start("room", a.untilStopped(a.yield))
		back.start("bootstrap", a.untilStopped(a.expect))
	}
	back.start("gossip", a.pool.Run)
	back.start("join", a.untilStopped(a.join))
	back.start("members", a.followPool)
	back.start("replacements", a.untilStopped(a.followReplaced))
	back.start("cluster", a.nameCluster)
	back.start("attendance", a.attend)
	back.start("metrics", a.watch)
	back.start("local registry", func(ctx context.Context) error { return a.local.Run(ctx, undisputed{a.backend, a.pool}) })

	front := newGroup(ctx)
	for _, l := range a.sockets.HTTP {
		front.start("HTTP server on "+l.Addr().String(), func(ctx context.Context) error { return a.serveHTTP(ctx, l) })
	}
	if a.dns != nil {
		front.start("DNS server", a.dns.Run)
	}
	front.start("agent", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
		case <-a.leave:
			a.depart(context.WithoutCancel(ctx))
			close(a.departed)
		case <-back.ctx.Done():
		case <-port.ctx.Done():
		}
		return nil
	})
	a.logger.Info(PhraseRunning)

	err := front.wait(stopLimit)
	close(a.closing)
	back.cancel()
	err = errors.Join(err, back.wait(stopLimit), a.undo.run(stopLimit))
	port.cancel()
	err = errors.Join(err, port.wait(stopLimit))
	a.logger.Info(PhraseStopped)
	return err
}

// lead does the leader's duties whenever this server leads.
func (a *Agent) lead(ctx context.Context) error {
	return a.node.WhileLeader(ctx, func(ctx context.Context) error {
		log := a.part("leader")
		log.Info(PhraseLeading)
		a.backend.caughtUp.Store(true)
		defer log.Info(PhraseNotLeading)
		if err := a.begin(ctx, log); err != nil {
			return err
		}
		a.tellClusterSoon()
		deps := a.duties()
		deps.Logger = log
		return leader.Run(ctx, deps)
	})
}

// untilStopped is a part that may have nothing to do: only an error of it ends the
// others.
func (a *Agent) untilStopped(run func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if err := run(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// begin gives a new cluster its ID, over and over until that succeeds or ctx
// ends.
func (a *Agent) begin(ctx context.Context, log *slog.Logger) error {
	retry := time.NewTicker(beginRetry)
	defer retry.Stop()
	said := ""
	for {
		err := a.backend.beginCluster(a.duty(ctx))
		if err == nil {
			return nil
		}
		// On a full disk it may be tried for hours: each reason is said once.
		if text := err.Error(); text != said {
			log.Warn("this will be tried again", "error", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-retry.C:
		}
	}
}

// serveHTTP serves one listener until ctx ends, and then finishes what is under
// way. Readers who wait are answered with what there is.
func (a *Agent) serveHTTP(ctx context.Context, l net.Listener) error {
	maxHeader := a.config.HTTPMaxHeaderBytes
	if maxHeader <= 0 {
		maxHeader = defaultMaxHeaderBytes
	}
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: readHeaderLimit,
		IdleTimeout:       idleLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.part("http").Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	a.part("http").Info(PhraseHTTP, "address", l.Addr().String(), "network", l.Addr().Network())
	var failure error
	select {
	case failure = <-ended:
		ended <- nil
	case <-ctx.Done():
	}
	a.handler.Drain()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if server.Shutdown(limited) != nil {
		// What was not done in time is cut off.
		_ = server.Close()
	}
	<-ended
	return failure
}

// Leave takes the agent out of service for good, in an orderly way, and returns
// when Run has. The only server of a cluster keeps its data, and is the same
// cluster when it comes back.
func (a *Agent) Leave(ctx context.Context) error {
	a.beginLeave()
	select {
	case <-a.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HTTPAddrs are the addresses that HTTP is served on.
func (a *Agent) HTTPAddrs() []net.Addr {
	var out []net.Addr
	for _, l := range a.sockets.HTTP {
		out = append(out, l.Addr())
	}
	return out
}

// DNSAddrs are the UDP addresses that DNS is served on; TCP has the same.
func (a *Agent) DNSAddrs() []net.Addr {
	var out []net.Addr
	for _, c := range a.sockets.DNSPackets {
		out = append(out, c.LocalAddr())
	}
	return out
}

// ServerAddr is the address of the server port as others reach it.
func (a *Agent) ServerAddr() string {
	return net.JoinHostPort(a.config.AdvertiseAddr.String(), strconv.Itoa(a.serverPort()))
}

// NodeID is the node's ID.
func (a *Agent) NodeID() string { return a.id }

// serverPort is the number of the server port, or zero on a client agent.
func (a *Agent) serverPort() int {
	if a.sockets.Server == nil {
		return 0
	}
	return portOf(a.sockets.Server.Addr())
}

// GossipAddr is where gossip is reached, as host and port.
func (a *Agent) GossipAddr() string { return a.pool.Addr().String() }

// Leads reports whether this agent is the server that leads.
func (a *Agent) Leads() bool { return a.node != nil && a.node.Leading() }

// State is the state's index and hash on this server, for comparing servers.
func (a *Agent) State() (index uint64, hash string) {
	v := a.machine.View()
	return v.Index, v.Hash().String()
}
