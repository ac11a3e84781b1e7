package health

import (
	"maps"
	"slices"
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Txn makes the next [Table]. Dropping it undoes it. It knows nothing of nodes
// and instances: what follows for them is the work of package agent/state.
type Txn struct {
	checks  *mvcc.Txn[*Check]
	marks   *mvcc.Txn[*Mark]
	byOwner *mvcc.Txn[[]*Check]
	index   uint64
}

// Txn begins the change of the given Raft index. Changed rows are noted in j.
func (t Table) Txn(j *mvcc.Journal, index uint64) *Txn {
	return &Txn{checks: t.checks.Txn(j), marks: t.marks.Txn(j), byOwner: t.byOwner.Txn(nil), index: index}
}

// Commit returns the next table.
func (x *Txn) Commit() Table {
	return Table{checks: x.checks.Commit(), marks: x.marks.Commit(), byOwner: x.byOwner.Commit()}
}

// Notify wakes all who watch something that changed. Nobody watches the derived
// map.
func (x *Txn) Notify() {
	x.checks.Notify()
	x.marks.Notify()
}

// Check returns a check as the transaction has it, or nil.
func (x *Txn) Check(node, id string) *Check {
	c, _ := x.checks.Get(checkKey(node, id))
	return c
}

// ChecksOn returns all checks of a node and of the instances on it, by ID.
func (x *Txn) ChecksOn(node string) []*Check {
	pairs := x.checks.Prefix(checkKey(node, ""))
	out := make([]*Check, len(pairs))
	for i, p := range pairs {
		out[i] = p.Row
	}
	return out
}

// ChecksOf returns the checks of an instance, or of the node itself if service is
// empty, by ID. What the transaction does next does not change the list, and
// nobody may write to it.
func (x *Txn) ChecksOf(node, service string) []*Check {
	checks, _ := x.byOwner.Get(ownerKey(node, service))
	return checks
}

// own puts a check into the list of its owner, in the place of one of its ID.
func (x *Txn) own(c *Check) {
	owned := x.ChecksOf(c.Node, c.ServiceID)
	i, found := place(owned, c.ID)
	next := make([]*Check, 0, len(owned)+1)
	next = append(append(next, owned[:i]...), c)
	if found {
		i++
	}
	x.byOwner.Set(ownerKey(c.Node, c.ServiceID), append(next, owned[i:]...))
}

// disown takes a check from the list of its owner.
func (x *Txn) disown(c *Check) {
	owned := x.ChecksOf(c.Node, c.ServiceID)
	i, found := place(owned, c.ID)
	if !found {
		return
	}
	if len(owned) == 1 {
		x.byOwner.Delete(ownerKey(c.Node, c.ServiceID))
		return
	}
	x.byOwner.Set(ownerKey(c.Node, c.ServiceID), slices.Concat(owned[:i], owned[i+1:]))
}

// place is where the check of an ID is, or belongs, in an ordered list.
func place(checks []*Check, id string) (int, bool) {
	return slices.BinarySearchFunc(checks, id, func(c *Check, id string) int { return strings.Compare(c.ID, id) })
}

// SetCheck writes a check and returns it as it was and as it is now. An equal
// one changes nothing and returns nil twice.
func (x *Txn) SetCheck(c Check) (old, now *Check) {
	created := x.index
	old = x.Check(c.Node, c.ID)
	if old != nil {
		created = old.CreateIndex
		if old.Equal(&c) {
			return nil, nil
		}
		if old.ServiceID != c.ServiceID {
			x.disown(old)
		}
	}
	now = new(Check) // only here: most writes change nothing
	*now = c
	now.CreateIndex, now.ModifyIndex = created, x.index
	x.checks.Set(checkKey(now.Node, now.ID), now)
	x.own(now)
	x.touch()
	return old, now
}

// DeleteCheck removes a check and returns it, or nil if it was not there.
func (x *Txn) DeleteCheck(node, id string) *Check {
	old, ok := x.checks.Delete(checkKey(node, id))
	if !ok {
		return nil
	}
	x.disown(old)
	x.touch()
	return old
}

func (x *Txn) touch() {
	if m, ok := x.marks.Get(markChecks); !ok || m.Index != x.index {
		x.marks.Set(markChecks, &Mark{Name: markChecks, Index: x.index})
	}
}

// Load puts back a row of a snapshot or of the history, or removes it if it is
// gone. It reports whether the row is one of this package's.
func (x *Txn) Load(before, after any) bool {
	row := after
	if row == nil {
		row = before
	}
	switch r := row.(type) {
	case *Check:
		if old := x.Check(r.Node, r.ID); old != nil {
			x.disown(old)
		}
		mvcc.Load(x.checks, checkKey(r.Node, r.ID), r, after != nil)
		if after != nil {
			x.own(r)
		}
	case *Mark:
		mvcc.Load(x.marks, r.Name, r, after != nil)
	default:
		return false
	}
	return true
}

// Equal reports whether c and o say the same, whenever they were written.
func (c *Check) Equal(o *Check) bool {
	return c.Node == o.Node && c.ID == o.ID && c.Name == o.Name && c.Status == o.Status &&
		c.Notes == o.Notes && c.Output == o.Output && c.ServiceID == o.ServiceID &&
		c.ServiceName == o.ServiceName && slices.Equal(c.ServiceTags, o.ServiceTags) &&
		c.Type == o.Type && c.Interval == o.Interval && c.Timeout == o.Timeout &&
		c.ExposedPort == o.ExposedPort && c.Definition.Equal(&o.Definition)
}

// Equal reports whether d and o say the same.
func (d *Definition) Equal(o *Definition) bool {
	return d.HTTP == o.HTTP && d.TLSServerName == o.TLSServerName && d.TLSSkipVerify == o.TLSSkipVerify &&
		maps.EqualFunc(d.Header, o.Header, slices.Equal[[]string]) && d.Method == o.Method && d.Body == o.Body &&
		d.DisableRedirects == o.DisableRedirects && d.TCP == o.TCP && d.TCPUseTLS == o.TCPUseTLS &&
		d.UDP == o.UDP && d.H2PING == o.H2PING && d.H2PingUseTLS == o.H2PingUseTLS &&
		d.OSService == o.OSService && d.Interval == o.Interval && d.Timeout == o.Timeout && d.TTL == o.TTL &&
		d.DeregisterCriticalServiceAfter == o.DeregisterCriticalServiceAfter &&
		d.OutputMaxSize == o.OutputMaxSize && slices.Equal(d.ScriptArgs, o.ScriptArgs) &&
		d.DockerContainerID == o.DockerContainerID && d.Shell == o.Shell && d.GRPC == o.GRPC &&
		d.GRPCUseTLS == o.GRPCUseTLS && d.AliasNode == o.AliasNode && d.AliasService == o.AliasService &&
		d.SessionName == o.SessionName
}
