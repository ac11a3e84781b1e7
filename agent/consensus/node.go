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
	transport *transport
	stores    *stores
	fresh     *freshness
	lease     *lease
	applied   *applied
	opened    time.Time

	gate        *gate
	verifier    verifier
	leadership  leadership
	handingOver sync.Mutex // held while leadership is handed over
	tuning      sync.Mutex // held while Raft's settings change

	stopLock  sync.Mutex     // held while stopping is closed, and while a call begins
	stopping  chan struct{}  // closed when nothing may begin any more
	calls     sync.WaitGroup // calls into Raft that have not been answered
	abandoned chan struct{}  // closed when Stop waits for answers no longer
	watcher   sync.WaitGroup
	passing   sync.WaitGroup // the goroutine that hands calls of others to Raft
	ended     chan struct{}  // closed when Raft has ended
	patience  time.Duration  // DrainTimeout, less in tests
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
	// Self says whether it is this server.
	Self bool
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
	if err := stores.applyPeersFile(cfg, config); err != nil {
		return nil, errors.Join(err, stores.close(), cfg.Stream.Close())
	}
	if _, fresh := stores.fresh.get(); fresh {
		config.PreVoteDisabled = false // it would raise the term, and never win
	}
	n := &Node{
		cfg: cfg, stores: stores, fresh: stores.fresh, applied: new(applied), opened: time.Now(),
		gate:       newGate(MaxInFlight, MaxInFlightBytes),
		leadership: leadership{changed: make(chan struct{})},
		stopping:   make(chan struct{}), abandoned: make(chan struct{}), ended: make(chan struct{}),
		patience: DrainTimeout,
	}
	n.lease = &lease{
		clock: n.clock, lasts: cfg.timeout() * leasePart / leaseWhole, self: cfg.ID,
		members: n.members, renewed: n.tellChange, peers: make(map[string]*answered),
	}
	remembers, err := stores.empty()
	if err != nil {
		return nil, errors.Join(err, stores.close(), cfg.Stream.Close())
	}
	replay, last := stores.looked.entries()
	n.transport = newTransport(n, config.Logger, !remembers)
	n.stop = sync.OnceValue(n.shutdown)
	n.verifier.ask = n.askQuorum
	if n.raft, err = startRaft(config, &watchedFSM{BatchingFSM: cfg.FSM, applied: n.applied}, stores, n.transport); err != nil {
		close(n.ended)
		return nil, errors.Join(err, n.transport.Close(), stores.close())
	}
	n.transport.raft = n.raft
	close(n.transport.ready)
	n.passing.Go(n.transport.run)
	observed := make(chan raft.Observation, 1) // one is enough: it says only that there is news
	n.raft.RegisterObserver(raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.watcher.Go(func() { n.watchLeadership(observed) })
	n.watcher.Go(n.hurryElections)
	n.watcher.Go(func() { n.transport.commits.run(n.applied.changes, n.stopping) })
	if replay >= longReplay {
		n.watcher.Go(func() { n.tidyAfterReplay(last, cfg.faults.freeMemory) })
	}
	if n.onlyVoter() {
		if err := n.hurry(); err != nil {
			return nil, errors.Join(err, n.Stop())
		}
	}
	return n, nil
}

// startRaft is raft.NewRaft with its panics, about entries that it cannot
// read, turned into errors.
func startRaft(config *raft.Config, fsm *watchedFSM, s *stores, transport raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			r, err = nil, s.damage(fmt.Errorf("it cannot be read by Raft: %v", cause))
		}
	}()
	if s.bolt != nil && s.looked != nil {
		s.bolt.search.Store(s.looked.search())
		defer s.bolt.search.Store(nil)
		s.looked = nil
	}
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

// clock is the time since the node was opened, on the monotonic clock: it goes on
// while the process is stopped, and knows no jumps.
func (n *Node) clock() time.Duration { return time.Since(n.opened) }

// Bootstrap makes this server the only voter of a new cluster, if there is no
// state at all, and reports whether it did. It then leads at once.
func (n *Node) Bootstrap() (fresh bool, err error) { return n.BootstrapServers([]string{n.cfg.ID}) }

// BootstrapServers makes servers, this one among them, the voters of a new
// cluster, if there is no state here at all, and reports whether it did. Each of
// them must do so, with the same servers: until it has, it is fresh, and takes
// part in no election. None of them may have been in a cluster with any of the
// others before: see [Node.Fresh].
func (n *Node) BootstrapServers(ids []string) (fresh bool, err error) {
	var configuration raft.Configuration
	for _, id := range ids {
		configuration.Servers = append(configuration.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id),
		})
	}
	err = n.await(context.Background(), ApplyTimeout, func() error {
		err := n.raft.BootstrapCluster(configuration).Error()
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
	// There was no state, so nothing was promised either. If the mark stays
	// after a crash, the next start removes it: see finishBootstrap.
	if err := n.fresh.clear(); err != nil {
		return true, fmt.Errorf("cannot bootstrap the cluster: %w", err)
	}
	if !n.onlyVoter() {
		return true, nil
	}
	return true, n.hurry()
}

// hurry makes a follower look at its heartbeat timeout now, and so a lone voter
// stand for election without waiting one to two timeouts for a leader that
// cannot exist. Raft looks at once when the timeout gets shorter, so it is made
// longer and then what it was.
func (n *Node) hurry() error {
	change := func(by time.Duration) func(*raft.ReloadableConfig) {
		return func(c *raft.ReloadableConfig) {
			c.HeartbeatTimeout += by
			c.ElectionTimeout += by
		}
	}
	if err := n.reload(change(nudge), change(-nudge)); err != nil {
		return fmt.Errorf("cannot hurry the election: %w", err)
	}
	return nil
}

// onlyVoter reports whether the stored configuration has this server as its
// only voter.
func (n *Node) onlyVoter() bool {
	only := false
	for _, peer := range n.members() {
		if peer.Voter && !peer.Self {
			return false
		}
		only = only || peer.Voter
	}
	return only
}

// isVoter reports whether this server is a voter of the latest configuration.
func (n *Node) isVoter() bool {
	for _, peer := range n.members() {
		if peer.Self {
			return peer.Voter
		}
	}
	return false
}

// members returns the servers of the latest configuration, without saying who
// leads.
func (n *Node) members() []Peer {
	if n.raft == nil {
		return nil
	}
	future := n.raft.GetConfiguration()
	if future.Error() != nil { // it has none
		return nil
	}
	var peers []Peer
	for _, server := range future.Configuration().Servers {
		id := string(server.ID)
		peers = append(peers, Peer{ID: id, Voter: server.Suffrage == raft.Voter, Self: id == n.cfg.ID})
	}
	return peers
}

// Peers returns the servers of the latest configuration, this one among them.
func (n *Node) Peers() []Peer {
	leader, _ := n.Leader()
	peers := n.members()
	for i := range peers {
		peers[i].Leader = peers[i].ID == leader
	}
	return peers
}

// PeersIndex returns the index of the entry that holds the latest configuration,
// or zero if there is none.
func (n *Node) PeersIndex() uint64 { return n.stores.entries.configurations.index() }

// Snapshot takes a snapshot and cuts the log behind it, now. If nothing was
// applied yet it does nothing.
func (n *Node) Snapshot() error { return n.TakeSnapshot(context.Background()) }

// TakeSnapshot takes a snapshot and cuts the log behind it, now. If nothing was
// applied yet it does nothing. If ctx ends before it is done, it is finished all
// the same.
func (n *Node) TakeSnapshot(ctx context.Context) error {
	err := n.await(ctx, 0, func() error {
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

// RestoreSnapshot replaces the whole state by that of a snapshot of some bytes,
// here and on all servers, and returns when a quorum has it. Only the leader
// can. Index and term are those of the snapshot; the state gets an index that is
// higher than that and than all that are in use here. The configuration of the
// cluster stays. Commands under way end with an error that is [ErrUncertain].
//
// The state machine must be able to restore the snapshot, so it is verified
// before: Raft ends the process if it is not.
func (n *Node) RestoreSnapshot(ctx context.Context, index, term uint64, r io.Reader, size int64) error {
	if !n.Leading() {
		return n.because(ErrNotLeader)
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Term: term, Size: size}
	// If ctx ends, who called no longer lends the reader.
	source := &lentReader{from: r}
	defer source.takeBack()
	err := n.await(ctx, 0, func() error {
		err, _ := outcome(n.raft.Restore(meta, source, 0))
		if err != nil && !errors.Is(err, ErrUncertain) {
			// The state is replaced before the log and the followers confirm it.
			err = fmt.Errorf("%w: %w", err, ErrUncertain)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot restore the snapshot: %w", n.because(err))
	}
	return nil
}

// lentReader is a reader until it is taken back.
type lentReader struct {
	mu   sync.Mutex
	from io.Reader
}

// Read reads, if the reader was not taken back.
func (r *lentReader) Read(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from == nil {
		return 0, context.Canceled
	}
	return r.from.Read(data)
}

func (r *lentReader) takeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = nil
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
	close(n.ended)
	err := n.transport.Close()
	n.passing.Wait()
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
