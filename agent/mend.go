package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
)

// mender watches for a state that is not what the others have, and takes the
// leader's over: the view, and by a new snapshot what is on disk. Log, term and
// vote stay.
type mender struct {
	mismatch func() *state.Mismatch
	accept   func(*state.Mismatch) bool
	alone    func() bool
	adopt    func(ctx context.Context, held bool) error
	save     func(context.Context) error
	log      *slog.Logger

	said    *state.Mismatch // what the log was told of
	behind  bool            // whether the last offer was too old when it was here
	unsaved bool            // whether the state that was taken over is not on disk yet
	again   time.Time       // when to try to save it, and the pause that led to that
	pause   time.Duration
	trouble string // what went wrong last, and when the log was told
	told    time.Time
}

// mend runs a mender.
func (a *Agent) mend(ctx context.Context) error {
	m := &mender{
		mismatch: a.machine.Mismatch, accept: a.machine.Accept, alone: a.alone, adopt: a.adopt, save: a.renewSnapshots, log: a.part("server"),
	}
	look := time.NewTicker(mendInterval)
	defer look.Stop()
	for {
		m.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// look does what is to be done now.
func (m *mender) look(ctx context.Context) {
	if found := m.mismatch(); found != nil {
		if found != m.said {
			m.log.Error(PhraseDiffers, "index", found.Index, "own_hash", found.Have.String(), "leader_hash", found.Want.String())
			m.said = found
		}
		if m.alone() {
			// To refuse everything for ever would help nobody: there is no other state.
			if m.accept(found) {
				m.log.Error(PhraseGoesOn, "index", found.Index, "own_hash", found.Have.String(), "former_hash", found.Want.String())
			}
			return
		}
		err := m.adopt(ctx, m.behind)
		m.behind = errors.Is(err, state.ErrBehind)
		if err != nil {
			m.complain("cannot take the leader's state over yet", err)
			return
		}
		m.unsaved, m.again, m.pause = true, time.Time{}, mendInterval
		m.log.Warn("this server has the leader's state now, and answers again")
	}
	if !m.unsaved || time.Now().Before(m.again) {
		return
	}
	// Until it is on disk, a restart would bring back what differs.
	if err := m.save(ctx); err != nil {
		m.pause = min(2*m.pause, mendRepeat)
		m.again = time.Now().Add(m.pause)
		m.complain("the leader's state was taken over, but cannot be saved yet", err)
		return
	}
	m.unsaved, m.trouble = false, ""
	m.log.Info("the leader's state is on disk")
}

// complain tells the log what goes wrong: once, and again every now and then.
func (m *mender) complain(what string, err error) {
	if errors.Is(err, context.Canceled) {
		return // the agent ends
	}
	if trouble := what + err.Error(); trouble != m.trouble || time.Since(m.told) >= mendRepeat {
		m.trouble, m.told = trouble, time.Now()
		m.log.Error(what, "error", err)
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
	return err
}

// renewSnapshots puts the state that was taken over on disk. Two snapshots are kept:
// the one with the old state goes with the second.
func (a *Agent) renewSnapshots(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	return errors.Join(a.node.TakeSnapshot(ctx), a.node.TakeSnapshot(ctx))
}

// alone reports whether this server leads and is the only one that votes: then no
// other can lead, and there is no state but its own.
func (a *Agent) alone() bool {
	for _, p := range a.node.Peers() {
		if p.Voter && p.ID != a.id {
			return false
		}
	}
	return a.node.Leading()
}
