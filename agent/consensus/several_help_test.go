package consensus

import "github.com/hashicorp/raft"

func idOf(m *member) raft.ServerAddress { return raft.ServerAddress(m.cfg.ID) }

func handOverOf(m *member) *raft.TimeoutNowRequest {
	return &raft.TimeoutNowRequest{RPCHeader: m.transport.header()}
}

func newTimeoutNow() *raft.TimeoutNowResponse { return new(raft.TimeoutNowResponse) }
