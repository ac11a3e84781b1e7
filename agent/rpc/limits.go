package rpc

import "time"

const (
	// HandshakeTimeout is how long a connection may take from being accepted
	// to the end of its hello. It is longer than any round trip, and short
	// enough that connections which say nothing cannot pile up.
	HandshakeTimeout = 5 * time.Second

	// MaxHandshakes is how many connections may be in their hello at once.
	// Each costs a goroutine and a file descriptor for at most
	// HandshakeTimeout; a connection above the limit is refused as busy.
	MaxHandshakes = 256

	// AcceptBacklog is how many connections of one protocol may wait for
	// their Accept. The servers of a cluster are few and keep connections
	// open, so this many waiting means that nobody accepts.
	AcceptBacklog = 64

	// DialTimeout is how long a dial may take, with name resolution and
	// hello, when its caller names no limit.
	DialTimeout = 10 * time.Second

	// MaxIDBytes is the longest node ID that fits the hello's length byte.
	MaxIDBytes = 255

	// lingerTimeout is how long a refused connection stays open for its
	// dialer to read the answer: closing it at once, with bytes unread, would
	// make TCP drop the answer.
	lingerTimeout = time.Second

	// lingerBytes is how much is read and dropped meanwhile.
	lingerBytes = 4096

	// refusalLogInterval is how often a refused connection is worth a warning:
	// a server of the wrong cluster tries again many times a second.
	refusalLogInterval = time.Second

	// acceptRetryMin and acceptRetryMax bound the pause after a failed accept
	// (no file descriptors left, say), which doubles from one to the other.
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
)
