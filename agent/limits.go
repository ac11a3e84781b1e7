package agent

import (
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// Limits of the agent as a whole.
const (
	// stopLimit bounds an ordered stop, so that a part that hangs cannot keep the
	// process alive.
	stopLimit = 10 * time.Second
	// maxMemo is how many answers are kept for the next who asks the same.
	maxMemo = 8192
	// maxMemoKey is the longest name in bytes of a query whose answer is kept:
	// clients choose its tags and metadata, and longer ones are not asked twice.
	maxMemoKey = 1 << 10
	// portTries is how often the kernel is asked for a port that is free for both
	// UDP and TCP.
	portTries = 8
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
	// minDrain is the least time that calls under way have when a server stops,
	// even if leave_drain_time is shorter: it takes that long to cut them off.
	minDrain = 500 * time.Millisecond
	// rateLogInterval is how often the log is told that there are too many
	// requests: each of them would make it worse.
	rateLogInterval = 10 * time.Second
	// logRetry is the pause after a log file that could not be changed.
	logRetry = time.Minute
	// maxSyslogLines is how many lines wait for the system's log, and syslogDrain
	// how long those that wait at the end are waited for. Those beyond it are
	// dropped: a system log that hangs must not hold up the agent.
	maxSyslogLines = 1024
	syslogDrain    = time.Second
	// seenInterval is how often a server writes down that it is here, and seenRetry
	// the pause after it could not.
	seenInterval = time.Hour
	seenRetry    = time.Minute
	// socketProbe is how long a socket that stands where this agent's is to be
	// may take to answer: on one machine that is no time at all.
	socketProbe = time.Second
	// refusalPause is how long a client above its limit of connections may take
	// to begin its request before it is told so unasked.
	refusalPause = 200 * time.Millisecond
	// refusalLimit bounds the time that it then has to read why.
	refusalLimit = time.Second
	// refusalBytes bounds what is read of such a request.
	refusalBytes = 64 << 10
	// maxRefusals bounds how many clients are refused at once with a text. Those
	// beyond it are only cut off.
	maxRefusals = 64
	// maxMonitors bounds how many clients may follow the log at once.
	maxMonitors = 64
	// maxMonitorLines is how many lines wait for a client who follows the log.
	// Those beyond it are dropped.
	maxMonitorLines = 512
	// maxProcFile bounds what is read of a file about the machine, in bytes.
	maxProcFile = 4 << 20
	// metricsInterval is how long measurements are put together, and
	// metricsRetention how long they are kept.
	metricsInterval  = 10 * time.Second
	metricsRetention = time.Minute
	// maxSeries is how many series of one name and its labels are counted apart,
	// in which clients may make up a label's value: some hundred do without that.
	maxSeries = 1024
	// maxLabelValue bounds such a value, in bytes: no method that is one is longer.
	maxLabelValue = 64
	// gaugeInterval is between two looks at the process and the state, so that
	// every interval has some.
	gaugeInterval = 5 * time.Second
	// beginRetry is between two tries to give a new cluster its ID.
	beginRetry = 100 * time.Millisecond
	// retryPause is between two looks for a leader, or for a server that answers.
	retryPause = 50 * time.Millisecond
	// roundGather is how long a shared question waits for those who shared the last
	// one, and roundEnough for how many at most: a question to another process costs
	// about what it takes to answer one reader, on each side.
	roundGather = time.Millisecond
	roundEnough = 32
	// maxShared is how many questions to servers an agent keeps in mind that
	// several clients may ask at once, and sharedLooks how many it looks at for one
	// to forget.
	maxShared   = 1024
	sharedLooks = 16
	// serversFor is how long an agent goes by the servers that it chose last.
	serversFor = 20 * time.Millisecond
	// indexLimit bounds the question to the leader for what was committed.
	indexLimit = 2 * time.Second
	// catchUpLimit is how long readers of a follower wait together until the leader
	// has said what was committed, and that is applied there. After that each waits
	// by itself.
	catchUpLimit = 250 * time.Millisecond
	// handoverGrace is how long a server that leads no more may take to answer for
	// a command that it was sent.
	handoverGrace = 150 * time.Millisecond
	// operateGrace is the same for what operators ask for: to hand leadership over
	// is one of these things, and the server that did it has to say so.
	operateGrace = 2 * time.Second
	// patience is how long a server may take to answer a read that waits for nothing
	// before another one is asked as well.
	patience = time.Second
	// callGrace is how much longer than it may hold a request a server may take to
	// answer another agent.
	callGrace = 2 * time.Second
	// staleLimit bounds a stale read at one server: it waits for nothing.
	staleLimit = 2 * time.Second
	// nearTrip is how much longer than the shortest round trip, and twice that, a
	// server's may be that still counts as near.
	nearTrip = time.Millisecond
	// avoidFor is how long a server that failed is asked last, at least. Then it is
	// asked, beside the requests, for something that needs a leader, with probeLimit
	// for that: it is no time at all, and an election takes less. While it cannot do
	// it, it is asked last for twice as long each time, up to avoidMost.
	avoidFor   = 5 * time.Second
	avoidMost  = 30 * time.Second
	probeLimit = 2 * time.Second
	// maxAvoided bounds how many such servers are remembered.
	maxAvoided = 1024
	// attendInterval is between two looks at which servers are to miss this agent.
	attendInterval = time.Second
	// missedPause is between the end of a call that another agent kept open and the
	// first look whether its process is gone, and missedAgain from that to another.
	missedPause = 20 * time.Millisecond
	missedAgain = 200 * time.Millisecond
	// strangerLimit is how long an agent that never met a server looks for one
	// before it says so: resolvers give up on DNS after 5 s.
	strangerLimit = time.Second
	// reachLook is between two looks whether a DNS query waits for servers of which
	// none can be reached, and reachLooks how many in a row have to find that: enough
	// for a round of tries, and well below what resolvers wait.
	reachLook  = 100 * time.Millisecond
	reachLooks = 3
	// clusterLook is between two looks at which cluster this agent belongs to.
	clusterLook = 500 * time.Millisecond
	// strangerWait is how long a join waits until it is clear whether both sides are
	// of one cluster: for the ID of this one, and again for what the servers that
	// joined say. strangerLook is between two looks, and maxStrangers how many servers
	// are asked.
	strangerWait = 2 * time.Second
	strangerLook = 50 * time.Millisecond
	maxStrangers = 16
	// expectInterval is between two looks for the servers of a new cluster.
	expectInterval = 200 * time.Millisecond
	// aloneLook is how long a server in bootstrap mode that has addresses of others
	// looks for a cluster before it begins one, and aloneLimit how long at most if
	// some of them do not answer.
	aloneLook  = 3 * time.Second
	aloneLimit = 10 * time.Second
	// silentFor is how long a voter has answered nothing that counts as silent when
	// another one is to be removed: ten election timeouts.
	silentFor = 5 * time.Second
	// maxDisagree is how many servers a line of the log names that expect another
	// number of servers than this one.
	maxDisagree = 10
	// maxFounders is how many servers may begin a cluster together: more voters than
	// a handful make it slower, not safer. maxFoundingCall bounds what they ask each
	// other for that, in bytes.
	maxFounders     = 100
	maxFoundingCall = 1 << 20
	// maxPastPromises is how many first configurations a server may have promised
	// and given up: each is of servers that all saw each other for a moment.
	maxPastPromises = 64
	// statsLimit bounds the question to a server for what it is.
	statsLimit = time.Second
	// maxEncodedAnswer bounds one answer that is kept for the next agent that asks
	// the same, maxEncodedAnswers all of them, in bytes, and maxEncoded their number:
	// empty ones to made-up names are short.
	maxEncodedAnswer  = 4 << 20
	maxEncodedAnswers = 32 << 20
	maxEncoded        = 8192
	// maxLearnedAnswer bounds one answer of a server that an agent keeps,
	// maxLearnedBytes all of them, in bytes as they were sent, and maxLearned their
	// number. In memory they take about three times that.
	maxLearnedAnswer = 1 << 20
	maxLearnedBytes  = 8 << 20
	maxLearned       = 4096
	// pieceSize is how many bytes of a snapshot go from agent to agent at once.
	pieceSize = 256 << 10
	// maxArchive bounds an archive that is restored, in bytes: the state in it and
	// what stands around that.
	maxArchive = state.MaxArchiveState + 4<<20
	// pieceLimit is how long a server may take over one piece of an archive: a disk
	// that is slow has that time, a server that is gone not much more.
	pieceLimit = 30 * time.Second
	// maxUploads bounds how many archives may come in at once, maxUploadBytes all of
	// them, and uploadLimit how long one may stand still: who sends one is at it.
	maxUploads     = 4
	maxUploadBytes = 2 * maxArchive
	uploadLimit    = time.Minute
	// restoreLimit is how long a leader may take to restore an archive that it has,
	// and restoreTries how often one is sent to a leader that turns out not to lead.
	restoreLimit = 10 * time.Minute
	restoreTries = 3
	// mendInterval is between two looks whether this server's state is what the
	// others have, adoptLimit how long taking theirs over may take, and mendRepeat
	// the pause after which the log is told again of what keeps it from that.
	mendInterval = time.Second
	adoptLimit   = 10 * time.Minute
	mendRepeat   = time.Minute
	// maxRemembered is how many answers a client agent keeps for DNS, rememberFor
	// how long after somebody asked, rememberWait how long one question for a
	// change waits, and rememberRetry the pause after one that failed.
	maxRemembered = 4096
	rememberFor   = 10 * time.Minute
	// rememberNothing is how long, instead, it is kept that there is nothing.
	rememberNothing = 20 * time.Second
	rememberWait    = 5 * time.Minute
	// rememberLeast is the least that one question waits, however fresh answers have
	// to be.
	rememberLeast = time.Second
	rememberRetry = 500 * time.Millisecond
	// joinFirstRetry is the pause after the first attempt to join; it doubles up to
	// retry_interval.
	joinFirstRetry = time.Second
	// departLimit bounds how long an agent that leaves tells the others so, with
	// the hand-over of leadership: one that is cut off from them ends after that.
	departLimit = 3 * time.Second
	// leaveLimit bounds how long the others may take, once they know, to take a
	// server out of Raft.
	leaveLimit = 5 * time.Second
	// maxReplaced is how many tidings of a state that was replaced wait to be looked
	// at. Those beyond are dropped.
	maxReplaced = 16
	// roomInterval is between two looks whether the disk of this server is full.
	roomInterval = 500 * time.Millisecond
	// handoverLimit bounds handing leadership over.
	handoverLimit = 2 * time.Second
)
