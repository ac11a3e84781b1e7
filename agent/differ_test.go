package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Corrupt makes this server's state another than that of the others, as a fault of
// memory or of the program would.
func (a *Agent) Corrupt() error {
	var snapshot, offer bytes.Buffer
	view := a.machine.View()
	if err := state.WriteSnapshot(&snapshot, view); err != nil {
		return err
	}
	other := state.NewMachine()
	if err := other.Restore(io.NopCloser(&snapshot)); err != nil {
		return err
	}
	data, err := state.Encode(&kv.Set{Key: "corrupt", Value: []byte("1")}, view.At, mvcc.Origin{})
	if err != nil {
		return err
	}
	if r := other.Apply(&raft.Log{Index: view.Index + 1, Term: 1, Type: raft.LogCommand, Data: data}).(state.Result); r.Err != nil {
		return fmt.Errorf("cannot corrupt the state: %w", r.Err)
	}
	if err := other.Offer(&offer); err != nil {
		return err
	}
	return a.machine.Adopt(&offer)
}

// ProposeCheck has the others compare their state with this server's.
func (a *Agent) ProposeCheck(ctx context.Context) error {
	_, err := a.backend.apply(ctx, a.machine.Check())
	return err
}

// ProposeOther has all servers compare their state with one that none of them has.
func (a *Agent) ProposeOther(ctx context.Context) error {
	check := a.machine.Check()
	check.Hash.Lo++
	_, err := a.backend.apply(ctx, check)
	return err
}

// Differs reports whether this server knows that its state is another.
func (a *Agent) Differs() bool { return a.machine.Mismatch() != nil }
