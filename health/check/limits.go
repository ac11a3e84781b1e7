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
	// MaxPort is the highest port of TCP and UDP.
	MaxPort = 65535
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
	// DefaultCommandTimeout is DefaultTimeout of checks that run a command, here
	// or in a container, or ask the service manager.
	DefaultCommandTimeout = 30 * time.Second
	// CommandWait is how long a command that has ended may keep its output open,
	// by processes that it left behind. What they write later is lost.
	CommandWait = time.Second
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
	// MaxGroupsLeft is how many runs of a script may have left processes behind
	// that are watched until they end. Those of more runs stay as zombies.
	MaxGroupsLeft = 64
	// MaxCommandRead is how many bytes a command in a container may write before
	// the check stops reading. The end of the command is then not waited for.
	MaxCommandRead = 64 << 20
	// MaxDockerAnswer is how many bytes of an answer of the Docker API are read,
	// other than the output of a command.
	MaxDockerAnswer = 1 << 20
	// DockerPoll is the pause before the Docker API is asked again whether a
	// command whose output ended has ended too.
	DockerPoll = 50 * time.Millisecond
	// MaxGRPCMessage is how many bytes the answer of a gRPC health service may
	// have; it is a few bytes in truth.
	MaxGRPCMessage = 64 << 10
	// MaxHeaderList is how many bytes the header of a gRPC answer may have.
	MaxHeaderList = 64 << 10
	// MaxFrame is how many bytes a frame of an HTTP/2 peer may have, which is the
	// largest that it may send unasked (RFC 9113, section 4.2).
	MaxFrame = 16 << 10
	// MaxUDPRead is how many bytes of a UDP reply are read; more are dropped.
	MaxUDPRead = 1500
	// MaxStatusLine is how many bytes of an HTTP answer's code and reason are
	// shown.
	MaxStatusLine = 128
)

// Times of following what an alias check mirrors.
const (
	// AliasInterval is the longest time between two looks at the target.
	AliasInterval = time.Minute
	// AliasMaxStale is how old what the catalog says of the target may be.
	AliasMaxStale = 15 * time.Second
	// AliasRetry is the pause after a look that failed. From the fourth failure in
	// a row on it doubles, up to AliasMaxRetry.
	AliasRetry    = time.Second
	AliasMaxRetry = time.Minute
	// aliasQuickRetries is how many failures in a row do not lengthen the pause,
	// aliasFailures how many make the check critical.
	aliasQuickRetries = 3
	aliasFailures     = 2
)
