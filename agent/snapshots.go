package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/kv/mvcc"
)

// archives saves the state as an archive, and restores one. What it cannot do
// here it has another server do.
type archives struct{ a *Agent }

var _ api.Snapshots = archives{}

// Save writes an archive of the state.
func (s archives) Save(ctx context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
	a := s.a
	if err := a.backend.ours(o.Datacenter); err != nil {
		return err
	}
	if a.config.Server {
		return a.save(ctx, o, begin)
	}
	return a.saveThere(ctx, o, begin)
}

// save writes an archive of a view of this server that is as new as o asks for.
func (a *Agent) save(ctx context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
	meta, view, err := a.backend.fresh(ctx, o)
	if err != nil {
		return err
	}
	meta.Index, meta.Line = max(view.Index, 1), view.Line()
	_, err = state.WriteArchive(&lateWriter{begin: func() io.Writer { return begin(meta) }}, view, a.archiveMeta())
	return err
}

// lateWriter begins with the first byte: what fails before that is an error like
// any other.
type lateWriter struct {
	begin func() io.Writer
	to    io.Writer
}

// Write writes on.
func (w *lateWriter) Write(b []byte) (int, error) {
	if w.to == nil {
		w.to = w.begin()
	}
	return w.to.Write(b)
}

// archiveMeta is what an archive says of where it was taken.
func (a *Agent) archiveMeta() state.ArchiveMeta {
	m := state.ArchiveMeta{
		Term: a.node.Stats().LastLogTerm, Muster: Version, Datacenter: a.config.Datacenter, ConfigurationIndex: a.node.PeersIndex(),
	}
	for _, p := range a.node.Peers() {
		suffrage := 0
		if !p.Voter {
			suffrage = 1
		}
		m.Configuration.Servers = append(m.Configuration.Servers, state.ArchiveServer{Suffrage: suffrage, ID: p.ID, Address: a.serverAddress(p.ID)})
	}
	return m
}

// saveThere passes an archive on that a server writes.
func (a *Agent) saveThere(ctx context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
	last := error(&mvcc.Error{Code: mvcc.NoLeader, Text: "No known Consul servers"})
	for _, id := range a.router.servers() {
		var to io.Writer
		last = a.rpcClient.Query(ctx, id, &rpc.QueryRequest{From: a.id, Options: o, Query: []byte{callSave}}, func(r rpc.Reply) error {
			if to == nil {
				to = begin(r.Meta)
			}
			_, err := to.Write(r.Body)
			return err
		})
		if last == nil || to != nil || !elsewhere(last) {
			return last
		}
		a.router.failed(id)
	}
	return last
}

// saved writes an archive for another agent.
func (a *Agent) saved(ctx context.Context, o mvcc.ReadOptions, send func(rpc.Reply) error) error {
	return a.save(ctx, o, func(m mvcc.Meta) io.Writer { return &pieces{meta: m, send: send} })
}

// pieces sends what is written to it on.
type pieces struct {
	meta mvcc.Meta
	send func(rpc.Reply) error
}

// Write sends one piece.
func (p *pieces) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n := min(len(b)-done, pieceSize)
		if err := p.send(rpc.Reply{Meta: p.meta, Body: append([]byte(nil), b[done:done+n]...), More: true}); err != nil {
			return done, err
		}
		done += n
	}
	return len(b), nil
}

// Restore replaces the state by that of an archive.
func (s archives) Restore(ctx context.Context, dc string, r io.Reader) error {
	a := s.a
	if err := a.backend.ours(dc); err != nil {
		return err
	}
	file, err := a.spool(r)
	if err != nil {
		return err
	}
	defer file.drop()
	if !a.config.Server {
		return a.restoreThere(ctx, "", file)
	}
	held, cancel := context.WithTimeout(ctx, a.config.RPCHoldTimeout)
	defer cancel()
	if err := a.backend.waitLeader(held); err != nil {
		return err
	}
	if id, ok := a.node.Leader(); !a.node.Leading() && ok && id != a.id {
		return a.restoreThere(ctx, id, file)
	}
	return a.restore(ctx, file)
}

// spooled is an archive that was checked and stands in a file of its own.
type spooled struct {
	*os.File
}

func (f spooled) drop() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// spool writes an archive to a file and checks it whole.
func (a *Agent) spool(r io.Reader) (spooled, error) {
	f, err := a.tempFile()
	if err != nil {
		return spooled{}, err
	}
	file := spooled{f}
	if _, err = io.Copy(f, r); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		if _, _, err = state.VerifyArchive(f, nil); err != nil {
			err = &mvcc.Error{Code: mvcc.Invalid, Text: err.Error()}
		}
	}
	if err != nil {
		file.drop()
		return spooled{}, err
	}
	return file, nil
}

// tempFile makes a file for what does not outlive the agent.
func (a *Agent) tempFile() (*os.File, error) {
	dir := ""
	if a.dir != nil {
		dir = a.dir.path
	}
	f, err := os.CreateTemp(dir, archiveFile+halfWritten)
	if err != nil {
		return nil, fmt.Errorf("cannot keep an archive while it is checked: %w", err)
	}
	return f, nil
}

// restore replaces the state by an archive's; the leader's own doing. The cluster
// stays who it is.
func (a *Agent) restore(ctx context.Context, file spooled) error {
	raw, err := a.tempFile()
	if err != nil {
		return err
	}
	homed := spooled{raw}
	defer homed.drop()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	meta, view, err := state.VerifyArchive(file, nil)
	if err != nil {
		return &mvcc.Error{Code: mvcc.Invalid, Text: err.Error()}
	}
	if err := state.WriteSnapshot(homed, view.Rehome(a.machine.View().Cluster())); err != nil {
		return fmt.Errorf("cannot keep an archive while it is restored: %w", err)
	}
	size, err := homed.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = homed.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	if err := a.node.RestoreSnapshot(ctx, meta.Index, meta.Term, homed, size); err != nil {
		return asError(err)
	}
	a.part("server").Info("the state was replaced by an archive's", "index", meta.Index, "taken", meta.At, "from_datacenter", meta.Datacenter)
	return nil
}

// restoreThere sends an archive to a server, and has it restored.
func (a *Agent) restoreThere(ctx context.Context, id string, file spooled) error {
	if id == "" {
		s, err := a.statusLeader(ctx)
		if err != nil {
			return err
		}
		id = s
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	token := newUUID()
	buffer := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(file, buffer)
		if n > 0 {
			query := append(append([]byte{callUpload}, token...), buffer[:n]...)
			if _, err := a.remote.call(ctx, id, query); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := a.remote.call(ctx, id, append([]byte{callRestore}, token...))
	return err
}

// statusLeader finds out for a client agent which server leads.
func (a *Agent) statusLeader(ctx context.Context) (string, error) {
	reply, err := a.remote.query(ctx, mvcc.ReadOptions{}, []byte{callStats})
	if err != nil {
		return "", err
	}
	var stats peerStats
	if err := json.Unmarshal(reply.Body, &stats); err != nil {
		return "", err
	}
	if stats.Leader == "" {
		return "", &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	return stats.Leader, nil
}

// uploads are archives that come in pieces.
type uploads struct {
	a *Agent

	mu   sync.Mutex
	open map[string]*upload
}

type upload struct {
	file spooled
	size int64
	seen time.Time
}

// tokenLength is that of a UUID.
const tokenLength = 36

// take adds a piece to an upload, which the first piece begins.
func (u *uploads) take(body []byte, send func(rpc.Reply) error) error {
	if len(body) < tokenLength {
		return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("a piece of an archive has %d bytes and no token of %d", len(body), tokenLength)}
	}
	token, piece := string(body[:tokenLength]), body[tokenLength:]
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire()
	it := u.open[token]
	if it == nil {
		if len(u.open) >= maxUploads {
			return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("%d archives are being sent here, which is the limit", maxUploads)}
		}
		f, err := u.a.tempFile()
		if err != nil {
			return err
		}
		it = &upload{file: spooled{f}}
		if u.open == nil {
			u.open = map[string]*upload{}
		}
		u.open[token] = it
	}
	it.seen = time.Now()
	if it.size+int64(len(piece)) > maxArchive {
		it.file.drop()
		delete(u.open, token)
		return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("an archive has more than %d bytes, which is the limit", int64(maxArchive))}
	}
	n, err := it.file.Write(piece)
	it.size += int64(n)
	if err != nil {
		return err
	}
	return send(rpc.Reply{Body: binary.BigEndian.AppendUint64(nil, uint64(it.size))})
}

// expire drops uploads that nobody goes on with. The caller holds the lock.
func (u *uploads) expire() {
	for token, it := range u.open {
		if time.Since(it.seen) > uploadLimit {
			it.file.drop()
			delete(u.open, token)
		}
	}
}

// close drops all.
func (u *uploads) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, it := range u.open {
		it.file.drop()
	}
	u.open = nil
	return nil
}

// restored restores an archive that was uploaded.
func (a *Agent) restored(ctx context.Context, body []byte, send func(rpc.Reply) error) error {
	a.uploads.mu.Lock()
	it := a.uploads.open[string(body)]
	delete(a.uploads.open, string(body))
	a.uploads.mu.Unlock()
	if it == nil {
		return &mvcc.Error{Code: mvcc.Unknown, Text: "no archive was sent here under this token, or too long ago"}
	}
	defer it.file.drop()
	if !a.node.Leading() {
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	if err := a.restore(ctx, it.file); err != nil {
		return err
	}
	return send(rpc.Reply{})
}

// stateSent sends the newest view, for a server that found its own to differ. The
// body is the index that the view must have reached.
func (a *Agent) stateSent(ctx context.Context, body []byte, send func(rpc.Reply) error) error {
	if !a.node.Leading() {
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	if len(body) == 8 {
		if err := a.node.WaitApplied(ctx, binary.BigEndian.Uint64(body)); err != nil {
			return asError(err)
		}
	}
	return a.machine.Offer(&pieces{send: send})
}

// mend watches for a state that is not what the others have, and takes the
// leader's over: the view, and by a new snapshot what is on disk. Log, term and
// vote stay.
func (a *Agent) mend(ctx context.Context) error {
	look := time.NewTicker(mendInterval)
	defer look.Stop()
	var said *state.Mismatch
	behind := false // whether the last offer was too old when it was here
	for {
		if m := a.machine.Mismatch(); m != nil {
			if m != said {
				a.part("server").Error(PhraseDiffers, "index", m.Index, "own_hash", m.Have.String(), "leader_hash", m.Want.String())
				said = m
			}
			err := a.adopt(ctx, behind)
			if behind = errors.Is(err, state.ErrBehind); err != nil {
				a.part("server").Error("cannot take the leader's state over yet", "error", err)
			} else {
				a.part("server").Warn("this server has the leader's state now, and answers again", "index", a.machine.View().Index)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// abdicate hands leadership over, if this server has it: what differs from the
// others must not become what they all take over.
func (a *Agent) abdicate(ctx context.Context) error {
	if !a.node.Leading() {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, handoverLimit)
	defer cancel()
	if err := a.node.TransferLeadership(limited, ""); err != nil {
		return fmt.Errorf("this server leads, and cannot hand that over: %w", err)
	}
	return a.backend.waitLeader(limited)
}

// check is the command by which others compare their state with this server's, or
// nil while that is known to differ.
func (a *Agent) check() *state.CheckHash {
	if a.machine.Mismatch() != nil {
		return nil
	}
	return a.machine.Check()
}

// adopt replaces this server's state by the leader's. If held is set, this server's
// log waits until that is here.
func (a *Agent) adopt(ctx context.Context, held bool) error {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	if err := a.abdicate(ctx); err != nil {
		return err
	}
	id, ok := a.node.Leader()
	if !ok || id == a.id {
		return errors.New("no other server leads")
	}
	query := binary.BigEndian.AppendUint64([]byte{callState}, a.node.Stats().AppliedIndex)
	reader, writer := io.Pipe()
	go func() {
		err := a.rpcClient.Query(ctx, id, &rpc.QueryRequest{From: a.id, Query: query}, func(r rpc.Reply) error {
			_, err := writer.Write(r.Body)
			return err
		})
		_ = writer.CloseWithError(err) // nil is the end
	}()
	take := a.machine.Adopt
	if held {
		take = a.machine.AdoptHeld
	}
	err := take(reader)
	_ = reader.Close()
	if err != nil {
		return err
	}
	// Two snapshots are kept: the one with the old state goes with the second.
	return errors.Join(a.node.TakeSnapshot(ctx), a.node.TakeSnapshot(ctx))
}
