package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/leader"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

// operator tells about the servers, and changes who takes part. What it cannot do
// here it has the leader do.
type operator struct{ a *Agent }

var _ api.Operator = operator{}

// operation is what one agent has another do.
type operation struct {
	Name string
	ID   string `json:",omitempty"`
	// Address is that of a server's port.
	Address string `json:",omitempty"`
	// Stale takes the answer of any server.
	Stale bool `json:",omitempty"`
	// Relayed is set by a server that hands the operation on, which happens once.
	Relayed bool `json:",omitempty"`
}

// Names of operations. They cross the wire.
const (
	opConfiguration = "raft-configuration"
	opRemove        = "raft-remove"
	opTransfer      = "raft-transfer"
	opHealth        = "autopilot-health"
)

// changes reports whether to do it twice is not the same as to do it once.
func (o operation) changes() bool { return o.Name == opRemove || o.Name == opTransfer }

// RaftConfiguration lists who takes part in Raft.
func (o operator) RaftConfiguration(ctx context.Context, r mvcc.ReadOptions) (out api.RaftConfiguration, err error) {
	err = o.do(ctx, r.Datacenter, operation{Name: opConfiguration, Stale: r.Mode == mvcc.Stale}, &out)
	return out, err
}

// RemovePeer ends the part of one server.
func (o operator) RemovePeer(ctx context.Context, dc string, p api.PeerName) error {
	return o.do(ctx, dc, operation{Name: opRemove, ID: p.ID, Address: p.Address}, nil)
}

// TransferLeader makes another server the leader.
func (o operator) TransferLeader(ctx context.Context, dc, id string) error {
	return o.do(ctx, dc, operation{Name: opTransfer, ID: id}, nil)
}

// AutopilotHealth is what the leader knows of the servers' health.
func (o operator) AutopilotHealth(ctx context.Context, r mvcc.ReadOptions) (api.AutopilotHealth, error) {
	s, err := o.AutopilotState(ctx, r)
	return s.AutopilotHealth, err
}

// AutopilotState is the same in more detail.
func (o operator) AutopilotState(ctx context.Context, r mvcc.ReadOptions) (out api.AutopilotState, err error) {
	err = o.do(ctx, r.Datacenter, operation{Name: opHealth}, &out)
	return out, err
}

// AutopilotConfig is how servers are looked after.
func (o operator) AutopilotConfig(ctx context.Context, r mvcc.ReadOptions) (api.AutopilotConfig, error) {
	stored, _, err := ask[*state.AutopilotConfig](ctx, o.a.backend, r, &state.Autopilot{})
	if err != nil {
		return api.AutopilotConfig{}, err
	}
	if stored == nil {
		return shownAutopilot(initialAutopilot(o.a.config)), nil
	}
	return shownAutopilot(*stored), nil
}

// SetAutopilot stores how servers are looked after.
func (o operator) SetAutopilot(ctx context.Context, dc string, c api.AutopilotConfig, cas *uint64) (bool, error) {
	if err := o.a.backend.ours(dc); err != nil {
		return false, err
	}
	cmd := &state.SetAutopilot{Config: state.AutopilotConfig{
		CleanupDeadServers: c.CleanupDeadServers, LastContactThreshold: c.LastContactThreshold, MaxTrailingLogs: c.MaxTrailingLogs,
		MinQuorum: uint64(c.MinQuorum), ServerStabilizationTime: c.ServerStabilizationTime, RedundancyZoneTag: c.RedundancyZoneTag,
		DisableUpgradeMigration: c.DisableUpgradeMigration, UpgradeVersionTag: c.UpgradeVersionTag,
	}}
	if cas != nil {
		cmd.CAS, cmd.Index = true, *cas
	}
	r, err := o.a.backend.apply(ctx, cmd)
	if err == nil && r.OK {
		o.judgeQuorum(ctx, c.MinQuorum)
	}
	return r.OK, err
}

// judgeQuorum warns of a number of voters that there are not: it may be meant for
// servers to come, and until then no server that fails is removed.
func (o operator) judgeQuorum(ctx context.Context, least uint) {
	if least <= 1 {
		return
	}
	now, err := o.RaftConfiguration(ctx, mvcc.ReadOptions{Mode: mvcc.Stale})
	if err != nil {
		return // the setting itself is written
	}
	voters := uint(0)
	for _, s := range now.Servers {
		if s.Voter {
			voters++
		}
	}
	if least > voters {
		o.a.logger.Warn(PhraseMinQuorum, "min_quorum", least, "voters", voters)
	}
}

// Usage counts what is registered.
func (o operator) Usage(ctx context.Context, r mvcc.ReadOptions, _ bool) (map[string]api.Usage, mvcc.Meta, error) {
	u, meta, err := ask[*state.UsageCounts](ctx, o.a.backend, r, &state.Usage{})
	if err != nil {
		return nil, meta, err
	}
	return map[string]api.Usage{o.a.config.Datacenter: {
		Nodes: u.Nodes, Services: u.Services, Instances: u.ServiceInstances, Billable: u.BillableServiceInstances, Connect: u.ConnectServiceInstances,
	}}, meta, nil
}

func shownAutopilot(c state.AutopilotConfig) api.AutopilotConfig {
	return api.AutopilotConfig{
		CleanupDeadServers: c.CleanupDeadServers, LastContactThreshold: c.LastContactThreshold, MaxTrailingLogs: c.MaxTrailingLogs,
		MinQuorum: uint(c.MinQuorum), ServerStabilizationTime: c.ServerStabilizationTime, RedundancyZoneTag: c.RedundancyZoneTag,
		DisableUpgradeMigration: c.DisableUpgradeMigration, UpgradeVersionTag: c.UpgradeVersionTag,
		CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex,
	}
}

// do has an operation done where it can be, and reads what it comes to into v.
func (o operator) do(ctx context.Context, dc string, op operation, v any) error {
	a := o.a
	if err := a.backend.ours(dc); err != nil {
		return err
	}
	var (
		body []byte
		err  error
	)
	if a.config.Server {
		body, err = a.operate(ctx, op)
	} else {
		query, encodeErr := json.Marshal(op)
		if encodeErr != nil {
			return encodeErr
		}
		query = append([]byte{callOperate}, query...)
		if op.changes() {
			body, err = a.remote.operate(ctx, query)
			err = op.outcome(ctx, a.remote, "", err) // which one was asked is in it
		} else {
			var reply rpc.Reply
			reply, err = a.remote.query(ctx, mvcc.ReadOptions{}, query)
			body = reply.Body
		}
	}
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("cannot read what %s came to: %w", op.Name, err)
	}
	return nil
}

// operated does an operation for another agent.
func (a *Agent) operated(ctx context.Context, body []byte, send func(rpc.Reply) error) error {
	var op operation
	if err := json.Unmarshal(body, &op); err != nil {
		return &mvcc.Error{Code: mvcc.Invalid, Text: "cannot read an operation: " + err.Error()}
	}
	out, err := a.operate(ctx, op)
	if err != nil {
		return err
	}
	return send(rpc.Reply{Body: out})
}

// operate does an operation on this server, or has the leader do it. What changes
// something is tried again only if it was certainly not done.
func (a *Agent) operate(ctx context.Context, op operation) ([]byte, error) {
	held, cancel := context.WithTimeout(ctx, a.config.RPCHoldTimeout)
	defer cancel()
	for {
		if op.Stale {
			return a.operateHere(ctx, op)
		}
		err := a.backend.waitLeader(held)
		if err != nil {
			return nil, err
		}
		var out []byte
		switch {
		case a.node.Leading():
			out, err = a.operateHere(ctx, op)
		case op.Relayed:
			return nil, &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
		default:
			out, err = a.relay(ctx, op)
		}
		if err == nil || ctx.Err() != nil || !undone(op, err) {
			return out, err
		}
		if pause(held) != nil {
			return nil, a.backend.because(err)
		}
	}
}

// relay has the leader do an operation. It is not sent to one that was not heard of
// for a while, and not waited for if it leads no more: what it came to might then
// never be known.
func (a *Agent) relay(ctx context.Context, op operation) ([]byte, error) {
	id, err := a.backend.livingLeader()
	if err != nil {
		return nil, err
	}
	op.Relayed = true
	query, err := json.Marshal(op)
	if err != nil {
		return nil, err
	}
	led, cancel := a.backend.whileLeads(ctx, id, operateGrace)
	defer cancel()
	out, err := a.remote.call(led, id, append([]byte{callOperate}, query...))
	return out, op.outcome(ctx, a.remote, id, err)
}

// outcome is the error of an operation that another server was asked for: one that
// may have been done says so.
func (o operation) outcome(ctx context.Context, r *remote, id string, err error) error {
	if o.changes() {
		return r.uncertainChange(ctx, id, err)
	}
	if err == nil || rpc.Unsent(err) {
		return err
	}
	return r.uncertain(ctx, id, err)
}

// uncertainChange is the error of a change that another server was asked for, and
// that goes through a query: a server that stops ends those that are under way.
func (r *remote) uncertainChange(ctx context.Context, id string, err error) error {
	switch {
	case err == nil, rpc.Unsent(err):
		return err
	case mvcc.CodeOf(err) == mvcc.ShuttingDown:
		err = fmt.Errorf("it stopped: %s", err) // the kind of its error says too little
	}
	return r.uncertain(ctx, id, err)
}

// undone reports whether an operation that failed was certainly not done, or may be
// done twice, and may do better at another try. A server that stops ends what is
// under way, so that it is shutting down says nothing of what was done.
func undone(op operation, err error) bool {
	if rpc.Unsent(err) {
		return true
	}
	switch mvcc.CodeOf(err) {
	case mvcc.ShuttingDown, mvcc.Timeout:
		return !op.changes()
	}
	return leaderless(err)
}

// operateHere does an operation with what this server knows and may.
func (a *Agent) operateHere(ctx context.Context, op operation) ([]byte, error) {
	var (
		out any = struct{}{}
		err error
	)
	switch op.Name {
	case opConfiguration:
		out = a.raftConfiguration()
	case opRemove:
		err = a.removePeer(ctx, op)
	case opTransfer:
		err = a.transfer(ctx, op.ID)
	case opHealth:
		out = a.autopilotState()
	default:
		err = &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("the operation %q needs a newer Muster", op.Name)}
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// raftConfiguration lists the servers of the configuration.
func (a *Agent) raftConfiguration() api.RaftConfiguration {
	out := api.RaftConfiguration{Servers: []api.RaftServer{}, Index: a.node.PeersIndex()}
	last := map[string]uint64{a.id: a.node.Stats().LastLogIndex}
	if report := a.autopilot.Report(); report != nil {
		for _, s := range report.Servers {
			if s.ID != a.id {
				last[s.ID] = s.Stats.LastIndex
			}
		}
	}
	for _, p := range a.node.Peers() {
		s := api.RaftServer{ID: p.ID, Leader: p.Leader, Voter: p.Voter, LastIndex: last[p.ID]}
		if m, ok := a.server(p.ID); ok {
			s.Node, s.Address = m.Name, net.JoinHostPort(m.Addr.String(), m.Tags["port"])
		}
		out.Servers = append(out.Servers, s)
	}
	return out
}

// removePeer takes a server out of the configuration.
func (a *Agent) removePeer(ctx context.Context, op operation) error {
	id, what := op.ID, fmt.Sprintf("id %q", op.ID)
	if op.Address != "" {
		what = fmt.Sprintf("address %q", op.Address)
		for _, p := range a.node.Peers() {
			if a.serverAddress(p.ID) == op.Address {
				id = p.ID
			}
		}
	}
	for _, p := range a.node.Peers() {
		if p.ID == id {
			if err := a.mayRemove(id); err != nil {
				return err
			}
			return asError(a.node.RemoveServer(ctx, id))
		}
	}
	return &mvcc.Error{Code: mvcc.Unknown, Text: what + " was not found in the Raft configuration"}
}

// transfer hands leadership over.
func (a *Agent) transfer(ctx context.Context, id string) error {
	voters, known := 0, id == ""
	for _, p := range a.node.Peers() {
		if p.Voter {
			voters++
			known = known || p.ID == id
		}
	}
	switch {
	case !known:
		return &mvcc.Error{Code: mvcc.Unknown, Text: "Could not find address for server id " + id}
	case voters < 2:
		return &mvcc.Error{Code: mvcc.Unknown, Text: "cannot find peer"}
	}
	return asError(a.node.TransferLeadership(ctx, id))
}

// autopilotState is what autopilot holds of the servers; a server that leads but
// has not asked them yet knows itself.
func (a *Agent) autopilotState() api.AutopilotState {
	report := a.autopilot.Report()
	if report == nil {
		self := a.peerStats()
		report = &leader.Report{Healthy: len(a.node.Peers()) == 1 && !self.Full, Leader: a.id, Servers: []leader.ServerHealth{{
			ID: a.id, Name: a.config.NodeName, Address: a.ServerAddr(), Status: 1, Version: CompatVersion,
			Stats: self.ServerStats, Answered: true, Leader: true, Voter: true, Healthy: !self.Full, StableSince: a.started,
		}}}
	}
	out := api.AutopilotState{AutopilotHealth: api.AutopilotHealth{
		Healthy: report.Healthy, FailureTolerance: report.FailureTolerance, Servers: []api.ServerHealth{},
	}, OptimisticFailureTolerance: report.FailureTolerance}
	view := a.machine.View()
	for _, s := range report.Servers {
		shown := api.ServerHealth{
			ID: s.ID, Name: s.Name, Address: s.Address, Status: s.Status.String(), Version: s.Version, Leader: s.Leader, Voter: s.Voter,
			Healthy: s.Healthy, LastContact: s.Stats.LastContact, LastTerm: s.Stats.LastTerm, LastIndex: s.Stats.LastIndex,
			StableSince: s.StableSince.UTC().Truncate(time.Second), Meta: map[string]string{},
		}
		if n, _ := view.Catalog.Node(&catalog.NodeQuery{Name: s.Name}, nil); n != nil {
			maps.Copy(shown.Meta, n.Meta)
		}
		out.Servers = append(out.Servers, shown)
	}
	return out
}

// statusReport is who leads and who takes part, as addresses of server ports.
type statusReport struct {
	Leader string
	Peers  []string
}

// statusHere is what this server knows of it.
func (a *Agent) statusHere() statusReport {
	out := statusReport{Peers: []string{}}
	if id, ok := a.node.Leader(); ok {
		out.Leader = a.serverAddress(id)
	}
	for _, p := range a.node.Peers() {
		out.Peers = append(out.Peers, a.serverAddress(p.ID))
	}
	return out
}

// status tells who leads and takes part; a client agent asks a server.
func (a *Agent) statusNow(ctx context.Context) (out statusReport, err error) {
	if a.config.Server {
		return a.statusHere(), nil
	}
	if len(a.router.servers()) == 0 {
		return out, a.remote.none(nil)
	}
	reply, err := a.remote.query(ctx, mvcc.ReadOptions{Mode: mvcc.Stale}, []byte{callStatus})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(reply.Body, &out); err != nil {
		return out, fmt.Errorf("cannot read who leads: %w", err)
	}
	return out, nil
}

// portOf is the port of an address, or zero.
func portOf(address net.Addr) int {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

// mayRemove says why a server must not be taken out of Raft now: the voters that
// would be left could elect nobody, since too many of them do not answer. Those
// that are dead can always be taken out, which makes it better.
func (a *Agent) mayRemove(id string) error {
	left, silent := votersWithout(id, a.id, a.node.Peers(), a.node.FollowerProgress(), func(id string) bool {
		m, _ := a.server(id)
		return m.Status == gossip.Alive
	})
	if left == 0 || left-len(silent) >= quorum(left) {
		return nil
	}
	for i, id := range silent {
		silent[i] = a.serverName(id)
	}
	return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf(
		"cannot remove server %s: of the %d voters that would be left %d answer, and %d are needed to elect a leader. Remove those that do not answer first, or start them: %s",
		a.serverName(id), left, left-len(silent), quorum(left), strings.Join(silent, ", "))}
}

// votersWithout counts the voters that would be left without a server, and returns
// those of them that count in no majority now, as the leader self knows it. There are
// none if the server has no vote to lose.
func votersWithout(id, self string, peers []consensus.Peer, progress map[string]consensus.Progress, lives func(id string) bool) (left int, silent []string) {
	for _, p := range peers {
		switch {
		case p.ID == id && !p.Voter:
			return 0, nil
		case p.ID == id || !p.Voter:
			continue
		}
		left++
		known, ok := progress[p.ID]
		if p.ID == self || !ok {
			continue
		}
		// Who leads since a moment ago was not answered yet.
		answers := known.LastContact < 0 && lives(p.ID) || known.LastContact >= 0 && known.LastContact < silentFor
		// One without its memory answers, and counts in no majority.
		if !answers || known.Fresh {
			silent = append(silent, p.ID)
		}
	}
	return left, silent
}

// serverName is the name and the ID of a server.
func (a *Agent) serverName(id string) string {
	if m, ok := a.server(id); ok {
		return fmt.Sprintf("%q (id %s)", m.Name, id)
	}
	return "with the id " + id
}
