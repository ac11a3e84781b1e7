package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/consensus"
)

// fiveVoters are the servers of a cluster, of which tests lose some.
var fiveVoters = []consensus.Peer{{ID: "a", Voter: true}, {ID: "b", Voter: true}, {ID: "c", Voter: true}, {ID: "d", Voter: true}, {ID: "e", Voter: true}, {ID: "n"}}

// stored is a server with a log, in a cluster of five voters.
func stored(term, index uint64) consensus.Inspection {
	return consensus.Inspection{Term: term, LastTerm: term, LastIndex: index, SnapshotIndex: 50, Peers: fiveVoters, PeersIndex: 9}
}

// leftovers makes data folders, and a command that reads them without a log.
func leftovers(t *testing.T, left map[string]consensus.Inspection) (base string, r *recoverRunner) {
	t.Helper()
	base = t.TempDir()
	for id := range left {
		folder := filepath.Join(base, id)
		if err := os.MkdirAll(filepath.Join(folder, "raft"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"node-id": id + "\n", "raft/raft.db": "log"} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(folder, "raft", "raft.db"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	return base, &recoverRunner{inspect: func(folder string) (consensus.Inspection, error) {
		id := filepath.Base(filepath.Dir(folder))
		in, ok := left[id]
		switch {
		case !ok:
			return in, fs.ErrNotExist
		case in.LastTerm == locked:
			return in, fmt.Errorf("%w: raft.db", consensus.ErrLocked)
		case in.LastTerm == damaged:
			return in, errors.New("page 7 is damaged")
		}
		return in, nil
	}}
}

// Terms of servers whose log cannot be read.
const (
	locked  = 1001
	damaged = 1002
)

func TestRecover(t *testing.T) {
	for _, test := range []struct {
		name   string
		left   map[string]consensus.Inspection
		flags  string
		go_    string // who is to go on
		want   []string
		absent []string
	}{
		{name: "the newer term goes before the higher index", go_: "b",
			left: map[string]consensus.Inspection{"a": stored(3, 900), "b": stored(4, 105)},
			want: []string{"b        4          105         50              yes    2024-05-06T07:08:09Z  recommended\n",
				"logs of 2 of 5 voters are here, and 3 would be a majority", "are lost", "Missing: c, d, e.", "Nothing was written"},
			absent: []string{"Nothing that was answered", "newer log"}},
		{name: "the higher index of one term", go_: "a",
			left: map[string]consensus.Inspection{"a": stored(3, 900), "b": stored(3, 899)}, want: []string{"logs of 2 of 5 voters"}},
		{name: "a majority", go_: "c",
			left:   map[string]consensus.Inspection{"a": stored(3, 9), "b": stored(3, 8), "c": stored(3, 10)},
			want:   []string{"Nothing that was answered.", "YOU MAY NOT NEED THIS", "Missing: d, e."},
			absent: []string{"are lost."}},
		{name: "an older log of a majority is chosen", go_: "a", flags: "a",
			left:   map[string]consensus.Inspection{"a": stored(3, 9), "b": stored(3, 8), "c": stored(3, 10)},
			want:   []string{"Server c has a newer log, up to entry 10 of term 3", "are lost.", "the newest log\n", "chosen\n"},
			absent: []string{"YOU MAY NOT NEED THIS", "Nothing that was answered"}},
		{name: "who votes is told by the newest configuration", go_: "b",
			left: map[string]consensus.Inspection{
				"a": {LastTerm: 3, LastIndex: 9, PeersIndex: 2, Peers: fiveVoters[:3]},
				"b": {LastTerm: 3, LastIndex: 12, PeersIndex: 11, Peers: fiveVoters[1:3]},
			},
			want: []string{"logs of 1 of 2 voters are here, and 2 would be a majority", "Missing: c."}},
		{name: "servers that do not count", go_: "a",
			left: map[string]consensus.Inspection{"a": stored(3, 9), "b": {Fresh: true, LastIndex: 9, LastTerm: 3}, "c": {}, "d": stored(damaged, 1), "n": stored(3, 8)},
			want: []string{"logs of 1 of 5 voters", "Missing: b, c, d, e.", "d cannot be read: page 7 is damaged\n", "not admitted since\n", "empty\n",
				"n        3          8           50              no"}},
		{name: "one that had no vote", go_: "n", left: map[string]consensus.Inspection{"n": stored(3, 8)},
			want: []string{"It was no voter itself", "logs of 0 of 5 voters", "Missing: a, b, c, d, e."}},
		{name: "a log that does not tell who took part", go_: "a", left: map[string]consensus.Inspection{"a": {LastTerm: 1, LastIndex: 3}},
			want: []string{"These folders do not tell who took part"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, write := range []bool{false, true} {
				base, r := leftovers(t, test.left)
				r.write, r.server = write, test.flags
				var args []string
				for _, id := range []string{"a", "b", "c", "d", "e", "n"} {
					if _, ok := test.left[id]; ok {
						args = append(args, filepath.Join(base, id))
					}
				}
				var out strings.Builder
				if err := r.run(streams{out: &out}, args); err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(out.String(), base, "")
				want, absent := append([]string{"Server " + test.go_ + " (/" + test.go_ + ") is to go on.", "Start server " + test.go_ + "."}, test.want...), test.absent
				if write {
					want = append(want[:len(want):len(want)], "WRITTEN: /"+test.go_+"/raft/peers.json\n")
					absent = append(absent[:len(absent):len(absent)], "Nothing was written", "-write")
				}
				for _, part := range want {
					if part != "Nothing was written" && !strings.Contains(text, part) {
						t.Errorf("no %q in\n%s", part, text)
					}
				}
				for _, part := range absent {
					if strings.Contains(text, part) {
						t.Errorf("%q in\n%s", part, text)
					}
				}
				expectPeersFile(t, base, test.go_, write)
			}
		})
	}
}

// expectPeersFile looks for the one file that may have been written.
func expectPeersFile(t *testing.T, base, id string, written bool) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(base, "*", "raft", "peers.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !written {
		if len(found) > 0 {
			t.Errorf("wrote %s", found)
		}
		return
	}
	path := filepath.Join(base, id, "raft", "peers.json")
	if len(found) != 1 || found[0] != path {
		t.Fatalf("wrote %s, want %s", found, path)
	}
	peers, err := consensus.ReadPeersFile(path)
	if err != nil || len(peers) != 1 || peers[0].ID != id || !peers[0].Voter {
		t.Errorf("the file names %+v, %v", peers, err)
	}
}

// The data folder of a client agent has an ID, but no log.
func TestRecoverOfAClientsFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "node-id"), []byte("11111111-2222-3333-4444-555555555555\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runLine("", "operator", "raft", "recover", folder)
	want := "it is no server's data folder, or one whose log is gone: there is no " + filepath.Join(folder, "raft", "raft.db")
	if got.code != 1 || !strings.Contains(got.out, want) {
		t.Errorf("exit code %d, output %q, want %q", got.code, got.out, want)
	}
}

func TestRecoverRefuses(t *testing.T) {
	left := map[string]consensus.Inspection{"a": stored(3, 9), "b": stored(locked, 1), "c": {}, "d": stored(damaged, 1)}
	for _, test := range []struct{ args, server, want string }{
		{"a b", "", "is running: stop it, and all others"},
		{"a a", "", "both are of server a"},
		{"a x=a", "a", ""}, // a copy under another ID
		{"c", "", "no server can go on"},
		{"d c nowhere", "", "and others cannot be read, as said above"},
		{"a", "zz", `the server "zz" cannot go on: it is none of those`},
		{"a d", "d", `the server "d" cannot go on: it is none of those`},
	} {
		base, r := leftovers(t, left)
		r.server = test.server
		var args []string
		for _, arg := range strings.Fields(test.args) {
			id, folder, named := strings.Cut(arg, "=")
			if !named {
				folder = id
			}
			path := filepath.Join(base, folder)
			if named {
				path = id + "=" + path
			}
			args = append(args, path)
		}
		var out strings.Builder
		err := r.run(streams{out: &out}, args)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.args, err, test.want)
		}
	}
}

// A file that is there already is somebody's decision.
func TestRecoverKeepsAPeersFile(t *testing.T) {
	base, r := leftovers(t, map[string]consensus.Inspection{"a": stored(3, 9)})
	path := filepath.Join(base, "a", "raft", "peers.json")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.write = true
	var out strings.Builder
	err := r.run(streams{out: &out}, []string{filepath.Join(base, "a")})
	if err == nil || !strings.Contains(err.Error(), "peers.json already") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "[]" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// A folder may be that of the log itself, and a server may be named by hand.
func TestRecoverFindsFolders(t *testing.T) {
	base, r := leftovers(t, map[string]consensus.Inspection{"a": stored(3, 9)})
	var read string
	inspect := r.inspect
	r.inspect = func(folder string) (consensus.Inspection, error) { read = folder; return inspect(folder) }
	raft := filepath.Join(base, "a", "raft")
	for _, arg := range []string{filepath.Join(base, "a"), raft, "x=" + filepath.Join(base, "a")} {
		s := r.read(arg)
		want, _, named := strings.Cut(arg, "=")
		if !named {
			want = "a"
		}
		if s.failed != nil || s.id != want || read != raft {
			t.Errorf("%s: server %q of %s, %v", arg, s.id, read, s.failed)
		}
	}
	for _, arg := range []string{filepath.Join(base, "mistyped"), "x=" + filepath.Join(base, "mistyped")} {
		if s := r.read(arg); !errors.Is(s.failed, fs.ErrNotExist) || strings.Contains(s.failed.Error(), "name it as") {
			t.Errorf("%s: got %v", arg, s.failed)
		}
	}
	for name, text := range map[string]string{"its node ID is not known": "", "is empty": " \n", "larger than the limit of 4096 bytes": strings.Repeat("x", maxNodeID+1)} {
		path := filepath.Join(base, "a", "node-id")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := r.read(filepath.Join(base, "a"))
		if s.failed == nil || !strings.Contains(s.failed.Error(), name) || !strings.Contains(s.failed.Error(), "name it as <node ID>=") {
			t.Errorf("got %v, want %q in it", s.failed, name)
		}
	}
}

// What cannot be read says what to do about it.
func TestRecoverTellsWhyAFolderCannotBeRead(t *testing.T) {
	base, r := leftovers(t, map[string]consensus.Inspection{"a": stored(3, 9), "b": stored(3, 9)})
	inspect := r.inspect
	r.inspect = func(folder string) (consensus.Inspection, error) {
		if strings.HasSuffix(folder, "b/raft") {
			return consensus.Inspection{}, fmt.Errorf("open raft.db: %w", fs.ErrPermission)
		}
		return inspect(folder)
	}
	a, b := filepath.Join(base, "a"), filepath.Join(base, "b")
	log := filepath.Join(a, "raft", "raft.db")
	for _, test := range []struct {
		arg, want string
		spoil     func() error
	}{
		{log, "it is no folder: name the data folder", func() error { return nil }},
		{b, "permission denied: run this command as root, or as the user that the server runs as", func() error { return nil }},
		{a, log + " is empty: what it held is lost", func() error { return os.Truncate(log, 0) }},
	} {
		if err := test.spoil(); err != nil {
			t.Fatal(err)
		}
		if s := r.read(test.arg); s.failed == nil || !strings.Contains(strings.ReplaceAll(s.failed.Error(), fs.ErrPermission.Error(), "permission denied"), test.want) ||
			strings.Contains(s.failed.Error(), "name it as") {
			t.Errorf("%s: %v, want %q", test.arg, s.failed, test.want)
		}
	}
}

// Who votes is known even if the server that was asked for cannot go on.
func TestRecoverShowsVotersBesideAServerThatThereIsNot(t *testing.T) {
	base, r := leftovers(t, map[string]consensus.Inspection{"a": stored(3, 9)})
	r.server = "zz"
	var out strings.Builder
	err := r.run(streams{out: &out}, []string{filepath.Join(base, "a")})
	if err == nil || !strings.Contains(out.String(), " yes ") || !strings.Contains(out.String(), "the newest log") {
		t.Errorf("%v, and\n%s", err, out.String())
	}
}
