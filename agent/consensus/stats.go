package consensus

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// Stats are the figures of a node at one moment.
type Stats struct {
	// State is "Follower", "Candidate", "Leader" or "Shutdown".
	State string
	// Term is the latest term that this server knows.
	Term uint64
	// LastLogIndex and LastLogTerm are those of the last entry, stored as an
	// entry or in a snapshot.
	LastLogIndex uint64
	LastLogTerm  uint64
	// CommitIndex is how far this server knows the log to be committed.
	CommitIndex uint64
	// AppliedIndex is how far it was given to the state machine, and FSMPending
	// how many batches of that wait there.
	AppliedIndex uint64
	FSMPending   uint64
	// LastSnapshotIndex and LastSnapshotTerm are those of the newest snapshot.
	LastSnapshotIndex uint64
	LastSnapshotTerm  uint64
	// Peers are the servers of the latest configuration, and PeersIndex is the
	// index of its entry.
	Peers      []Peer
	PeersIndex uint64
	// LastContact is the time since a leader was heard of, as
	// [Node.LastContact] says.
	LastContact time.Duration
	// Fresh says that this server votes in no election yet.
	Fresh bool
	// The versions of Raft's calls and snapshots.
	ProtocolVersion, ProtocolVersionMin, ProtocolVersionMax uint64
	SnapshotVersionMin, SnapshotVersionMax                  uint64
	// LeaseLeft is for how long the leader's lease lasts if nobody answers
	// again. It is zero on other servers.
	LeaseLeft time.Duration
}

// Stats returns the figures of this moment.
func (n *Node) Stats() Stats {
	raw := n.raft.Stats()
	number := func(key string) uint64 {
		v, _ := strconv.ParseUint(raw[key], 10, 64)
		return v
	}
	_, fresh := n.Fresh()
	return Stats{
		State: raw["state"], Term: number("term"),
		LastLogIndex: max(number("last_log_index"), number("last_snapshot_index")), LastLogTerm: max(number("last_log_term"), number("last_snapshot_term")),
		CommitIndex: number("commit_index"), AppliedIndex: number("applied_index"), FSMPending: number("fsm_pending"),
		LastSnapshotIndex: number("last_snapshot_index"), LastSnapshotTerm: number("last_snapshot_term"),
		Peers: n.Peers(), PeersIndex: n.PeersIndex(), LastContact: n.LastContact(), Fresh: fresh,
		ProtocolVersion: number("protocol_version"), ProtocolVersionMin: number("protocol_version_min"), ProtocolVersionMax: number("protocol_version_max"),
		SnapshotVersionMin: number("snapshot_version_min"), SnapshotVersionMax: number("snapshot_version_max"),
		LeaseLeft: n.leaseLeft(),
	}
}

// Map returns the figures under the names that operators know.
func (s Stats) Map() map[string]string {
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	voters, self := 0, false
	var servers []raft.Server
	for _, p := range s.Peers {
		suffrage := raft.Nonvoter
		if p.Voter {
			suffrage = raft.Voter
			voters++
			self = self || p.Self
		}
		servers = append(servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.ID)})
	}
	others := 0
	if self {
		others = voters - 1
	}
	contact := s.LastContact.String()
	switch {
	case s.State == raft.Leader.String():
		contact = "0"
	case s.Term == 0:
		contact = "never"
	}
	return map[string]string{
		"state": s.State, "term": number(s.Term),
		"last_log_index": number(s.LastLogIndex), "last_log_term": number(s.LastLogTerm),
		"commit_index": number(s.CommitIndex), "applied_index": number(s.AppliedIndex), "fsm_pending": number(s.FSMPending),
		"last_snapshot_index": number(s.LastSnapshotIndex), "last_snapshot_term": number(s.LastSnapshotTerm),
		"latest_configuration": fmt.Sprintf("%+v", servers), "latest_configuration_index": number(s.PeersIndex),
		"num_peers": strconv.Itoa(others), "last_contact": contact,
		"protocol_version": number(s.ProtocolVersion), "protocol_version_min": number(s.ProtocolVersionMin), "protocol_version_max": number(s.ProtocolVersionMax),
		"snapshot_version_min": number(s.SnapshotVersionMin), "snapshot_version_max": number(s.SnapshotVersionMax),
	}
}
