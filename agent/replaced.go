package agent

import "context"

// Kinds of events that agents tell each other of by gossip. The numbers cross the
// wire: never reuse, never renumber. Who does not know one takes no notice of it.
const (
	// eventReplaced: the state of the cluster whose ID it carries was replaced by an
	// archive's. What agents registered since that was taken is not in it.
	eventReplaced byte = 1
)

// tellReplaced has all agents compare what is registered with them with the catalog,
// which a restore has replaced.
func (a *Agent) tellReplaced() error {
	own := a.cluster()
	return a.pool.Broadcast(eventReplaced, own[:])
}

// heard is told each event once, from before the agent runs.
func (a *Agent) heard(kind byte, payload []byte) {
	if kind != eventReplaced {
		return
	}
	select {
	case a.replaced <- string(payload):
	default: // those before it do, if they are of this cluster
	}
}

// followReplaced compares what is registered with this agent with the catalog soon
// after that was replaced. A server sees it in its own state, too: that of a restore
// comes to every server, even if whoever carried it out died before it said so.
func (a *Agent) followReplaced(ctx context.Context) error {
	for {
		var gone <-chan struct{}
		if a.machine != nil {
			gone = a.machine.View().Gone()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-gone:
		case cluster := <-a.replaced:
			if own := a.cluster(); cluster != string(own[:]) {
				continue
			}
		}
		a.local.Replaced()
	}
}
