package agent

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
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

// saveThere passes an archive on that a server writes. Until the first piece of one
// has come, another server is asked, and the same again, for as long as requests are
// held: nothing was passed on yet.
func (a *Agent) saveThere(ctx context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
	for began := time.Now(); ; {
		var last error
		for _, id := range a.remote.servers() {
			begun, err := a.saveFrom(ctx, id, o, begin)
			switch {
			case err == nil:
				a.router.served(id)
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case begun || !elsewhere(err):
				return err
			}
			a.remote.failed(id)
			last = err
		}
		if time.Since(began) > a.remote.limit() {
			return a.remote.none(last)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// errSilent says that a server did not go on with an archive.
var errSilent = errors.New("nothing came of an archive")

// saveFrom passes on what one server writes, and tells whether any of it was. A
// server that says nothing for long is given up.
func (a *Agent) saveFrom(ctx context.Context, id string, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) (begun bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := a.remote.hold + callGrace
	silence := time.AfterFunc(first, func() {
		cancel(fmt.Errorf("%w from server %s for %v, or, at its beginning, for %v", errSilent, id, pieceLimit, first))
	})
	defer silence.Stop()
	var to io.Writer
	err = a.remote.calls.Query(ctx, id, &rpc.QueryRequest{From: a.id, Options: o, Query: []byte{callSave}}, func(r rpc.Reply) error {
		silence.Stop() // how long the client takes is not the server's fault
		if to == nil {
			to = begin(r.Meta)
		}
		_, err := to.Write(r.Body)
		silence.Reset(pieceLimit)
		return err
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return to != nil, err
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
	return a.restoreSomewhere(ctx, file)
}

// restoreSomewhere has the leader restore an archive. It is tried again, with
// another leader if there is one by then, only if it certainly did not begin.
func (a *Agent) restoreSomewhere(ctx context.Context, file spooled) error {
	find := a.statusLeader
	if a.config.Server {
		find = a.nextLeader
	}
	began := time.Now() // to look for a leader
	for tries := 1; ; {
		id, err := find(ctx)
		if err == nil {
			if id == a.id {
				err = a.restore(ctx, file)
			} else {
				err = a.restoreThere(ctx, id, file)
			}
			if err == nil || ctx.Err() != nil || !restoreAgain(err) || tries >= restoreTries {
				return err
			}
			began = time.Now()
			tries++
		} else if ctx.Err() != nil || !elsewhere(err) || time.Since(began) > a.remote.hold {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// notBegun marks the error of a restore that did not begin, and may do better at
// another try.
type notBegun struct{ error }

func (e notBegun) Unwrap() error { return e.error }

// restoreAgain reports whether a restore certainly did not begin, and may do better
// at another try.
func restoreAgain(err error) bool {
	var early notBegun
	switch mvcc.CodeOf(err) {
	case mvcc.NoLeader, mvcc.NotReady:
		return true
	}
	return errors.As(err, &early)
}

// nextLeader waits for a leader, which may be this server.
func (a *Agent) nextLeader(ctx context.Context) (string, error) {
	held, cancel := context.WithTimeout(ctx, a.config.RPCHoldTimeout)
	defer cancel()
	if err := a.backend.waitLeader(held); err != nil {
		return "", err
	}
	if a.node.Leading() {
		return a.id, nil
	}
	return a.backend.livingLeader()
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
// stays who it is. An error without a leader is one of a restore that did not begin.
func (a *Agent) restore(ctx context.Context, file spooled) error {
	if !a.node.Leading() {
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
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
	own, theirs := a.machine.View().Cluster(), view.Cluster()
	if err := state.WriteSnapshot(homed, view.Rehome(own)); err != nil {
		return fmt.Errorf("cannot keep an archive while it is restored: %w", err)
	}
	size, err := homed.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = homed.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	err = a.node.RestoreSnapshot(ctx, meta.Index, meta.Term, homed, size)
	log := a.part("server")
	// If it failed, it may have been done all the same.
	if err := a.tellReplaced(); err != nil {
		log.Warn("cannot tell the agents that the state was replaced: what they registered since comes back with their next comparison", "error", err)
	}
	if err != nil {
		return asError(err)
	}
	log.Info(PhraseRestored, "index", meta.Index, "taken", meta.At, "from_datacenter", meta.Datacenter, "from_cluster", hex.EncodeToString(theirs[:]))
	if own != theirs {
		log.Warn(PhraseForeign, "cluster", hex.EncodeToString(own[:]), "from_cluster", hex.EncodeToString(theirs[:]),
			"from_datacenter", meta.Datacenter, "from_servers", serversOf(meta))
	}
	return nil
}

// serversOf lists the addresses of the servers that an archive was taken of.
func serversOf(meta state.ArchiveMeta) string {
	var list []string
	for _, s := range meta.Configuration.Servers {
		list = append(list, s.Address)
	}
	return strings.Join(list, ", ")
}

// restoreThere sends an archive to a server, and has it restored.
func (a *Agent) restoreThere(ctx context.Context, id string, file spooled) error {
	token := newUUID()
	if err := a.upload(ctx, id, token, file); err != nil {
		if ctx.Err() == nil && elsewhere(err) {
			err = notBegun{err}
		}
		return err
	}
	limited, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	if a.config.Server {
		limited, cancel = a.backend.whileLeads(limited, id, operateGrace)
		defer cancel()
	}
	_, err := a.remote.call(limited, id, append([]byte{callRestore}, token...))
	if rpc.Unsent(err) || mvcc.CodeOf(err) == mvcc.Unknown { // the server may have been started anew
		return notBegun{err}
	}
	return a.remote.uncertainChange(ctx, id, err)
}

// upload sends an archive to a server.
func (a *Agent) upload(ctx context.Context, id, token string, file spooled) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buffer := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(file, buffer)
		if n > 0 {
			query := append(append([]byte{callUpload}, token...), buffer[:n]...)
			limited, cancel := context.WithTimeout(ctx, pieceLimit)
			_, err := a.remote.call(limited, id, query)
			cancel()
			if err != nil {
				return fmt.Errorf("cannot send an archive to server %s: %w", id, err)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return &mvcc.Error{Code: mvcc.Internal, Text: "cannot read an archive back: " + err.Error()}
		}
	}
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

// uploads are archives that come in pieces. One that nobody goes on with is let go
// by time.
type uploads struct {
	a *Agent

	mu     sync.Mutex
	closed bool
	open   map[string]*upload // by token
	held   int                // how many have a file, those that are being restored among them
	bytes  int64              // of all that have a file
}

// upload is one archive. Its file is used by one at a time.
type upload struct {
	size    int64 // what was taken, or is being written
	silence *time.Timer

	mu   sync.Mutex
	file *spooled // nil before the first piece, and once it was let go
	gone bool
}

// tokenLength is that of a UUID.
const tokenLength = 36

// take adds a piece to an upload, which the first piece begins.
func (u *uploads) take(body []byte, send func(rpc.Reply) error) error {
	if len(body) < tokenLength {
		return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("a piece of an archive has %d bytes and no token of %d", len(body), tokenLength)}
	}
	token, piece := string(body[:tokenLength]), body[tokenLength:]
	if u.a.node != nil && !u.a.node.Leading() {
		return &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	}
	it, err := u.admit(token, int64(len(piece)))
	size := int64(0)
	if err == nil {
		size, err = it.write(u.a, piece)
	}
	if err != nil {
		if it != nil {
			u.drop(token, it)
		}
		return err
	}
	return send(rpc.Reply{Body: binary.BigEndian.AppendUint64(nil, uint64(size))})
}

// admit finds room for a piece. The upload is nil if there is none of it yet.
func (u *uploads) admit(token string, size int64) (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	it := u.open[token]
	has := int64(0)
	if it != nil {
		has = it.size
	}
	switch {
	case u.closed:
		return it, &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the agent is shutting down"}
	case it == nil && u.held >= maxUploads:
		return it, &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("%d archives are being sent here, which is the limit: try again later", u.held)}
	case has+size > maxArchive:
		return it, &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("an archive has more than %d bytes, which is the limit", int64(maxArchive))}
	case u.bytes+size > maxUploadBytes:
		return it, &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("the archives that are being sent here have %d bytes, and %d are the limit: try again later", u.bytes, int64(maxUploadBytes))}
	}
	if it == nil {
		it = &upload{}
		it.silence = time.AfterFunc(uploadLimit, func() { u.drop(token, it) })
		if u.open == nil {
			u.open = map[string]*upload{}
		}
		u.open[token] = it
		u.held++
	}
	it.silence.Reset(uploadLimit)
	it.size += size
	u.bytes += size
	return it, nil
}

// write adds a piece to the file, which the first one makes.
func (it *upload) write(a *Agent, piece []byte) (int64, error) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.gone {
		return 0, errNoUpload
	}
	if it.file == nil {
		f, err := a.tempFile()
		if err != nil {
			return 0, err
		}
		it.file = &spooled{f}
	}
	if _, err := it.file.Write(piece); err != nil {
		return 0, fmt.Errorf("cannot keep an archive that is being sent here: %w", err)
	}
	return it.file.Seek(0, io.SeekCurrent)
}

// errNoUpload says that an archive was let go, or never came. Its kind is the one
// by which other agents know that nothing was restored.
var errNoUpload = &mvcc.Error{Code: mvcc.Unknown, Text: "no archive was sent here under this token, or too long ago"}

// claim takes an upload out, for one who drops it afterwards. Nobody else will.
func (u *uploads) claim(token string) *upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	it := u.open[token]
	if it == nil {
		return nil
	}
	it.silence.Stop()
	delete(u.open, token)
	return it
}

// drop lets go of an upload, unless somebody claimed it.
func (u *uploads) drop(token string, it *upload) {
	u.mu.Lock()
	mine := u.open[token] == it
	if mine {
		it.silence.Stop()
		delete(u.open, token)
	}
	u.mu.Unlock()
	if mine {
		u.release(it)
	}
}

// release gives back what an upload held that is no longer among the open ones.
func (u *uploads) release(it *upload) {
	it.mu.Lock()
	it.gone = true
	if it.file != nil {
		it.file.drop()
		it.file = nil
	}
	it.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held--
	u.bytes -= it.size
}

// close drops all.
func (u *uploads) close() error {
	u.mu.Lock()
	u.closed = true
	open := maps.Clone(u.open)
	u.mu.Unlock()
	for token, it := range open {
		u.drop(token, it)
	}
	return nil
}

// restored restores an archive that was uploaded.
func (a *Agent) restored(ctx context.Context, body []byte, send func(rpc.Reply) error) error {
	it := a.uploads.claim(string(body))
	if it == nil {
		return errNoUpload
	}
	defer a.uploads.release(it)
	it.mu.Lock()
	file := it.file
	it.mu.Unlock()
	if file == nil {
		return errNoUpload
	}
	if err := a.restore(ctx, *file); err != nil {
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
	if err := a.backend.trusted(); err != nil {
		return err
	}
	if len(body) == 8 {
		if err := a.node.WaitApplied(ctx, binary.BigEndian.Uint64(body)); err != nil {
			return asError(err)
		}
	}
	return a.machine.Offer(&pieces{send: send})
}
