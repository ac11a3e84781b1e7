package rpc

import "time"

const (
	// HandshakeTimeout is how long a connection may take from being accepted
	// to the end of its hello if nothing else is configured. It is longer than any round trip, and short
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

	// MaxHandshakesPerClient is how many of the [MaxHandshakes] one IP address
	// may have, so that one that says nothing leaves room for the others.
	MaxHandshakesPerClient = MaxHandshakes / 2

	// DefaultConnsPerClient is how many connections of one protocol an IP
	// address may have to the server port if nothing else is configured. An
	// agent keeps one to each server; a test or a host with many containers
	// has many agents.
	DefaultConnsPerClient = 100

	// DefaultConns is how many connections of one protocol the server port
	// takes in all if nothing else is configured. An idle one costs a server
	// some 20 KB.
	DefaultConns = 10000

	// flushTime is how long the answers of the last calls have to get on their way
	// when a server stops, or to be read when it is gone.
	flushTime = 500 * time.Millisecond

	// MaxMessageBytes is the largest message of a request; longer ones are cut.
	// It bounds what a server keeps of a request that is still on its way.
	MaxMessageBytes = 64 << 10

	// MaxReplyMessageBytes is the same of a query's replies. A client calls
	// the few servers that it trusts, so it may be longer.
	MaxReplyMessageBytes = 1 << 20

	// MaxRequestBytes is the longest command or query: the largest entry of
	// the log is 16 MiB, and some room for what is around it.
	MaxRequestBytes = 17 << 20

	// MaxBodyBytes is the longest result, or body of one reply. Longer answers
	// go in several replies.
	MaxBodyBytes = 64 << 20

	// MaxTokenBytes and MaxDatacenterBytes bound what a request names.
	MaxTokenBytes      = 1024
	MaxDatacenterBytes = 255

	// MaxErrorBytes is how much of an error's text crosses the wire.
	MaxErrorBytes = 4096

	// MaxHeaderBytes is how long the headers of a call may be in all. Those of
	// this package take some 300 bytes.
	MaxHeaderBytes = 4096

	// MaxStreams is how many calls one connection may carry at once: the
	// blocking queries of one client agent. A call above it fails at once.
	MaxStreams = 8192

	// MaxCalls is how many calls a server carries at once. One that waits
	// costs some 11 KB.
	MaxCalls = 32768

	// MaxShortBytes is the longest command or query that shares a connection with
	// others. It is far below a message, so that many fit into one.
	MaxShortBytes = 16 << 10

	// MaxItemBytes is how much of an answer goes to such a call before answers
	// to others may go.
	MaxItemBytes = 512 << 10

	// ExchangeIdle is how long the connection that short calls share stays open
	// without one, at least. It costs a server some 10 KB.
	ExchangeIdle = time.Minute

	// ExchangeSilence is how long such a connection may be silent, at most, and
	// three quarters of that at least: a client asks every [KeepaliveTime] whether
	// the server is there.
	ExchangeSilence = ServerKeepaliveTime + ServerKeepaliveTimeout

	// lookInterval is between two looks whether a server that calls wait for says
	// anything. It is asked for a sign of life if it said nothing between two, and
	// counts as silent if it has said nothing in silenceLooks more that found all
	// that was sent on its machine: together some 1.4 s. If something was lost on the
	// way, or does not fit into what the machine keeps for it, it has stuckLooks, 3 s,
	// in which nothing more came there: a network that loses every third packet must
	// not look dead. Looks are counted and not the time, so that an agent that was
	// itself stopped takes no server for dead.
	lookInterval = 200 * time.Millisecond
	silenceLooks = 5
	stuckLooks   = 15

	// silenceKept is how long the connections to a silent server are kept before new
	// ones are tried. Longer than a dial takes, and short enough if only they were lost.
	silenceKept = 10 * time.Second

	// ExchangePause is how long a client makes short calls one by one before it
	// tries anew to open a connection for them.
	ExchangePause = 5 * time.Second

	// MaxQueuedBytes is how much a client queues for a server that takes nothing
	// before calls go by themselves.
	MaxQueuedBytes = 4 << 20

	// FrameWriteTimeout is how long what is written at once may take to go out on
	// such a connection, at most, and half of that at least. It is at most
	// [MaxReplyMessageBytes].
	FrameWriteTimeout = 40 * time.Second

	// MaxExchanges is how many such connections a server keeps; further calls take
	// a stream of the library each. A client that begins a message and does not
	// end it makes the server hold up to one of [MaxMessageBytes] for each, for as
	// long as [RequestTimeout].
	MaxExchanges = 4096

	// MaxIdleWorkers is how many goroutines wait for the next short call. Each
	// keeps some 16 KB of stack.
	MaxIdleWorkers = 64

	// MaxReceiving is how many requests a server may be reading at once; each
	// holds up to two of [MaxMessageBytes]. Requests above it are refused as
	// busy.
	MaxReceiving = 2048

	// MaxReceivingBytes is how many bytes of requests longer than one message
	// a server puts together at once, not counting their first messages.
	MaxReceivingBytes = 128 << 20

	// RequestTimeout is how long the first message of a request may take to
	// come in, and SlowestRequest, in bytes a second, how much longer the rest
	// of one that is cut may take. A client that takes longer loses its
	// connection.
	RequestTimeout = 10 * time.Second
	SlowestRequest = 256 << 10

	// DefaultStopTimeout is how long calls may take to end when a server
	// stops, before their connections are cut; and again how long their
	// handlers may take to return after that.
	DefaultStopTimeout = 5 * time.Second

	// CallDialTimeout is how long the dial for a call may take, with name
	// resolution, hello and the start of HTTP/2. It is far above any round
	// trip, and below the time that a call is held for a leader.
	CallDialTimeout = 3 * time.Second

	// RedialMin and RedialMax bound the time after a failed dial in which
	// calls to the same server fail at once with its error. It doubles from
	// one to the other with each failure.
	RedialMin = 20 * time.Millisecond
	RedialMax = 500 * time.Millisecond

	// KeepaliveTime is how long a connection may be silent before a client
	// asks whether the server is there, and KeepaliveTimeout how long the
	// answer, or that to any bytes sent, may take: a network that loses every
	// third packet must not look dead. The library asks no more often than
	// every ten seconds.
	KeepaliveTime    = 10 * time.Second
	KeepaliveTimeout = 10 * time.Second

	// ServerKeepaliveTime and ServerKeepaliveTimeout are the same for a
	// server, which has thousands of clients and asks less often.
	ServerKeepaliveTime    = 30 * time.Second
	ServerKeepaliveTimeout = 10 * time.Second

	// KeepaliveMinTime is how often a client may ask without being cut off.
	KeepaliveMinTime = 5 * time.Second

	// ReplyWindowBytes is how much of a reply a server may send ahead of a
	// caller that does not read, and ConnWindowBytes how much may be on its way
	// on one connection, in either direction: enough for 100 MB/s at a round
	// trip of ten milliseconds.
	ReplyWindowBytes = 256 << 10
	ConnWindowBytes  = 1 << 20

	// ReadBufferBytes is what a server keeps for each connection to read into.
	// Small requests fit; what is longer is read past it.
	ReadBufferBytes = 4096

	// ReplyReadBufferBytes is the same of a client, which has few connections
	// and long replies.
	ReplyReadBufferBytes = 64 << 10

	// WriteBufferBytes is what is written at once. The buffer is shared, and
	// held only while there is something to write.
	WriteBufferBytes = 32 << 10
)
