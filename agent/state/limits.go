package state

// Limits of the formats on disk and of what is remembered.
const (
	// MaxHistoryChanges is how many changed rows the history keeps.
	MaxHistoryChanges = 16_384
	// MaxHistoryBytes is how many bytes of changed rows, with what it costs to
	// keep the views between them, the history keeps.
	MaxHistoryBytes = 32 << 20
	// changeOverhead is what a changed row costs beyond its encoded bytes: the
	// path to it that the views before and after do not share. Measured over a
	// million writes.
	changeOverhead = 2 << 10
	// maxRow bounds a row of a snapshot in bytes: well above the largest body
	// that any endpoint takes, and a bound on what a damaged file can allocate.
	maxRow = 64 << 20
	// blockSize is how many bytes of rows share one checksum.
	blockSize = 64 << 10
	// maxOriginField bounds each text of an origin in bytes; longer ones are cut.
	maxOriginField = 255
	// maxKeptBuffer bounds in bytes what an encoder of commands that waits for the
	// next one may hold, so that a large value is not paid for ever after.
	maxKeptBuffer = 64 << 10
	// maxHashes is how many state hashes are remembered to be compared: well
	// beyond the history, so that a check of some minutes ago finds its own, at 24
	// bytes each.
	maxHashes = 1 << 16
	// MaxArchiveState bounds the state in an archive in bytes, written and read:
	// it is held in memory as a whole, beside the one that it replaces, and a few
	// kilobytes could otherwise unfold to any size.
	MaxArchiveState = 1 << 30
	// maxArchiveMeta bounds meta.json of an archive in bytes: room for thousands of
	// servers.
	maxArchiveMeta = 1 << 20
	// maxArchiveSums bounds SHA256SUMS of an archive in bytes: two lines.
	maxArchiveSums = 4 << 10
	// maxArchiveTail bounds in bytes what may stand behind the last file of an
	// archive: a tar is filled up to whole records, of 10 KiB by most programs.
	maxArchiveTail = 64 << 10
	// maxFirstRows and maxFirstPairs are how many elements of a list or a map are
	// made room for before they were seen: a damaged length costs no more.
	maxFirstRows  = 1024
	maxFirstPairs = 64
	// maxKeptPack bounds in bytes what a packer that waits for the next answer may
	// hold: room for a service of a thousand instances.
	maxKeptPack = 1 << 20
	// maxSlab is how many rows of an answer are made at once. One that is kept
	// keeps the others.
	maxSlab = 64
	// maxDepth is how deep the values of an unknown field may be nested.
	maxDepth = 32
	// MaxWhyChanges is how many changes of one instance are told: those of an
	// evening, in a list that can be read.
	MaxWhyChanges = 20
	// MaxWhyGone is how many instances that are gone are told of a service, so that
	// one whose instances come and go all day has an answer of bounded size.
	MaxWhyGone = 20
	// MaxWhyText is how long a text in a change is, in bytes: what a check said, or
	// the tags before and after.
	MaxWhyText = 512
	// historyChunk is how many steps are taken out of the history at once: while
	// they are, no command is applied.
	historyChunk = 256
)
