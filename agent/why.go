package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/local"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/dnsserver"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// explainer joins what is known of instances: what the catalog and its history
// say, what this agent knows of its own, what gossip says of the others, and
// what DNS makes of it.
type explainer struct{ a *Agent }

var _ api.Why = explainer{}

// WhyService explains the instances of a service.
func (e explainer) WhyService(ctx context.Context, o mvcc.ReadOptions, service string) (*api.ServiceReasons, mvcc.Meta, error) {
	found, meta, err := ask[*state.Reasons](ctx, e.a.backend, o, &state.Why{Service: service})
	if err != nil {
		return nil, meta, err
	}
	x := e.explanation(found)
	out := &api.ServiceReasons{
		Service: found.Service, Datacenter: e.a.config.Datacenter, Agent: e.a.config.NodeName, OnlyPassing: x.onlyPassing,
		Instances: []*api.InstanceReasons{}, Removed: []*api.RemovedReasons{}, RemovedCut: found.GoneCut, History: x.history,
	}
	for i := range found.Instances {
		r := x.instance(&found.Instances[i])
		if r.DNS.Configured.Answered {
			out.Answering++
		}
		if r.Passing.Answered {
			out.Passing++
		}
		out.Instances = append(out.Instances, r)
	}
	for i := range found.Gone {
		out.Removed = append(out.Removed, x.removed(&found.Gone[i]))
	}
	return out, meta, nil
}

// WhyInstance explains one instance on this agent's node.
func (e explainer) WhyInstance(ctx context.Context, o mvcc.ReadOptions, id string) (*api.AgentReasons, mvcc.Meta, error) {
	out := &api.AgentReasons{Agent: e.a.config.NodeName, OnlyPassing: e.a.running.Load().DNS.OnlyPassing, ServiceID: id}
	here, known := e.a.local.InstanceState(id)
	if known {
		out.Service, out.Local = here.Service.Name, localReasons(&here)
	} else {
		s, meta, err := e.standing(ctx, o, id)
		if err != nil {
			return nil, meta, err
		}
		out.Service = s.Name
	}
	found, meta, err := ask[*state.Reasons](ctx, e.a.backend, o, &state.Why{Service: out.Service})
	switch {
	case err != nil && (!known || ctx.Err() != nil):
		return nil, meta, err
	case err != nil:
		out.CatalogUnknown = "the catalog cannot be read: " + err.Error()
		return out, meta, nil
	}
	x := e.explanation(found)
	out.History = &x.history
	for i := range found.Instances {
		if s := found.Instances[i].Service; s.ID == id && x.ours(s.Node) {
			out.Catalog = x.instance(&found.Instances[i])
			out.Catalog.Local = nil
			return out, meta, nil
		}
	}
	out.CatalogUnknown = "the catalog does not know of it"
	if known && here.Refused {
		out.CatalogUnknown = "the catalog does not know of it: it refused the instance, and the log of this agent says why"
	}
	return out, meta, nil
}

// standing is an instance on this node that is not registered at this agent.
func (e explainer) standing(ctx context.Context, o mvcc.ReadOptions, id string) (*catalog.Service, mvcc.Meta, error) {
	name := e.a.config.NodeName
	detail, meta, err := e.a.backend.NodeServices(ctx, o, &catalog.NodeServices{Node: name})
	if err != nil {
		return nil, meta, err
	}
	if detail != nil {
		for _, s := range detail.Services {
			if s.ID == id {
				return s, meta, nil
			}
		}
	}
	return nil, meta, &mvcc.Error{Code: mvcc.Unknown, Text: fmt.Sprintf(
		"Unknown service ID %q: it is not registered at this agent, and the catalog has no such instance on its node %q", id, name)}
}

// explanation is what instances are judged with.
type explanation struct {
	a           *Agent
	onlyPassing bool
	history     api.HistoryReach
	members     map[string]gossip.Member // by name in lower case
}

func (e explainer) explanation(found *state.Reasons) *explanation {
	x := &explanation{
		a: e.a, onlyPassing: e.a.running.Load().DNS.OnlyPassing, members: map[string]gossip.Member{},
		history: api.HistoryReach{Begins: found.Begins, Text: fmt.Sprintf("history begins at index %d", found.Begins)},
	}
	if found.BeganAt > 0 {
		x.history.Time = timeOrNone(timeOf(found.BeganAt))
	}
	for _, m := range e.a.pool.Members() {
		x.members[strings.ToLower(m.Name)] = m
	}
	return x
}

// ours reports whether a node is that of this agent.
func (x *explanation) ours(node string) bool { return strings.EqualFold(node, x.a.config.NodeName) }

func timeOf(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// timeOrNone is a time as clients read it, nil for none.
func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// instance explains one that is there.
func (x *explanation) instance(r *state.Reason) *api.InstanceReasons {
	s := r.Service
	entry := health.Entry{Node: r.Node, Service: s}
	out := &api.InstanceReasons{
		Node: r.Node.Name, NodeID: r.Node.ID, NodeAddress: r.Node.Address, ServiceID: s.ID, Service: s.Name,
		Address: cmp.Or(s.Address, r.Node.Address), Port: s.Port, Tags: append([]string{}, s.Tags...), Weights: s.Weights,
		Checks: []*api.CheckReasons{}, Removal: []api.Removal{},
		Registered: x.step(r.Registered, s.CreateIndex), Written: x.step(r.Written, s.ModifyIndex),
		Changes: changesOf(r), ChangesCut: r.Cut,
	}
	for i := range r.Checks {
		entry.Checks = append(entry.Checks, r.Checks[i].Check)
		out.Checks = append(out.Checks, x.check(&r.Checks[i]))
	}
	out.DNS = api.DNSVerdict{Default: byDNS(&entry, false), Configured: byDNS(&entry, x.onlyPassing), Remark: remark(out)}
	out.Passing = byPassing(&entry)
	if x.ours(s.Node) {
		if here, ok := x.a.local.InstanceState(s.ID); ok {
			out.Local = localReasons(&here)
		}
	}
	x.removal(out, r)
	return out
}

// removed explains an instance that went.
func (x *explanation) removed(r *state.Reason) *api.RemovedReasons {
	s := r.Service
	out := &api.RemovedReasons{Node: s.Node, ServiceID: s.ID, Address: s.Address, Port: s.Port,
		Registered: x.step(r.Registered, s.CreateIndex), Changes: changesOf(r), ChangesCut: r.Cut}
	if out.Address == "" && r.Node != nil {
		out.Address = r.Node.Address
	}
	return out
}

// byDNS is what DNS does with an instance.
func byDNS(e *health.Entry, onlyPassing bool) api.Verdict {
	weight, ok := dnsserver.Judge(e, onlyPassing)
	if ok {
		return api.Verdict{Answered: true, Weight: weight, Checks: []string{}}
	}
	return blame(e, func(c *health.Check) bool {
		return c.Status == health.Critical || onlyPassing && c.Status != health.Passing
	})
}

// byPassing is what a read with ?passing does with an instance.
func byPassing(e *health.Entry) api.Verdict {
	if api.AllPass(e) {
		return api.Verdict{Answered: true, Weight: e.Service.Weights.Passing, Checks: []string{}}
	}
	return blame(e, func(c *health.Check) bool { return c.Status != health.Passing })
}

// blame is the verdict on an instance that is not answered: these checks are why.
func blame(e *health.Entry, guilty func(*health.Check) bool) api.Verdict {
	v := api.Verdict{Checks: []string{}}
	for _, c := range e.Checks {
		if guilty(c) {
			v.Checks = append(v.Checks, c.ID)
		}
	}
	return v
}

// remark is what bears on DNS besides checks.
func remark(r *api.InstanceReasons) string {
	if _, err := netip.ParseAddr(r.Address); err != nil && r.Address != "" {
		return fmt.Sprintf("its address %q is a host name: DNS gives that out, as a CNAME, only if no other instance has an IP address", r.Address)
	}
	return ""
}

// scope says whose check it is.
func scope(ofNode bool) string {
	if ofNode {
		return "node"
	}
	return "service"
}

// step is when something was written. What is known of it without the history is
// its index, or zero.
func (x *explanation) step(s *state.Step, index uint64) api.StepReasons {
	if s == nil {
		return api.StepReasons{Index: index, Unknown: x.history.Text}
	}
	origin := api.ChangeOrigin(s.Origin)
	return api.StepReasons{Index: s.Index, Time: timeOrNone(timeOf(s.At)), Origin: &origin}
}

func (x *explanation) check(r *state.CheckReason) *api.CheckReasons {
	c := r.Check
	out := &api.CheckReasons{CheckID: c.ID, Name: c.Name, Scope: scope(c.ServiceID == ""), Status: string(c.Status), Output: c.Output,
		Notes: c.Notes, Type: c.Type, Interval: c.Interval, Timeout: c.Timeout,
		Turned: x.step(r.Turned, 0), Written: x.step(r.Written, c.ModifyIndex)}
	if r.Written != nil {
		out.ReportedBy = r.Written.Origin.Node
	}
	return out
}

func changesOf(r *state.Reason) []*api.ChangeReasons {
	out := make([]*api.ChangeReasons, len(r.Changes))
	for i, c := range r.Changes {
		shown := &api.ChangeReasons{Index: c.Step.Index, Time: timeOf(c.Step.At), Origin: api.ChangeOrigin(c.Step.Origin), Kind: c.Kind,
			CheckID: c.CheckID, CheckName: c.CheckName, Output: c.Output, Fields: []api.FieldReasons{}}
		if c.CheckID != "" {
			shown.Scope = scope(c.NodeCheck)
		}
		for _, f := range c.Fields {
			shown.Fields = append(shown.Fields, api.FieldReasons(f))
		}
		out[i] = shown
	}
	return out
}

// localReasons is what this agent knows of an instance of its own.
func localReasons(s *local.InstanceState) *api.LocalReasons {
	out := &api.LocalReasons{FromFile: s.FromFile, Synced: s.Synced, Refused: s.Refused, FlapWindow: local.FlapWindow.String(),
		Checks: []*api.LocalCheckReasons{}}
	for i := range s.Checks {
		c := &s.Checks[i]
		d := c.Definition
		out.Flaps += c.Flaps
		out.Checks = append(out.Checks, &api.LocalCheckReasons{
			CheckID: c.Check.ID, Name: c.Check.Name, Scope: scope(c.Check.ServiceID == ""), Kind: d.Kind(),
			Status: string(c.Check.Status), Output: c.Check.Output, OutputDue: timeOrNone(c.OutputDue),
			Since: c.Since.UTC(), Flaps: c.Flaps, InitialStatus: string(d.Status),
			Interval: spanText(d.Interval), Timeout: spanText(d.Timeout), TTL: spanText(d.TTL),
			LastRun: timeOrNone(c.LastRun), NextRun: timeOrNone(c.NextRun),
			SuccessBeforePassing: d.SuccessBeforePassing, FailuresBeforeWarning: d.FailuresBeforeWarning,
			FailuresBeforeCritical: d.FailuresBeforeCritical, AliasNode: d.AliasNode, AliasService: d.AliasService,
			RemoveAfter: spanText(d.DeregisterCriticalServiceAfter), RemoveAt: timeOrNone(c.RemoveAt),
			FromFile: c.FromFile, Synced: c.Synced,
		})
	}
	return out
}

// spanText is a time span with its units, empty for none.
func spanText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// removal says when an instance will be removed, as far as this agent knows.
func (x *explanation) removal(out *api.InstanceReasons, r *state.Reason) {
	var list []api.Removal
	add := func(at time.Time, text string, args ...any) {
		list = append(list, api.Removal{At: timeOrNone(at), Text: fmt.Sprintf(text, args...)})
	}
	x.nodeRemoval(r, add)
	switch {
	case r.Service.ID == catalog.ServerService:
	case out.Local != nil:
		for _, c := range out.Local.Checks {
			if c.RemoveAt != nil {
				add(*c.RemoveAt, "check %s has deregister_critical_service_after = %s", c.CheckID, c.RemoveAfter)
			}
		}
	case x.ours(r.Service.Node):
		add(time.Time{}, "it is not registered at the agent of its node: the next full sync of that agent removes it")
	default:
		x.foreignRemoval(r, add)
	}
	slices.SortStableFunc(list, func(a, b api.Removal) int {
		switch {
		case a.At == nil && b.At == nil:
			return 0
		case a.At == nil:
			return 1
		case b.At == nil:
			return -1
		}
		return a.At.Compare(*b.At)
	})
	out.Removal = append(out.Removal, list...)
}

// nodeRemoval says when the whole node goes.
func (x *explanation) nodeRemoval(r *state.Reason, add func(time.Time, string, ...any)) {
	m, ok := x.members[strings.ToLower(r.Node.Name)]
	switch {
	case ok && m.Status == gossip.Failed:
		after := x.a.pool.ForgetAfter(&m)
		add(m.Since.Add(after), "its node failed, as the agent of %s sees it: the leader forgets a failed node after %s (reconnect_timeout)", x.a.config.NodeName, after)
	case ok && m.Status == gossip.Left, ok && m.Status == gossip.Leaving:
		add(time.Time{}, "its node leaves: the leader removes it with all that stands on it")
	case !ok && x.wasMember(r):
		add(time.Time{}, "its node is not a member any more: the leader removes it with all that stands on it")
	}
}

// wasMember reports whether gossip has ever known the node of an instance.
func (x *explanation) wasMember(r *state.Reason) bool {
	return slices.ContainsFunc(r.Checks, func(c state.CheckReason) bool { return c.Check.ID == health.SerfHealth })
}

// foreignRemoval says when an instance on another node goes that has been critical
// for long. Only what its checks tell the whole cluster is known here.
func (x *explanation) foreignRemoval(r *state.Reason, add func(time.Time, string, ...any)) {
	if !x.wasMember(r) {
		add(time.Time{}, "never by itself: its node has no agent, so it stays until somebody deregisters it")
	}
	asked := false
	for _, c := range r.Checks {
		if c.Check.ServiceID == "" || c.Check.Status != health.Critical {
			continue
		}
		after := c.Check.Definition.DeregisterCriticalServiceAfter
		switch {
		case after > 0 && c.Turned != nil:
			add(timeOf(c.Turned.At).Add(after), "check %s has DeregisterCriticalServiceAfter = %s, for whoever runs it", c.Check.ID, after)
		case after > 0:
			add(time.Time{}, "%s after check %s turned critical, by whoever runs it: %s", after, c.Check.ID, x.history.Text)
		case x.wasMember(r) && !asked:
			asked = true
			add(time.Time{}, "whether its agent removes it (deregister_critical_service_after) is known at node %s alone: ask there for /v1/agent/why/service/%s", r.Node.Name, r.Service.ID)
		}
	}
}
