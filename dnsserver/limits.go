package dnsserver

import "time"

// Limits on the work that outsiders can cause.
const (
	// maxUDPQueries is how many UDP queries are answered at once, over all
	// sockets. What comes on top waits in the sockets' buffers, where the kernel
	// drops what does not fit: a client asks again anyway.
	maxUDPQueries = 1024
	// idleUDPReaders is how many goroutines wait for the next packet of one
	// socket; those on top of it end when they have answered.
	idleUDPReaders = 4
	// maxUDPQuery is the largest query by UDP in bytes, which is what UDP carries.
	maxUDPQuery = 65535
	// maxTCPConnections is how many TCP connections are served at once. Further
	// ones wait in the listener's backlog until one closes.
	maxTCPConnections = 1024
	// maxTCPQueries is how many queries one TCP connection may ask. It is then
	// closed, so that no client keeps its place for ever.
	maxTCPQueries = 4096
	// tcpIdleTimeout is how long a TCP connection may take to send its next
	// query, or to take an answer (RFC 7766 §6.2.3 wants seconds).
	tcpIdleTimeout = 8 * time.Second
	// lookupTimeout bounds the lookups of one query. Resolvers give up after
	// about that time.
	lookupTimeout = 5 * time.Second
	// drainTimeout is how long queries under way may take after the server was
	// told to end; then their lookups are cancelled.
	drainTimeout = 2 * time.Second
	// retryDelay is the pause after a socket failed to give a packet or a
	// connection, so that a lasting failure does not spin.
	retryDelay = 50 * time.Millisecond
	// failureLogInterval is the least time between two log entries on failed
	// lookups, of which there may be thousands a second.
	failureLogInterval = time.Second
)

// Limits on answers.
const (
	// plainUDPSize is the largest reply in bytes to a client that does not say
	// what it can take (RFC 1035 §4.2.1).
	plainUDPSize = 512
	// maxPlainUDPAnswers is how many answers such a reply has at most.
	maxPlainUDPAnswers = 8
	// maxUDPSize is the largest UDP reply in bytes: 65535 less room for the
	// headers of IPv6 and UDP, and some to spare.
	maxUDPSize = 65535 - 68
	// maxTCPSize is the largest TCP reply in bytes: 65535 less a header.
	maxTCPSize = 65535 - headerSize
	// maxTCPAnswers and maxTCPServices are how many answers, and of SRV, a TCP
	// reply has at most. More SRV records than that do not fit with their
	// addresses.
	maxTCPAnswers  = 4096
	maxTCPServices = 1024
	// minRecordSize is the size in bytes of the smallest answer: a pointer to its
	// owner, the header, an IPv4 address.
	minRecordSize = 2 + 10 + 4
	// maxNameServers is how many NS records are given.
	maxNameServers = 3
	// maxChaseDepth is how many host names inside the zone are followed, one
	// leading to the next.
	maxChaseDepth = 3
	// maxChasedRecords is how many records a host name may add for a client that
	// does not say what it can take.
	maxChasedRecords = 5
	// headerSize is the size of a message's header in bytes (RFC 1035 §4.1.1).
	headerSize = 12
	// maxNameText is the length in bytes that a name without escapes stays below,
	// written with its trailing dot: 255 in a message (RFC 1035 §3.1) count the
	// length of the first label too.
	maxNameText = 255
	// maxTXTString is the most bytes in one string of a TXT record (RFC 1035
	// §3.3.14).
	maxTXTString = 255
)
