package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
)

// Raft is what the leader changes in the configuration of servers. Servers are
// named by their node IDs.
type Raft interface {
	Servers() []RaftServer
	AddNonvoter(ctx context.Context, id string) error
	AddVoter(ctx context.Context, id string) error
	DemoteVoter(ctx context.Context, id string) error
	RemoveServer(ctx context.Context, id string) error
}

// RaftServer is a server of the configuration.
type RaftServer struct {
	ID    string
	Voter bool
}

// watchServers brings the configuration of Raft in line with the members at once,
// after each change of them, and now and then. It is a duty of its own, since a
// server that does not answer must not keep the catalog waiting.
func (d *Deps) watchServers(ctx context.Context) {
	if d.Raft == nil {
		return
	}
	kept := map[string]string{} // why servers are kept out, by ID, as it was logged
	d.onChange(ctx, "cannot bring the servers of Raft in line with the members", func() (time.Duration, error) {
		err := d.reconcileServers(ctx, kept)
		if len(kept) > 0 {
			return askAgain, err
		}
		return ReconcileInterval, err
	})
}

// reconcileServers brings the configuration of Raft in line with the members: a
// server that is alive and may belong to this cluster is in it, as a non-voter at
// first, and one that left is not. What failed is autopilot's to judge.
func (d *Deps) reconcileServers(ctx context.Context, kept map[string]string) error {
	inRaft := map[string]bool{}
	for _, s := range d.Raft.Servers() {
		inRaft[s.ID] = true
	}
	var errs []error
	living := map[string]bool{}
	members := d.Pool.Members()
	for _, m := range members {
		if m.IsServer() && m.Status == gossip.Alive {
			living[m.ID] = true
		}
	}
	for _, m := range members {
		switch {
		case !m.IsServer() || m.ID == d.Self().ID:
		case m.Status == gossip.Alive && !inRaft[m.ID]:
			if !d.mayAdd(ctx, &m, kept) {
				continue
			}
			d.Logger.Info("adding a server that joined, without a vote at first", "server", m.Name, "id", m.ID)
			errs = append(errs, d.bounded(ctx, func(ctx context.Context) error { return d.Raft.AddNonvoter(ctx, m.ID) }))
		case m.Status == gossip.Left && inRaft[m.ID] && !living[m.ID]:
			d.Logger.Info("removing a server that left", "server", m.Name, "id", m.ID)
			errs = append(errs, d.bounded(ctx, func(ctx context.Context) error { return d.Raft.RemoveServer(ctx, m.ID) }))
		}
	}
	for id := range kept {
		if !living[id] || inRaft[id] {
			delete(kept, id)
		}
	}
	return errors.Join(errs...)
}

// mayAdd reports whether a server that joined may become a part of this cluster. Why
// it may not is logged once, and again when that changes.
func (d *Deps) mayAdd(ctx context.Context, m *gossip.Member, kept map[string]string) bool {
	asking, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	err := d.MayAdd(asking, m.ID)
	if err == nil || ctx.Err() != nil {
		delete(kept, m.ID)
		return err == nil
	}
	if text := err.Error(); kept[m.ID] != text {
		kept[m.ID] = text
		d.Logger.Warn("a server that joined is not added to Raft", "server", m.Name, "id", m.ID, "reason", err)
	}
	return false
}

// bounded gives one change of the configuration its time.
func (d *Deps) bounded(ctx context.Context, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	return change(ctx)
}

// ServerStats is what a server says of itself.
type ServerStats struct {
	// Commit, LastIndex and LastTerm are of its log.
	Commit, LastIndex, LastTerm uint64
	// LastContact is how long ago it heard from the leader; zero on the leader.
	LastContact time.Duration
	// Fresh is the sign of a memory that was lost, or never was: while it is not
	// empty the server votes in no election, and Admit takes it back.
	Fresh string
	// Full is whether its disk has no room for writes.
	Full bool
}

// demoteFresh takes their vote from servers that lost their memory: they get it
// back once they have caught up.
func (d *Deps) demoteFresh(ctx context.Context, servers []RaftServer, stats map[string]ServerStats) {
	for _, s := range servers {
		if got, ok := stats[s.ID]; !ok || got.Fresh == "" || !s.Voter {
			continue
		}
		d.Logger.Warn("a server came back without its data: it follows without a vote until it has caught up", "id", s.ID)
		if err := d.bounded(ctx, func(ctx context.Context) error { return d.Raft.DemoteVoter(ctx, s.ID) }); err != nil {
			d.Logger.Warn("cannot take the vote of a server without its data", "id", s.ID, "error", err)
		}
	}
}

// promote gives a server that has been healthy for long enough its vote.
func (d *Deps) promote(ctx context.Context, id string, stats ServerStats) error {
	return d.bounded(ctx, func(ctx context.Context) error {
		if stats.Fresh != "" {
			if err := d.Admit(ctx, id, stats.Fresh); err != nil {
				return fmt.Errorf("cannot admit server %s: %w", id, err)
			}
		}
		return d.Raft.AddVoter(ctx, id)
	})
}
