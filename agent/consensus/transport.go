package consensus

import "github.com/hashicorp/raft"

// gatedTransport is a transport through which a leader sends neither entries nor
// heartbeats while its disk hangs. Raft sends heartbeats from goroutines that
// know nothing of the disk, so its followers would wait for it for ever.
type gatedTransport struct {
	*raft.NetworkTransport
	watch *diskWatch
}

var (
	_ raft.Transport   = gatedTransport{}
	_ raft.WithPreVote = gatedTransport{}
)

// AppendEntries sends entries, or a heartbeat.
func (t gatedTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	if fault := t.watch.hanging(); fault != nil {
		return fault
	}
	return t.NetworkTransport.AppendEntries(id, target, request, response)
}

// AppendEntriesPipeline begins to send entries without waiting for each answer.
func (t gatedTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if fault := t.watch.hanging(); fault != nil {
		return nil, fault
	}
	pipeline, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return gatedPipeline{pipeline, t.watch}, nil
}

// gatedPipeline is a pipeline of a gatedTransport.
type gatedPipeline struct {
	raft.AppendPipeline
	watch *diskWatch
}

// AppendEntries sends entries.
func (p gatedPipeline) AppendEntries(request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if fault := p.watch.hanging(); fault != nil {
		return nil, fault
	}
	return p.AppendPipeline.AppendEntries(request, response)
}
