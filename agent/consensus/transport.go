package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// transport stands between Raft and its network transport, and adds what Raft
// leaves out.
//
//   - A leader sends neither entries nor heartbeats while its disk hangs. Raft
//     sends heartbeats from goroutines that know nothing of the disk, so its
//     followers would wait for it for ever.
//   - Answered heartbeats make the leader's lease, and a server that has answered
//     one grants no vote, and asks for none, for the election timeout after it.
//     Raft's own rule forgets it when the server is started again.
//   - A fresh server takes part in no election, and says so in its answers, so that
//     a leader of whose configuration it is a voter does not count them.
//   - The election that skips the check for a living leader begins only if the
//     leader of the term asks for it, and soon after it was heard of.
type transport struct {
	*raft.NetworkTransport
	id     string
	stores *stores
	lease  *lease
	fresh  *freshness
	wait   time.Duration // no vote for so long after a heartbeat
	clock  func() time.Duration

	raft  *raft.Raft    // may be used when ready is closed
	ready chan struct{} // closed when Raft has been started

	consumer chan raft.RPC
	stopping <-chan struct{} // closed when Raft has ended

	// heard is when a leader was last heard of, or the node was opened.
	heard atomic.Int64
	// vote, if it is not nil, is closed when Raft has answered the request for a
	// vote that it was given. Heartbeats pass Raft's queue by: one that came while
	// the vote is on its way to the disk would be answered as if there were none,
	// and the leader that sent it count on a server that the next one counts on
	// too. So they wait. It changes, and heartbeats are noted, under voting.
	voting sync.Mutex
	vote   chan struct{}
	// commits is told what is sent, and what of it has come.
	commits *commits
	// handedOver is the term in which this leader has told another server to
	// take over, and may have been heard.
	handedOver atomic.Uint64
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
)

// newTransport returns the transport of a node. If it remembers something, it
// may have answered a leader before it was opened.
func newTransport(n *Node, logger hclog.Logger, remembers bool) *transport {
	t := &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  newStreamLayer(n.cfg.Stream, n.cfg.ID),
			MaxPool:                 pooledConnections,
			Timeout:                 transportTimeout,
			Logger:                  logger,
			MsgpackUseNewTimeFormat: true,
		}),
		id: n.cfg.ID, stores: n.stores, lease: n.lease, fresh: n.fresh, wait: n.cfg.timeout(), clock: n.clock,
		ready: make(chan struct{}), consumer: make(chan raft.RPC), stopping: n.ended,
	}
	t.commits = newCommits(t)
	if !remembers {
		t.heard.Store(int64(never))
	}
	return t
}

// freshAnswer stands in the header of the answers of a fresh server, where the
// sender's address would.
const freshAnswer = "fresh"

// handOver begins what stands there in a hand-over of leadership; the term
// follows.
const handOver = "hand-over\x00"

// refusedHandOver begins the answer of a server that does not take over.
const refusedHandOver = "the hand-over of leadership is refused"

var (
	errFresh = errors.New("this server is fresh: it takes part in no election until it is admitted")
	errHeard = errors.New("a leader was heard of a moment ago")
)

// Consumer returns the calls of others.
func (t *transport) Consumer() <-chan raft.RPC { return t.consumer }

// run hands the calls of others to Raft, apart from those that it is not to
// see, until Raft ends.
func (t *transport) run() {
	for {
		select {
		case call := <-t.NetworkTransport.Consumer():
			t.pass(call)
		case <-t.stopping:
			return
		}
	}
}

// pass hands on one call.
func (t *transport) pass(call raft.RPC) {
	switch request := call.Command.(type) {
	case *raft.RequestVoteRequest:
		if !t.beginVote(request) {
			call.Respond(&raft.RequestVoteResponse{RPCHeader: t.header(), Term: t.raft.CurrentTerm()}, nil)
			return
		}
		call.RespChan = t.voted(call.RespChan)
	case *raft.RequestPreVoteRequest:
		if t.promised() || t.isFresh() {
			call.Respond(&raft.RequestPreVoteResponse{RPCHeader: t.header(), Term: t.raft.CurrentTerm()}, nil)
			return
		}
	case *raft.TimeoutNowRequest:
		if err := t.checkHandOver(request); err != nil {
			call.Respond(&raft.TimeoutNowResponse{RPCHeader: t.header()}, err)
			return
		}
	case *raft.AppendEntriesRequest:
		t.hear(request.Term)
		call.RespChan = t.marked(call.RespChan)
	case *raft.InstallSnapshotRequest:
		t.hear(request.Term)
		call.RespChan = t.marked(call.RespChan)
	}
	select {
	case t.consumer <- call:
	case <-t.stopping:
	}
}

// inject gives Raft a call of our own and returns what it answers.
func (t *transport) inject(command any) {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.consumer <- raft.RPC{Command: command, RespChan: answer}:
	case <-t.stopping:
		return
	}
	select {
	case <-answer:
	case <-t.stopping:
	}
}

// forgottenIndex is an entry that no log has.
const forgottenIndex = ^uint64(0)

// forget makes Raft a follower that knows no leader, in the term that it is in,
// as if it had just lost one. Raft has no call for that; but a leader without a
// name, whose last entry is unknown here, has that effect and no other.
func (t *transport) forget(term uint64) {
	t.inject(&raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
		Term:      term, PrevLogEntry: forgottenIndex,
	})
}

// SetHeartbeatHandler takes Raft's handler of heartbeats, which are not queued
// behind other calls.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		t.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	t.NetworkTransport.SetHeartbeatHandler(func(call raft.RPC) {
		select {
		case <-t.ready:
		case <-t.stopping:
			return
		}
		if request, ok := call.Command.(*raft.AppendEntriesRequest); ok {
			t.hearHeartbeat(request.Term)
		}
		call.RespChan = t.marked(call.RespChan)
		handle(call)
	})
}

// hear notes that the leader of a term is there, before anybody can know that it
// was answered.
func (t *transport) hear(term uint64) {
	if term >= t.raft.CurrentTerm() {
		t.heard.Store(int64(t.clock()))
	}
}

// promised reports whether a leader was heard of so lately that it may still
// count on this server.
func (t *transport) promised() bool {
	heard := t.heard.Load()
	return heard >= 0 && t.clock()-time.Duration(heard) < t.wait
}

func (t *transport) isFresh() bool {
	_, fresh := t.fresh.get()
	return fresh
}

func (t *transport) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.id), Addr: []byte(t.id)}
}

// marked returns a channel for an answer. That of a fresh server is marked as
// such and handed on.
func (t *transport) marked(to chan<- raft.RPCResponse) chan<- raft.RPCResponse {
	if !t.isFresh() {
		return to
	}
	from := make(chan raft.RPCResponse, 1)
	go func() {
		select {
		case answer := <-from:
			switch response := answer.Response.(type) {
			case *raft.AppendEntriesResponse:
				response.Addr = []byte(freshAnswer)
			case *raft.InstallSnapshotResponse:
				response.Addr = []byte(freshAnswer)
			}
			to <- answer // which has room
		case <-t.stopping:
		}
	}()
	return from
}

// beginVote reports whether Raft may be asked for a vote, and notes that it is.
func (t *transport) beginVote(request *raft.RequestVoteRequest) bool {
	t.locked() // the one before was answered
	defer t.voting.Unlock()
	if !request.LeadershipTransfer && t.promised() || t.isFresh() {
		return false
	}
	t.vote = make(chan struct{})
	return true
}

// hearHeartbeat notes that the leader of a term is there, when no vote is under
// way.
func (t *transport) hearHeartbeat(term uint64) {
	t.locked()
	defer t.voting.Unlock()
	t.hear(term)
}

// locked takes the lock of voting when no vote is under way, or Raft has ended.
func (t *transport) locked() {
	for {
		t.voting.Lock()
		vote := t.vote
		if vote == nil {
			return
		}
		t.voting.Unlock()
		<-vote
	}
}

// voted returns a channel for the answer to a request for a vote, which is handed
// on, and ends the vote with it.
func (t *transport) voted(to chan<- raft.RPCResponse) chan<- raft.RPCResponse {
	from := make(chan raft.RPCResponse, 1)
	go func() {
		select {
		case answer := <-from:
			to <- answer // which has room
		case <-t.stopping:
		}
		t.voting.Lock()
		defer t.voting.Unlock()
		close(t.vote)
		t.vote = nil
	}()
	return from
}

// checkHandOver checks that it is the leader of the term that asks this server
// to take over, and not a message that was long under way.
func (t *transport) checkHandOver(request *raft.TimeoutNowRequest) error {
	text, ok := strings.CutPrefix(string(request.Addr), handOver)
	if !ok || len(text) != 8 {
		return fmt.Errorf("%s: it does not say in which term", refusedHandOver)
	}
	r := t.raft
	term, now := binary.BigEndian.Uint64([]byte(text)), r.CurrentTerm()
	_, leader := r.LeaderWithID()
	switch {
	case t.isFresh():
		return fmt.Errorf("%s: %w", refusedHandOver, errFresh)
	case term != now:
		return fmt.Errorf("%s: it is of term %d, and this is term %d", refusedHandOver, term, now)
	case string(request.ID) != string(leader):
		return fmt.Errorf("%s: it comes from %q, and the leader is %q", refusedHandOver, request.ID, leader)
	case !t.promised():
		return fmt.Errorf("%s: the leader was not heard of for %v", refusedHandOver, t.wait)
	}
	return nil
}

// TimeoutNow asks a server to take over.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, request *raft.TimeoutNowRequest, response *raft.TimeoutNowResponse) error {
	term := t.raft.CurrentTerm()
	asked := *request
	asked.Addr = binary.BigEndian.AppendUint64([]byte(handOver), term)
	t.handedOver.Store(term)
	err := t.NetworkTransport.TimeoutNow(id, target, &asked, response)
	if err != nil && strings.HasPrefix(err.Error(), refusedHandOver) {
		t.handedOver.CompareAndSwap(term, 0)
	}
	return err
}

// RequestVote asks a server for its vote.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, request *raft.RequestVoteRequest, response *raft.RequestVoteResponse) error {
	if err := t.mayStand(request.LeadershipTransfer); err != nil {
		return err
	}
	return t.NetworkTransport.RequestVote(id, target, request, response)
}

// RequestPreVote asks a server whether it would vote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, request *raft.RequestPreVoteRequest, response *raft.RequestPreVoteResponse) error {
	if err := t.mayStand(false); err != nil {
		return err
	}
	return t.NetworkTransport.RequestPreVote(id, target, request, response)
}

// mayStand reports why this server does not stand for election.
func (t *transport) mayStand(takesOver bool) error {
	switch {
	case t.isFresh():
		return errFresh
	case !takesOver && t.promised():
		return errHeard
	}
	return nil
}

// AppendEntries sends entries, or a heartbeat.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	if fault := t.stores.halted(); fault != nil {
		return fault
	}
	if isHeartbeat(request) {
		return t.heartbeat(id, target, request, response)
	}
	return t.append(id, target, request, response)
}

// append sends entries, once the server can be reached. Raft itself would try again
// less and less often, in the end every ten seconds, so that one that came back got
// nothing for as long; heartbeats, which have no such pause, would call it healthy.
func (t *transport) append(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	for {
		err := t.once(id, target, request, response)
		var dial *unreached
		if !errors.As(err, &dial) || !t.replicates(id, request.Term) {
			return err
		}
		pause := time.NewTimer(reachAgain)
		select {
		case <-pause.C:
		case <-t.stopping:
			pause.Stop()
			return err
		}
		if fault := t.stores.halted(); fault != nil {
			return fault
		}
	}
}

// once makes a call that is no heartbeat, and notes what is answered.
func (t *transport) once(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	sent := t.clock()
	t.commits.sends(id, target, request)
	if err := t.NetworkTransport.AppendEntries(id, target, request, response); err != nil {
		return err
	}
	return t.answered(id, request, response, sent)
}

// replicates reports whether this server leads a term still, and a server is one of
// its configuration.
func (t *transport) replicates(id raft.ServerID, term uint64) bool {
	if t.raft.State() != raft.Leader || t.raft.CurrentTerm() != term {
		return false
	}
	return slices.ContainsFunc(t.lease.members(), func(p Peer) bool { return p.ID == string(id) })
}

// isHeartbeat reports whether a call says no more than that the leader is there,
// and is answered apart from all others.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && len(r.Entries) == 0 && r.LeaderCommitIndex == 0
}

// heartbeat sends a heartbeat. One that is not answered soon is sent again, on
// another connection: where packets get lost, a connection stands still for
// several times as long as the network takes to recover.
func (t *transport) heartbeat(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	type result struct {
		response raft.AppendEntriesResponse
		err      error
	}
	results := make(chan result, heartbeatTries)
	send := func() { // what is answered late counts too
		var r result
		sent := t.clock()
		if r.err = t.NetworkTransport.AppendEntries(id, target, request, &r.response); r.err == nil {
			r.err = t.answered(id, request, &r.response, sent)
		}
		results <- r
	}
	go send()
	tries := 1
	again := time.NewTimer(t.wait / heartbeatShare)
	defer again.Stop()
	for failed := 0; ; {
		select {
		case r := <-results:
			if r.err == nil {
				*response = r.response
				return nil
			}
			if failed++; failed == tries {
				return r.err
			}
		case <-again.C:
			if fault := t.stores.halted(); fault != nil {
				return fault
			}
			if tries == heartbeatTries {
				return fmt.Errorf("server %q has not answered a heartbeat for %v", id, t.wait*heartbeatPatience)
			}
			tries++
			go send()
			again.Reset(t.wait / heartbeatShare)
			if tries == heartbeatTries {
				again.Reset(t.wait * heartbeatPatience)
			}
		case <-t.stopping:
			return raft.ErrTransportShutdown
		}
	}
}

// answered notes what a server has answered. Nothing counts that a voter
// answers which has lost its memory.
func (t *transport) answered(id raft.ServerID, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse, sent time.Duration) error {
	if err := t.checkFresh(id, request.Term, response.Addr, sent); err != nil {
		return err
	}
	if !response.Success || response.Term != request.Term {
		return nil
	}
	if isHeartbeat(request) {
		t.lease.heard(request.Term, string(id), sent, true)
		return nil
	}
	t.commits.has(id, request)
	if len(request.Entries) > 0 {
		t.lease.matched(request.Term, string(id), sent, request.Entries[len(request.Entries)-1].Index)
	}
	return nil
}

// checkFresh refuses the answer of a fresh server that is a voter here. The
// leader is to make it a non-voter first: until that is committed, what it has
// promised to a newer leader, and forgotten, could still count.
func (t *transport) checkFresh(id raft.ServerID, term uint64, mark []byte, sent time.Duration) error {
	if string(mark) != freshAnswer {
		return nil
	}
	t.lease.forgetful(term, string(id), sent)
	for _, member := range t.lease.members() {
		if member.ID == string(id) && member.Voter {
			return fmt.Errorf("server %q has lost its memory and counts for nothing until it is no voter", id)
		}
	}
	return nil
}

// InstallSnapshot sends a snapshot.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, request *raft.InstallSnapshotRequest, response *raft.InstallSnapshotResponse, data io.Reader) error {
	if fault := t.stores.halted(); fault != nil {
		return fault
	}
	sent := t.clock()
	if err := t.NetworkTransport.InstallSnapshot(id, target, request, response, data); err != nil {
		return err
	}
	if err := t.checkFresh(id, request.Term, response.Addr, sent); err != nil {
		return err
	}
	if response.Success && response.Term == request.Term {
		t.lease.matched(request.Term, string(id), sent, request.LastLogIndex)
	}
	return nil
}

// AppendEntriesPipeline begins to send entries without waiting for each answer.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if fault := t.stores.halted(); fault != nil {
		return nil, fault
	}
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		AppendPipeline: inner, transport: t, id: id, target: target,
		ready: make(chan raft.AppendFuture), refused: make(chan struct{}), closed: make(chan struct{}),
	}
	go p.run()
	return p, nil
}

// pipeline notes what is answered on a pipeline.
type pipeline struct {
	raft.AppendPipeline
	transport *transport
	id        raft.ServerID
	target    raft.ServerAddress
	ready     chan raft.AppendFuture
	refused   chan struct{} // closed when an answer was handed on that is no success
	once      sync.Once
	closed    chan struct{}
}

// run hands on what is answered, until the pipeline is closed. After an answer that
// is no success Raft takes no more, but may send more before it closes the
// pipeline: if nobody took the answers, to send would never end, and with it
// neither the replication to this server nor Raft.
func (p *pipeline) run() {
	for {
		select {
		case future := <-p.AppendPipeline.Consumer():
			request, response := future.Request(), future.Response()
			if err := p.transport.answered(p.id, request, response, p.transport.since(future.Start())); err != nil {
				response.Success = false // which ends the pipeline
			}
			select {
			case p.ready <- future:
			case <-p.closed:
				return
			}
			if !response.Success || response.Term > request.Term {
				close(p.refused)
				p.drain()
				return
			}
		case <-p.closed:
			return
		}
	}
}

// drain drops what is answered until the pipeline is closed.
func (p *pipeline) drain() {
	for {
		select {
		case <-p.AppendPipeline.Consumer():
		case <-p.closed:
			return
		}
	}
}

// errRefused ends the sending on a pipeline after which nothing counts any more.
var errRefused = errors.New("an earlier call on this pipeline had no success")

// since is a moment on the clock of the node.
func (t *transport) since(moment time.Time) time.Duration { return t.clock() - time.Since(moment) }

// AppendEntries sends entries.
func (p *pipeline) AppendEntries(request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if fault := p.transport.stores.halted(); fault != nil {
		return nil, fault
	}
	select {
	case <-p.refused:
		return nil, errRefused
	default:
	}
	p.transport.commits.sends(p.id, p.target, request)
	return p.AppendPipeline.AppendEntries(request, response)
}

// Consumer returns the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

// Close ends the pipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
