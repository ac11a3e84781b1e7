package consensus

import (
	"fmt"
	"sync"
	"time"
)

// space is what a file system has, in bytes.
type space struct {
	free  int64 // for this user
	total int64
}

// room knows how much may be written to a file system before the reserve is
// touched that is kept for Raft's own records. A nil room has no limit.
type room struct {
	server  string // its name, for who reads of it at another agent
	dir     string
	reserve int64
	look    func(dir string) (space, error)

	mu     sync.Mutex
	looked time.Time
	left   int64 // how much may still be written before looking again
}

// reserveOf is the reserve on a file system: at most a share of it, so that a
// small one can be used at all.
func (r *room) reserveOf(s space) int64 { return min(r.reserve, s.total/maxReserveShare) }

// admit refuses a command of some bytes for which there is no room, with
// ErrFull. Inside are the bytes of all commands under way, this one among them:
// they are not on disk yet. It looks at the file system again when the last look
// is older than roomAge, or what it has seen is used up.
func (r *room) admit(bytes, inside int) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left >= int64(bytes) && time.Since(r.looked) < roomAge {
		r.left -= int64(bytes)
		return nil
	}
	seen, err := r.look(r.dir)
	if err != nil {
		return nil // whether the disk can be written to, the stores will say
	}
	reserve := r.reserveOf(seen)
	r.looked, r.left = time.Now(), seen.free-reserve-int64(inside)
	if r.left >= 0 {
		return nil
	}
	under := ""
	if seen.free >= reserve {
		under = fmt.Sprintf(", and writes of %s are under way", mebibytes(int64(inside)))
	}
	return fmt.Errorf("%w%s: %s has %s free, and a reserve of %s is kept for the server's own records%s; when there is more room, writes go on by themselves",
		ErrFull, r.where(), r.dir, mebibytes(seen.free), mebibytes(reserve), under)
}

// where names the server, if it has a name.
func (r *room) where() string {
	if r.server == "" {
		return ""
	}
	return " on server " + r.server
}

// Full says why no more commands can be written to the disk of this server, with
// ErrFull, or is nil.
func (n *Node) Full() error { return n.stores.room.admit(0, n.gate.inside()) }

// admitSnapshot refuses to write more of a snapshot, with ErrFull, when that
// would use up the part of the reserve that is for the log.
func (r *room) admitSnapshot() error {
	seen, err := r.look(r.dir)
	if err != nil {
		return nil
	}
	floor := r.reserveOf(seen) / logReserveShare
	if seen.free >= floor {
		return nil
	}
	return fmt.Errorf("%w for a snapshot%s: %s has %s free, and %s are kept for the log", ErrFull, r.where(), r.dir, mebibytes(seen.free), mebibytes(floor))
}

// mebibytes writes a number of bytes for people.
func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
