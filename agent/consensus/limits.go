package consensus

import "time"

const (
	// BaseTimeout is the heartbeat timeout and the election timeout at
	// multiplier 1. A failover takes 1.1 to 1.5 times the timeout.
	BaseTimeout = 500 * time.Millisecond

	// MinMultiplier and MaxMultiplier bound what BaseTimeout is multiplied
	// by, and DefaultMultiplier is taken when none is given.
	MinMultiplier     = 1
	MaxMultiplier     = 10
	DefaultMultiplier = 2

	// DefaultSnapshotThreshold is how many entries the log must have grown by
	// before a snapshot is taken.
	DefaultSnapshotThreshold = 16384

	// DefaultSnapshotInterval is how often that is looked at: Raft waits
	// between once and twice as long, so about every 30 s.
	DefaultSnapshotInterval = 20 * time.Second

	// DefaultTrailingLogs is how many entries are kept behind a snapshot, for
	// followers that lag a little.
	DefaultTrailingLogs = 10240

	// RetainedSnapshots is how many snapshots are kept on disk.
	RetainedSnapshots = 2

	// MaxCommandBytes is the size of the largest command. A follower must
	// receive a whole batch within the transport's timeout.
	MaxCommandBytes = 16 << 20

	// MaxInFlight and MaxInFlightBytes bound the commands that are between
	// Apply and their answer. Each costs a goroutine, and its bytes.
	MaxInFlight      = 4096
	MaxInFlightBytes = 64 << 20

	// QueueTimeout is how long a command waits for its place in flight, and
	// then again for Raft to take it.
	QueueTimeout = 5 * time.Second

	// ApplyTimeout is how long Apply waits for its answer once the command has
	// its place, and how long a change of membership may take. Past it the
	// outcome is not known.
	ApplyTimeout = 30 * time.Second

	// VerifyTimeout is how long Verify waits. A leader that reaches no quorum
	// steps down long before, when its lease ends.
	VerifyTimeout = 10 * time.Second

	// DrainTimeout is how long Stop waits for the answers of calls under way,
	// and then again for Raft to end. Both take milliseconds unless a disk or
	// a quorum is gone.
	DrainTimeout = 5 * time.Second

	// LockTimeout is how long Open waits for another process to let go of the
	// log.
	LockTimeout = time.Second

	// DefaultReserve is how many bytes of the log's file system are kept for
	// Raft's own records, such as votes, the first entries of a leader and
	// snapshots: commands are refused before they would touch it. Of a small
	// file system it is one part in maxReserveShare at most.
	DefaultReserve  = 64 << 20
	maxReserveShare = 4

	// logReserveShare is the part of the reserve, one in so many, that
	// snapshots leave to the log.
	logReserveShare = 4

	// roomAge is how long a look at the free space counts.
	roomAge = time.Second

	// snapshotLook is how many bytes of a snapshot are written between two
	// looks at the free space.
	snapshotLook = 1 << 20

	// HangLimit is how old a call into a store may get before the disk counts
	// as hung, and the server as not leading.
	HangLimit = 2 * time.Second

	// storeRetry is the pause before a term or a vote that could not be stored
	// is stored again, and complaintPause the one between two lines of the log
	// about that.
	storeRetry     = 500 * time.Millisecond
	complaintPause = 10 * time.Second

	// cachedEntries is how many entries are kept decoded in memory, so that
	// sending them to followers reads no disk.
	cachedEntries = 512

	// maxMapped is how many bytes of the log file, about, may count as memory of
	// this process before they are given back to the kernel's cache. What is
	// read in turn counts halfFull times, since bolt leaves its pages half full;
	// what is written too, since it reads the page before. Transactions count
	// touchedAround if they are not in turn: the kernel maps pages in groups.
	maxMapped     = 8 << 20
	halfFull      = 2
	touchedAround = 64 << 10

	// lookBytes and lookEntries are how much is handed to a processor at once
	// when a log is looked through.
	lookBytes   = 256 << 10
	lookEntries = 1024

	// longReplay is from how many entries on the memory that their reading took
	// is given back when they were applied, and replayLook how often that is
	// looked at.
	longReplay = 10_000
	replayLook = time.Second

	// transportTimeout bounds one call between servers. Installing a snapshot
	// may take longer, by its size.
	transportTimeout = 10 * time.Second

	// dialTimeout bounds one dial between servers, and so also how long a
	// dial to nowhere can hold up Stop.
	dialTimeout = 3 * time.Second

	// pooledConnections is how many idle connections are kept for each server.
	pooledConnections = 5

	// nudge is how much the timeouts are raised, and lowered again, to make
	// Raft look at them at once.
	nudge = time.Millisecond

	// leasePart and leaseWhole are the part of the timeout for which a leader
	// that a quorum has answered counts on it: what is left is for clocks that
	// run at different speeds.
	leasePart, leaseWhole = 9, 10

	// commitTimeout is how often a leader tells idle followers how far the log
	// is committed, at the least, whether there is news or not: with two followers
	// that is some hundredth of a core. News are told at once.
	commitTimeout = 50 * time.Millisecond

	// reachAgain is between two tries to reach a server that entries are for.
	reachAgain = 100 * time.Millisecond

	// commitPause is the least time between two such calls about news, so that
	// one client who writes one key after the other does not double what a write
	// costs. commitLook is how soon after an answer Raft is asked again what that
	// made committed, and commitLooks how often.
	commitPause = 5 * time.Millisecond
	commitLook  = time.Millisecond
	commitLooks = 10

	// electionSpread is the part of the timeout, one in so many, over which
	// servers that have lost their leader at once spread their elections.
	electionSpread = 5

	// electionTries is how often a server stands for election sooner than Raft
	// by itself would, when it has lost its leader.
	electionTries = 3

	// heartbeatTries is how often a heartbeat is sent at most, each time on
	// another connection, until it is answered; heartbeatShare is the part of
	// the timeout, one in so many, that passes between. After the last,
	// heartbeatPatience times the timeout is waited.
	heartbeatTries    = 4
	heartbeatShare    = 5
	heartbeatPatience = 4

	// changePush is how long a change of membership waits before something more
	// is put into the log behind it.
	changePush = 250 * time.Millisecond

	// handOverTries is how many servers a leader asks to take over.
	handOverTries = 2

	// appliedLook is how often a wait for entries looks for those that the state
	// machine is not told of.
	appliedLook = 5 * time.Millisecond

	// barrierRetry is the pause before a fresh leader tries again to put its
	// barrier into the log, while a hand-over of leadership is under way.
	barrierRetry = 50 * time.Millisecond
)
