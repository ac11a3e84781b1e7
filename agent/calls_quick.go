package agent

import (
	"context"
	"encoding/binary"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

var _ rpc.QuickHandler = calls{}

// Quick answers how far the log is committed, if this server leads and no quorum
// has to say so, and what costs next to nothing to read from a view that is new
// enough as it is.
func (c calls) Quick(r *rpc.QueryRequest) (rpc.Reply, rpc.Pace) {
	if len(r.Query) == 2 && r.Query[0] == callCommitted && r.Query[1] == 0 && c.a.node.Leading() {
		index, err := c.a.node.ReadIndex(over, false)
		if err != nil {
			return rpc.Reply{}, rpc.Alone
		}
		return rpc.Reply{Body: binary.BigEndian.AppendUint64(nil, index)}, rpc.Quick
	}
	b := c.a.backend
	if r.Options.Index > 0 || !state.IsLookup(r.Query) || !b.limits.off() || b.ours(r.Options.Datacenter) != nil {
		return rpc.Reply{}, rpc.Alone
	}
	meta, view := b.newest(r.Options)
	switch {
	case view == nil && r.Options.Mode == mvcc.Default && b.follows():
		return rpc.Reply{}, rpc.Together
	case view == nil:
		return rpc.Reply{}, rpc.Alone
	}
	return c.look(r, meta, view)
}

// look answers a query from a view if that costs next to nothing: one entry, or a
// list that was encoded before, or that the asker has.
func (c calls) look(r *rpc.QueryRequest, meta mvcc.Meta, view *state.View) (rpc.Reply, rpc.Pace) {
	q, err := state.DecodeQuery(r.Query)
	if err != nil {
		return rpc.Reply{}, rpc.Alone
	}
	if get, ok := q.(*kv.Get); ok {
		a, err := view.Answer(get, nil)
		if err != nil {
			return rpc.Reply{}, rpc.Alone
		}
		meta.Index, meta.Line = a.Index, view.Line()
		return c.quickReply(r, q, a.Value, meta)
	}
	a, ok := c.a.backend.memo.recall(view, q)
	if !ok {
		return rpc.Reply{}, rpc.Alone
	}
	meta.Index, meta.Line = a.Index, view.Line()
	if _, ok := c.a.encoded.of(r.Query, meta); !ok && c.stampOf(meta) != r.Have {
		return rpc.Reply{}, rpc.Alone // a long list is not encoded while others wait
	}
	return c.quickReply(r, q, a.Value, meta)
}

func (c calls) quickReply(r *rpc.QueryRequest, q, value any, meta mvcc.Meta) (rpc.Reply, rpc.Pace) {
	reply, err := c.reply(r, q, value, meta)
	if err != nil {
		return rpc.Reply{}, rpc.Alone
	}
	return reply, rpc.Quick
}

// Together has those who ask a follower at once wait together until it has what the
// leader committed.
func (c calls) Together(ctx context.Context, all []*rpc.QueryRequest, answer func(i int, r rpc.Reply)) {
	b := c.a.backend
	if b.trusted() != nil || b.catchUp(ctx) != nil || b.trusted() != nil {
		return
	}
	meta := mvcc.Meta{Mode: mvcc.Default, KnownLeader: true, LastContact: b.node.LastContact()}
	view := b.machine.View()
	for i, r := range all {
		if reply, pace := c.look(r, meta, view); pace == rpc.Quick {
			answer(i, reply)
		}
	}
}
