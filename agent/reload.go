package agent

import (
	"errors"
	"strings"

	"github.com/muster-sd/muster/agent/config"
)

// Reload takes over what may change while the agent runs: services and checks
// from files, the node's metadata, DNS settings and the log level. Nothing is
// taken over from a configuration whose definitions cannot be accepted. Settings
// that need a restart are named in the log and stay as they are.
func (a *Agent) Reload(c *config.Config) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.dns != nil {
		if err := a.dns.Reload(dnsSettings(c)); err != nil {
			return err
		}
	}
	if err := a.local.Load(c.Services, c.Checks); err != nil {
		if a.dns != nil {
			err = errors.Join(err, a.dns.Reload(dnsSettings(a.running)))
		}
		return err
	}
	a.running = c
	a.setSelf(selfNode(a.withMeta(c), a.id))
	a.local.SetNode(*a.self.Load())
	if keys := config.NeedsRestart(a.config, c); len(keys) > 0 {
		a.logger.Warn("These settings changed and need a restart", "keys", strings.Join(keys, ","))
	}
	if a.level != nil {
		a.level.Set(c.LogLevel)
	}
	return nil
}

// withMeta is the configuration as the agent runs it, with the node's metadata
// of c.
func (a *Agent) withMeta(c *config.Config) *config.Config {
	next := *a.config
	next.NodeMeta = c.NodeMeta
	return &next
}
