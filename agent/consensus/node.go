package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Node is one server of a Raft cluster.
type Node struct {
	cfg       Config
	raft      *raft.Raft
	transport *raft.NetworkTransport
	stores    *stores
	opened    time.Time

	gate       *gate
	verifier   verifier
	leadership leadership

	stopLock  sync.Mutex     // held while stopping is closed, and while a call begins
	stopping  chan struct{}  // closed when nothing may begin any more
	calls     sync.WaitGroup // calls into Raft that have not been answered
	abandoned chan struct{}  // closed when Stop waits for answers no longer
	watcher   sync.WaitGroup
	patience  time.Duration // DrainTimeout, less in tests
	stop      func() error
}

// Peer is a server of the cluster's configuration.
type Peer struct {
	// ID is the server's node ID.
	ID string
	// Voter says whether it votes, or only follows.
	Voter bool
	// Leader says whether it is the leader that is known here.
	Leader bool
}

// Open opens the stores, restores the state machine from the newest snapshot,
// and starts Raft. A server that is its cluster's only voter then leads at
// once. Stored data that is damaged, in use (after LockTimeout) or cannot be
// written to is an error that names the file; it is never started over.
// When the configuration was valid, the stream is closed with any error.
func Open(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	config := cfg.raftConfig()
	stores, err := openStores(cfg, config.Logger)
	if err != nil {
		return nil, errors.Join(err, cfg.Stream.Close())
	}
	layer := newStreamLayer(cfg.Stream, cfg.ID)
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  layer,
		MaxPool:                 pooledConnections,
		Timeout:                 transportTimeout,
		Logger:                  config.Logger,
		MsgpackUseNewTimeFormat: true,
	})
	n := &Node{
		cfg: cfg, transport: transport, stores: stores, opened: time.Now(),
		gate:       newGate(MaxInFlight, MaxInFlightBytes),
		leadership: leadership{changed: make(chan struct{})},
		stopping:   make(chan struct{}), abandoned: make(chan struct{}),
		patience: DrainTimeout,
	}
	n.stop = sync.OnceValue(n.shutdown)
	n.verifier.ask = n.askQuorum
	if n.raft, err = startRaft(config, cfg.FSM, stores, gatedTransport{transport, stores.watch}); err != nil {
		return nil, errors.Join(err, transport.Close(), stores.close())
	}
	observed := make(chan raft.Observation, 1) // one is enough: it says only that there is news
	n.raft.RegisterObserver(raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.watcher.Go(func() { n.watchLeadership(observed) })
	if n.onlyVoter() {
		if err := n.hurry(); err != nil {
			return nil, errors.Join(err, n.Stop())
		}
	}
	return n, nil
}

// startRaft is raft.NewRaft with its panics, about entries that it cannot
// read, turned into errors.
func startRaft(config *raft.Config, machine raft.BatchingFSM, s *stores, transport raft.Transport) (r *raft.Raft, err error) {
	fsm := &watchedFSM{BatchingFSM: machine}
	defer func() {
		if cause := recover(); cause != nil {
			r, err = nil, s.damage(fmt.Errorf("it cannot be read by Raft: %v", cause))
		}
	}()
	r, err = raft.NewRaft(config, fsm, s.log, s.stable, s.snapshots, transport)
	switch {
	case err == nil:
		return r, nil
	case s.snapshots.openErr != nil:
		return nil, s.snapshotDamage(s.snapshots.openErr)
	case fsm.restoreErr != nil:
		return nil, s.snapshotDamage(fmt.Errorf("the state machine cannot restore it: %w", fsm.restoreErr))
	}
	return nil, fmt.Errorf("cannot start Raft: %w", err)
}

// watchedFSM remembers why a restore failed, which Raft only logs.
type watchedFSM struct {
	raft.BatchingFSM
	restoreErr error
}

// Restore hands a snapshot to the state machine.
func (f *watchedFSM) Restore(source io.ReadCloser) error {
	f.restoreErr = f.BatchingFSM.Restore(source)
	return f.restoreErr
}

// Bootstrap makes this server the only voter of a new cluster, if there is no
// state at all, and reports whether it did. It then leads at once.
func (n *Node) Bootstrap() (fresh bool, err error) {
	err = n.await(context.Background(), ApplyTimeout, func() error {
		err := n.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: raft.ServerAddress(n.cfg.ID),
		}}}).Error()
		fresh = err == nil
		if errors.Is(err, raft.ErrCantBootstrap) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot bootstrap the cluster: %w", err)
	}
	if !fresh {
		return false, nil
	}
	return true, n.hurry()
}

// hurry makes a follower look at its heartbeat timeout now, and so a lone voter
// stand for election without waiting one to two timeouts for a leader that
// cannot exist. Raft looks at once when the timeout gets shorter, so it is made
// longer and then what it was.
func (n *Node) hurry() error {
	config := n.raft.ReloadableConfig()
	longer := config
	longer.HeartbeatTimeout += nudge
	longer.ElectionTimeout += nudge
	if err := n.raft.ReloadConfig(longer); err != nil {
		return fmt.Errorf("cannot hurry the election: %w", err)
	}
	if err := n.raft.ReloadConfig(config); err != nil {
		return fmt.Errorf("cannot hurry the election: %w", err)
	}
	return nil
}

// onlyVoter reports whether the stored configuration has this server as its
// only voter.
func (n *Node) onlyVoter() bool {
	only := false
	for _, peer := range n.Peers() {
		if peer.Voter && peer.ID != n.cfg.ID {
			return false
		}
		only = only || peer.Voter
	}
	return only
}

// Peers returns the servers of the latest configuration, this one among them.
func (n *Node) Peers() []Peer {
	future := n.raft.GetConfiguration()
	if future.Error() != nil { // it has none
		return nil
	}
	leader, _ := n.Leader()
	var peers []Peer
	for _, server := range future.Configuration().Servers {
		id := string(server.ID)
		peers = append(peers, Peer{ID: id, Voter: server.Suffrage == raft.Voter, Leader: id == leader})
	}
	return peers
}

// Stats returns Raft's own figures, for people.
func (n *Node) Stats() map[string]string { return n.raft.Stats() }

// Snapshot takes a snapshot and cuts the log behind it, now. If nothing was
// applied yet it does nothing.
func (n *Node) Snapshot() error {
	err := n.await(context.Background(), 0, func() error {
		err := n.raft.Snapshot().Error()
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return nil
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrStopped) {
		return fmt.Errorf("cannot take a snapshot: %w", err)
	}
	return err
}

// Stop ends the node in order: what is under way gets its answer, then Raft,
// the transport and the stores are closed. Each step is bounded by
// DrainTimeout; if Raft does not end, its stores stay open and the error says
// so. Stop may be called more than once, and returns when all is done.
func (n *Node) Stop() error { return n.stop() }

func (n *Node) shutdown() error {
	n.stopLock.Lock()
	close(n.stopping)
	n.stopLock.Unlock()
	n.watcher.Wait()
	// From here on, a store that fails is not tried again.
	close(n.stores.votes.ending)
	// Raft forgets futures that are between its goroutines when it ends, so
	// they are let through first.
	drained := finishes(n.patience, n.calls.Wait, n.stores.votes.gaveUp)
	close(n.abandoned)
	if !drained {
		n.cfg.Logger.Warn("calls into Raft are not answered, stopping without them")
	}
	ended := n.raft.Shutdown()
	err := n.transport.Close()
	if !finishes(n.patience, func() { _ = ended.Error() }, nil) {
		return errors.Join(err, fmt.Errorf("cannot end Raft within %v, its stores stay open", n.patience))
	}
	return errors.Join(err, n.stores.close())
}

// finishes reports whether wait returns within a time, and before it is
// hopeless.
func finishes(patience time.Duration, wait func(), hopeless <-chan struct{}) bool {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	case <-hopeless:
		return false
	}
}

// begin counts a call into Raft, unless the node is stopping. Who began must
// call n.calls.Done.
func (n *Node) begin() bool {
	n.stopLock.Lock()
	defer n.stopLock.Unlock()
	if n.isStopping() {
		return false
	}
	n.calls.Add(1)
	return true
}

func (n *Node) isStopping() bool {
	select {
	case <-n.stopping:
		return true
	default:
		return false
	}
}
