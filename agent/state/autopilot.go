package state

import (
	"fmt"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// factAutopilot names the fact that holds the configuration of autopilot.
const factAutopilot = "autopilot"

// AutopilotConfig is how the servers are looked after (Consul API documentation,
// page "Operator: Autopilot").
type AutopilotConfig struct {
	// CleanupDeadServers removes failed servers when the others can do without.
	CleanupDeadServers bool `codec:"CleanupDeadServers"`
	// LastContactThreshold is how long a healthy server may not have heard from
	// the leader.
	LastContactThreshold time.Duration `codec:"LastContactThreshold"`
	// MaxTrailingLogs is how many log entries a healthy server may be behind.
	MaxTrailingLogs uint64 `codec:"MaxTrailingLogs"`
	// MinQuorum is how many voters clean-up must leave.
	MinQuorum uint64 `codec:"MinQuorum"`
	// ServerStabilizationTime is how long a server must be healthy before it
	// votes.
	ServerStabilizationTime time.Duration `codec:"ServerStabilizationTime"`
	// The next three are kept for clients and mean nothing to Muster.
	RedundancyZoneTag       string `codec:"RedundancyZoneTag"`
	DisableUpgradeMigration bool   `codec:"DisableUpgradeMigration"`
	UpgradeVersionTag       string `codec:"UpgradeVersionTag"`
	// CreateIndex and ModifyIndex are the Raft indexes of the first and the last
	// write.
	CreateIndex uint64 `codec:"CreateIndex"`
	ModifyIndex uint64 `codec:"ModifyIndex"`
}

// DefaultAutopilot returns the configuration that holds while none was written.
func DefaultAutopilot() AutopilotConfig {
	return AutopilotConfig{
		CleanupDeadServers:      true,
		LastContactThreshold:    200 * time.Millisecond,
		MaxTrailingLogs:         250,
		ServerStabilizationTime: 10 * time.Second,
	}
}

// Autopilot asks for the configuration of autopilot. The answer is an
// *[AutopilotConfig], nil if none was written yet.
type Autopilot struct{}

// Autopilot returns the configuration of autopilot, or the default and false
// while none was written.
func (v *View) Autopilot() (AutopilotConfig, bool) {
	if c := v.autopilot(nil); c != nil {
		return *c, true
	}
	return DefaultAutopilot(), false
}

func (v *View) autopilot(w *mvcc.Watch) *AutopilotConfig {
	f, ok := v.facts.Get(factAutopilot, w)
	if !ok {
		return nil
	}
	return mustReadAutopilot(f)
}

// readAutopilot reads what setAutopilot wrote.
func readAutopilot(f *Fact) (*AutopilotConfig, error) {
	c := new(AutopilotConfig)
	return c, decodeBody(f.Value, c)
}

// mustReadAutopilot reads a row of a view, which was looked at when it came in.
func mustReadAutopilot(f *Fact) *AutopilotConfig {
	c, err := readAutopilot(f)
	if err != nil {
		panic(fmt.Sprintf("state: cannot read the configuration of autopilot: %v", err))
	}
	return c
}

// answerAutopilot answers an [Autopilot].
func (v *View) answerAutopilot(w *mvcc.Watch) (Answer, error) {
	c := v.autopilot(w)
	if c == nil {
		return Answer{Value: c, Index: 1, Missing: true}, nil
	}
	return Answer{Value: c, Index: max(c.ModifyIndex, 1)}, nil
}

// setAutopilot carries out a [SetAutopilot] and reports whether it wrote.
func (tx *Txn) setAutopilot(c *SetAutopilot) bool {
	next := c.Config
	next.CreateIndex, next.ModifyIndex = tx.index, tx.index
	var modified uint64
	if f, ok := tx.Facts().Get(factAutopilot); ok {
		old := mustReadAutopilot(f)
		next.CreateIndex, modified = old.CreateIndex, old.ModifyIndex
	}
	if c.CAS && c.Index != modified {
		return false
	}
	rows := newRowEncoder()
	rows.enc.MustEncode(&next)
	tx.Facts().Set(factAutopilot, &Fact{Name: factAutopilot, Value: rows.body})
	return true
}
