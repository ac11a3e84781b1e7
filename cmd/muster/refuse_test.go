package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
)

// refusal is a start that must fail. Its settings are a server's; prepare makes
// them impossible.
type refusal struct {
	name    string
	prepare func(t *testing.T, s *settings) (flags []string)
	want    []string // all contained in standard error
	noData  bool     // there was no data folder before, and must be none after
}

// run starts the agent and looks at what is left of it: a message, the exit code
// of a failure, and nothing else.
func (r refusal) run(t *testing.T, s *settings) {
	t.Helper()
	flags := r.prepare(t, s)
	pidFile := filepath.Join(t.TempDir(), "pid")
	before := tree(t, s.dir)
	p := launch(t, s, append(flags, "-pid-file="+pidFile)...)
	if code := p.exit(t); code != 1 {
		t.Errorf("exit code = %d, want 1", code)
	}
	for _, want := range r.want {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("standard error = %q, want %q in it", p.err, want)
		}
	}
	if !strings.HasPrefix(p.err.String(), "==> ") {
		t.Errorf("standard error = %q, want it to begin with an arrow", p.err)
	}
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("a pid file was left: %v", err)
	}
	if r.noData {
		if _, err := os.Stat(filepath.Join(s.dir, "data")); !os.IsNotExist(err) {
			t.Errorf("a data folder was made: %v", err)
		}
	}
	after := tree(t, s.dir)
	for name, was := range before {
		if after[name] != was && filepath.Base(name) != "raft.db" { // which opening alone changes
			t.Errorf("%s was %s, and is %q", name, was, after[name])
		}
	}
}

// tree lists the files below a folder with what is in them.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		found[name] = info.Mode().String()
		if err == nil && d.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			found[name] += fmt.Sprintf(" %d bytes %x", len(content), sha256.Sum256(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// expectUntouched fails the test for files that came or went.
func expectUntouched(t *testing.T, folder string, before map[string]string) {
	t.Helper()
	after := tree(t, folder)
	for name := range after {
		if _, was := before[name]; !was {
			t.Errorf("%s was made in %s", name, folder)
		}
	}
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s was %s, and is %q", name, was, after[name])
		}
	}
}

func TestRefuseConfiguration(t *testing.T) {
	t.Parallel()
	file := func(name, text string) func(*testing.T, *settings) []string {
		return func(t *testing.T, s *settings) []string {
			path := filepath.Join(s.dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"-config-file=" + path}
		}
	}
	for _, r := range []refusal{
		{name: "HCL that is cut off", prepare: file("more.hcl", "datacenter = \"dc1\"\nservice {\n  name = \"web\"\n"), want: []string{"more.hcl:"}},
		{name: "HCL with a stray sign", prepare: file("more.hcl", "datacenter = \"dc1\"\nlog_level = = \"info\"\n"), want: []string{"more.hcl:2"}},
		{name: "JSON that is cut off", prepare: file("more.json", "{\n\"log_level\": \"info\","), want: []string{"more.json:2"}},
		{name: "JSON with something after it", prepare: file("more.json", "{}\n{}"), want: []string{"more.json:2"}},
		{name: "unknown key in HCL", prepare: file("more.hcl", "\n\nraft_snapshot_treshold = 1\n"),
			want: []string{"more.hcl:3", "raft_snapshot_treshold", `"raft_snapshot_threshold"`}},
		{name: "unknown key in JSON", prepare: file("more.json", "{\n  \"ports\": {\n    \"htttp\": 1\n  }\n}"),
			want: []string{"more.json:3", "ports.htttp", "http"}},
		{name: "wrong type", prepare: file("more.hcl", "\nraft_snapshot_threshold = \"many\"\n"), want: []string{"more.hcl:2", "raft_snapshot_threshold"}},
		{name: "several errors, all told", prepare: file("more.hcl", "colour = 1\nserver = 7\n"), want: []string{"more.hcl:1", "more.hcl:2"}},
		{name: "service without a name", prepare: file("more.hcl", "service {\n  port = 80\n}\n"), want: []string{"more.hcl:"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.noData = true
			r.run(t, newSettings(t, ""))
		})
	}
}

func TestRefusePortInUse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, network, setting string
		number                 func(ports) int
	}{
		{"HTTP", "tcp", "ports.http", func(p ports) int { return p.http }},
		{"DNS over UDP", "udp", "ports.dns", func(p ports) int { return p.dns }},
		{"DNS over TCP", "tcp", "ports.dns", func(p ports) int { return p.dns }},
		{"server", "tcp", "ports.server", func(p ports) int { return p.server }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t, "")
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(test.number(s.ports)))
			var holder interface{ Close() error }
			var err error
			if test.network == "udp" {
				holder, err = net.ListenPacket("udp", address)
			} else {
				holder, err = net.Listen("tcp", address)
			}
			if err != nil {
				t.Fatal(err)
			}
			refusal{
				prepare: func(*testing.T, *settings) []string { return nil },
				want:    []string{test.setting, address, "in use"},
			}.run(t, s)
			// What was begun does not stand in the way of the next start.
			if err := holder.Close(); err != nil {
				t.Fatal(err)
			}
			startServer(t, s)
		})
	}
}

// put writes a file of the data folder, and the folders that it is in.
func put(t *testing.T, s *settings, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, "data", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// puts is a preparation that writes files of the data folder, given as pairs of
// name and text.
func puts(files ...string) func(*testing.T, *settings) []string {
	return func(t *testing.T, s *settings) []string {
		for i := 0; i < len(files); i += 2 {
			put(t, s, files[i], files[i+1])
		}
		return nil
	}
}

// A data folder that is not Muster's is told from one that is, and left alone.
func TestRefuseForeignData(t *testing.T) {
	t.Parallel()
	const id = "11111111-2222-3333-4444-555555555555"
	for _, r := range []refusal{
		{name: "somebody's files", prepare: puts("notes.txt", "milk"), want: []string{"notes.txt", "not empty"}},
		{name: "somebody's hidden file", prepare: puts(".profile", ""), want: []string{".profile", "not empty"}},
		{name: "a server of Consul's", prepare: puts("checkpoint-signature", "x", "node-id", id, "raft/raft.db", "x", "raft/peers.info", "x",
			"serf/local.snapshot", "x", "serf/remote.snapshot", "x"), want: []string{"Consul's", "does not touch"}},
		{name: "a client of Consul's", prepare: puts("checkpoint-signature", "x", "node-id", id, "serf/local.snapshot", "x", "services/0a", "{}"),
			want: []string{"Consul's", "does not touch"}},
		{name: "a later Muster's", prepare: puts("format", "muster 2\n", "raft/raft.db", "x"), want: []string{`"muster 2"`, `"muster 1"`}},
		{name: "somebody's format", prepare: puts("format", "7\n"), want: []string{`"7"`, `"muster 1"`}},
		{name: "an empty format", prepare: puts("format", "", "raft/raft.db", "x"), want: []string{`""`, `"muster 1"`}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t, "")
			r.prepare(t, s)
			folder := filepath.Join(s.dir, "data")
			before := tree(t, folder)
			r.want = append(r.want, folder)
			r.run(t, s)
			expectUntouched(t, folder, before)
		})
	}
}

// A data folder that cannot be written is named.
func TestRefuseUnwritableData(t *testing.T) {
	t.Parallel()
	for _, r := range []refusal{
		{name: "a file in its place", prepare: func(t *testing.T, s *settings) []string {
			put(t, s, "../data", "not a folder")
			return nil
		}, want: []string{"data_dir", "is not a folder"}},
		{name: "a file in the place of the one above", prepare: func(t *testing.T, s *settings) []string {
			put(t, s, "../file", "not a folder")
			return []string{"-data-dir=" + filepath.Join(s.dir, "file", "data")}
		}, want: []string{"not a directory"}, noData: true},
		{name: "no permission", prepare: func(t *testing.T, s *settings) []string {
			if os.Getuid() == 0 {
				t.Skip("root may write everywhere")
			}
			if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o500); err != nil {
				t.Fatal(err)
			}
			return nil
		}, want: []string{"permission denied"}},
		{name: "a file system that is read only", prepare: func(t *testing.T, s *settings) []string {
			folder := filepath.Join(s.dir, "data")
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", folder).CombinedOutput(); err != nil {
				t.Skipf("cannot mount here: %v: %s", err, output)
			}
			t.Cleanup(func() {
				if output, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
					t.Errorf("cannot unmount: %v: %s", err, output)
				}
			})
			return nil
		}, want: []string{"read-only file system"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t, "")
			r.want = append(r.want, "data", s.dir)
			r.run(t, s)
		})
	}
}

// What another agent uses is left to it.
func TestRefuseDataInUse(t *testing.T) {
	t.Parallel()
	other := startServer(t, newSettings(t, ""))
	folder := filepath.Join(other.settings.dir, "data")
	if _, err := other.client.KV().Put(&api.KVPair{Key: "a", Value: []byte("b")}, nil); err != nil {
		t.Fatal(err)
	}
	refusal{
		prepare: func(*testing.T, *settings) []string { return []string{"-data-dir=" + folder} },
		want:    []string{folder, "in use by another agent"}, noData: true,
	}.run(t, newSettings(t, ""))
	if pair, _, err := other.client.KV().Get("a", nil); err != nil || pair == nil {
		t.Errorf("the key of the other agent: %v, %v", pair, err)
	}
	if _, err := other.client.KV().Put(&api.KVPair{Key: "c"}, nil); err != nil {
		t.Errorf("the other agent takes no writes any more: %v", err)
	}
}

// Data that is damaged, or of another node, is named and kept: an agent that
// began anew in its place would have lost everything. Once what was wrong is put
// right, all is there.
func TestRefuseDamagedData(t *testing.T) {
	t.Parallel()
	template := newSettings(t, busySnapshots)
	p := startServer(t, template)
	for i := range 100 {
		if _, err := p.client.KV().Put(&api.KVPair{Key: fmt.Sprint(i), Value: []byte(strings.Repeat("x", 1000))}, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.signal(t, syscall.SIGTERM)
	id, err := os.ReadFile(filepath.Join(template.dir, "data", "node-id"))
	if err != nil {
		t.Fatal(err)
	}
	const otherID = "11111111-2222-3333-4444-555555555555"
	for _, r := range []refusal{
		{name: "log that is cut off", prepare: edits("raft/raft.db", func(b []byte) []byte { return b[:len(b)/2] }), want: []string{"raft.db"}},
		{name: "log without a head", prepare: edits("raft/raft.db", func(b []byte) []byte { clear(b[:8192]); return b }), want: []string{"raft.db"}},
		{name: "log without a body", prepare: edits("raft/raft.db", func(b []byte) []byte { clear(b[8192:]); return b }), want: []string{"raft.db"}},
		{name: "log that is empty", prepare: edits("raft/raft.db", func([]byte) []byte { return nil }), want: []string{"raft.db", "empty"}},
		{name: "log that is missing", prepare: removes("raft/raft.db"), want: []string{"raft.db", "missing"}},
		{name: "snapshot with a wrong byte", prepare: edits("raft/snapshots/*/state.bin", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), want: []string{"snapshots"}},
		{name: "snapshot that is cut off", prepare: edits("raft/snapshots/*/state.bin", func(b []byte) []byte { return b[:len(b)/2] }), want: []string{"snapshots"}},
		{name: "snapshot without a description", prepare: edits("raft/snapshots/*/meta.json", func([]byte) []byte { return []byte("{") }), want: []string{"meta.json"}},
		{name: "snapshots that are missing", prepare: removes("raft/snapshots"), want: []string{"raft.db", "snapshot"}},
		{name: "format that is missing", prepare: removes("format"), want: []string{"format"}},
		{name: "node ID that is no UUID", prepare: edits("node-id", func([]byte) []byte { return []byte("n1") }), want: []string{"node-id", `"n1"`, "not a UUID"}},
		{name: "node ID of the configuration", prepare: func(*testing.T, *settings) []string { return []string{"-node-id=" + otherID} }, want: []string{otherID, string(id)}},
		{name: "node ID of another node", prepare: edits("node-id", func([]byte) []byte { return []byte(otherID) }), want: []string{otherID, string(id)}},
		{name: "node ID that is missing", prepare: removes("node-id"), want: []string{"node-id is missing"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t, "")
			folder := filepath.Join(s.dir, "data")
			if err := os.CopyFS(folder, os.DirFS(filepath.Join(template.dir, "data"))); err != nil {
				t.Fatal(err)
			}
			flags := r.prepare(t, s)
			damaged := tree(t, folder)
			r.prepare = func(*testing.T, *settings) []string { return flags }
			r.want = append(r.want, folder)
			r.run(t, s)
			repair(t, folder, filepath.Join(template.dir, "data"), damaged)
			keys, _, err := startServer(t, s).client.KV().Keys("", "", nil)
			if err != nil || len(keys) != 100 {
				t.Errorf("once it is repaired, there are %d keys (%v), want 100", len(keys), err)
			}
		})
	}
}

// repair brings back the files of a data folder that differ from the whole one.
func repair(t *testing.T, folder, whole string, damaged map[string]string) {
	t.Helper()
	for name, want := range tree(t, whole) {
		from, to := filepath.Join(whole, name), filepath.Join(folder, name)
		if damaged[name] == want {
			continue
		}
		if info, err := os.Stat(from); err == nil && info.IsDir() {
			continue
		}
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// edits is a preparation that changes files of the data folder.
func edits(pattern string, change func([]byte) []byte) func(*testing.T, *settings) []string {
	return func(t *testing.T, s *settings) []string {
		for _, path := range matching(t, s, pattern) {
			content, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, change(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return nil
	}
}

// removes is a preparation that removes files and folders of the data folder.
func removes(pattern string) func(*testing.T, *settings) []string {
	return func(t *testing.T, s *settings) []string {
		for _, path := range matching(t, s, pattern) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	}
}

func matching(t *testing.T, s *settings, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, "data", filepath.FromSlash(pattern)))
	if err != nil || len(paths) == 0 {
		t.Fatalf("nothing in the data folder is called %s (%v)", pattern, err)
	}
	return paths
}
