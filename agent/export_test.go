package agent

import "github.com/muster-sd/muster/agent/state"

// History is what the agent remembers of changes.
func (a *Agent) History() *state.History { return a.machine.History() }

// Waiting is how many readers wait now.
func (a *Agent) Waiting() int { return int(a.backend.waiting.Load()) }

// Woken is how often a waiting reader was woken by a change.
func (a *Agent) Woken() uint64 { return a.backend.woken.Load() }

// Encoded is how many answers were encoded for all who ask the same.
func (a *Agent) Encoded() uint64 { return a.handler.Encoded() }
