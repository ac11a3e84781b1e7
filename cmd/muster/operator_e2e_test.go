package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
)

// The one server that is left of a cluster goes on with what it has, and keeps
// all of it.
func TestE2ERecover(t *testing.T) {
	t.Parallel()
	s := newSettings(t, "")
	data := filepath.Join(s.dir, "data")
	p := startServer(t, s)
	if _, err := p.client.KV().Put(&api.KVPair{Key: "kept", Value: []byte("yes")}, nil); err != nil {
		t.Fatal(err)
	}
	p.muster(t, "operator", "raft", "recover", data).check(t, expectation{err: "is running: stop it, and all others", code: 1})
	p.signal(t, syscall.SIGKILL)

	id, err := os.ReadFile(filepath.Join(data, "node-id"))
	if err != nil {
		t.Fatal(err)
	}
	server := strings.TrimSpace(string(id))
	looked := runLine("", "operator", "raft", "recover", data)
	for _, want := range []string{"recommended\n", "Server " + server + " (" + data + ") is to go on.", "logs of 1 of 1 voters", "Nothing was written."} {
		if looked.code != 0 || looked.err != "" || !strings.Contains(looked.out, want) {
			t.Fatalf("exit code %d, no %q in %s%s", looked.code, want, looked.out, looked.err)
		}
	}
	peers := filepath.Join(data, "raft", "peers.json")
	wrote := runLine("", "operator", "raft", "recover", "-write", data)
	if wrote.code != 0 || !strings.Contains(wrote.out, "WRITTEN: "+peers) {
		t.Fatalf("exit code %d: %s%s", wrote.code, wrote.out, wrote.err)
	}

	p = startServer(t, s)
	if _, err := os.Stat(peers); !os.IsNotExist(err) {
		t.Errorf("peers.json is still there: %v", err)
	}
	pair, _, err := p.client.KV().Get("kept", nil)
	if err != nil || pair == nil || string(pair.Value) != "yes" {
		t.Errorf("the key after the recovery: %v, %v", pair, err)
	}
}

// The operator's commands against one server.
func TestE2EOperator(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	for _, step := range []struct {
		line string
		want expectation
	}{
		{"operator raft remove-peer -id=11111111-2222-4333-8444-555555555541",
			expectation{err: `id "11111111-2222-4333-8444-555555555541" was not found in the Raft configuration`, code: 1}},
		{"operator raft remove-peer -address=127.0.0.1:1", expectation{err: `address "127.0.0.1:1" was not found in the Raft configuration`, code: 1}},
		{"operator raft transfer-leader", expectation{err: "cannot find peer", code: 1}},
		{"operator raft transfer-leader -id=zz", expectation{err: "Could not find address for server id zz", code: 1}},
		{"operator autopilot set-config -cleanup-dead-servers=false -max-trailing-logs=500", expectation{out: "Configuration updated!\n"}},
		{"operator autopilot get-config", expectation{out: lines("CleanupDeadServers = false", "LastContactThreshold = 200ms", "MaxTrailingLogs = 500", "MinQuorum = 0",
			"ServerStabilizationTime = 10s", `RedundancyZoneTag = ""`, "DisableUpgradeMigration = false", `UpgradeVersionTag = ""`)}},
		{"force-leave who", expectation{err: "agent: No node found with name 'who'", code: 1}},
		{"join 127.0.0.1:1", expectation{err: "Failed to join 127.0.0.1:1", code: 1}},
	} {
		t.Run(step.line, func(t *testing.T) {
			p.muster(t, strings.Fields(step.line)...).check(t, step.want)
		})
	}
	for line, want := range map[string]string{
		"operator raft list-peers": "leader  true   3             ",
		"operator autopilot state": "Failure Tolerance:            0\n",
		"operator usage instances": "Billable Service Instances Total: 0\n",
	} {
		if got := p.muster(t, strings.Fields(line)...); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: exit code %d, %s%s want %q in it", line, got.code, got.out, got.err, want)
		}
	}
}

// A snapshot is saved, looked at, and gone back to.
func TestE2ESnapshot(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	file := filepath.Join(t.TempDir(), "x.snap")
	backups := filepath.Join(t.TempDir(), "backups")
	put := func(value string) {
		t.Helper()
		if _, err := p.client.KV().Put(&api.KVPair{Key: "app/a", Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("before")
	if got := p.muster(t, "snapshot", "save", file); got.code != 0 || !strings.HasPrefix(got.out, "Saved and verified snapshot to index ") {
		t.Fatalf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	put("after")
	if got := p.muster(t, "snapshot", "inspect", "-kvdetails", file); got.code != 0 || !strings.Contains(got.out, "\n app/a ") {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if got := p.muster(t, "snapshot", "decode", file); got.code != 0 || !strings.Contains(got.out, `"Key":"app/a"`) {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	if got := p.muster(t, "snapshot", "agent", "-once", "-local-path="+backups); got.code != 0 || !archiveName.MatchString(names(t, backups)) {
		t.Errorf("exit code %d, the folder holds %q: %s%s", got.code, names(t, backups), got.out, got.err)
	}
	p.muster(t, "snapshot", "restore", p.settings.file()).check(t, expectation{err: "failed to decompress snapshot: gzip: invalid header", code: 1})
	p.muster(t, "kv", "get", "app/a").check(t, expectation{out: "after\n"})
	p.muster(t, "snapshot", "restore", file).check(t, expectation{out: "Restored snapshot\n"})
	p.muster(t, "kv", "get", "app/a").check(t, expectation{out: "before\n"})
	put("on and on")
}
