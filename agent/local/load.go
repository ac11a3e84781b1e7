package local

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// Load puts the definitions of the configuration files, and at the first call
// those that clients registered before the agent stopped, into the registry. A
// later call is a reload: what is no longer in the files goes, what clients
// registered stays, and checks that are still there keep their status and
// output. Where a file and a client defined the same ID, the file wins and the
// other is forgotten. An error names the definition in the files that is at
// fault, and leaves the registry as it was.
func (r *Registry) Load(fileServices []check.Registration, fileChecks []check.Definition) error {
	r.change.Lock()
	defer r.change.Unlock()
	l := &loading{Registry: r, plan: newPlan(), rows: map[string]*catalog.Service{}}
	l.plan.reload = true
	if err := l.servicesFromFiles(fileServices); err != nil {
		return err
	}
	restart := !r.loaded && r.store.folder != ""
	kept := l.keptFromMemory
	if restart {
		kept = l.keptFromDisk
	}
	checks, err := kept()
	if err != nil {
		return err
	}
	if err := l.checksFromFiles(fileChecks); err != nil {
		return err
	}
	l.addKept(checks)
	if restart {
		if err := l.restoreStates(); err != nil {
			return err
		}
	}
	l.dropRest()
	if err := r.room(l.plan); err != nil {
		return err
	}
	if err := r.carryOut(l.plan); err != nil {
		return err
	}
	l.purge()
	l.noteDamage()
	r.loaded = true
	return nil
}

// loading is a load under way.
type loading struct {
	*Registry
	plan *plan
	rows map[string]*catalog.Service // what will be there afterwards
	gone []purged
	// damagedServices are the names of files of services that could not be read,
	// or would have if they belonged to the ID in them. Their checks are then left
	// alone.
	damagedServices, damagedChecks []string
}

// purged is a persisted definition that is forgotten once the load succeeded.
type purged struct{ folder, id, why string }

// Reasons to forget a persisted definition.
const (
	whyConfigured = "the configuration defines it"
	whySource     = "its source is unknown"
)

func (l *loading) discard(folder, id, why string) {
	l.gone = append(l.gone, purged{folder, id, why})
}

func (l *loading) purge() {
	for _, p := range l.gone {
		l.store.purge(p.folder, p.id, p.why)
	}
}

func (l *loading) servicesFromFiles(regs []check.Registration) error {
	for _, reg := range regs {
		reg.Normalize()
		if err := l.serviceFromFile(&reg); err != nil {
			return fmt.Errorf("service %q in the configuration: %w", reg.Service.ID, err)
		}
	}
	return nil
}

func (l *loading) serviceFromFile(reg *check.Registration) error {
	if err := reg.ValidateService(); err != nil {
		return err
	}
	if err := notReserved(reg); err != nil {
		return err
	}
	id := reg.Service.ID
	for check, c := range l.plan.checks { // of an earlier definition of this ID
		if c.def.ServiceID == id {
			delete(l.plan.checks, check)
		}
	}
	s := l.newService(reg, true)
	l.plan.services[id], l.rows[id] = s, s.row
	for _, d := range reg.Checks {
		if err := l.checkFromFile(d, s.row, true); err != nil {
			return err
		}
	}
	return nil
}

func (l *loading) checksFromFiles(defs []check.Definition) error {
	for _, d := range defs {
		d.Normalize()
		if d.Name == "" {
			d.Name = d.ID
		}
		if err := l.lonelyCheckFromFile(d); err != nil {
			return fmt.Errorf("check %q in the configuration: %w", d.ID, err)
		}
	}
	return nil
}

// lonelyCheckFromFile loads a check that was not written inside a service.
func (l *loading) lonelyCheckFromFile(d check.Definition) error {
	if d.ID == "" {
		return invalid("Missing check name")
	}
	if err := checkNotReserved(d.ID); err != nil {
		return err
	}
	row := l.rows[d.ServiceID]
	if d.ServiceID != "" && row == nil {
		return unknown("ServiceID %q does not exist", d.ServiceID)
	}
	return l.checkFromFile(d, row, false)
}

func (l *loading) checkFromFile(d check.Definition, row *catalog.Service, embedded bool) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := l.allow(&d, true); err != nil {
		return err
	}
	l.plan.checks[d.ID] = l.newCheck(d, row, embedded, true)
	return nil
}

// keptFromMemory keeps the services that clients registered, and returns such
// checks.
func (l *loading) keptFromMemory() ([]*localCheck, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.services {
		switch {
		case s.fromFile:
		case l.rows[id] != nil:
			l.discard(servicesFolder, id, whyConfigured)
		default:
			l.plan.services[id], l.rows[id] = &service{row: s.row, declared: s.declared, token: s.token}, s.row
		}
	}
	var checks []*localCheck
	for _, id := range slices.Sorted(maps.Keys(l.checks)) {
		if c := l.checks[id]; !c.fromFile {
			checks = append(checks, &localCheck{row: c.row, def: c.def})
		}
	}
	return checks, nil
}

// keptFromDisk is keptFromMemory of an agent that was restarted.
func (l *loading) keptFromDisk() ([]*localCheck, error) {
	damaged, err := l.store.readFolder(servicesFolder, func(content []byte) (string, error) {
		record, err := decodeService(content)
		if err != nil {
			return "", err
		}
		return record.Service.ID, l.keepService(record)
	})
	if err != nil {
		return nil, err
	}
	l.damagedServices = damaged
	var checks []*localCheck
	l.damagedChecks, err = l.store.readFolder(checksFolder, func(content []byte) (string, error) {
		record, err := decodeCheck(content)
		if err != nil {
			return "", err
		}
		id := record.Check.CheckID
		if record.Source != sourceRemote && record.Source != sourceLocal {
			l.discard(checksFolder, id, whySource)
			return id, nil
		}
		if err := checkNotReserved(id); err != nil && record.Check.Type != check.Maintenance {
			return id, err
		}
		checks = append(checks, l.restoredCheck(record))
		return id, nil
	})
	return checks, err
}

// keepService takes over the file of an instance, unless the configuration
// defines it.
func (l *loading) keepService(record *serviceRecord) error {
	id := record.Service.ID
	switch {
	case record.Source != sourceRemote && record.Source != sourceLocal:
		l.discard(servicesFolder, id, whySource)
		return nil
	case l.rows[id] != nil:
		l.discard(servicesFolder, id, whyConfigured)
		return nil
	}
	reg := record.registration()
	reg.Normalize()
	if err := reg.ValidateService(); err != nil {
		return err
	}
	if err := notReserved(&reg); err != nil {
		return err
	}
	s := l.newService(&reg, false)
	l.plan.services[id], l.rows[id] = s, s.row
	return nil
}

// restoredCheck is a check as it begins after a restart: critical, because
// nobody knows what happened meanwhile.
func (l *loading) restoredCheck(record *checkRecord) *localCheck {
	d := record.definition()
	if record.Check.Type == check.Maintenance {
		return l.newMaintenance(d, nil)
	}
	d.Normalize()
	c := l.newCheck(d, nil, false, false)
	c.row.Status = health.Critical
	c.row.Interval, c.row.Timeout = record.Check.Interval, record.Check.Timeout
	return c
}

// addKept adds the checks that clients registered, as far as they can still be
// carried out.
func (l *loading) addKept(checks []*localCheck) {
	for _, c := range checks {
		id := c.row.ID
		if l.plan.checks[id] != nil {
			l.discard(checksFolder, id, whyConfigured)
			continue
		}
		if c.row.ServiceID != "" && l.rows[c.row.ServiceID] == nil && len(l.damagedServices) > 0 {
			l.cfg.Logger.Warn(logOrphan, "check", id, "service", c.row.ServiceID)
			continue
		}
		if err := l.stillAllowed(c); err != nil {
			l.discard(checksFolder, id, err.Error())
			continue
		}
		if s := l.rows[c.row.ServiceID]; s != nil {
			row := *c.row
			row.ServiceName, row.ServiceTags = s.Name, s.Tags
			c.row = &row
		}
		l.plan.checks[id] = c
	}
}

func (l *loading) stillAllowed(c *localCheck) error {
	if id := c.row.ServiceID; id != "" && l.rows[id] == nil {
		return unknown("ServiceID %q does not exist", id)
	}
	if c.row.Type == check.Maintenance {
		return nil
	}
	if err := c.def.Validate(); err != nil {
		return err
	}
	return l.allow(&c.def, false)
}

// restoreStates gives TTL checks what they last said, if that still holds.
// Checks from files begin anew with each start, as clients know it.
func (l *loading) restoreStates() error {
	now := time.Now().Unix()
	_, err := l.store.readFolder(stateFolder, func(content []byte) (string, error) {
		record, err := decodeState(content)
		if err != nil {
			return "", err
		}
		c := l.plan.checks[record.CheckID]
		switch {
		case c == nil || c.fromFile || c.def.Kind() != check.TTL:
			l.discard(stateFolder, record.CheckID, "it belongs to no check that a client registered")
		case !known(record.Status), record.Expires <= now:
			l.discard(stateFolder, record.CheckID, "it has expired")
		default:
			row := *c.row
			row.Status, row.Output = record.Status, record.Output
			c.row = &row
		}
		return record.CheckID, nil
	})
	return err
}

// dropRest removes what is in the registry but no longer defined.
func (l *loading) dropRest() {
	for id := range l.services {
		if l.plan.services[id] == nil {
			l.plan.goneServices = append(l.plan.goneServices, id)
		}
	}
	for id, c := range l.checks {
		if l.plan.checks[id] == nil {
			l.plan.goneChecks = append(l.plan.goneChecks, id)
			if c.fromFile {
				l.store.drop(&l.plan.files, stateFolder, id)
			}
		}
	}
}

// noteDamage remembers which files could not be read, so that what they stand for
// is not taken from the catalog. What a file of the configuration defines is as
// it should be.
func (l *loading) noteDamage() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range l.damagedServices {
		l.damaged[servicesFolder+"/"+name] = true
	}
	for _, name := range l.damagedChecks {
		l.damaged[checksFolder+"/"+name] = true
	}
	for id := range l.services {
		l.mended(servicesFolder, id)
	}
	for id := range l.checks {
		l.mended(checksFolder, id)
	}
}

// isDamaged reports whether the definition of an ID could not be read. The lock
// is held.
func (r *Registry) isDamaged(folder, id string) bool {
	if len(r.damaged) == 0 {
		return false
	}
	name, old := fileNames(id)
	return r.damaged[folder+"/"+name] || r.damaged[folder+"/"+old]
}

func (r *Registry) hasDamaged(service string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.isDamaged(servicesFolder, service)
}

// mended forgets that the definition of an ID could not be read: it was
// registered again, or removed. The lock is held.
func (r *Registry) mended(folder, id string) {
	if len(r.damaged) == 0 {
		return
	}
	name, old := fileNames(id)
	delete(r.damaged, folder+"/"+name)
	delete(r.damaged, folder+"/"+old)
}
