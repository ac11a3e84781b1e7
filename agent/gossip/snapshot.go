package gossip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// snapshotMagic begins a snapshot file: it is followed by the checksum of the
// JSON on the next line.
const snapshotMagic = "muster gossip 1 "

// snapshotFile is what a member remembers over a restart.
type snapshotFile struct {
	Left    bool             `json:"left"`
	Saved   time.Time        `json:"saved"`
	Clock   uint64           `json:"clock"`
	Members []snapshotMember `json:"members"`
}

type snapshotMember struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	Meta    []byte         `json:"meta"`
	Status  Status         `json:"status"`
	Since   time.Time      `json:"since"`
	LeaveAt uint64         `json:"leave_at,omitempty"`
	AliveAt uint64         `json:"alive_at,omitempty"`
	Flags   byte           `json:"flags,omitempty"`
}

func (s *snapshotFile) encode() ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "%s%08x\n", snapshotMagic, crc32.ChecksumIEEE(body)), body...), nil
}

// decodeSnapshot reads what encode wrote.
func decodeSnapshot(b []byte) (*snapshotFile, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !bytes.HasPrefix(head, []byte(snapshotMagic)) {
		return nil, errors.New("it is no snapshot of gossip members")
	}
	if want := fmt.Sprintf("%s%08x", snapshotMagic, crc32.ChecksumIEEE(body)); want != string(head) {
		return nil, errors.New("its checksum is wrong")
	}
	var s snapshotFile
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, err
	}
	if len(s.Members) > maxMembers {
		return nil, fmt.Errorf("it has %d members, at most %d are possible", len(s.Members), maxMembers)
	}
	if s.Clock >= maxTime {
		return nil, fmt.Errorf("the time %d is beyond all clocks", s.Clock)
	}
	return &s, nil
}

// readSnapshot reads a snapshot file. There may be none.
func readSnapshot(path string) (*snapshotFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSnapshot {
		return nil, fmt.Errorf("it has more than %d bytes", maxSnapshot)
	}
	return decodeSnapshot(b)
}

// writeSnapshot replaces a snapshot file.
func writeSnapshot(path string, s *snapshotFile) (err error) {
	b, err := s.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// restore takes over what an earlier life of this agent knew. Nothing that is
// wrong with the file keeps the agent from starting.
func (p *Pool) restore() {
	if p.snapshot == "" {
		return
	}
	s, err := readSnapshot(p.snapshot)
	if err != nil {
		p.logger.Warn("ignored the file of gossip members known last: join one by hand if retry_join names none",
			"path", p.snapshot, "error", err)
		return
	}
	if s == nil || s.Left && !p.rejoinAfterLeave {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.clock, p.recent = s.Clock, now.Sub(s.Saved) < p.timing.LeftTimeout
	for _, m := range s.Members {
		tags, err := decodeMeta(m.Meta)
		if err != nil || m.Name == p.name || m.Name == "" || len(m.Name) > maxName || !m.Address.IsValid() {
			continue
		}
		if m.Status != Left && m.Address != p.addr {
			p.known = append(p.known, m)
		}
		if m.Status == Failed || m.Status == Left {
			p.adopt(&shared{
				name: m.Name, addr: m.Address.Addr(), port: m.Address.Port(), meta: m.Meta, status: m.Status,
				age: max(now.Sub(m.Since), 0), leaveAt: min(m.LeaveAt, s.Clock), aliveAt: min(m.AliveAt, s.Clock), flags: m.Flags,
			}, tags, now)
		}
	}
}

// adoptMissing counts as failed those of the snapshot who were alive and whom
// nobody knows: had they left, others would say so. The mutex is held.
func (p *Pool) adoptMissing(now time.Time) {
	for _, m := range p.known {
		tags, err := decodeMeta(m.Meta)
		if err != nil || !p.recent || p.table[m.Name] != nil || p.holder(tags.tags["id"]) != nil {
			continue
		}
		p.adopt(&shared{name: m.Name, addr: m.Address.Addr(), port: m.Address.Port(), meta: m.Meta, status: Failed}, tags, now)
	}
	p.known = nil
	p.dirty = true
}

// holder returns the member with a node ID. The mutex is held.
func (p *Pool) holder(id string) *record {
	for _, r := range p.table {
		if r.id == id {
			return r
		}
	}
	return nil
}

// saveIfDirty writes the snapshot if something changed since the last.
func (p *Pool) saveIfDirty() {
	if p.snapshot == "" {
		return
	}
	p.mu.Lock()
	if !p.dirty {
		p.mu.Unlock()
		return
	}
	p.dirty = false
	s := snapshotFile{Left: p.leaving, Saved: time.Now(), Clock: p.clock}
	for _, r := range p.table {
		if r.name == p.name {
			continue
		}
		s.Members = append(s.Members, snapshotMember{
			Name: r.name, Address: r.addrPort(), Meta: r.raw, Status: r.status, Since: r.since,
			LeaveAt: r.leaveAt, AliveAt: r.aliveAt, Flags: r.flags,
		})
	}
	// Those of the last run that nobody reached yet stay in the file.
	for _, m := range p.known {
		if p.table[m.Name] == nil {
			s.Members = append(s.Members, m)
		}
	}
	p.mu.Unlock()
	if err := writeSnapshot(p.snapshot, &s); err != nil {
		p.mu.Lock()
		p.dirty = true
		p.mu.Unlock()
		if ok, _ := p.limit.allow("snapshot", time.Now()); ok {
			p.logger.Warn("cannot write the file of known gossip members: a restart may need retry_join", "path", p.snapshot, "error", err)
		}
	}
}
