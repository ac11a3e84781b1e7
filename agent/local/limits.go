package local

import "time"

// Limits of what one agent holds. They keep a runaway client from filling the
// catalog of the whole cluster.
const (
	// MaxServices is how many instances may be registered at one agent.
	MaxServices = 10_000
	// MaxChecks is how many checks may be registered at one agent.
	MaxChecks = 50_000
	// MaxFileSize is how many bytes the file of a persisted definition may have.
	MaxFileSize = 4 << 20
	// MaxJournalSize is how many bytes the definitions of one registration, a
	// service with its checks, may have together as they are written down before
	// they take the place of others.
	MaxJournalSize = 64 << 20
)

// Times of keeping the catalog true.
const (
	// FullSyncInterval is the pause between two comparisons with the catalog; a
	// random part of it, scaled by the size of the cluster, is added.
	FullSyncInterval = time.Minute
	// RetryInterval is the pause after a comparison that failed; a random part is
	// added as above.
	RetryInterval = 15 * time.Second
	// StartRetryInterval takes its place until the catalog was reached once: an
	// agent that starts usually waits for a leader only, and nobody knows of its
	// services yet. After failures of another kind it doubles up to RetryInterval.
	StartRetryInterval = time.Second
	// ServerUpStagger bounds the random delay, scaled as above, of a comparison
	// that was asked for because servers can be reached again.
	ServerUpStagger = 3 * time.Second
	// MoveStagger, times the size of the cluster, bounds the random delay of a
	// comparison with a catalog that lacks what is registered here, which is never
	// more than that of ServerUpStagger.
	MoveStagger = 3 * time.Millisecond
	// ReplacedInterval is at least between the beginning of a comparison and that of
	// one because the catalog was replaced, however often that is said.
	ReplacedInterval = time.Second
	// CatalogTimeout bounds each single call of the catalog. It is above the time
	// that a call may wait for a leader to be elected.
	CatalogTimeout = 10 * time.Second
	// SyncWait is how long a registration waits for the catalog to know of it. It
	// succeeds in any case.
	SyncWait = 2 * time.Second
	// FirstOutputGather is how long the first output of a check waits for that of
	// others, so that they go in one call. Nobody reads faster.
	FirstOutputGather = 500 * time.Millisecond
	// SweepInterval is the pause between two searches for instances that have been
	// critical for too long.
	SweepInterval = 30 * time.Second
	// AliasPause is the shortest time between two reads of the catalog by one alias
	// check, which bounds what a busy node costs.
	AliasPause = 200 * time.Millisecond
	// FlapWindow is how far back changes of status are counted, and MaxFlaps how
	// many are remembered of a check.
	FlapWindow = 10 * time.Minute
	MaxFlaps   = 64
	// MaxChecksPerCall is how many checks one registration in the catalog carries,
	// which bounds the size of its log entry.
	MaxChecksPerCall = 64
	// scaleFrom is the size of a cluster up to which full syncs are not spread
	// further apart.
	scaleFrom = 128
)
