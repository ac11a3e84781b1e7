package local

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Catalog is what keeping the catalog true needs of the cluster.
type Catalog interface {
	NodeServices(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error)
	NodeChecks(ctx context.Context, o mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error)
	Register(ctx context.Context, dc string, r *health.Register) error
	Deregister(ctx context.Context, dc string, d *catalog.Deregister) error
}

// Config is what a registry is made of.
type Config struct {
	// Node is this agent's node as it has to stand in the catalog.
	Node catalog.Node
	// DataDir is where registrations are kept; empty keeps none.
	DataDir string
	// CheckUpdateInterval holds back changes of output alone, by half of it and a
	// random time up to it. Zero holds back nothing.
	CheckUpdateInterval time.Duration
	// CheckOutputMaxSize bounds the output of checks in bytes; zero means
	// [check.DefaultOutputMaxSize].
	CheckOutputMaxSize int
	// DiscardCheckOutput keeps no output at all, until the registry is told
	// otherwise.
	DiscardCheckOutput bool
	// EnableScriptChecks allows checks that run commands from any source,
	// EnableLocalScripts only those from files.
	EnableScriptChecks bool
	EnableLocalScripts bool
	// KeepForeign leaves alone what others wrote in the catalog under this node.
	// Otherwise it is removed, as clients know it. It is reported in both cases.
	KeepForeign bool
	// CheckTLS returns what checks with TLS stand on, see [check.Options]. It may
	// be nil, and return nil.
	CheckTLS func() *tls.Config
	// CheckRan is told of each run of a check, by its kind; CheckTurned of each
	// change of a check's status, with the check as it is now. Both may be nil, are
	// called by many goroutines at once, and must not call the registry.
	CheckRan    func(kind string, status health.Status, took time.Duration)
	CheckTurned func(now *health.Check, before health.Status)
	// Members returns the size of the cluster, by which full syncs are spread. It
	// may be nil.
	Members func() int
	// Cluster names the cluster that this agent belongs to, and is empty while that
	// is not known. When it changes, [Registry.Moved] is to be called. It may be nil.
	Cluster func() string
	Logger  *slog.Logger
}

// Registry holds the services and checks of this agent. Its methods may be
// called at once from many goroutines.
type Registry struct {
	cfg   Config
	store *store
	// discard says that the output of checks is not kept.
	discard atomic.Bool

	// change is held for writing while services and checks come and go, and for
	// reading while a TTL check is updated: no runner is stopped meanwhile. It is
	// taken before mu, never after.
	change  sync.RWMutex
	running bool    // the checks of the registry are carried out
	loaded  bool    // persisted definitions have been read
	catalog Catalog // while running

	// states orders the writers of the state of a TTL check, each lock for a part
	// of the checks. One is taken after change, or without it.
	states [stateLocks]sync.Mutex

	// mu guards all below, for short times only: no I/O, no call of a runner.
	mu       sync.Mutex
	node     catalog.Node
	nodeSync bool
	services map[string]*service
	checks   map[string]*localCheck
	// goneServices and goneChecks still have to be taken from the catalog. The
	// number tells one removal of an ID from the next.
	goneServices map[string]int
	goneChecks   map[string]int
	removals     int
	// askers are those who asked for the next write of an entry, see asked.
	askers map[entry]mvcc.Origin
	// damaged are the files of definitions that could not be read, by folder and
	// name. What they stand for is left alone in the catalog.
	damaged  map[string]bool
	reported map[string]uint64 // findings of the last comparison, see findings
	bells    bells
	waiting  []chan struct{} // closed after the next push
	syncing  bool            // the syncer runs
	soon     bool            // it will be woken by wakeSoon

	doubt bool // the catalog turned out to lack what it was thought to have

	// home is the cluster whose catalog was compared last; of the syncer alone.
	home     string
	wake     chan struct{} // something has to be pushed
	serverUp chan struct{} // a comparison is due soon
	moved    chan struct{} // one is due at once: the catalog is another
	replaced chan struct{} // one is due soon: the catalog is not what it was
}

// service is an instance and what the registry knows of it.
type service struct {
	row      *catalog.Service // shared: replaced, never written to
	declared []string         // the tags as they were registered
	token    string
	fromFile bool
	synced   bool // or refused, so that there is nothing to do until the next full sync
	refused  bool
}

// localCheck is a check and what the registry knows of it.
type localCheck struct {
	row      *health.Check // shared: replaced, never written to
	def      check.Definition
	fromFile bool
	synced   bool // as that of a service
	refused  bool
	// critical is when the check turned critical, zero while it is not.
	critical time.Time
	// since is when the status changed last, and turns when it did before; both as
	// this process saw it.
	since time.Time
	turns []time.Time
	// spoke is that this process has seen the check say something since it was
	// registered, be it by a run or by a client.
	spoke bool
	// later writes a change of output alone to the catalog, at due; nil if none
	// waits.
	later *time.Timer
	due   time.Time
	// caller is who sets the status of a TTL check right now, to called.
	caller mvcc.Origin
	called health.Status
	// runner carries the check out; guarded by change.
	runner *check.Runner
}

// New returns a registry that holds nothing yet; see [Registry.Load].
func New(cfg Config) (*Registry, error) {
	s, err := openStore(cfg.DataDir, cfg.Logger)
	if err != nil {
		return nil, err
	}
	r := &Registry{
		cfg:          cfg,
		store:        s,
		node:         cfg.Node,
		services:     map[string]*service{},
		checks:       map[string]*localCheck{},
		goneServices: map[string]int{},
		goneChecks:   map[string]int{},
		askers:       map[entry]mvcc.Origin{},
		damaged:      map[string]bool{},
		bells:        bells{},
		wake:         make(chan struct{}, 1),
		serverUp:     make(chan struct{}, 1),
		moved:        make(chan struct{}, 1),
		replaced:     make(chan struct{}, 1),
	}
	r.discard.Store(cfg.DiscardCheckOutput)
	return r, nil
}

// DiscardCheckOutput says whether the output of checks is kept from their next
// run on.
func (r *Registry) DiscardCheckOutput(discard bool) { r.discard.Store(discard) }

// Services returns the instances by ID. They are shared: nobody may write to
// them.
func (r *Registry) Services() []*catalog.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*catalog.Service, 0, len(r.services))
	for _, s := range r.services {
		out = append(out, s.row)
	}
	slices.SortFunc(out, func(a, b *catalog.Service) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Checks returns the checks by ID. They are shared: nobody may write to them.
func (r *Registry) Checks() []*health.Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*health.Check, 0, len(r.checks))
	for _, c := range r.checks {
		out = append(out, c.row)
	}
	slices.SortFunc(out, func(a, b *health.Check) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Stats returns the numbers that operators read under "agent".
func (r *Registry) Stats() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	monitors, ttls := 0, 0
	for _, c := range r.checks {
		switch c.def.Kind() {
		case check.TTL:
			ttls++
		case "":
		default:
			monitors++
		}
	}
	return map[string]string{
		"services":       strconv.Itoa(len(r.services)),
		"checks":         strconv.Itoa(len(r.checks)),
		"check_monitors": strconv.Itoa(monitors),
		"check_ttls":     strconv.Itoa(ttls),
	}
}

// SetNode replaces what has to stand in the catalog about the node itself,
// whose name must not change.
func (r *Registry) SetNode(n catalog.Node) {
	r.mu.Lock()
	r.node, r.nodeSync = n, false
	r.mu.Unlock()
	r.wakeSyncer()
}

// plan is a change of the registry: what comes or is replaced, and what goes.
type plan struct {
	services     map[string]*service
	checks       map[string]*localCheck
	goneServices []string
	goneChecks   []string
	files        edit
	// reload lets the time of a TTL check go on. A client that registers one again
	// begins it anew.
	reload bool
}

func newPlan() *plan {
	return &plan{services: map[string]*service{}, checks: map[string]*localCheck{}}
}

// carryOut makes a plan true: on disk first, so that what was confirmed is not
// lost, then in memory in one step, so that nobody sees half of it. The change
// lock is held.
func (r *Registry) carryOut(p *plan) error {
	if err := r.store.apply(&p.files); err != nil {
		return err
	}
	for _, id := range p.goneChecks {
		r.stopRunner(id)
	}
	for id, c := range p.checks {
		if old := r.checks[id]; old != nil && !keepRunner(old, c, p.reload) {
			r.stopRunner(id)
		}
	}
	r.swap(p)
	for _, id := range p.goneChecks {
		r.forgetState(id)
	}
	if r.running {
		for _, c := range p.checks {
			r.startRunner(c)
		}
	}
	r.wakeSyncer()
	return nil
}

// keepRunner hands a runner over to the same check registered anew, and reports
// whether it could: a client that registers often must not keep the check from
// ever being run.
func keepRunner(old, now *localCheck, reload bool) bool {
	if old.runner == nil || (old.def.Kind() == check.TTL && !reload) || !sameProbe(&old.def, &now.def) {
		return false
	}
	now.runner, old.runner = old.runner, nil
	return true
}

func (r *Registry) stopRunner(id string) {
	if c := r.checks[id]; c != nil && c.runner != nil {
		c.runner.Stop()
		c.runner = nil
	}
}

// swap puts the rows of a plan in place. A check that was there before keeps
// the status and output that it has at this moment.
func (r *Registry) swap(p *plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range p.goneServices {
		delete(r.services, id)
		r.removals++
		r.goneServices[id] = r.removals
		r.mended(servicesFolder, id)
		r.bells.ring(bell{definitionOf, id})
		r.bells.ring(bell{healthOf, id})
	}
	for id, s := range p.services {
		old := r.services[id]
		if old != nil {
			s.inherit(old)
		}
		if old == nil || !old.row.Equal(s.row) {
			r.bells.ring(bell{definitionOf, id})
			r.bells.ring(bell{healthOf, id})
		}
		r.services[id] = s
		delete(r.goneServices, id)
		r.mended(servicesFolder, id)
	}
	for _, id := range p.goneChecks {
		c := r.checks[id]
		c.stopTimer()
		delete(r.checks, id)
		r.bells.ring(bell{healthOf, c.row.ServiceID})
		if _, ok := r.goneServices[c.row.ServiceID]; !ok { // else it goes with its service
			r.removals++
			r.goneChecks[id] = r.removals
		}
	}
	for id, c := range p.checks {
		if old := r.checks[id]; old != nil {
			c.inherit(old)
			if !old.due.IsZero() && c.synced {
				r.holdBack(c, time.Until(old.due))
			}
			r.bells.ring(bell{healthOf, old.row.ServiceID})
		} else {
			c.since = time.Now()
			if c.row.Status == health.Critical {
				c.critical = c.since
			}
		}
		r.bells.ring(bell{healthOf, c.row.ServiceID})
		r.checks[id] = c
		delete(r.goneChecks, id)
		r.mended(checksFolder, id)
	}
	r.followServices(p)
}

// inherit takes over the tags that others gave the instance in the catalog, if
// it allows that.
func (s *service) inherit(old *service) {
	if s.row.EnableTagOverride && old.row.EnableTagOverride && !slices.Equal(old.row.Tags, old.declared) {
		row := *s.row
		row.Tags = old.row.Tags
		s.row = &row
	}
	s.synced, s.refused = old.synced && old.row.Equal(s.row), old.refused
}

// inherit takes over what an earlier registration of the same check has come to.
func (c *localCheck) inherit(old *localCheck) {
	old.stopTimer()
	row := *c.row
	row.Status, row.Output = old.row.Status, old.row.Output
	c.row = &row
	c.critical, c.since, c.turns = old.critical, old.since, old.turns
	c.spoke = old.spoke && sameProbe(&old.def, &c.def)
	c.synced, c.refused = old.synced && old.row.Equal(&row), old.refused
}

// followServices gives the checks of each service in the plan its name and
// tags.
func (r *Registry) followServices(p *plan) {
	if len(p.services) == 0 {
		return
	}
	for _, c := range r.checks {
		s := p.services[c.row.ServiceID]
		if s == nil || (c.row.ServiceName == s.row.Name && slices.Equal(c.row.ServiceTags, s.row.Tags)) {
			continue
		}
		row := *c.row
		row.ServiceName, row.ServiceTags = s.row.Name, s.row.Tags
		c.row, c.synced = &row, false
	}
}

func (c *localCheck) stopTimer() {
	if c.later != nil {
		c.later.Stop()
	}
}

// noLonger ends the wait of a change of output. The registry's lock is held.
func (c *localCheck) noLonger() {
	c.stopTimer()
	c.later, c.due = nil, time.Time{}
}

// newService is an instance as it stands in the registry.
func (r *Registry) newService(reg *check.Registration, fromFile bool) *service {
	row := reg.Service
	row.Node = r.cfg.Node.Name
	row.Tags = slices.Clone(row.Tags)
	if row.Tags == nil {
		row.Tags = []string{}
	}
	row.TaggedAddresses, row.Meta = maps.Clone(row.TaggedAddresses), maps.Clone(row.Meta)
	row.CreateIndex, row.ModifyIndex = 0, 0
	return &service{row: &row, declared: row.Tags, token: reg.Token, fromFile: fromFile}
}

// newCheck is a check as it stands in the registry. A check that came inside a
// service shows no interval where it has none.
func (r *Registry) newCheck(d check.Definition, s *catalog.Service, embedded, fromFile bool) *localCheck {
	row := &health.Check{
		Node: r.cfg.Node.Name, ID: d.ID, Name: d.Name, Status: d.Status, Notes: d.Notes, ServiceID: d.ServiceID,
		ServiceTags: []string{}, Type: d.Kind(), Interval: d.Interval.String(), Timeout: d.Timeout.String(),
	}
	if embedded && d.Interval == 0 {
		row.Interval = ""
	}
	if embedded && d.Timeout == 0 {
		row.Timeout = ""
	}
	if s != nil {
		row.ServiceName, row.ServiceTags = s.Name, s.Tags
	} else if fromFile {
		row.Type = "" // as clients know it of checks of the node
	}
	return &localCheck{row: row, def: d, fromFile: fromFile}
}

// allow reports why this agent does not carry out a check.
func (r *Registry) allow(d *check.Definition, fromFile bool) error {
	if d.RunsCommand() {
		switch {
		case r.cfg.EnableScriptChecks, fromFile && r.cfg.EnableLocalScripts:
		case fromFile:
			return &mvcc.Error{Code: mvcc.Internal, Text: "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"}
		default:
			return &mvcc.Error{Code: mvcc.Internal, Text: "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"}
		}
	}
	if err := check.Available(d.Kind()); err != nil {
		return err
	}
	if after := d.DeregisterCriticalServiceAfter; after > 0 && after < check.MinDeregisterAfter {
		r.cfg.Logger.Warn(logShortDeregister, "check", d.ID, "given", after, "minimum", check.MinDeregisterAfter)
	}
	return nil
}

// room reports whether the registry has room for a plan.
func (r *Registry) room(p *plan) error {
	services, checks := len(r.services), len(r.checks)
	for id := range p.services {
		if r.services[id] == nil {
			services++
		}
	}
	for id := range p.checks {
		if r.checks[id] == nil {
			checks++
		}
	}
	switch services, checks := services-len(p.goneServices), checks-len(p.goneChecks); {
	case services > MaxServices:
		return tooLarge("%d services are more than the %d that one agent may have", services, MaxServices)
	case checks > MaxChecks:
		return tooLarge("%d checks are more than the %d that one agent may have", checks, MaxChecks)
	}
	return nil
}

func tooLarge(format string, args ...any) error {
	return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) error {
	return &mvcc.Error{Code: mvcc.Unknown, Text: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf(format, args...)}
}
