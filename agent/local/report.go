package local

import (
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// What to call instead of writing to the catalog under the name of a node that
// has an agent.
const (
	useServiceRegister   = "PUT /v1/agent/service/register of this agent, or PUT /v1/catalog/register under the name of a node without one"
	useServiceDeregister = "PUT /v1/agent/service/deregister/ of this agent"
	useCheckRegister     = "PUT /v1/agent/check/register of this agent, or PUT /v1/catalog/register under the name of a node without one"
	useCheckUpdate       = "PUT /v1/agent/check/update/ of this agent"
	useCheckDeregister   = "PUT /v1/agent/check/deregister/ of this agent"
	useConfiguration     = "the configuration of this agent"
)

// finding is something that others wrote in the catalog under this node.
type finding struct {
	message string
	key     string // "service", "check" or "node"
	id      string
	index   uint64 // of the write; zero if the catalog does not tell
	use     string
}

// findings are those of one comparison. A write is reported once, however often
// it is found again.
type findings struct {
	before map[string]uint64 // index by key and ID, of the last comparison
	now    map[string]uint64
	fresh  []finding
}

func (f *findings) add(n finding) {
	name := n.key + "/" + n.id
	f.now[name] = n.index
	if last, ok := f.before[name]; !ok || last != n.index {
		f.fresh = append(f.fresh, n)
	}
}

// report tells of what others wrote, with the index of the write, by which the
// history tells who it was, and with what they should have called.
func (r *Registry) report(fresh []finding) {
	for _, f := range fresh {
		r.cfg.Logger.Warn(f.message, f.key, f.id, "index", f.index, "use", f.use)
	}
}

// foreignService notes an instance that nobody registered at this agent.
func (r *Registry) foreignService(f *findings, there *catalog.Service) {
	f.add(finding{r.foreign(), "service", there.ID, there.ModifyIndex, useServiceRegister})
}

// foreignCheck does the same for a check.
func (r *Registry) foreignCheck(f *findings, there *health.Check) {
	f.add(finding{r.foreign(), "check", there.ID, there.ModifyIndex, useCheckRegister})
}

func (r *Registry) foreign() string {
	if r.cfg.KeepForeign {
		return logForeignKept
	}
	return logForeign
}
