package gossip

import "time"

// Limits of the pool.
const (
	// maxMeta is the most bytes that the tags of a member may take as they are
	// sent: memberlist carries no more with a member.
	maxMeta = 512
	// maxTags is how many tags a member may have.
	maxTags = 64
	// maxName is the longest name of a member, and the longest node ID, in bytes.
	maxName = 255
	// maxPacket is the largest packet in bytes that is read. Ours have packetSize
	// at most, and somewhat more encrypted.
	maxPacket = 4 << 10
	// packetSize is the largest packet in bytes that is sent: it fits in one
	// frame of an Ethernet.
	packetSize = 1400
	// maxIndirect is how many probes on behalf of others are begun each second:
	// each takes a goroutine for a probe timeout.
	maxIndirect = 1024
	// maxMembers is how many members are known at once, those included that left
	// or failed and are still remembered.
	maxMembers = 1 << 16
	// maxShared is how many members that are gone are told of in an exchange of
	// state. The latest are.
	maxShared = 4096
	// maxStream is the most bytes that one stream may bring, 10,000 members and
	// some.
	maxStream = 8 << 20
	// maxStreamHeader is the most bytes before a stream has said how much it
	// brings.
	maxStreamHeader = 64
	// maxStreams is how many streams may be open towards this member. Beyond it
	// the one that has been open for longest is cut.
	maxStreams = 256
	// maxExchanges is how many of them memberlist works on at once. It refuses
	// those beyond 128, which this pool lets wait instead; one that waits for
	// exchangeWait has the oldest cut.
	maxExchanges = 96
	exchangeWait = time.Second
	// maxStreamBytes is what all streams together may have brought or promised
	// and not yet been taken.
	maxStreamBytes = 64 << 20
	// streamNodeBytes is what memory a member promised in a stream's header takes
	// before anything of it has come.
	streamNodeBytes = 128
	// headerLimit is how long a stream may take to say what it brings.
	headerLimit = 2 * time.Second
	// MaxEvent is the largest payload in bytes of an event, so that it fits in a
	// packet with other news.
	MaxEvent = 1024
	// maxEventsKept is how many events are remembered so that none is told twice.
	maxEventsKept = 4096
	// eventWindow is how far behind the newest event one may be and still be told.
	eventWindow = maxEventsKept / 2
	// maxEventQueue is how many events wait for the one who is told. Those beyond
	// it are dropped.
	maxEventQueue = 512
	// maxQueue is how many messages of ours wait to be gossiped. The oldest go
	// first.
	maxQueue = 4096
	// maxEarly is how many leaves of members not heard of yet are remembered, each
	// for earlyLimit.
	maxEarly   = 1024
	earlyLimit = 5 * time.Minute
	// maxDirect is in how large a pool urgent news is also sent to every member at
	// once, in packets.
	maxDirect = 512
	// directGap is before urgent news is sent a second time, since packets get
	// lost.
	directGap = 100 * time.Millisecond
	// maxProbes is how many broken connections are looked into at once. Those
	// beyond it are left to the ordinary probes.
	maxProbes = 256
	// watchGap is the least time between two pings of members that a server sends
	// by itself.
	watchGap = 20 * time.Millisecond
	// maxDoubts is how many members a server doubts at once: it pings each of them
	// twice in a probe timeout. Those beyond it are left to the ordinary probes.
	maxDoubts = 16
	// doubtAsked is how many members it asks to ping one of them, doubtPings times
	// each.
	doubtAsked = 5
	doubtPings = 3
	// doubtProbe is after how many of its own pings the server looks whether the
	// member's port refuses connections.
	doubtProbe = 4
	// maxJoin is how many addresses one join may name, and maxJoinExpanded how
	// many they may stand for.
	maxJoin         = 1024
	maxJoinExpanded = 4096
	// parallelJoins is how many of them are talked to at once.
	parallelJoins = 8
	// maxSnapshot is the largest snapshot file in bytes that is read.
	maxSnapshot = 64 << 20
	// snapshotInterval is between two looks whether the snapshot is to be
	// written anew.
	snapshotInterval = time.Second
	// reassertInterval is between two tries of a member that moved to be seen at
	// its new address, and reassertLimit how long it tries.
	reassertInterval = time.Second
	reassertLimit    = 2 * time.Minute
	// catchUpAfter is when, after a join, state is exchanged with another member
	// again, and as much later as chance has it: where many join at once, gossip
	// alone misses some, and the regular exchanges are far between.
	catchUpAfter = 2 * time.Second
	// partGrace is how long a member of another cluster that was let in hears
	// this one, after it was dropped, and shunFor how long then nothing goes to or
	// comes from it: memberlist takes some seconds to give it up, and keeps it for
	// another while.
	partGrace = 2 * time.Second
	shunFor   = 2 * time.Minute
	// maxLost is how many addresses of members of another cluster are remembered,
	// to be tried by a member that knows no server any more.
	maxLost = 256
	// meetSpread is over how long the members spread that are told to look whether
	// a life of another is over: all of them ask the same process.
	meetSpread = time.Second
	// movingLimit is how long a member that has left a cluster looks for those of
	// the one that it learns of, seekFirst how soon it begins, each pause being twice
	// the last one, seekTries how often, seekEach how many it asks each time, and
	// seekLimit how long each may take.
	movingLimit = time.Minute
	seekFirst   = 250 * time.Millisecond
	seekTries   = 7
	seekEach    = 4
	seekLimit   = 2 * time.Second
	// heardProbes is how many probe intervals before a leave a member may have been
	// heard last and still be there.
	heardProbes = 3
	// tagsLimit bounds how long new tags may take to leave this member.
	tagsLimit = time.Second
	// bindTries is how often the kernel is asked for a port that is free for both
	// UDP and TCP.
	bindTries = 16
	// logBurst lines of one kind are logged in each logInterval, the others only
	// counted.
	logBurst    = 4
	logInterval = 10 * time.Second
	// maxLogKinds is how many kinds of lines are counted apart.
	maxLogKinds = 1024
	// maxTime is beyond any count of events: a clock that far ahead is not
	// believed.
	maxTime = 1 << 62
	// maxAhead is how far a clock may be ahead of this member's and be believed.
	maxAhead = 1 << 32
)
