package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"

	"github.com/muster-sd/muster/kv/mvcc"
)

// This file holds what servers do to find out whether their states are equal,
// and to make them so again.

// Mismatch says that this server's state is not what another server's is.
type Mismatch struct {
	// Index is the Raft index at which the states differ.
	Index uint64
	// Want is the state hash of the server that proposed the check, and Have this
	// server's own.
	Want, Have mvcc.Sum
}

// Error names both hashes and the index.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("this server's state differs from the leader's at index %d: its hash is %s, the leader's %s", m.Index, m.Have, m.Want)
}

// Mismatch returns what the first check found that did not hold, or nil while
// all did. A server with a mismatch must not answer.
func (m *Machine) Mismatch() *Mismatch { return m.mismatch.Load() }

// Accept goes on with this server's state although a check of it did not hold, if
// found is still what the first one found: for a server that is the only one.
func (m *Machine) Accept(found *Mismatch) bool { return m.mismatch.CompareAndSwap(found, nil) }

// Check returns the command that lets the others compare their state with this
// one. Its index is that of the last log entry, which need not have changed
// anything. Directly after a restore it is one that is compared by nobody.
func (m *Machine) Check() *CheckHash {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &CheckHash{Index: m.applied, Hash: m.view.Load().sum}
}

// check compares this server's own hash at the very index of a check with the
// one that the check carries. It returns what it found if that is the first
// mismatch.
func (m *Machine) check(c *CheckHash, at uint64) *Mismatch {
	have, ok := m.hashes.at(c.Index)
	if !ok || c.Index >= at || have == c.Hash || m.mismatch.Load() != nil {
		return nil
	}
	found := &Mismatch{Index: c.Index, Want: c.Hash, Have: have}
	m.mismatch.Store(found)
	return found
}

// hashMemory remembers the state hash as of each of the last indexes, also of
// those whose view is forgotten. It knows nothing of the time before the state
// was last replaced: an index before that may stand for other contents.
type hashMemory struct {
	ring  []indexedSum // ordered by index from next on, when it is full
	next  int          // where the oldest stands once the ring is full
	first uint64       // the first index that can be asked for; zero: none yet
	limit int          // how many there may be: maxHashes, less in tests
}

type indexedSum struct {
	index uint64
	sum   mvcc.Sum
}

// reset forgets all but the hash of v. Which log indexes it is the hash of
// shows at the next entry.
func (h *hashMemory) reset(v *View) {
	*h = hashMemory{ring: []indexedSum{{0, v.sum}}, limit: h.limit}
}

// begin notes that the entry of an index is about to be applied.
func (h *hashMemory) begin(index uint64) {
	if h.first == 0 {
		h.first = index
	}
}

// add remembers the hash after the command of an index.
func (h *hashMemory) add(index uint64, sum mvcc.Sum) {
	switch {
	case h.ring[h.newest()].sum == sum:
	case len(h.ring) < h.limit:
		h.ring = append(h.ring, indexedSum{index, sum})
	default:
		h.ring[h.next] = indexedSum{index, sum}
		h.next = (h.next + 1) % len(h.ring)
	}
}

func (h *hashMemory) newest() int { return (h.next + len(h.ring) - 1) % len(h.ring) }

// at returns the hash as of an index, if it is known.
func (h *hashMemory) at(index uint64) (mvcc.Sum, bool) {
	if h.first == 0 || index < h.first {
		return mvcc.Sum{}, false
	}
	i := sort.Search(len(h.ring), func(i int) bool { return h.ring[(h.next+i)%len(h.ring)].index > index }) - 1
	if i < 0 {
		return mvcc.Sum{}, false
	}
	return h.ring[(h.next+i)%len(h.ring)].sum, true
}

// The form of an offer, all numbers big-endian: a snapshot behind the index of
// the last log entry that it holds, which may be above that of the last entry
// that changed something.
//
//	magic 8, form 1, index 8, CRC32C of these 4, snapshot
const (
	offerMagic       = "MUSTEROF"
	offerForm   byte = 1
	offerHeader      = len(offerMagic) + 1 + 8
)

// Offer writes the newest view for another server to adopt.
func (m *Machine) Offer(w io.Writer) error {
	m.mu.Lock()
	view, applied := m.view.Load(), m.applied
	m.mu.Unlock()
	head := append(make([]byte, 0, offerHeader+4), offerMagic...)
	head = append(head, offerForm)
	head = binary.BigEndian.AppendUint64(head, max(applied, view.Index))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	if _, err := w.Write(head); err != nil {
		return err
	}
	return WriteSnapshot(w, view)
}

// ErrBehind says that an offered state is older than this server's own, whose
// log would not bring what lies between. A later offer will do.
var ErrBehind = errors.New("the offered state is behind this server's log")

// Adopt replaces the state by what another server offers, see [Machine.Offer],
// while the log goes on. All who wait are woken. Log entries up to the view's
// index are passed over from then on, also after a restart from a snapshot that
// was taken since. Until one is taken, a restart brings the old state back. An
// offer that is damaged, of another cluster, or behind the log ([ErrBehind])
// changes nothing.
func (m *Machine) Adopt(r io.Reader) error { return m.adopt(r, false) }

// AdoptHeld is Adopt, but no log entry is applied while the offer is read. Where the
// log goes on faster than offers come, all of them would be behind it.
func (m *Machine) AdoptHeld(r io.Reader) error { return m.adopt(r, true) }

func (m *Machine) adopt(r io.Reader, held bool) error {
	in := bufio.NewReaderSize(r, blockSize)
	head := make([]byte, offerHeader+4)
	if n, err := io.ReadFull(in, head); err != nil {
		return fmt.Errorf("cannot read an offered state: its header ends after %d of %d bytes: %w", n, len(head), err)
	}
	if string(head[:len(offerMagic)]) != offerMagic {
		return errors.New("this is not an offered state: it does not begin with " + offerMagic)
	}
	if form := head[len(offerMagic)]; form != offerForm {
		return fmt.Errorf("an offered state of form %d needs a newer Muster: this one knows form %d", form, offerForm)
	}
	if crc32.Checksum(head[:offerHeader], castagnoli) != binary.BigEndian.Uint32(head[offerHeader:]) {
		return errors.New("damaged offered state: the checksum of its header does not hold")
	}
	asOf := binary.BigEndian.Uint64(head[len(offerMagic)+1:])
	if held {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	view, err := ReadSnapshot(in)
	if err != nil {
		return err
	}
	if asOf < view.Index {
		return fmt.Errorf("damaged offered state: it says that it holds the log up to %d and stands at index %d", asOf, view.Index)
	}

	if !held {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	old := m.view.Load()
	if own, offered := old.Cluster(), view.Cluster(); own != (ClusterID{}) && own != offered {
		return fmt.Errorf("the offered state is that of cluster %x, this server's is %x", offered, own)
	}
	if have := max(m.applied, old.Index); asOf < have {
		return fmt.Errorf("%w: it holds the log up to %d, this server has applied %d", ErrBehind, asOf, have)
	}
	m.replace(view)
	m.applied = asOf
	// The hash is that of the offered index, whatever this server's log does next.
	m.hashes.begin(asOf)
	return nil
}
