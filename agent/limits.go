package agent

import "time"

// Limits of the agent as a whole.
const (
	// stopLimit bounds an ordered stop, so that a part that hangs cannot keep the
	// process alive.
	stopLimit = 10 * time.Second
	// maxMemo is how many answers are kept for the next who asks the same.
	maxMemo = 8192
	// drainLimit bounds how long requests under way may take to finish once the
	// agent stops.
	drainLimit = 3 * time.Second
	// readHeaderLimit bounds how long a client may take to send a request's
	// header, so that slow clients cannot hold connections for nothing.
	readHeaderLimit = 10 * time.Second
	// idleLimit is how long a connection without a request is kept.
	idleLimit = 2 * time.Minute
	// defaultMaxHeaderBytes bounds a request's header unless
	// http_config.max_header_bytes says otherwise.
	defaultMaxHeaderBytes = 1 << 20
	// lockLimit is how long to wait for another agent to let go of the data
	// directory, as it does while it stops.
	lockLimit = 2 * time.Second
	// lockRetry is between two tries for the lock.
	lockRetry = 50 * time.Millisecond
	// beginRetry is between two tries to give a new cluster its ID.
	beginRetry = 100 * time.Millisecond
)
