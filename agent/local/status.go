package local

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// UpdateTTL sets the status and output of a TTL check and begins its time anew.
func (r *Registry) UpdateTTL(_ context.Context, id string, status health.Status, output string) error {
	if !known(status) {
		return invalid("Invalid check status: '%s'", status)
	}
	r.change.RLock()
	defer r.change.RUnlock()
	c := r.checks[id]
	if c == nil {
		return unknownCheck(id)
	}
	if c.def.Kind() != check.TTL {
		return &mvcc.Error{Code: mvcc.Internal, Text: fmt.Sprintf("CheckID %q does not have associated TTL", id)}
	}
	r.stateTTL.Lock()
	defer r.stateTTL.Unlock()
	if c.runner == nil || !c.runner.Update(status, output) { // time begins with Run
		r.publish(id, status, c.def.CutOutput(output, r.cfg.CheckOutputMaxSize))
	}
	r.keepState(c)
	return nil
}

func known(status health.Status) bool {
	return status == health.Passing || status == health.Warning || status == health.Critical
}

// keepState writes down what a TTL check of a client's last said. That it cannot is no reason
// to refuse the update: the next one comes soon.
func (r *Registry) keepState(c *localCheck) {
	if r.store.folder == "" || c.fromFile {
		return
	}
	r.mu.Lock()
	row := c.row
	r.mu.Unlock()
	record := stateRecord{CheckID: row.ID, Output: row.Output, Status: row.Status, Expires: time.Now().Add(c.def.TTL).Unix()}
	content, err := json.Marshal(&record)
	if err == nil {
		err = writeQuick(r.store.path(stateFolder, row.ID), content)
	}
	if err != nil {
		r.cfg.Logger.Error(logStateFile, "check", row.ID, "error", err)
	}
}

// startRunner begins to carry out a check. The change lock is held.
func (r *Registry) startRunner(c *localCheck) {
	if c.runner != nil || c.def.Kind() == "" {
		return
	}
	r.mu.Lock()
	id, output := c.row.ID, c.row.Output
	r.mu.Unlock()
	runner, err := check.Start(c.def, check.Options{
		Notify:        func(status health.Status, output string) { r.publish(id, status, output) },
		Output:        output,
		OutputMaxSize: r.cfg.CheckOutputMaxSize,
		Logger:        r.cfg.Logger,
	})
	if err != nil { // allow let it pass, so this cannot be
		r.cfg.Logger.Error(logRefused, "check", id, "error", err)
		return
	}
	c.runner = runner
}

// publish notes what a check says now. A change of status goes to the catalog
// at once, one of output alone later.
func (r *Registry) publish(id string, status health.Status, output string) {
	if r.cfg.DiscardCheckOutput {
		output = ""
	}
	if r.note(id, status, output) && status == health.Critical {
		r.cfg.Logger.Warn(logCheckCritical, "check", id, "output", output)
	}
}

// note changes the row of a check and reports whether its status turned.
func (r *Registry) note(id string, status health.Status, output string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.checks[id]
	if c == nil || (c.row.Status == status && c.row.Output == output) {
		return false
	}
	turned := c.row.Status != status
	row := *c.row
	row.Status, row.Output = status, output
	c.row = &row
	if !turned && r.cfg.CheckUpdateInterval > 0 {
		r.holdBack(c)
		return false
	}
	c.stopTimer()
	c.later, c.synced = nil, false
	if turned {
		c.critical = time.Time{}
		if status == health.Critical {
			c.critical = time.Now()
		}
	}
	r.wakeSyncer()
	return turned
}

// holdBack lets a change of output wait, unless one waits already. The lock is
// held.
func (r *Registry) holdBack(c *localCheck) {
	if c.later != nil {
		return
	}
	half := r.cfg.CheckUpdateInterval / 2
	c.later = time.AfterFunc(half+rand.N(r.cfg.CheckUpdateInterval), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.checks[c.row.ID] != c || c.later == nil {
			return
		}
		c.later, c.synced = nil, false
		r.wakeSyncer()
	})
}

// sameProbe reports whether two definitions ask for the same runs.
func sameProbe(a, b *check.Definition) bool {
	x, y := *a, *b
	for _, d := range []*check.Definition{&x, &y} {
		d.Name, d.Notes, d.ServiceID, d.Status, d.Token = "", "", "", "", ""
		d.DeregisterCriticalServiceAfter = 0
	}
	return reflect.DeepEqual(x, y)
}
