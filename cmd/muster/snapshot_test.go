package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

func decodeJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

// archiveOf is a snapshot of a state with some keys, at the index of the last.
func archiveOf(t testing.TB, keys ...string) []byte {
	t.Helper()
	machine := state.NewMachine()
	for i, key := range keys {
		entry, err := state.Encode(&kv.Set{Key: key, Value: []byte("some value")}, 1_700_000_000_000, mvcc.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		machine.Apply(&raft.Log{Index: uint64(i + 1), Term: 2, Data: entry})
	}
	var archive bytes.Buffer
	_, err := state.WriteArchive(&archive, machine.View(), state.ArchiveMeta{
		Term: 2, Muster: "0.9", Datacenter: "dc1",
		Configuration: state.ArchiveServers{Servers: []state.ArchiveServer{{ID: "aa"}, {ID: "bb"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// newFile makes a file in a folder of the test's own.
func newFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// names lists a folder.
func names(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestSnapshotSave(t *testing.T) {
	whole := archiveOf(t, "a", "b", "c")
	for _, test := range []struct {
		name   string
		flags  string
		file   string
		asked  string
		answer string
		status int
		want   expectation
		left   string // in the folder
	}{
		{name: "save", file: "x.snap", asked: "GET /v1/snapshot", answer: string(whole),
			want: expectation{out: "Saved and verified snapshot to index 3\n"}, left: "old.snap x.snap"},
		{name: "replace", flags: "-stale", file: "old.snap", asked: "GET /v1/snapshot?stale=", answer: string(whole),
			want: expectation{out: "Saved and verified snapshot to index 3\n"}, left: "old.snap"},
		{name: "with parts in the name", flags: "-append-filename=version,dc", file: "x.snap", asked: "GET /v1/snapshot", answer: string(whole),
			want: expectation{out: "Saved and verified snapshot to index 3\n"}, left: "old.snap x-0.9-dc1.snap"},
		{name: "with an unknown part", flags: "-append-filename=version,moon", file: "x.snap", answer: string(whole),
			want: expectation{err: `not "moon"`, code: 1}, left: "old.snap"},
		{name: "half of it", file: "old.snap", asked: "GET /v1/snapshot", answer: string(whole[:len(whole)/2]),
			want: expectation{err: "cannot save a snapshot: what was written cannot be restored: failed to decompress snapshot", code: 1}, left: "old.snap"},
		{name: "refused", file: "x.snap", asked: "GET /v1/snapshot", answer: "No cluster leader", status: 500,
			want: expectation{err: "500 (No cluster leader)", code: 1}, left: "old.snap"},
		{name: "no file", file: "", asked: "", want: expectation{err: "it names no file", code: 1}, left: "old.snap"},
		{name: "a folder", file: "sub", asked: "GET /v1/snapshot", answer: string(whole),
			want: expectation{err: "sub is a folder", code: 1}, left: "old.snap sub"},
		{name: "no folder", file: "nowhere/x.snap", asked: "GET /v1/snapshot", answer: string(whole),
			want: expectation{err: "cannot make a file", code: 1}, left: "old.snap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Dir(newFile(t, "old.snap", []byte("old")))
			if test.file == "sub" {
				if err := os.Mkdir(filepath.Join(folder, "sub"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			stub := newStubAgent(t, map[string]answer{test.asked: {status: test.status, body: test.answer}})
			line := append([]string{"snapshot", "save"}, strings.Fields(test.flags)...)
			line = append(line, folder+string(filepath.Separator)+test.file)
			runLine("", connectTo(stub, 2, line)...).check(t, test.want)
			if got := names(t, folder); got != test.left {
				t.Errorf("the folder holds %q, want %q", got, test.left)
			}
			if got := strings.Join(stub.lines(), ";"); got != test.asked {
				t.Errorf("the agent was asked %q, want %q", got, test.asked)
			}
			old, err := os.ReadFile(filepath.Join(folder, "old.snap"))
			if err != nil || (string(old) == "old") == (test.file == "old.snap" && test.want.code == 0) {
				t.Errorf("the file of before holds %.10q, %v", old, err)
			}
		})
	}
}

// The secrets in a snapshot are for its owner alone.
func TestSnapshotSaveIsPrivate(t *testing.T) {
	stub := newStubAgent(t, map[string]answer{"GET /v1/snapshot": {body: string(archiveOf(t, "a"))}})
	path := filepath.Join(t.TempDir(), "x.snap")
	runLine("", "snapshot", "save", "-http-addr="+stub.address(), path).check(t, expectation{out: "Saved and verified snapshot to index 1\n"})
	about, err := os.Stat(path)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", about.Mode(), err)
	}
}

func TestSnapshotSaveWarns(t *testing.T) {
	for _, test := range []struct{ leader, contact, want string }{
		{"true", "0", ""},
		{"true", "10000", ""},
		{"true", "61500", "Warning: the server that answered last heard from the leader 1m1.5s ago"},
		{"false", "0", "Warning: the server that answered knows no leader"},
	} {
		whole := archiveOf(t, "a")
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Consul-KnownLeader", test.leader)
			w.Header().Set("X-Consul-LastContact", test.contact)
			_, _ = w.Write(whole)
		}))
		got := runLine("", "snapshot", "save", "-stale", "-http-addr="+agent.URL, filepath.Join(t.TempDir(), "x"))
		agent.Close()
		got.check(t, expectation{out: "Saved and verified snapshot to index 1\n", err: test.want})
	}
}

func TestSnapshotRestore(t *testing.T) {
	whole := archiveOf(t, "a")
	file := newFile(t, "x.snap", whole)
	stub := newStubAgent(t, map[string]answer{
		"PUT /v1/snapshot":        {},
		"PUT /v1/snapshot?dc=dc2": {status: 500, body: "failed to decompress snapshot: unexpected EOF"},
	})
	runLine("", "snapshot", "restore", "-http-addr="+stub.address(), file).check(t, expectation{out: "Restored snapshot\n"})
	if got := stub.last(t).body; got != string(whole) {
		t.Errorf("%d bytes were sent, want %d", len(got), len(whole))
	}
	runLine("", "snapshot", "restore", "-datacenter=dc2", "-http-addr="+stub.address(), file).
		check(t, expectation{err: "and nothing was changed: Unexpected response code: 500 (failed to decompress snapshot: unexpected EOF)", code: 1})
	runLine("", "snapshot", "restore", "-http-addr="+stub.address(), filepath.Dir(file)).check(t, expectation{err: "it is a folder", code: 1})
	runLine("", "snapshot", "restore", "-http-addr="+stub.address(), file+"x").check(t, expectation{err: "no such file", code: 1})
	stub.server.CloseClientConnections()
	stub.server.Close()
	runLine("", "snapshot", "restore", "-http-addr="+stub.address(), file).check(t, expectation{err: "and nothing was changed: ", code: 1})
}

// An archive of another cluster is restored with a word, and one of which the agent
// does not know whether it was restored is not said to have changed nothing.
func TestSnapshotRestoreTells(t *testing.T) {
	own := strings.Repeat("0", 32) // of an archive without a cluster
	for _, c := range []struct {
		self string
		put  answer
		want expectation
	}{
		{`{"Member":{"Tags":{"cluster":"` + own + `"}}}`, answer{}, expectation{out: "Restored snapshot\n"}},
		{`{"Member":{"Tags":{}}}`, answer{}, expectation{out: "Restored snapshot\n"}},
		{`no JSON`, answer{}, expectation{out: "Restored snapshot\n"}},
		{`{"Member":{"Tags":{"cluster":"6f1d"}}}`, answer{}, expectation{out: "Restored snapshot\n",
			err: "Warning: this snapshot was taken at 2023-11-14T22:13:20Z in another cluster, " + own + " in datacenter dc1; the one that it was restored into is 6f1d\n"}},
		{`{"Member":{"Tags":{"cluster":"6f1d"}}}`, answer{status: 500, body: "No cluster leader"}, expectation{err: "and nothing was changed: ", code: 1}},
		{`{}`, answer{status: 500, body: "the server did not answer, so the change may still take effect: x"}, expectation{err: "cannot tell whether", code: 1}},
	} {
		stub := newStubAgent(t, map[string]answer{"PUT /v1/snapshot": c.put, "GET /v1/agent/self": {body: c.self}})
		runLine("", "snapshot", "restore", "-http-addr="+stub.address(), newFile(t, "x.snap", archiveOf(t, "a"))).check(t, c.want)
	}
}

func TestSnapshotInspect(t *testing.T) {
	file := newFile(t, "x.snap", archiveOf(t, "app/a/1", "app/a/2", "app/b", "other\x1b"))
	got := runLine("", "snapshot", "inspect", "-kvdetails", file)
	got.check(t, expectation{out: got.out}) // it succeeds, and says nothing on standard error
	parts := strings.Split(got.out, "\n\n")
	if len(parts) != 4 {
		t.Fatalf("%d parts, want 4:\n%s", len(parts), got.out)
	}
	for _, want := range []struct {
		part int
		text string
	}{
		{0, " ID           2-4-1700000000000\n Size         "},
		{0, "\n Index        4\n Term         2\n Version      1"},
		{1, " Type"}, {1, "Count      Size\n ----"}, {1, " KV"}, {1, "      4          "}, {1, "\n Total"},
		{2, " Key Name"}, {2, "\n app/a"}, {2, "\n app/b"}, {2, "\n \"other\\x1b\""}, {2, "\n Total"},
		{3, ` in datacenter "dc1" by Muster 0.9, of cluster 00000000000000000000000000000000.`}, {3, "servers were then: aa, bb."}, {3, "it can be restored"},
	} {
		if !strings.Contains(parts[want.part], want.text) {
			t.Errorf("part %d lacks %q:\n%s", want.part, want.text, parts[want.part])
		}
	}

	got = runLine("", "snapshot", "inspect", "-format=json", "-kvdetails", "-kvdepth=1", "-kvfilter=app/", file)
	shown := decodeJSON[inspectionJSON](t, got.out)
	if shown.Meta.Index != 4 || shown.Muster.Datacenter != "dc1" || len(shown.StatsKV) != 1 || shown.StatsKV[0].Name != "app" ||
		shown.StatsKV[0].Count != 3 || shown.TotalSizeKV != shown.StatsKV[0].Sum || shown.TotalSize <= shown.TotalSizeKV {
		t.Errorf("got %+v", shown)
	}
	for _, test := range []struct{ flags, want string }{
		{"-kvdepth=0 -kvdetails", "at least 1, not 0"}, {"-kvfilter=x", "-kvfilter needs -kvdetails"}, {"-format=xml", `not "xml"`},
	} {
		line := append([]string{"snapshot", "inspect"}, strings.Fields(test.flags)...)
		runLine("", append(line, file)...).check(t, expectation{err: test.want, code: 1})
	}
}

// What is wrong with a file is told with what to do about it.
func TestSnapshotDamaged(t *testing.T) {
	whole := archiveOf(t, "a", "b")
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"cut":     {whole[:len(whole)-9], fmt.Sprintf("is cut short: its %d bytes ", len(whole)-9)},
		"flipped": {flipped, ""},
		"empty":   {nil, "is empty: it has 0 bytes. "},
		"text":    {[]byte("no archive"), "is not an archive of Muster's state: it does not begin as a gzip does. "},
	} {
		file := newFile(t, name, c.content)
		for _, command := range []string{"inspect", "decode"} {
			got := runLine("", "snapshot", command, file)
			got.check(t, expectation{err: "take an earlier one", code: 1})
			if strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, "Error: the snapshot "+file+" "+c.want) {
				t.Errorf("%s says %q of one that %s", command, got.err, c.want)
			}
		}
	}
}

func TestSnapshotDecode(t *testing.T) {
	file := newFile(t, "x.snap", archiveOf(t, "a/1"))
	got := runLine("", "snapshot", "decode", file)
	if got.code != 0 || got.err != "" {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	found := false
	for line := range strings.Lines(got.out) {
		row := decodeJSON[struct {
			Type string
			Data struct {
				Key   string
				Value []byte
			}
		}](t, line)
		found = found || row.Type == "KV" && row.Data.Key == "a/1" && string(row.Data.Value) == "some value"
	}
	if !found {
		t.Errorf("the key is not there:\n%s", got.out)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.0KB", 4506: "4.4KB", 5 << 20: "5.0MB", 3 << 40: "3072.0GB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}
