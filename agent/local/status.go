package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// UpdateTTL sets the status and output of a TTL check and begins its time anew.
func (r *Registry) UpdateTTL(ctx context.Context, id string, status health.Status, output string) error {
	if !known(status) {
		return invalid("Invalid check status: '%s'", status)
	}
	if err := r.updateTTL(ctx, id, status, output); err != nil {
		return err
	}
	r.keepState(id)
	return nil
}

func (r *Registry) updateTTL(ctx context.Context, id string, status health.Status, output string) error {
	r.change.RLock()
	defer r.change.RUnlock()
	c := r.checks[id]
	if c == nil {
		return unknownCheck(id)
	}
	if c.def.Kind() != check.TTL {
		return &mvcc.Error{Code: mvcc.Internal, Text: fmt.Sprintf("CheckID %q does not have associated TTL", id)}
	}
	r.calls(c, mvcc.OriginOf(ctx), status)
	defer r.calls(c, mvcc.Origin{}, "")
	if c.runner == nil || !c.runner.Update(status, output) { // time begins with Run
		r.publish(id, status, c.def.CutOutput(output, r.cfg.CheckOutputMaxSize))
	}
	return nil
}

// calls notes who sets the status of a check, until told that nobody does.
func (r *Registry) calls(c *localCheck, caller mvcc.Origin, status health.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.caller, c.called = caller, status
}

func known(status health.Status) bool {
	return status == health.Passing || status == health.Warning || status == health.Critical
}

// stateLocks is how many locks the files of states share.
const stateLocks = 32

// stateLock is the lock of the file of a check's state.
func (r *Registry) stateLock(id string) *sync.Mutex {
	h := fnv.New32a()
	h.Write([]byte(id))
	return &r.states[h.Sum32()%stateLocks]
}

// keepState writes down what a TTL check of a client's says now. Nothing waits
// for the disk but other updates of the same check: whoever writes later writes
// what is newer. That it cannot is no reason to refuse the update: the next one
// comes soon.
func (r *Registry) keepState(id string) {
	if r.store.folder == "" {
		return
	}
	lock := r.stateLock(id)
	lock.Lock()
	defer lock.Unlock()
	r.mu.Lock()
	c := r.checks[id]
	if c == nil || c.fromFile || c.def.Kind() != check.TTL {
		r.mu.Unlock()
		return
	}
	row, life := c.row, c.def.TTL
	r.mu.Unlock()
	record := stateRecord{CheckID: id, Output: row.Output, Status: row.Status, Expires: time.Now().Add(life).Unix()}
	content, err := json.Marshal(&record)
	if err == nil {
		err = writeQuick(r.store.path(stateFolder, id), content)
	}
	if err != nil {
		r.cfg.Logger.Error(logStateFile, "check", id, "error", err)
	}
}

// forgetState removes the state that somebody wrote down while its check was
// being removed.
func (r *Registry) forgetState(id string) {
	if r.store.folder == "" {
		return
	}
	lock := r.stateLock(id)
	lock.Lock()
	defer lock.Unlock()
	if err := os.Remove(r.store.path(stateFolder, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.cfg.Logger.Error(logStateFile, "check", id, "error", err)
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
	options := check.Options{
		Notify:        func(status health.Status, output string) { r.publish(id, status, output) },
		Alias:         r.target(&c.def),
		Output:        output,
		OutputMaxSize: r.cfg.CheckOutputMaxSize,
		Logger:        r.cfg.Logger,
	}
	if ran, kind := r.cfg.CheckRan, c.def.Kind(); ran != nil {
		options.Ran = func(status health.Status, took time.Duration) { ran(kind, status, took) }
	}
	if r.cfg.CheckTLS != nil {
		options.TLS = r.cfg.CheckTLS()
	}
	runner, err := check.Start(c.def, options)
	if err != nil { // what allow saw has changed since
		r.publish(id, health.Critical, err.Error())
		return
	}
	c.runner = runner
}

// publish notes what a check says now. A change of status goes to the catalog
// at once, and so does the first output of a check; one of output alone later.
func (r *Registry) publish(id string, status health.Status, output string) {
	if r.discard.Load() {
		output = ""
	}
	now, before := r.note(id, status, output)
	if now == nil {
		return
	}
	if status == health.Critical {
		r.cfg.Logger.Warn(logCheckCritical, "check", id, "output", output)
	}
	if r.cfg.CheckTurned != nil {
		r.cfg.CheckTurned(now, before)
	}
}

// note changes the row of a check. If its status turned, it returns the new row
// and the status before.
func (r *Registry) note(id string, status health.Status, output string) (now *health.Check, before health.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.checks[id]
	if c == nil {
		return nil, ""
	}
	first := !c.spoke
	c.spoke = true
	if c.row.Status == status && c.row.Output == output {
		return nil, ""
	}
	before = c.row.Status
	turned := before != status
	row := *c.row
	row.Status, row.Output = status, output
	c.row = &row
	r.bells.ring(bell{healthOf, row.ServiceID})
	if interval := r.cfg.CheckUpdateInterval; !turned && interval > 0 {
		switch {
		case first:
			// Until then the catalog has a status and no word why.
			c.synced = false
			r.wakeSoon()
		case c.later == nil:
			r.holdBack(c, interval/2+rand.N(interval))
		}
		return nil, ""
	}
	c.noLonger()
	c.synced = false
	r.wakeSyncer()
	if !turned {
		return nil, ""
	}
	r.turnedBy(c)
	c.turn(time.Now())
	return c.row, before
}

// wakeSoon wakes the syncer once the first output of other checks may have come,
// too: many are registered together. The lock is held.
func (r *Registry) wakeSoon() {
	if r.soon {
		return
	}
	r.soon = true
	time.AfterFunc(FirstOutputGather, func() {
		r.mu.Lock()
		r.soon = false
		r.mu.Unlock()
		r.wakeSyncer()
	})
}

// turn notes that the status has just changed.
func (c *localCheck) turn(now time.Time) {
	c.critical = time.Time{}
	if c.row.Status == health.Critical {
		c.critical = now
	}
	c.since = now
	if len(c.turns) == MaxFlaps {
		c.turns = c.turns[:copy(c.turns, c.turns[1:])]
	}
	c.turns = append(c.turns, now)
}

// flaps is how often the status changed within the window that ends now.
func (c *localCheck) flaps(now time.Time) int {
	recent := 0
	for _, at := range c.turns {
		if now.Sub(at) <= FlapWindow {
			recent++
		}
	}
	return recent
}

// CheckState is what this agent knows of a check beyond what the catalog holds.
type CheckState struct {
	Check *health.Check // shared: nobody may write to it
	// Since is when the status changed last, or when the check was registered, as
	// this process saw it.
	Since time.Time
	// Flaps is how often the status changed within [FlapWindow], at most
	// [MaxFlaps].
	Flaps int
	// RemoveAt is when the check's instance will be removed, by the first sweep
	// after it, if the check stays critical. Zero means it will not.
	RemoveAt time.Time
	// FromFile is whether a file of the configuration defines the check.
	FromFile bool
	// Synced is whether the catalog knows of the check as it is, but for output
	// that waits.
	Synced bool
}

// CheckState tells about a check that is registered here.
func (r *Registry) CheckState(id string) (state CheckState, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.checks[id]
	if c == nil {
		return CheckState{}, false
	}
	return c.state(time.Now()), true
}

// state is what is known of the check. The registry's lock is held.
func (c *localCheck) state(now time.Time) CheckState {
	return CheckState{Check: c.row, Since: c.since, Flaps: c.flaps(now), RemoveAt: c.removeAt(),
		FromFile: c.fromFile, Synced: c.synced && !c.refused}
}

// removeAt is when the check will have been critical for long enough that its
// instance is removed, or zero.
func (c *localCheck) removeAt() time.Time {
	after := c.def.DeregisterCriticalServiceAfter
	if after <= 0 || c.row.ServiceID == "" || c.critical.IsZero() {
		return time.Time{}
	}
	return c.critical.Add(max(after, check.MinDeregisterAfter))
}

// holdBack lets a change of output wait. The lock is held.
func (r *Registry) holdBack(c *localCheck, wait time.Duration) {
	c.due = time.Now().Add(wait)
	c.later = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.checks[c.row.ID] != c || c.later == nil {
			return
		}
		c.noLonger()
		c.synced = false
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
