package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/kv/mvcc"
)

// openFounder makes what the first configuration comes from. A server in bootstrap
// mode that knows of nobody else begins at once, and so does one in dev mode, which
// keeps nothing and is to be no part of another cluster.
func (a *Agent) openFounder() error {
	a.founder = &founder{
		id: a.id, expects: a.config.BootstrapExpect, look: a.electorate, ask: a.askFounder, node: foundingRaft{a},
		woken: make(chan struct{}, 1), searched: make(chan struct{}),
		say: func(servers string) { a.part("server").Info("a new cluster begins", "servers", servers) },
	}
	a.founder.remembers = a.remembersOthers()
	if a.config.Dev || a.config.Bootstrap && len(a.config.RetryJoin) == 0 && !a.founder.remembers {
		return a.begins()
	}
	return nil
}

// begins makes this server the only one of a new cluster, if it has no data.
func (a *Agent) begins() error {
	if err := a.founder.begins(); err != nil {
		return fmt.Errorf("cannot begin as the only server: %w", err)
	}
	return nil
}

// remembersOthers reports whether the agent keeps members that it knew before.
func (a *Agent) remembersOthers() bool {
	if a.config.DataDir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(a.config.DataDir, memberFile))
	return err == nil
}

// expect waits until as many servers as are expected have found each other, and
// makes them the first voters of a cluster: see [founder]. It ends when this server
// has a configuration, however it came by it.
func (a *Agent) expect(ctx context.Context) error {
	try := a.founder.try
	switch {
	case a.config.Bootstrap:
		try = a.tryAlone(time.Now())
	case a.config.BootstrapExpect < 2:
		return nil
	}
	changed, cancel := a.pool.Subscribe()
	defer cancel()
	look := time.NewTicker(expectInterval)
	defer look.Stop()
	said := ""
	for len(a.node.Peers()) == 0 {
		if err := try(ctx); err != nil && err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			level := slog.LevelInfo
			switch {
			case errors.Is(err, errDisagree), errors.Is(err, errVoid), errors.Is(err, errPromised):
				level = slog.LevelError
			case errors.Is(err, errBeganBefore), errors.Is(err, errStuck):
				level = slog.LevelWarn
			}
			a.part("server").Log(ctx, level, said)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-look.C:
		case <-a.founder.woken:
		}
	}
	return nil
}

// electorate is what this server sees of the servers of its datacenter.
func (a *Agent) electorate() electorate {
	return electorateOf(a.id, a.config.BootstrapExpect, a.livingServers())
}

// electorateOf is what a server that expects a number sees in the servers that live,
// itself among them. It is the same in whatever order they are.
func electorateOf(self string, expects int, servers []gossip.Member) (out electorate) {
	want := strconv.Itoa(expects)
	var disagree []string
	for _, m := range servers {
		switch expects := m.Tags["expect"]; {
		case m.ID == self, expects == want:
			out.expecting = append(out.expecting, m.ID)
			continue
		case m.Tags["bootstrap"] != "":
			if out.begins == "" || m.Name < out.begins {
				out.begins = m.Name
			}
		case expects != "":
			disagree = append(disagree, m.Name+" expects "+strconv.Quote(expects))
		}
		// One that expects nothing is added by the leader later.
		out.others = append(out.others, m.ID)
	}
	slices.Sort(disagree)
	if n := len(disagree); n > maxDisagree {
		disagree = append(disagree[:maxDisagree], fmt.Sprintf("%d more expect other numbers", n-maxDisagree))
	}
	out.disagrees = strings.Join(disagree, ", ")
	slices.Sort(out.others)
	slices.Sort(out.expecting)
	out.expecting = slices.Compact(out.expecting)
	return out
}

// livingServers lists the servers of this datacenter that live.
func (a *Agent) livingServers() []gossip.Member {
	return slices.DeleteFunc(a.pool.Members(), func(m gossip.Member) bool {
		return !m.IsServer() || m.Tags["dc"] != a.config.Datacenter || m.Status != gossip.Alive
	})
}

// errBeganBefore says that a server in bootstrap mode finds a cluster.
var errBeganBefore = errors.New("bootstrap mode is set, but there is a cluster already: this server begins no other, and waits for the leader to add it")

// tryAlone returns what a server in bootstrap mode does that has addresses of
// others: it looks whether they are a cluster before it begins one.
func (a *Agent) tryAlone(since time.Time) func(context.Context) error {
	return func(ctx context.Context) error {
		var ids []string
		first := a.id
		for _, m := range a.livingServers() {
			if m.ID == a.id {
				continue
			}
			ids = append(ids, m.ID)
			if m.Tags["bootstrap"] != "" {
				first = min(first, m.ID)
			}
		}
		answers, err := a.founder.askAll(ctx, ids, foundingCall{Op: foundLook})
		for _, id := range slices.Sorted(maps.Keys(answers)) {
			if voters := answers[id].Voters; len(voters) > 0 {
				return fmt.Errorf("%w (its servers: %s)", errBeganBefore, strings.Join(voters, ", "))
			}
		}
		looked := time.Since(since)
		switch {
		case err != nil:
			return fmt.Errorf("bootstrap mode is set, but a server does not say whether it belongs to a cluster: %w", err)
		case first != a.id:
			return fmt.Errorf("bootstrap mode is set at several servers: server %s begins, and this one waits for it", first)
		case !a.founder.mayBegin(looked, a.meetsOthers()):
			return errors.New("bootstrap mode is set, and there are addresses of others: looking for a cluster before this server begins one")
		}
		a.part("server").Info("no server of a cluster was found, so this server begins one", "retry_join", a.config.RetryJoin, "looked", looked.Round(time.Millisecond))
		return a.begins()
	}
}

// meetsOthers reports whether another agent is known.
func (a *Agent) meetsOthers() bool {
	return slices.ContainsFunc(a.pool.Members(), func(m gossip.Member) bool { return m.ID != a.id })
}

// mayBegin reports whether a server in bootstrap mode that found no cluster has
// looked long enough. It need not look for long where nobody can be: if it knows of
// no other agent, and each address is its own or one at which nobody listens.
func (f *founder) mayBegin(looked time.Duration, meetsOthers bool) bool {
	select {
	case <-f.searched:
	default:
		return looked >= aloneLimit
	}
	return looked >= aloneLook || f.nobody && !f.remembers && !meetsOthers
}

// searchedAll is told once, when all addresses were tried to join for the first
// time, or there are none: the error is about those that did not answer.
func (a *Agent) searchedAll(err error) {
	f := a.founder
	if f == nil {
		return
	}
	f.nobody = allRefused(err)
	close(f.searched)
	f.wake()
}

// allRefused reports whether nobody listened at the addresses that an error of a
// join is about.
func allRefused(err error) bool {
	if err == nil {
		return true
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(several.Unwrap(), func(err error) bool { return !allRefused(err) })
	}
	// The pool has only the text of it; the second one is that of Windows.
	return strings.HasSuffix(err.Error(), "connection refused") || strings.HasSuffix(err.Error(), "actively refused it.")
}

// askFounder asks another server about the first configuration.
func (a *Agent) askFounder(ctx context.Context, id string, call foundingCall) (out foundingAnswer, err error) {
	query, err := json.Marshal(call)
	if err != nil {
		return out, err
	}
	err = a.remote.callJSON(ctx, id, append([]byte{callFound}, query...), &out)
	return out, startingOr(err)
}

// errStarting says that a server cannot be asked yet, as is usual when several
// start at the same time.
var errStarting = errors.New("it is still starting, and is asked again")

// startingOr puts the refusal of a server that does not answer calls yet in words
// that alarm nobody.
func startingOr(err error) error {
	if errors.Is(err, &rpc.Refusal{Status: rpc.StatusNotServed}) {
		return errStarting
	}
	return err
}

// founds answers such a question.
func (a *Agent) founds(body []byte, send func(rpc.Reply) error) error {
	call, err := parseFounding(body)
	if err != nil {
		return &mvcc.Error{Code: mvcc.Invalid, Text: err.Error()}
	}
	answer, err := a.founder.answer(call)
	if err != nil {
		return err
	}
	return sendJSON(send, answer)
}

// foundingRaft is what a founder needs of this server's Raft.
type foundingRaft struct{ a *Agent }

// Voters lists the voters of its configuration.
func (r foundingRaft) Voters() (ids []string) {
	for _, p := range r.a.node.Peers() {
		if p.Voter {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// LastIndex is that of its log.
func (r foundingRaft) LastIndex() uint64 { return r.a.node.Stats().LastLogIndex }

// Nonce names its Raft folder, for as long as it is fresh.
func (r foundingRaft) Nonce() string {
	nonce, _ := r.a.node.Fresh()
	return nonce
}

// Promise is what was kept last.
func (r foundingRaft) Promise() []byte { return r.a.node.Promise() }

// KeepPromise keeps one.
func (r foundingRaft) KeepPromise(b []byte) error { return r.a.node.KeepPromise(b) }

// BootstrapServers makes the first configuration.
func (r foundingRaft) BootstrapServers(ids []string) (bool, error) {
	return r.a.node.BootstrapServers(ids)
}
