package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/rpc"
)

// naming is what this agent has told the others of its cluster.
type naming struct {
	mu   sync.Mutex // held while they are told
	told [16]byte
	// due is sent a value when the cluster has just been given its ID.
	due chan struct{}
}

// tellCluster tells the other members which cluster this agent belongs to, unless
// they were told.
func (a *Agent) tellCluster() {
	a.naming.mu.Lock()
	defer a.naming.mu.Unlock()
	id := a.cluster()
	if id == a.naming.told {
		return
	}
	if err := a.pool.SetTags(clusterTags(a.pool.Self().Tags, id)); err != nil {
		a.logger.Warn("cannot tell the others which cluster this agent belongs to", "error", err)
		return
	}
	a.naming.told = id
}

// tellClusterSoon has that done without waiting for it.
func (a *Agent) tellClusterSoon() {
	select {
	case a.naming.due <- struct{}{}:
	default:
	}
}

// errStranger says that a server belongs to another cluster.
var errStranger = errors.New("two clusters cannot become one. To move an agent, stop it and start it with an empty data directory")

// belongs says why a server is and becomes no part of a cluster of some servers,
// judged by what it says of itself, or nil. One that knows no cluster and has an
// empty log may come to any. One with a log learns its cluster when a leader
// speaks to it, so until then it is judged by whom it had to do with.
func belongs(own string, servers []string, id string, s *peerStats) error {
	switch {
	case s.Cluster != "" && s.Cluster == own, s.Peers == 0 && s.LastIndex == 0 && s.Cluster == "":
		return nil
	case s.Cluster != "" && own != "":
		return fmt.Errorf("it belongs to cluster %s, this agent to cluster %s: %w", s.Cluster, own, errStranger)
	case slices.ContainsFunc(s.Voters, func(voter string) bool { return voter != id && slices.Contains(servers, voter) }):
		return nil
	case s.Cluster != "":
		return fmt.Errorf("it belongs to cluster %s, this agent to one that has no leader now, of the servers %s: %w", s.Cluster, strings.Join(servers, ", "), errStranger)
	case len(s.Voters) == 0:
		return fmt.Errorf("it has a log, and does not say of which cluster: %w", errStranger)
	}
	return fmt.Errorf("it belongs to another cluster, which has no leader now, of the servers %s: %w", strings.Join(s.Voters, ", "), errStranger)
}

// mayAdd asks a server and says why it is no part of this cluster and cannot become
// one, or nil. The error is no errStranger if that is not known yet.
func (a *Agent) mayAdd(ctx context.Context, id string) error {
	stats, err := a.statsOf(ctx, id)
	if refusal, ok := errors.AsType[*rpc.Refusal](err); ok && refusal.Status == rpc.StatusWrongCluster {
		stats, err = peerStats{Cluster: clusterText(refusal.HaveCluster)}, nil
	}
	if err != nil {
		a.part("server").Debug("a server does not say which cluster it belongs to", "id", id, "error", err)
		return fmt.Errorf("it does not say which cluster it belongs to: its server port at %s does not answer", a.serverAddress(id))
	}
	return belongs(clusterText(a.cluster()), a.ownServers(), id, &stats)
}

// ownServers are the IDs of the servers of this agent's cluster.
func (a *Agent) ownServers() (ids []string) {
	if a.node != nil {
		for _, p := range a.node.Peers() {
			ids = append(ids, p.ID)
		}
		return ids
	}
	own := a.cluster()
	for _, m := range a.pool.Members() {
		if id, ok := clusterOf(&m); ok && m.IsServer() && id == own {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// hasBegun reports whether this agent belongs to a cluster, though perhaps to one
// that has no leader yet, and so no ID.
func (a *Agent) hasBegun() bool {
	return a.cluster() != [16]byte{} || a.node != nil && len(a.node.Peers()) > 0
}

// joinPool makes the agent a member of the pool that an address belongs to. It does
// not call a success what ends as soon as both sides know that they are of two
// clusters: a server that has begun just now may not have told that yet.
func (a *Agent) joinPool(ctx context.Context, address string) error {
	a.awaitCluster(ctx)
	a.tellCluster()
	began := time.Now()
	if _, err := a.pool.Join(ctx, []string{address}); err != nil {
		return err
	}
	if err := a.findStranger(ctx, began); err != nil {
		return fmt.Errorf("Failed to join %s: %w", address, err)
	}
	return nil
}

// awaitCluster waits a moment for the ID of a cluster that has begun.
func (a *Agent) awaitCluster(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, strangerWait)
	defer cancel()
	for a.hasBegun() && a.cluster() == [16]byte{} {
		if pauseFor(ctx, strangerLook) != nil {
			return
		}
	}
}

// findStranger looks, after a join, for servers of another cluster: those that were
// dropped since it began, and those that do not say in their tags where they belong
// and are asked.
func (a *Agent) findStranger(ctx context.Context, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, strangerWait)
	defer cancel()
	judged := map[string]bool{}
	for {
		var found error
		waits := false
		unnamed := a.unnamed()
		for _, m := range unnamed[:min(len(unnamed), maxStrangers)] {
			if judged[m.ID] {
				continue
			}
			switch err := a.mayAdd(ctx, m.ID); {
			case err == nil:
				judged[m.ID] = true
			case errors.Is(err, errStranger):
				found = fmt.Errorf("%q at %s:%d: %w", m.Name, m.Addr, m.Port, err)
			default:
				waits = true
			}
		}
		// It names the cluster on the other side, if that is known by now.
		if dropped := a.pool.DroppedSince(began); dropped != nil {
			return dropped
		}
		if found != nil || !waits || pauseFor(ctx, strangerLook) != nil {
			return found
		}
	}
}

// unnamed lists the living servers whose tags do not tell which cluster they belong
// to, if it may be another one than this agent's.
func (a *Agent) unnamed() []gossip.Member {
	if !a.hasBegun() {
		return nil
	}
	own := a.ownServers()
	return slices.DeleteFunc(a.pool.Members(), func(m gossip.Member) bool {
		_, named := clusterOf(&m)
		return named || !m.IsServer() || m.Status != gossip.Alive || m.ID == a.id || slices.Contains(own, m.ID)
	})
}

// clusterText writes the ID of a cluster as tags have it; an unknown one is empty.
func clusterText(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return hex.EncodeToString(id[:])
}
