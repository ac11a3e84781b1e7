package agent

import "github.com/muster-sd/muster/agent/state"

// History is what the agent remembers of changes, for tests.
func (a *Agent) History() *state.History { return a.machine.History() }
