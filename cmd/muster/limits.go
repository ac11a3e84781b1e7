package main

import "time"

const (
	// maxData is the most bytes that a file or standard input may give as the
	// data of an argument. The agent has its own, lower, limit for a value; this
	// one only keeps a mistaken path from filling the memory.
	maxData = 64 << 20
	// maxTokenFile is the most bytes of a token file: a secret is a short line.
	maxTokenFile = 64 << 10
	// maxErrorBody is the most bytes of an error that are read from an answer; the
	// agent's own are a line.
	maxErrorBody = 64 << 10
	// requestTimeout ends a request to the agent. It is above the longest time
	// that an agent itself waits before it answers a question of ours.
	requestTimeout = 90 * time.Second
	// maxArchive is the largest archive of a snapshot in bytes that is saved or
	// sent: agents take no larger one back.
	maxArchive = 1<<30 + 4<<20
	// restoreTimeout is how long it may take to send an archive and to have the
	// state replaced by it.
	restoreTimeout = time.Hour
	// maxSnapshotConfig is the most bytes of a configuration file of the snapshot
	// agent.
	maxSnapshotConfig = 1 << 20
	// maxNodeID is the most bytes of a file that holds a node ID: a UUID is a line.
	maxNodeID = 4 << 10
	// retryPause is how long the snapshot agent waits after a first failure; the
	// pause doubles with each further one, up to maxRetryPause or the interval.
	retryPause    = 10 * time.Second
	maxRetryPause = 10 * time.Minute
	// stalePartial is how old a file must be that was not written to its end,
	// before the snapshot agent takes it for its own litter: no save takes so long.
	stalePartial = 24 * time.Hour
	// oldContact is how long ago a server may have heard from the leader before a
	// snapshot of its state comes with a warning.
	oldContact = 10 * time.Second
	// streamSilence is how long the agent may send nothing in the middle of an
	// answer that is read while it arrives.
	streamSilence = 90 * time.Second
	// selfTimeout is how long the agent may take to say which cluster it belongs to,
	// where that is told beside something else.
	selfTimeout = 5 * time.Second
	// healthTimeout is how long the health command waits, unless told.
	healthTimeout = 5 * time.Second
	// leaderTimeout is how long the health command waits to learn who leads where it
	// does not need to know.
	leaderTimeout = time.Second
	// leaveTimeout is how long an agent may take to leave its cluster after a
	// signal, before the process ends without.
	leaveTimeout = 15 * time.Second
	// stopTimeout is how long an agent may take to stop in order, before the
	// process ends without.
	stopTimeout = 15 * time.Second
	// syslogTries is how often the system's log is looked for, and syslogPause the
	// time between: it may start after the agent.
	syslogTries = 12
	syslogPause = 5 * time.Second
	// awayPause is between two lines of the log that say that this server was away
	// for too long, and awayLines how many there are before the process ends: a
	// supervisor would otherwise start it over and over.
	awayPause = 10 * time.Second
	awayLines = 6
	// pendingSignals is how many signals may wait to be looked at; more of the
	// same kind would say nothing new.
	pendingSignals = 8
)
