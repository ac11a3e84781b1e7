package check

import "time"

// Limits of what a registration may hold.
const (
	// MaxMetaPairs is how many pairs the metadata of a node or an instance may
	// have.
	MaxMetaPairs = 64
	// MaxMetaKey is the longest key of metadata, in bytes.
	MaxMetaKey = 128
	// MaxMetaValue is the longest value of metadata, in bytes.
	MaxMetaValue = 512
	// MaxChecks is how many checks one registration may bring along. It keeps a
	// single request from starting an unbounded number of probes.
	MaxChecks = 256
)

// Limits of running a check.
const (
	// MinInterval is the shortest pause between two runs. Shorter intervals are
	// accepted and run this often, so that a typing error is no load test.
	MinInterval = time.Second
	// MinDeregisterAfter is the shortest time in critical state after which an
	// instance is removed: it must outlast a restart of what is probed.
	MinDeregisterAfter = time.Minute
	// DefaultTimeout is how long a run may take if the definition does not say.
	DefaultTimeout = 10 * time.Second
	// DefaultOutputMaxSize is how many bytes of output are kept unless the agent
	// or the definition says otherwise.
	DefaultOutputMaxSize = 4096
	// MaxRedirects is how many redirects an HTTP check follows.
	MaxRedirects = 10
	// MaxBodyRead is how many bytes of an HTTP body are read in search of its
	// tail. A body that goes on is cut off there; its status has been seen.
	MaxBodyRead = 4 << 20
	// MaxResponseHeader is how many bytes the header of an HTTP answer may have.
	MaxResponseHeader = 64 << 10
	// MaxStatusLine is how many bytes of an HTTP answer's code and reason are
	// shown.
	MaxStatusLine = 128
)
