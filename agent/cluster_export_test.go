package agent

import "time"

// Silence is for how long each other server has not answered this one, which
// leads; it is negative if one has not answered in this term.
func (a *Agent) Silence() map[string]time.Duration {
	out := map[string]time.Duration{}
	for id, p := range a.node.FollowerProgress() {
		out[id] = p.LastContact
	}
	return out
}

// SilentFor is from when on a silent server counts as one that does not answer.
func (a *Agent) SilentFor() time.Duration { return silentFor }
