package config

import "time"

// Limits of what is read. They are far above what people write, and keep a
// wrong path (a log, a data folder) from filling the memory.
const (
	// MaxFileSize is the size of one file or fragment, in bytes.
	MaxFileSize = 4 << 20
	// MaxFiles is the number of files of all folders and options together.
	MaxFiles = 4096
	// MaxDepth is how deep objects and lists may stand in each other. The deepest
	// known key needs fewer than ten.
	MaxDepth = 64
	// MaxErrors is the number of errors that are reported together. A file of the
	// wrong kind has thousands, and the first ones tell.
	MaxErrors = 50
	// MaxShown is the number of names that a list in a report shows. A line of the
	// log is for reading.
	MaxShown = 10
)

// WatchInterval is how often files are looked at if the agent is to read them
// again by itself, and how long they must have been left alone.
const WatchInterval = time.Second

// Limits of what is written in files.
const (
	// MaxLabel is the length of a part of a DNS name, in bytes (RFC 1035 §2.3.4).
	MaxLabel = 63
	// MaxDomain is the length of a whole DNS name as text, without the last dot
	// (RFC 1035 §2.3.4 counts the lengths of the labels too).
	MaxDomain = 253
	// MaxNodeName is the longest name of a node, in bytes: gossip carries no more.
	MaxNodeName = 255
	// MaxDatacenter is the longest name of a datacenter, in bytes. Gossip carries 512
	// bytes of all that a member says of itself, and this is in them.
	MaxDatacenter = 128
	// MaxSocketPath is the longest path of a unix socket, in bytes, that Linux has
	// (unix(7)).
	MaxSocketPath = 107
	// MaxPort is the largest port of TCP and UDP.
	MaxPort = 65535
	// MaxRaftMultiplier is the largest performance.raft_multiplier.
	MaxRaftMultiplier = 10
	// MinSnapshotInterval is the least raft_snapshot_interval, which is that of the
	// Raft library.
	MinSnapshotInterval = 5 * time.Millisecond
	// MinRejoinAge is the least server_rejoin_age_max: a server that restarts is
	// away for a while.
	MinRejoinAge = 6 * time.Hour
	// ShortReconnect is the reconnect_timeout below which a warning says that a
	// network that fails for a night makes agents forget each other.
	ShortReconnect = 8 * time.Hour
	// MaxServices and MaxChecks are how many of each all files may define, which is
	// what one agent may have.
	MaxServices = 10_000
	MaxChecks   = 50_000
	// MaxDrain is the longest performance.leave_drain_time: a stop as a whole is
	// bounded, and supervisors kill what takes longer.
	MaxDrain = 5 * time.Second
	// MaxSegmentSize is the largest raft_logstore.wal.segment_size_mb, in MiB.
	MaxSegmentSize = 1024
	// reservedFiles are the open files that a process needs beside its clients'
	// connections.
	reservedFiles = 20
)
