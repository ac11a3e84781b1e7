package agent

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
)

// expect waits until as many servers as are expected have found each other, and
// makes them the first voters of a cluster. It ends when this server has a
// configuration, however it came by it.
//
// One of them, with the lowest ID, writes the first configuration. The others
// take the same one over when all servers in it say that nothing was ever
// committed, and nobody has another one: so one that lost its memory is not
// mistaken for one that never had any. Where exactly as many servers start as are
// expected, two first configurations cannot come about.
func (a *Agent) expect(ctx context.Context) error {
	if !a.config.Server || a.config.BootstrapExpect < 2 {
		return nil
	}
	changed, cancel := a.pool.Subscribe()
	defer cancel()
	look := time.NewTicker(expectInterval)
	defer look.Stop()
	said := ""
	for len(a.node.Peers()) == 0 {
		text := a.tryExpect(ctx)
		if text != "" && text != said {
			level := slog.LevelInfo
			if strings.HasPrefix(text, disagree) {
				level = slog.LevelError
			}
			a.part("server").Log(ctx, level, text)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		}
	}
	return nil
}

// disagree begins the line about servers that do not expect the same.
const disagree = "the servers do not expect the same number, so none of them begins a cluster: "

// tryExpect makes the first configuration if that can be done now, and says why
// it cannot.
func (a *Agent) tryExpect(ctx context.Context) string {
	want := strconv.Itoa(a.config.BootstrapExpect)
	var ids []string
	for _, m := range a.pool.Members() {
		if !m.IsServer() || m.Tags["dc"] != a.config.Datacenter || m.Status != gossip.Alive {
			continue
		}
		if m.Tags["bootstrap"] != "" {
			return "a member has bootstrap mode, so this server waits to be added: " + m.Name
		}
		if got := m.Tags["expect"]; got != want {
			return disagree + m.Name + " expects " + strconv.Quote(got) + ", this server " + want
		}
		ids = append(ids, m.ID)
	}
	if len(ids) < a.config.BootstrapExpect {
		return "waiting for servers: " + strconv.Itoa(len(ids)) + " of " + want + " are here"
	}
	slices.Sort(ids)
	stats := map[string]peerStats{}
	for _, id := range ids {
		limited, cancel := context.WithTimeout(ctx, statsLimit)
		s, err := a.statsOf(limited, id)
		cancel()
		if err != nil {
			return "a server does not say whether it belongs to a cluster: " + err.Error()
		}
		stats[id] = s
	}
	if voters := begun(stats); voters != nil {
		if !slices.Contains(voters, a.id) || !untouched(voters, stats) || !allAgree(voters, stats) {
			return "a cluster is there already: this server waits for its leader to add it"
		}
		ids = voters
	} else if ids[0] != a.id {
		return "" // the first one begins
	}
	if _, err := a.node.BootstrapServers(ids); err != nil {
		return "cannot begin a cluster: " + err.Error()
	}
	a.part("server").Info("a new cluster begins", "servers", ids)
	return ""
}

// allAgree reports whether every server that has a configuration has this one.
func allAgree(voters []string, stats map[string]peerStats) bool {
	for _, s := range stats {
		if len(s.Voters) > 0 && !slices.Equal(s.Voters, voters) {
			return false
		}
	}
	return true
}

// begun returns the voters of a configuration that one of the servers has, or nil.
func begun(stats map[string]peerStats) []string {
	for _, s := range stats {
		if len(s.Voters) > 0 {
			return s.Voters
		}
	}
	return nil
}

// untouched reports whether all voters of a first configuration are there and have
// nothing in their logs but it: nothing was ever committed, and no vote counts.
func untouched(voters []string, stats map[string]peerStats) bool {
	for _, id := range voters {
		s, ok := stats[id]
		if !ok || s.LastIndex > 1 || len(s.Voters) > 0 && !slices.Equal(s.Voters, voters) {
			return false
		}
	}
	return true
}
