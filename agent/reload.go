package agent

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/consensus"
)

// Reread reads the configuration again, as it is now, and takes over what may
// change. Those who ask at the same time are served one after the other, so that
// what was read last is what counts. See [Agent.Reload].
func (a *Agent) Reread() (config.Report, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.load == nil {
		return config.Report{}, errors.New("this agent cannot read its configuration again")
	}
	c, err := a.load()
	if err != nil {
		return config.Report{}, err
	}
	for _, warning := range c.Warnings {
		a.logger.Warn(warning)
	}
	return a.takeOver(c)
}

// Reload takes over what may change while the agent runs, all or nothing: from a
// configuration of which one part cannot be accepted, no part is. The report
// names what was taken over and what waits for a restart, and the log has a line
// for each.
func (a *Agent) Reload(c *config.Config) (config.Report, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.takeOver(c)
}

// takeOver is Reload for who holds the lock.
func (a *Agent) takeOver(c *config.Config) (config.Report, error) {
	old := a.running.Load()
	if err := inTurn(a.refusing(), old, c); err != nil {
		return config.Report{}, err
	}
	a.follow(c)
	a.running.Store(c)
	report := config.Compare(a.config, old, c)
	log := a.part("reload")
	for _, change := range report.Applied {
		log.Info(PhraseReloaded, "key", change.Key, "change", change.Text)
	}
	for _, change := range report.Restart {
		log.Warn(PhraseNeedsRestart, "key", change.Key, "change", change.Text)
	}
	// Last, so that the lines above are written as the level was.
	if a.level != nil {
		a.level.Set(c.LogLevel)
	}
	return report, nil
}

// refusing are the parts that take their settings from a configuration and may
// refuse. Each leaves everything as it was when it fails.
func (a *Agent) refusing() []func(*config.Config) error {
	var parts []func(*config.Config) error
	if a.dns != nil {
		parts = append(parts, func(c *config.Config) error { return a.dns.Reload(dnsSettings(c)) })
	}
	if a.node != nil {
		parts = append(parts, func(c *config.Config) error { return a.node.Tune(raftTuning(c)) })
	}
	// Definitions come last: what they start, and take from the catalog, cannot be
	// undone.
	return append(parts, func(c *config.Config) error { return a.local.Load(c.Services, c.Checks) })
}

// inTurn gives a configuration to one part after the other. If one refuses, those
// before it are given the old one again.
func inTurn(parts []func(*config.Config) error, old, next *config.Config) error {
	for i, part := range parts {
		err := part(next)
		if err == nil {
			continue
		}
		for _, before := range parts[:i] {
			if undo := before(old); undo != nil {
				err = errors.Join(err, fmt.Errorf("cannot go back to what was before: %w", undo))
			}
		}
		return err
	}
	return nil
}

// follow lets the parts that cannot refuse have their settings.
func (a *Agent) follow(c *config.Config) {
	// A node that is what it was needs no write to the catalog.
	if n := selfNode(a.withMeta(c), a.id); !reflect.DeepEqual(n, *a.self.Load()) {
		a.setSelf(n)
		a.local.SetNode(n)
	}
	a.local.DiscardCheckOutput(c.DiscardCheckOutput)
	a.handler.SetDebug(c.EnableDebug)
	for _, l := range a.sockets.HTTP {
		if limited, ok := l.(*limitedListener); ok {
			limited.SetLimit(c.HTTPMaxConnsPerClient)
		}
	}
	a.remote.follow(c)
	if a.mux != nil {
		a.backend.limits.follow(c)
		a.mux.SetConnsPerClient(c.RPCMaxConnsPerClient)
	}
}

// raftTuning are the settings of Raft that may change.
func raftTuning(c *config.Config) consensus.Tuning {
	return consensus.Tuning{
		SnapshotThreshold: uint64(c.RaftSnapshotThreshold),
		SnapshotInterval:  c.RaftSnapshotInterval,
		TrailingLogs:      uint64(c.RaftTrailingLogs),
	}
}

// withMeta is the configuration as the agent was started with it, with the
// node's metadata of c.
func (a *Agent) withMeta(c *config.Config) *config.Config {
	next := *a.config
	next.NodeMeta = c.NodeMeta
	return &next
}
