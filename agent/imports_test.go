package agent

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/muster-sd/muster/"

// mayImport says which packages of Muster's own each package may import. A
// package that is not named here has no place yet: name it with what it needs.
// Tests may import what they like.
var mayImport = map[string][]string{
	"cmd/muster":      {"agent", "agent/config", "agent/consensus", "agent/state", "catalog", "health/check"}, // the last four: data and definitions in files
	"agent":           {"*"},
	"agent/agenttest": {"agent", "agent/config", "agent/consensus"},
	"agent/config":    {"catalog", "health", "health/check"},
	"agent/consensus": {},
	"agent/gossip":    {},
	"agent/leader":    {"agent/state", "agent/gossip", "catalog", "health", "kv", "kv/mvcc"},
	"agent/local":     {"catalog", "health", "health/check", "kv/mvcc"},
	"agent/rpc":       {"kv/mvcc"},
	"agent/state":     {"catalog", "health", "kv", "kv/mvcc"},
	"api":             {"catalog", "health", "health/check", "kv", "kv/mvcc"},
	"catalog":         {"kv/mvcc"},
	"dnsserver":       {"catalog", "health", "kv/mvcc"},
	"health":          {"catalog", "kv", "kv/mvcc"},
	"health/check":    {"catalog", "health", "kv/mvcc"},
	"kv":              {"kv/mvcc"},
	"kv/mvcc":         {},
}

// onlyThere says which libraries belong to one package alone, so that each can
// be replaced in one room.
var onlyThere = map[string][]string{
	"github.com/hashicorp/raft":                 {"agent/consensus", "agent/state"},
	"github.com/hashicorp/memberlist":           {"agent/gossip"},
	"github.com/anishathalye/porcupine":         {"agent/agenttest"},
	"google.golang.org/grpc":                    {"agent/rpc", "health/check"},
	"github.com/hashicorp/raft-boltdb/v2":       {"agent/consensus"},
	"go.etcd.io/bbolt":                          {"agent/consensus"},
	"github.com/hashicorp/go-msgpack/v2/codec":  {"agent/state"},
	"github.com/miekg/dns":                      {"dnsserver"},
	"github.com/go-chi/chi/v5":                  {"api"},
	"github.com/hashicorp/go-bexpr":             {"api"},
	"github.com/hashicorp/hcl":                  {"agent/config"},
	"github.com/hashicorp/consul/api":           {"cmd/muster"},
	"github.com/hashicorp/go-metrics":           {"agent"},
	"github.com/hashicorp/go-sockaddr/template": {"agent/config"},
}

// pure packages do no I/O, tell no time and start nothing.
var pure = []string{"catalog", "health", "kv", "kv/mvcc"}

func TestImports(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && strings.HasPrefix(d.Name(), ".") && file != root {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		seen[pkg] = true
		for _, imported := range importsOf(t, file) {
			if problem := refuse(pkg, imported); problem != "" {
				t.Errorf("%s/%s imports %s: %s", pkg, filepath.Base(file), imported, problem)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range seen {
		if _, ok := mayImport[pkg]; !ok {
			t.Errorf("package %s has no line in the table", pkg)
		}
	}
	for pkg := range mayImport {
		if !seen[pkg] {
			t.Errorf("the table has a line for %s, which is not there", pkg)
		}
	}
}

func importsOf(t *testing.T, file string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, imported)
	}
	return out
}

// refuse says why a package may not import another, or nothing.
func refuse(pkg, imported string) string {
	if own, ok := strings.CutPrefix(imported, module); ok {
		allowed := mayImport[pkg]
		if slices.Contains(allowed, "*") || slices.Contains(allowed, own) {
			return ""
		}
		return "the table does not allow it"
	}
	for library, owners := range onlyThere {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(owners, pkg) && !belongsToAnother(imported, library) {
			return "that library belongs to " + strings.Join(owners, ", ")
		}
	}
	if slices.Contains(pure, pkg) {
		for _, impure := range []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "io/fs", "sync"} {
			if imported == impure {
				return "the package is pure"
			}
		}
	}
	return ""
}

// belongsToAnother reports whether a longer line of the table speaks for the
// import, as that of raft-boltdb does beside that of raft.
func belongsToAnother(imported, library string) bool {
	for other := range onlyThere {
		if other != library && len(other) > len(library) && (imported == other || strings.HasPrefix(imported, other+"/")) {
			return true
		}
	}
	return false
}
