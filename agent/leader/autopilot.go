package leader

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/state"
)

// ServerHealth is what autopilot holds of a server.
type ServerHealth struct {
	ID, Name, Address string
	Status            gossip.Status
	Version           string
	Stats             ServerStats
	Answered          bool // whether it said so in the last round
	Leader            bool
	Voter             bool
	Healthy           bool
	// StableSince is since when Healthy is what it is.
	StableSince time.Time
	Meta        map[string]string
}

// Report is what autopilot holds of all servers.
type Report struct {
	Healthy bool
	// FailureTolerance is how many healthy voters may fail without loss of the
	// quorum.
	FailureTolerance int
	Leader           string // its ID
	Servers          []ServerHealth
}

// Autopilot watches the servers while this server leads: [Run] does its rounds.
// Its report can be read by anybody. The zero value is ready.
type Autopilot struct {
	report atomic.Pointer[Report]
	mu     sync.Mutex
	stable map[string]stability // guarded by mu
	met    map[string]bool      // guarded by mu; IDs of members, over all reigns
}

// stability is since when a server is healthy, or not.
type stability struct {
	healthy bool
	since   time.Time
}

// Report returns the newest report, or nil before the first round.
func (p *Autopilot) Report() *Report { return p.report.Load() }

// Meet notes that a server was a member, or is known to have been one. If it is
// none any more, it was replaced or forgotten, and need not be waited for. Who
// leads has seen that, unless it was started since.
func (p *Autopilot) Meet(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.met == nil {
		p.met = map[string]bool{}
	}
	if len(p.met) < maxMet {
		p.met[id] = true
	}
}

func (p *Autopilot) hasMet(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met[id]
}

// forget drops what was known under an earlier leadership.
func (p *Autopilot) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Store(nil)
	p.stable = map[string]stability{}
}

// runAutopilot asks all servers how they are, gives a vote to those who have
// earned one, and removes the dead, until ctx ends.
func (d *Deps) runAutopilot(ctx context.Context) {
	if d.Autopilot == nil {
		return
	}
	d.Autopilot.forget()
	defer d.Autopilot.forget()
	tick := time.NewTicker(StatsInterval)
	defer tick.Stop()
	cleaned := d.Now()
	for {
		stats := d.collect(ctx)
		servers := d.Raft.Servers()
		d.demoteFresh(ctx, servers, stats)
		report := d.judge(servers, stats)
		d.Autopilot.report.Store(report)
		d.promoteStable(ctx, report)
		if now := d.Now(); now.Sub(cleaned) >= CleanupInterval {
			cleaned = now
			if d.Config().CleanupDeadServers {
				d.cleanUp(ctx, report)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// collect asks all servers of the configuration at once.
func (d *Deps) collect(ctx context.Context) map[string]ServerStats {
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	var (
		mu  sync.Mutex
		wg  sync.WaitGroup
		out = map[string]ServerStats{}
	)
	for _, s := range d.Raft.Servers() {
		wg.Go(func() {
			stats, err := d.Stats(ctx, s.ID)
			if err != nil {
				d.Logger.Debug("a server does not say how it is", "id", s.ID, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[s.ID] = stats
		})
	}
	wg.Wait()
	return out
}

// judge says of each server whether it is healthy, and of the whole what it can
// bear.
func (d *Deps) judge(servers []RaftServer, stats map[string]ServerStats) *Report {
	config, self := d.Config(), d.Self().ID
	mine := stats[self]
	members := map[string]gossip.Member{}
	for _, m := range d.Pool.Members() {
		if other, ok := members[m.ID]; m.IsServer() && (!ok || other.Status != gossip.Alive) {
			members[m.ID] = m
		}
	}
	report := &Report{Healthy: true, Leader: self}
	voters, healthy := 0, 0
	for _, s := range servers {
		m := members[s.ID]
		h := ServerHealth{ID: s.ID, Name: m.Name, Address: d.Address(s.ID), Status: m.Status, Voter: s.Voter, Leader: s.ID == self, Meta: map[string]string{}}
		h.Version = versionOf(&m)
		h.Stats, h.Answered = stats[s.ID]
		// Who has no room for writes keeps its vote, and what it has, but can neither
		// lead nor take the place of one that fails.
		h.Healthy = h.Answered && m.Status == gossip.Alive && !h.Stats.Full &&
			h.Stats.LastContact <= config.LastContactThreshold && h.Stats.LastTerm == mine.LastTerm &&
			h.Stats.LastIndex+config.MaxTrailingLogs >= mine.LastIndex
		h.StableSince = d.Autopilot.since(s.ID, h.Healthy, d.Now())
		if s.Voter {
			voters++
			if h.Healthy {
				healthy++
			}
		}
		report.Healthy = report.Healthy && h.Healthy
		report.Servers = append(report.Servers, h)
	}
	report.FailureTolerance = max(0, healthy-(voters/2+1))
	d.Autopilot.keepOnly(servers)
	slices.SortFunc(report.Servers, func(a, b ServerHealth) int { return cmp.Compare(a.ID, b.ID) })
	return report
}

// since returns since when a server is what it is now.
func (p *Autopilot) since(id string, healthy bool, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.stable[id]
	if !ok || was.healthy != healthy {
		was = stability{healthy, now}
		p.stable[id] = was
	}
	return was.since
}

// keepOnly forgets servers that are not in the configuration any more.
func (p *Autopilot) keepOnly(servers []RaftServer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.stable {
		if !slices.ContainsFunc(servers, func(s RaftServer) bool { return s.ID == id }) {
			delete(p.stable, id)
		}
	}
}

// promoteStable gives their vote to servers that were healthy for long enough.
func (d *Deps) promoteStable(ctx context.Context, report *Report) {
	wait := d.Config().ServerStabilizationTime
	for _, s := range report.Servers {
		if s.Voter || !s.Healthy || d.Now().Sub(s.StableSince) < wait {
			continue
		}
		d.Logger.Info("a server has caught up and gets its vote", "server", s.Name, "id", s.ID)
		if err := d.promote(ctx, s.ID, s.Stats); err != nil {
			d.Logger.Warn("cannot give a server its vote", "server", s.Name, "id", s.ID, "error", err)
		}
	}
}

// cleanUp removes dead servers as far as that is safe: those without a vote, or
// without a member, at once; voters that failed only while enough others stay.
func (d *Deps) cleanUp(ctx context.Context, report *Report) {
	voters := 0
	for _, s := range report.Servers {
		if s.Voter {
			voters++
		}
	}
	allowed := (voters - 1) / 2
	minimum := int(d.Config().MinQuorum)
	var dead []ServerHealth
	for _, s := range report.Servers {
		gone := s.Status == gossip.None && (d.Autopilot.hasMet(s.ID) || d.settled()) || s.Status == gossip.Left
		switch {
		case s.Leader || s.Answered:
		case s.Status == gossip.Failed && !s.Voter, gone && !s.Voter:
			d.remove(ctx, &s)
		case gone:
			// A voter without a member counts among the dead, but goes first.
			dead = slices.Insert(dead, 0, s)
		case s.Status == gossip.Failed:
			dead = append(dead, s)
		}
	}
	for _, s := range dead {
		if allowed == 0 || voters-1 < max(minimum, 1) {
			return
		}
		allowed--
		voters--
		d.remove(ctx, &s)
	}
}

// remove takes a dead server out of the pool, if it is there, and out of the
// configuration.
func (d *Deps) remove(ctx context.Context, s *ServerHealth) {
	d.Logger.Info("removing a dead server", "server", s.Name, "id", s.ID)
	if s.Name != "" && s.Status == gossip.Failed {
		if err := d.ForceLeave(ctx, s.Name); err != nil {
			d.Logger.Warn("cannot make a dead server leave", "server", s.Name, "error", err)
		}
	}
	if err := d.bounded(ctx, func(ctx context.Context) error { return d.Raft.RemoveServer(ctx, s.ID) }); err != nil {
		d.Logger.Warn("cannot remove a dead server", "server", s.Name, "id", s.ID, "error", err)
	}
}

// keepAutopilotConfig writes the configuration from files if none is stored.
func (d *Deps) keepAutopilotConfig(ctx context.Context) error {
	if d.Autopilot == nil {
		return nil
	}
	if _, ok := d.View().Autopilot(); ok {
		return nil
	}
	return d.Apply(ctx, &state.SetAutopilot{Config: d.Initial, CAS: true})
}

// Config is the configuration of autopilot that is in force.
func (d *Deps) Config() state.AutopilotConfig {
	if stored, ok := d.View().Autopilot(); ok {
		return stored
	}
	return d.Initial
}
