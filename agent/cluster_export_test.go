package agent

import "time"

// Silence is for how long each other server has not answered this one, which
// leads.
func (a *Agent) Silence() map[string]time.Duration {
	out := map[string]time.Duration{}
	for id, p := range a.node.FollowerProgress() {
		out[id] = p.LastContact
	}
	return out
}
