package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/muster-sd/muster/agent/leader"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv/mvcc"
)

// What an agent asks a server about the server itself, not about the state: the
// first byte of a query. Queries of the state have lower numbers. The numbers
// cross the wire: never reuse, never renumber.
const (
	callCommitted byte = 0xE0 // one byte: whether a quorum has to confirm; answered with 8 bytes
	callStats     byte = 0xE1 // answered with peerStats
	callAdmit     byte = 0xE2 // the nonce
	callAttend    byte = 0xE3 // stays open for as long as both sides live
	callOperate   byte = 0xE4 // an operation as JSON, for the leader
	callSave      byte = 0xE5 // an archive of the state, in pieces
	callUpload    byte = 0xE6 // a piece of an archive
	callRestore   byte = 0xE7 // an archive that was uploaded
	callState     byte = 0xE8 // a snapshot of the leader's view, in pieces
	callStatus    byte = 0xE9 // who leads, and who takes part
	callFound     byte = 0xEA // a question about the first configuration, as JSON
)

// firstCall is the lowest of these numbers.
const firstCall = callCommitted

// peerStats is what a server tells another of itself.
type peerStats struct {
	leader.ServerStats
	// Voters are the IDs of the configuration's voters, and Peers how many servers
	// it has.
	Voters []string
	Peers  int
	// Leader is the leader that is known there, or empty.
	Leader string
	// Cluster is the ID of its cluster, or empty while it is not known.
	Cluster string `json:",omitempty"`
}

// calls answers other agents.
type calls struct{ a *Agent }

// Apply carries out a command that another agent encoded.
func (c calls) Apply(ctx context.Context, r *rpc.ApplyRequest) ([]byte, error) {
	if err := c.a.backend.ours(r.Datacenter); err != nil {
		return nil, err
	}
	if err := c.a.backend.limits.admit(ctx, true); err != nil {
		return nil, err
	}
	// What the log could not be read with later is refused here.
	if err := state.CheckEntry(r.Command); err != nil {
		return nil, &mvcc.Error{Code: mvcc.Invalid, Text: err.Error()}
	}
	result, err := c.a.backend.applyBytes(ctx, r.Command, r.Forwarded)
	if err != nil {
		return nil, err
	}
	return state.EncodeResult(result)
}

// Query answers a query of the state, or about this server.
func (c calls) Query(ctx context.Context, r *rpc.QueryRequest, send func(rpc.Reply) error) error {
	if len(r.Query) == 0 {
		return &mvcc.Error{Code: mvcc.Invalid, Text: "an empty query"}
	}
	if r.Query[0] >= firstCall {
		return c.self(ctx, r, send)
	}
	if err := c.a.backend.ours(r.Options.Datacenter); err != nil {
		return err
	}
	if err := c.a.backend.limits.admit(ctx, false); err != nil {
		return err
	}
	q, err := state.DecodeQuery(r.Query)
	if err != nil {
		return &mvcc.Error{Code: mvcc.Invalid, Text: err.Error()}
	}
	value, meta, err := c.a.backend.answer(ctx, r.Options, q)
	if err != nil {
		return err
	}
	reply, err := c.reply(r, q, value, meta)
	if err != nil {
		return err
	}
	return send(reply)
}

// stampOf is what other agents know an answer by. Another run of this server counts
// its lines from the same number.
func (c calls) stampOf(meta mvcc.Meta) rpc.Stamp {
	return rpc.Stamp{Index: meta.Index, Line: meta.Line + c.a.encoded.thisRun()}
}

// reply makes the reply of an answer.
func (c calls) reply(r *rpc.QueryRequest, q, value any, meta mvcc.Meta) (rpc.Reply, error) {
	stamp := c.stampOf(meta)
	sent := meta
	sent.Line = stamp.Line
	if stamp == r.Have {
		return rpc.Reply{Meta: sent, Same: true}, nil
	}
	body, err := c.a.encoded.answer(r.Query, q, meta, value)
	return rpc.Reply{Meta: sent, Body: body}, err
}

// self answers what is asked about this server.
func (c calls) self(ctx context.Context, r *rpc.QueryRequest, send func(rpc.Reply) error) error {
	a, body := c.a, r.Query[1:]
	switch r.Query[0] {
	case callCommitted:
		index, err := a.node.ReadIndex(ctx, len(body) > 0 && body[0] == 1)
		if err != nil {
			return asReadError(err)
		}
		return send(rpc.Reply{Body: binary.BigEndian.AppendUint64(nil, index)})
	case callStats:
		return sendJSON(send, a.peerStats())
	case callAdmit:
		if err := a.node.Admit(string(body)); err != nil {
			return err
		}
		return send(rpc.Reply{})
	case callAttend:
		return a.attended(ctx, r.From, send)
	case callOperate:
		return a.operated(ctx, body, send)
	case callSave:
		return a.saved(ctx, r.Options, send)
	case callUpload:
		return a.uploads.take(body, send)
	case callRestore:
		return a.restored(ctx, body, send)
	case callState:
		return a.stateSent(ctx, body, send)
	case callStatus:
		return sendJSON(send, a.statusHere())
	case callFound:
		return a.founds(body, send)
	}
	return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("the call %#x needs a newer Muster", r.Query[0])}
}

// sendJSON answers with a value.
func sendJSON(send func(rpc.Reply) error, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return send(rpc.Reply{Body: b})
}

// readIndex asks the leader how far the log is committed.
func (r *remote) readIndex(ctx context.Context, to string, confirmed bool) (uint64, error) {
	flag := byte(0)
	if confirmed {
		flag = 1
	}
	var body []byte
	err := r.calls.Query(ctx, to, &rpc.QueryRequest{From: r.self, Forwarded: true, Short: true, Query: []byte{callCommitted, flag}}, func(got rpc.Reply) error {
		body = got.Body
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(body) != 8 {
		return 0, fmt.Errorf("server %s answered with %d bytes where 8 are an index", to, len(body))
	}
	return binary.BigEndian.Uint64(body), nil
}

// call asks one server about itself.
func (r *remote) call(ctx context.Context, to string, query []byte) ([]byte, error) {
	var body []byte
	err := r.calls.Query(ctx, to, &rpc.QueryRequest{From: r.self, Forwarded: true, Query: query}, func(got rpc.Reply) error {
		body = append(body, got.Body...)
		return nil
	})
	return body, err
}

// callJSON asks one server about itself and reads the answer into v.
func (r *remote) callJSON(ctx context.Context, to string, query []byte, v any) error {
	body, err := r.call(ctx, to, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("cannot read the answer of server %s: %w", to, err)
	}
	return nil
}

// peerStats is what this server tells others of itself.
func (a *Agent) peerStats() peerStats {
	s := a.node.Stats()
	out := peerStats{ServerStats: leader.ServerStats{
		Commit: s.CommitIndex, LastIndex: s.LastLogIndex, LastTerm: s.LastLogTerm, LastContact: a.node.LastContact(),
	}}
	out.Cluster = clusterText(a.cluster())
	if nonce, fresh := a.node.Fresh(); fresh {
		out.Fresh = nonce
	}
	for _, p := range a.node.Peers() {
		out.Peers++
		if p.Voter {
			out.Voters = append(out.Voters, p.ID)
		}
	}
	if id, ok := a.node.Leader(); ok {
		out.Leader = id
	}
	out.Full = a.node.Full() != nil
	return out
}

// statsOf asks a server how it is; of itself it knows.
func (a *Agent) statsOf(ctx context.Context, id string) (peerStats, error) {
	if id == a.id {
		return a.peerStats(), nil
	}
	var out peerStats
	err := a.remote.callJSON(ctx, id, []byte{callStats}, &out)
	return out, err
}

// attended holds a call open that another agent made to be missed: if it ends
// and the agent did not leave, its process may be gone.
func (a *Agent) attended(ctx context.Context, from string, send func(rpc.Reply) error) error {
	if err := send(rpc.Reply{More: true}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		a.missed(from)
		return ctx.Err()
	case <-a.closing:
		return &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the server is stopping"}
	}
}

// attend keeps a call open to each server that this agent is to be missed by: a
// server to all others, a client agent to the one that it asks. A call that
// breaks also makes this agent look after the server.
func (a *Agent) attend(ctx context.Context) error {
	changed, cancel := a.pool.Subscribe()
	defer cancel()
	open := map[string]*attendance{}
	defer func() {
		for _, call := range open {
			call.end()
		}
	}()
	broken := make(chan *attendance)
	look := time.NewTicker(attendInterval)
	defer look.Stop()
	for {
		wanted := a.attendees()
		for id, call := range open {
			if !wanted[id] {
				call.end()
				delete(open, id)
			}
		}
		for id := range wanted {
			if open[id] != nil {
				continue
			}
			callCtx, end := context.WithCancel(ctx)
			call := &attendance{id: id, end: end}
			open[id] = call
			go func() {
				a.attendOne(callCtx, id)
				select {
				case broken <- call:
				case <-ctx.Done():
				}
			}()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		case call := <-broken:
			if open[call.id] != call {
				continue // it was ended here, and there may be another one by now
			}
			call.end()
			delete(open, call.id)
			// What broke is tried again at the next look, or when members change.
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-look.C:
			}
		}
	}
}

// attendance is one call that is kept open to a server.
type attendance struct {
	id  string
	end context.CancelFunc
}

// attendees are the servers whose calls this agent keeps open.
func (a *Agent) attendees() map[string]bool {
	servers := a.router.servers()
	if !a.config.Server && len(servers) > 1 {
		servers = servers[:1]
	}
	out := map[string]bool{}
	for _, id := range servers {
		out[id] = true
	}
	return out
}

// attendOne keeps one call open until it breaks or ctx ends.
func (a *Agent) attendOne(ctx context.Context, id string) {
	answered := false
	err := a.rpcClient.Query(ctx, id, &rpc.QueryRequest{From: a.id, Query: []byte{callAttend}}, func(rpc.Reply) error {
		answered = true
		a.router.served(id)
		return nil
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		a.router.failed(id)
	}
	if answered && mvcc.CodeOf(err) != mvcc.ShuttingDown && a.config.Server {
		a.missed(id)
	}
}

// missed looks after the agent whose call broke. The sockets of a process that
// dies are closed one after the other, so its gossip port may still be open when
// its call ends: that is looked at a little later, and once more if it was.
func (a *Agent) missed(id string) {
	for _, pause := range []time.Duration{missedPause, missedAgain} {
		timer := time.NewTimer(pause)
		select {
		case <-a.closing:
			timer.Stop()
			return
		case <-timer.C:
			a.pool.Probe(id)
		}
	}
}
