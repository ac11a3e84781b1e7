package api

import "time"

// Limits of what a request may hold and of how long it may wait.
const (
	// maxBody is the largest JSON body in bytes. A registration with all the
	// metadata and checks that it may have stays well below it.
	maxBody = 1 << 20
	// maxTxnOps is how many operations a transaction may have: all are carried out
	// while nothing else is.
	maxTxnOps = 128
	// defaultMaxTxn is the largest body of a transaction in bytes unless
	// limits.txn_max_req_len or limits.kv_max_value_size say otherwise.
	defaultMaxTxn = 512 << 10
	// bodyTime is how long a client may take to send a body. The largest comes in
	// that time over a line of 20 KB/s.
	bodyTime = time.Minute
	// maxRestore is the largest archive in bytes that the state is restored from:
	// the most that servers take, 1 GiB, and room for what the form adds to a
	// state that cannot be compressed.
	maxRestore = 1<<30 + 4<<20
	// maxPiece is how many bytes of an archive are sent, or must be received, in
	// pieceTime: a line of 18 KB/s is fast enough.
	maxPiece  = 1 << 20
	pieceTime = time.Minute
	// maxReloadHeader is the longest report of a reload in bytes: clients and
	// proxies refuse headers of 8 KiB together.
	maxReloadHeader = 4 << 10
	// maxFilter is the longest filter in bytes: longer ones are no longer written
	// by people.
	maxFilter = 8 << 10
	// maxFilterDepth is how many parentheses of a filter may stand inside each
	// other: its grammar needs four times as long for each level.
	maxFilterDepth = 6
	// maxFilterSteps bounds the work of reading one filter, in steps of its
	// grammar, whatever else may make it slow: some 40 ms.
	maxFilterSteps = 1_000_000
	// maxMinQuorum is how many voters the clean-up of servers can be told to leave at
	// least: more than any cluster has.
	maxMinQuorum = 1000
	// defaultQueryTime and maxQueryTime are how long a blocking query waits if the
	// configuration does not say.
	defaultQueryTime = 300 * time.Second
	maxQueryTime     = 600 * time.Second
	// jitterShare is the part of a wait, one in so many, by which it is lengthened
	// at random, so that readers who began together do not all come back together.
	jitterShare = 16
	// maxKeptBody is the largest encoded answer in bytes that is kept for the next
	// who asks the same, maxKeptBodies bounds all of them together, and
	// maxKeptAnswers their number.
	maxKeptBody    = 4 << 20
	maxKeptBodies  = 64 << 20
	maxKeptAnswers = 8192
	// maxKeptKey is the longest name in bytes of what was asked for that an answer
	// is kept under: clients may put anything into a query string.
	maxKeptKey = 1 << 10
	// copyUnused is how long it is remembered that something was asked for with
	// ?cached and then no more.
	copyUnused = 72 * time.Hour
	// maxAsked is how many such questions are remembered, each in some 50 bytes.
	maxAsked = 8192
	// minGzip is the smallest body in bytes that is compressed: below it the
	// answer fits one packet either way.
	minGzip = 1400
)
