package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	uuidA = "aaaaaaaa-0000-4000-8000-000000000001"
	uuidB = "bbbbbbbb-0000-4000-8000-000000000002"
)

// folder makes a folder with files, of which those that end in a slash are
// folders.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// listing is all that is in a folder, with the content of files.
func listing(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		out.WriteString(strings.TrimPrefix(path, root) + "=" + string(content) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDataDirectoriesThatAreTaken(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"an empty one", nil},
		{"one with nothing but a node ID", map[string]string{"node-id": uuidA}},
		{"the root of a volume", map[string]string{"lost+found/": ""}},
		{"Muster's", map[string]string{"format": diskFormat, "raft/raft.db": "x"}},
		{"one whose first start was cut short", map[string]string{"lock": "", "format.123.tmp": "mus", "node-id.4.tmp": "aa"}},
		{"one whose agent died while an archive was restored", map[string]string{"format": diskFormat, "archive.5.tmp": "half"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := folder(t, c.files)
			d, err := openDataDir(root)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(root, "format")); err != nil || string(got) != diskFormat {
				t.Errorf("the format file holds %q, %v", got, err)
			}
			if left := listing(t, root); strings.Contains(left, ".tmp") {
				t.Errorf("half-written files are left:\n%s", left)
			}
			if err := d.close(); err != nil {
				t.Error(err)
			}
			d, err = openDataDir(root)
			if err != nil {
				t.Fatalf("opened again: %v", err)
			}
			if err := d.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDataDirectoriesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"somebody else's", map[string]string{"photo.jpg": "x"}, `is not empty and not Muster's (it has "photo.jpg"`},
		{"Consul's, a server", map[string]string{"raft/raft.db": "x", "node-id": uuidA}, "is Consul's"},
		{"Consul's, another log", map[string]string{"raft/wal/": ""}, "is Consul's"},
		{"Consul's, a client", map[string]string{"serf/local.snapshot": "x"}, "is Consul's"},
		{"Consul's, with its own files first", map[string]string{"checkpoint-signature": "x", "acl.json": "x"}, "is Consul's"},
		{"a newer Muster's", map[string]string{"format": "muster 2\n", "raft/raft.db": "x"}, `has the format "muster 2", this Muster reads "muster 1"`},
		{"with a damaged format", map[string]string{"format": ""}, `has the format ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := folder(t, c.files)
			before := listing(t, root)
			d, err := openDataDir(root)
			if err == nil {
				t.Fatal("it was taken", d.close())
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), root) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if after := listing(t, root); after != before {
				t.Errorf("it was changed from\n%s to\n%s", before, after)
			}
		})
	}
	t.Run("one that is a file", func(t *testing.T) {
		path := filepath.Join(folder(t, map[string]string{"file": "x"}), "file")
		if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDataDirectoryIsForOneAgent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d, err := openDataDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(root); err == nil || !strings.Contains(err.Error(), "in use by another agent") || !strings.Contains(err.Error(), filepath.Join(root, "lock")) {
		t.Errorf("got %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if d, err = openDataDir(root); err != nil {
		t.Fatalf("after the first has let go: %v", err)
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
}

func TestNodeID(t *testing.T) {
	for _, c := range []struct {
		name       string
		files      map[string]string
		configured string
		want       string // the ID, "new", or the text of the error
		kept       string // what the file holds afterwards
	}{
		{name: "a first start", want: "new", kept: "the same"},
		{name: "a later start", files: map[string]string{"node-id": uuidA}, want: uuidA, kept: uuidA},
		{name: "a later start with data", files: map[string]string{"node-id": uuidA + "\n", "raft/": ""}, want: uuidA, kept: uuidA + "\n"},
		{name: "capital letters", files: map[string]string{"node-id": strings.ToUpper(uuidA)}, want: uuidA, kept: strings.ToUpper(uuidA)},
		{name: "configured at the first start", configured: uuidB, want: uuidB, kept: uuidB},
		{name: "configured anew without data", files: map[string]string{"node-id": uuidA}, configured: uuidB, want: uuidB, kept: uuidB},
		{name: "configured anew with data, which Raft judges", files: map[string]string{"node-id": uuidA, "raft/": ""}, configured: uuidB, want: uuidB, kept: uuidA},
		{name: "configured where the file is damaged", files: map[string]string{"node-id": "???"}, configured: uuidB, want: uuidB, kept: uuidB},
		{name: "a damaged file", files: map[string]string{"node-id": "nonsense"}, want: `holds "nonsense", which is not a UUID`, kept: "nonsense"},
		{name: "an empty file without data", files: map[string]string{"node-id": ""}, want: "new", kept: "the same"},
		{name: "data whose ID is gone", files: map[string]string{"raft/": ""}, want: "is missing, but there is data of a server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &dataDir{path: folder(t, c.files)}
			id, err := d.nodeID(c.configured, func() (string, error) { return newUUID(), nil })
			if err != nil {
				id = err.Error()
			}
			switch {
			case c.want == "new":
				if !validUUID(id) {
					t.Errorf("got %q, which is not a UUID", id)
				}
			case err != nil && strings.Contains(id, c.want):
			case id != c.want:
				t.Errorf("got %q, want %q", id, c.want)
			}
			kept, err := os.ReadFile(filepath.Join(d.path, "node-id"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			want := c.kept
			if want == "the same" {
				want = id
			}
			if string(kept) != want {
				t.Errorf("the file holds %q, want %q", kept, want)
			}
		})
	}
}

func TestUUIDs(t *testing.T) {
	a, b := newUUID(), newUUID()
	if a == b || !validUUID(a) || a[14] != '4' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Errorf("got %s and %s, want two random UUIDs of version 4", a, b)
	}
	for _, bad := range []string{"", a[1:], a + "0", strings.ToUpper(uuidA), strings.Replace(a, "-", "0", 1), "g" + a[1:]} {
		if validUUID(bad) {
			t.Errorf("%q passes for a UUID", bad)
		}
	}
}
