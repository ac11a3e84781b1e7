package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
)

// threeServers starts a cluster, and waits until all of it votes.
func threeServers(t *testing.T) []*agentProcess {
	t.Helper()
	var servers []*agentProcess
	first := ""
	for i := 1; i <= 3; i++ {
		s := newSettings(t, "")
		if first == "" {
			first = fmt.Sprintf("127.0.0.1:%d", s.ports.lan)
		}
		servers = append(servers, launch(t, s, fmt.Sprintf("-node=n%d", i), "-bootstrap-expect=3", "-retry-join="+first, "-retry-interval=1s"))
	}
	for _, p := range servers {
		p.awaitLeader(t)
	}
	servers[0].expectPeers(t, 3)
	return servers
}

// expectPeers waits until so many servers vote, one of them as the leader.
func (p *agentProcess) expectPeers(t *testing.T, want int) {
	t.Helper()
	eventually(t, settleLimit, fmt.Sprintf("%d servers vote", want), func(context.Context) error {
		got := p.muster(t, "operator", "raft", "list-peers")
		voters, leaders := strings.Count(got.out, "  true   3 "), strings.Count(got.out, "  leader  ")
		if got.code != 0 || voters != want || leaders != 1 {
			return fmt.Errorf("%d voters, %d leaders: %s%s", voters, leaders, got.out, got.err)
		}
		return nil
	})
}

// leads reports whether a server says that it leads.
func (p *agentProcess) leads(t *testing.T) bool {
	t.Helper()
	return strings.Contains(p.muster(t, "info").out, "\n\tleader = true\n")
}

// The commands that change who takes part, on three servers.
func TestE2EClusterCommands(t *testing.T) {
	t.Parallel()
	servers := threeServers(t)
	if got := servers[1].muster(t, "members", "-status=alive").out; strings.Count(got, "  alive   server  ") != 3 {
		t.Errorf("members:\n%s", got)
	}

	old := ""
	for i, p := range servers {
		if p.leads(t) {
			old = fmt.Sprint(i)
		}
	}
	servers[0].muster(t, "operator", "raft", "transfer-leader").check(t, expectation{out: "Success\n"})
	leader := -1
	eventually(t, settleLimit, "another server leads", func(context.Context) error {
		for i, p := range servers {
			if fmt.Sprint(i) != old && p.leads(t) {
				leader = i
				return nil
			}
		}
		return errors.New("none does")
	})

	// Snapshots are saved again and again until somebody says stop.
	backups := t.TempDir()
	agent := exec.Command(binary(t), "snapshot", "agent", "-interval=1s", "-retain=2", "-local-path="+backups, "-http-addr="+servers[leader].settings.address())
	var printed lockedBuffer
	agent.Stdout, agent.Stderr = &printed, &printed
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, settleLimit, "three snapshots are saved", func(context.Context) error {
		if n := strings.Count(printed.String(), "Saved and verified snapshot to index "); n < 3 {
			return fmt.Errorf("%d are: %s", n, &printed)
		}
		return nil
	})
	if err := errors.Join(agent.Process.Signal(syscall.SIGTERM), agent.Wait()); err != nil {
		t.Errorf("the snapshot agent ended with %v: %s", err, &printed)
	}
	if kept := strings.Fields(names(t, backups)); len(kept) > 3 || len(kept) < 2 || !archiveName.MatchString(kept[0]) {
		t.Errorf("kept %s", kept)
	}

	// One fails for good, one leaves, one is left.
	failed, leaving := (leader+1)%3, (leader+2)%3
	name := fmt.Sprintf("n%d", failed+1)
	servers[failed].signal(t, syscall.SIGKILL)
	servers[leader].muster(t, "force-leave", "nobody").check(t, expectation{err: "No node found with name 'nobody'", code: 1})
	eventually(t, settleLimit, name+" is failed", func(context.Context) error {
		if got := servers[leader].muster(t, "members", "-status=failed|left"); !strings.Contains(got.out, name) {
			return fmt.Errorf("members: exit code %d, %s%s", got.code, got.out, got.err)
		}
		return nil
	})
	servers[leader].muster(t, "force-leave", "-prune", name).check(t, expectation{})
	servers[leader].expectPeers(t, 2)
	servers[leaving].muster(t, "leave").check(t, expectation{out: "Graceful leave complete\n"})
	if code := servers[leaving].exit(t); code != 0 {
		t.Errorf("a server that left exits with %d, want 0", code)
	}
	servers[leader].expectPeers(t, 1)
	servers[leader].muster(t, "kv", "put", "still", "here").check(t, expectation{out: "Success! Data written to: still\n"})
}

// Two of three servers are gone for good; what is left of the third goes on.
func TestE2EQuorumLost(t *testing.T) {
	t.Parallel()
	servers := threeServers(t)
	if _, err := servers[0].client.KV().Put(&api.KVPair{Key: "kept", Value: []byte("yes")}, nil); err != nil {
		t.Fatal(err)
	}
	survivor := servers[0]
	for i, p := range servers {
		if p.leads(t) {
			survivor = servers[i] // what was answered is in its log for sure
		}
	}
	for _, p := range servers {
		p.signal(t, syscall.SIGKILL)
	}
	data := filepath.Join(survivor.settings.dir, "data")
	got := runLine("", "operator", "raft", "recover", "-write", data)
	if got.code != 0 || !strings.Contains(got.out, "The logs of 1 of 3 voters are here, and 2 would be a majority.") || !strings.Contains(got.out, "WRITTEN: ") {
		t.Fatalf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if got := runLine("", "operator", "raft", "recover", "-write", data); got.code != 1 || !strings.Contains(got.err, "peers.json already") {
		t.Errorf("a second time: exit code %d, %s", got.code, got.err)
	}
	survivor = startServer(t, survivor.settings)
	survivor.expectPeers(t, 1)
	survivor.muster(t, "kv", "get", "kept").check(t, expectation{out: "yes\n"})
	survivor.muster(t, "kv", "put", "more", "yes").check(t, expectation{out: "Success! Data written to: more\n"})
	if _, err := os.Stat(filepath.Join(data, "raft", "peers.json")); !os.IsNotExist(err) {
		t.Errorf("peers.json is still there: %v", err)
	}
}
