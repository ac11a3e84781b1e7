package consensus

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// Who votes for another server answers no heartbeat of the old leader while the
// vote is on its way to the disk: with that answer the old leader would count on
// a server that the new one counts on too.
func TestWhoVotesAnswersNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gather(t, "", three...)
		defer m.stop()
		leader := m.leader()
		apply(t, leader.Node, 1)
		m.agree(1, m.all...)
		voter, candidate := m.others(leader)[0], m.others(leader)[1]
		term := voter.raft.CurrentTerm()

		// The voter has lost its leader, as it has when it did not hear of it for
		// the timeout, and has not stood for election itself.
		m.net.isolate(voter.cfg.ID)
		voter.transport.heard.Store(int64(never))
		voter.transport.forget(term)
		release := voter.disk.block()

		wire := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: newStreamLayer(m.net.port("wire"), "wire"), MaxPool: 2, Timeout: transportTimeout, MsgpackUseNewTimeFormat: true,
		})
		defer wire.Close()
		id, at := raft.ServerID(voter.cfg.ID), raft.ServerAddress(voter.cfg.ID)
		header := func(of *member) raft.RPCHeader {
			return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(of.cfg.ID), Addr: []byte(of.cfg.ID)}
		}
		var vote raft.RequestVoteResponse
		voted := make(chan error, 1)
		go func() {
			voted <- wire.RequestVote(id, at, &raft.RequestVoteRequest{
				RPCHeader: header(candidate), Term: term + 1, LastLogIndex: 1000, LastLogTerm: term,
			}, &vote)
		}()
		synctest.Wait()
		var heartbeat raft.AppendEntriesResponse
		answered := make(chan error, 1)
		go func() {
			answered <- wire.AppendEntries(id, at, &raft.AppendEntriesRequest{RPCHeader: header(leader), Term: term}, &heartbeat)
		}()
		synctest.Wait()
		select {
		case err := <-answered:
			if err != nil || heartbeat.Success {
				t.Errorf("a heartbeat was answered before the vote: success %v, %v", heartbeat.Success, err)
			}
			answered <- nil
		default:
		}
		release()
		if err := <-voted; err != nil || !vote.Granted {
			t.Fatalf("the vote was not granted: %+v, %v", vote, err)
		}
		if err := <-answered; err != nil || heartbeat.Success {
			t.Errorf("the old leader's heartbeat was answered after the vote: success %v, %v", heartbeat.Success, err)
		}
		time.Sleep(time.Second)
	})
}
