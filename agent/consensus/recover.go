package consensus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Inspection is what a stopped server has stored.
type Inspection struct {
	// Term is the latest term that it knows, and VotedFor whom it voted for in
	// VotedTerm, if it did.
	Term, VotedTerm uint64
	VotedFor        string
	// FirstIndex is its first entry, and LastIndex and LastTerm are those of the
	// last one, stored as an entry or in a snapshot.
	FirstIndex, LastIndex, LastTerm uint64
	// SnapshotIndex and SnapshotTerm are those of the newest snapshot.
	SnapshotIndex, SnapshotTerm uint64
	// Peers are the servers of its latest configuration, and PeersIndex is the
	// index of its entry.
	Peers      []Peer
	PeersIndex uint64
	// Fresh says that it votes in no election yet.
	Fresh bool
}

// Inspect reads what the server of a Raft folder has stored, and changes
// nothing. The server must not be running: its log is locked then, which is
// ErrLocked.
func Inspect(dir string) (Inspection, error) {
	path := filepath.Join(dir, logFile)
	if _, err := os.Stat(path); err != nil {
		return Inspection{}, fmt.Errorf("cannot open the Raft log: %w", err)
	}
	looked, err := checkLog(path, dir, nil)
	if err != nil {
		return Inspection{}, err
	}
	db, err := openBolt(path, dir, true)
	if err != nil {
		return Inspection{}, err
	}
	in, err := (&stores{dir: dir, log: db, stable: db, looked: looked}).inspect()
	return in, errors.Join(err, db.Close())
}

// inspect reads what is stored.
func (s *stores) inspect() (in Inspection, err error) {
	number := func(key []byte) (v uint64) {
		if err == nil {
			if v, err = s.stable.GetUint64(key); isNotFound(err) {
				v, err = 0, nil
			}
		}
		return v
	}
	in.Term, in.VotedTerm = number(keyCurrentTerm), number(keyLastVoteTerm)
	if err != nil {
		return in, s.damage(err)
	}
	if voted, err := s.stable.Get(keyLastVoteCand); err == nil {
		in.VotedFor = string(voted)
	}
	newest, meta, err := newestMeta(s.dir)
	if err != nil {
		return in, err
	}
	if meta != nil {
		in.SnapshotIndex, in.SnapshotTerm = newest.index, newest.term
		in.LastIndex, in.LastTerm = newest.index, newest.term
		in.PeersIndex, in.Peers = meta.ConfigurationIndex, peersOf(meta.Configuration)
	}
	if in.FirstIndex, err = s.log.FirstIndex(); err != nil {
		return in, s.damage(err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return in, s.damage(err)
	}
	if err := s.checkHistory(newest); err != nil {
		return in, err
	}
	// Of the entries up to the snapshot's none is needed, and some may be
	// missing: to restore a snapshot, Raft leaves a hole at its index.
	for index := newest.index + 1; index <= last; index++ {
		var entry raft.Log
		if err := s.log.GetLog(index, &entry); err != nil {
			return in, s.damage(fmt.Errorf("entry %d cannot be read: %w", index, err))
		}
		if replaced(newest, &entry) {
			break
		}
		in.LastIndex, in.LastTerm = index, entry.Term
		if entry.Type == raft.LogConfiguration {
			configuration, err := decodeConfiguration(entry.Data)
			if err != nil {
				return in, s.damage(fmt.Errorf("entry %d cannot be read: %w", index, err))
			}
			in.PeersIndex, in.Peers = index, peersOf(configuration)
		}
	}
	_, err = os.Stat(filepath.Join(s.dir, freshFile))
	in.Fresh = err == nil
	return in, nil
}

// replaced reports whether an entry that follows a snapshot, and all after it,
// are of a leader that was deposed before the snapshot came from a later one:
// terms never go back in a log. Raft leaves them where they are until the later
// leader's entries come in their place.
func replaced(newest snapshotName, entry *raft.Log) bool { return entry.Term < newest.term }

// dropReplaced removes such entries, which nobody ever committed. Raft's recovery
// would apply them on top of the snapshot, and store the result as one that is
// older than the snapshot is.
func (s *stores) dropReplaced() error {
	newest, _, err := newestMeta(s.dir)
	if err != nil {
		return err
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return s.damage(err)
	}
	if last <= newest.index {
		return nil
	}
	var entry raft.Log
	if err := s.log.GetLog(newest.index+1, &entry); err != nil {
		return s.damage(fmt.Errorf("entry %d cannot be read: %w", newest.index+1, err))
	}
	if !replaced(newest, &entry) {
		return nil
	}
	if err := s.log.DeleteRange(newest.index+1, last); err != nil {
		return fmt.Errorf("cannot remove entries %d to %d, which a later leader has replaced: %w", newest.index+1, last, err)
	}
	return nil
}

// decodeConfiguration is raft.DecodeConfiguration with its panic turned into an
// error.
func decodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}

func peersOf(c raft.Configuration) []Peer {
	var peers []Peer
	for _, server := range c.Servers {
		peers = append(peers, Peer{ID: string(server.ID), Voter: server.Suffrage == raft.Voter})
	}
	return peers
}

// configurationOf is the configuration of servers, whose IDs are their addresses.
func configurationOf(peers []Peer) raft.Configuration {
	var c raft.Configuration
	for _, peer := range peers {
		suffrage := raft.Nonvoter
		if peer.Voter {
			suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(peer.ID), Address: raft.ServerAddress(peer.ID)})
	}
	return c
}

// Recover replaces the configuration of a stopped server by the servers given,
// when a quorum is lost for good. All that is in its log counts as committed from
// then on. The state machine of cfg is used for it, and not of use afterwards;
// the stream is not used.
func Recover(cfg Config, peers []Peer) error {
	if cfg.Stream == nil {
		cfg.Stream = noStream{}
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.Dir == "" {
		return errors.New("a server that keeps all in memory has nothing to recover")
	}
	if err := checkPeers(peers); err != nil {
		return fmt.Errorf("cannot recover with these servers: %w", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, logFile)); err != nil {
		return fmt.Errorf("cannot open the Raft log: %w", err)
	}
	config := cfg.raftConfig()
	s, err := openStores(cfg, config.Logger)
	if err != nil {
		return err
	}
	return errors.Join(s.recover(cfg, config, peers), s.close())
}

// recover replaces the configuration.
func (s *stores) recover(cfg Config, config *raft.Config, peers []Peer) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = s.damage(fmt.Errorf("it cannot be recovered: %v", cause))
		}
	}()
	empty, err := s.empty()
	if err != nil {
		return err
	}
	if empty {
		return fmt.Errorf("cannot recover in %s: this server has no Raft data, so it has nothing to go on with; let it join the others", s.dir)
	}
	if err := s.dropReplaced(); err != nil {
		return err
	}
	// Raft asks the transport for addresses in a format that is no longer in
	// use.
	_, transport := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
	defer transport.Close()
	if err := raft.RecoverCluster(config, cfg.FSM, s.log, s.stable, s.snapshots, transport, configurationOf(peers)); err != nil {
		return fmt.Errorf("cannot recover in %s: %w", s.dir, err)
	}
	s.looked = nil
	s.entries.cutting.Store(false) // the log is empty, and its end in the snapshot
	return s.fresh.clear()         // whoever recovers by hand has said who votes
}

// applyPeersFile does what a peers file says, if there is one, and removes it.
func (s *stores) applyPeersFile(cfg Config, config *raft.Config) error {
	if s.dir == "" {
		return nil
	}
	if err := explainPeers(s.dir); err != nil {
		cfg.Logger.Warn("cannot explain how to recover", "error", err)
	}
	path := filepath.Join(s.dir, peersFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	peers, err := ReadPeersFile(path)
	if err != nil {
		return fmt.Errorf("%w; mend or remove it", err)
	}
	if !isAmong(peers, cfg.ID) {
		return fmt.Errorf("the peers file %s does not name this server, whose ID is %s: with it, this server could not take part any more. "+
			"Nothing was changed: correct the file, or remove it", path, cfg.ID)
	}
	cfg.Logger.Warn("replacing the servers of the cluster as the peers file says", "path", path, "servers", len(peers))
	if err := s.recover(cfg, config, peers); err != nil {
		return fmt.Errorf("the peers file %s cannot be applied: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot remove the peers file after it was applied: %w", err)
	}
	return syncFolder(s.dir)
}

func isAmong(peers []Peer, id string) bool {
	for _, peer := range peers {
		if peer.ID == id {
			return true
		}
	}
	return false
}

// noStream reaches nobody.
type noStream struct{}

// Accept fails.
func (noStream) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Close does nothing.
func (noStream) Close() error { return nil }

// Dial fails.
func (noStream) Dial(string, time.Duration) (net.Conn, error) { return nil, net.ErrClosed }
