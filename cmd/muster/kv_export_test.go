package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

const exported = `[
	{
		"key": "app/a",
		"flags": 3,
		"value": "b25l"
	},
	{
		"key": "app/b",
		"flags": 0,
		"value": "dHdv"
	},
	{
		"key": "app/c",
		"flags": 0,
		"value": ""
	}
]
`

func TestKVExport(t *testing.T) {
	for _, test := range []struct {
		name   string
		prefix []string
		asked  string
		answer answer
		want   expectation
	}{
		{"tree", []string{"/app/"}, "GET /v1/kv/app/?recurse=", answer{body: "[" + entryA + "," + entryB + "," + none + "]\n"}, expectation{out: exported}},
		{"everything", nil, "GET /v1/kv/?recurse=", answer{body: "[" + entryA + "," + entryB + "," + none + "]"}, expectation{out: exported}},
		{"key with blanks and signs", []string{"a b?c%d//../e"}, "GET /v1/kv/a%20b%3Fc%25d//../e?recurse=", answer{body: "[]"}, expectation{out: "[]\n"}},
		{"no key", []string{"x"}, "GET /v1/kv/x?recurse=", answer{status: 404}, expectation{out: "[]\n"}},
		{"no such path", []string{"x"}, "GET /v1/kv/x?recurse=", answer{status: 404, body: "not here"}, expectation{err: "404 (not here)", code: 1}},
		{"no right", nil, "GET /v1/kv/?recurse=", answer{status: 403, body: "Permission denied"},
			expectation{err: `cannot export the keys under "": Unexpected response code: 403 (Permission denied)`, code: 1}},
		{"answer that is cut short", nil, "GET /v1/kv/?recurse=", answer{body: "[" + entryA + ","},
			expectation{out: exported[:strings.Index(exported, ",\n\t{")], err: "unexpected EOF", code: 1}},
		{"answer that is no list", nil, "GET /v1/kv/?recurse=", answer{body: "{}"}, expectation{err: `expected [, got {`, code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, map[string]answer{test.asked: test.answer})
			got := runLine("", connectTo(stub, 2, append([]string{"kv", "export"}, test.prefix...))...)
			got.check(t, test.want)
			if asked := stub.last(t).line; asked != test.asked {
				t.Errorf("the agent was asked %q, want %q", asked, test.asked)
			}
		})
	}
}

func TestKVImport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "export.json")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	written := answer{body: "true"}
	whole := map[string]answer{"PUT /v1/kv/app/a?flags=3": written, "PUT /v1/kv/app/b": written, "PUT /v1/kv/app/c": written}
	wholeAsked := []string{"PUT /v1/kv/app/a?flags=3 one", "PUT /v1/kv/app/b two", "PUT /v1/kv/app/c "}
	wholeOut := lines("Imported: app/a", "Imported: app/b", "Imported: app/c")
	one := map[string]answer{"PUT /v1/kv/a": written}
	for _, test := range []struct {
		name    string
		args    []string
		stdin   string
		answers map[string]answer
		asked   []string // with bodies
		want    expectation
	}{
		{name: "file", args: []string{"@" + file}, answers: whole, asked: wholeAsked, want: expectation{out: wholeOut}},
		{name: "standard input", args: []string{"-"}, stdin: exported, answers: whole, asked: wholeAsked, want: expectation{out: wholeOut}},
		{name: "argument", args: []string{exported}, answers: whole, asked: wholeAsked, want: expectation{out: wholeOut}},
		{name: "below a prefix", args: []string{"-prefix=copy", `[{"key":"a/","flags":0,"value":"b25l"}]`},
			answers: map[string]answer{"PUT /v1/kv/copy/a/": written}, asked: []string{"PUT /v1/kv/copy/a/ one"},
			want: expectation{out: "Imported: copy/a/\n"}},
		{name: "below a prefix with a slash", args: []string{"-prefix=copy/", `[{"key":"a","value":"b25l"}]`},
			answers: map[string]answer{"PUT /v1/kv/copy/a": written}, asked: []string{"PUT /v1/kv/copy/a one"},
			want: expectation{out: "Imported: copy/a\n"}},
		{name: "members of others", args: []string{`[{"key":"a","flags":0,"value":"b25l","namespace":"default"}]`},
			answers: one, asked: []string{"PUT /v1/kv/a one"}, want: expectation{out: "Imported: a\n"}},
		{name: "nothing", args: []string{"[]"}},
		{name: "missing file", args: []string{"@" + file + "2"}, want: expectation{err: "cannot read the data", code: 1}},
		{name: "no JSON", args: []string{"x"}, want: expectation{err: "cannot import entry 1 of the argument: the data is not a JSON array", code: 1}},
		{name: "no array", args: []string{"{}"}, want: expectation{err: "the data is not a JSON array", code: 1}},
		{name: "no data", args: []string{""}, want: expectation{err: "unexpected EOF", code: 1}},
		{name: "no key", args: []string{`[{"value":"b25l"}]`}, want: expectation{err: "the key must not be empty", code: 1}},
		{name: "key that begins with a slash", args: []string{`[{"key":"/a"}]`}, want: expectation{err: `"/a" must not begin with a slash`, code: 1}},
		{name: "value that is not base64", args: []string{`[{"key":"a","value":"?"}]`},
			want: expectation{err: `the value of the key "a" is not base64`, code: 1}},
		{name: "entry of another kind", args: []string{"-"}, stdin: `[{"key":"a"},7]`,
			answers: one, asked: []string{"PUT /v1/kv/a "},
			want: expectation{out: "Imported: a\n", err: "cannot import entry 2 of standard input: it is not a key with flags and value", code: 1}},
		{name: "array that does not end", args: []string{`[{"key":"a"}`}, answers: one, asked: []string{"PUT /v1/kv/a "},
			want: expectation{out: "Imported: a\n", err: "does not end: unexpected EOF", code: 1}},
		{name: "something behind it", args: []string{`[{"key":"a"}][]`}, answers: one, asked: []string{"PUT /v1/kv/a "},
			want: expectation{out: "Imported: a\n", err: "something follows", code: 1}},
		{name: "what the agent refuses", args: []string{`[{"key":"a"},{"key":"b"}]`},
			answers: map[string]answer{"PUT /v1/kv/a": {status: 413, body: "too large"}}, asked: []string{"PUT /v1/kv/a "},
			want: expectation{err: `cannot write the key "a": Unexpected response code: 413 (too large)`, code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, test.answers)
			runLine(test.stdin, connectTo(stub, 2, append([]string{"kv", "import"}, test.args...))...).check(t, test.want)
			var asked []string
			for _, ask := range stub.asks {
				asked = append(asked, ask.line+" "+ask.body)
			}
			if !slices.Equal(asked, test.asked) {
				t.Errorf("the agent was asked %q, want %q", asked, test.asked)
			}
		})
	}
}

// Whatever an import holds, it is read to its end or refused, and what was read
// is the same after an export.
func FuzzKVImport(f *testing.F) {
	for _, seed := range []string{exported, "[]", `[{"key":"a","flags":-1}]`, `[{"key":"a","value":"?"}]`, `[[`, `[]]`, "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := importAll(text)
		if err != nil {
			return
		}
		again, err := importAll(exportAll(t, first))
		if err != nil || !slices.EqualFunc(first, again, samePair) {
			t.Errorf("%q became %q (%v)", text, exportAll(t, first), err)
		}
	})
}

// importAll reads the entries of an export.
func importAll(text string) ([]*api.KVPair, error) {
	var pairs []*api.KVPair
	err := eachEntry(strings.NewReader(text), func(pair *api.KVPair) error {
		pairs = append(pairs, pair)
		return nil
	})
	return pairs, err
}

// exportAll exports pairs as an agent would tell them.
func exportAll(t *testing.T, pairs []*api.KVPair) string {
	t.Helper()
	list, err := json.Marshal(append([]*api.KVPair{}, pairs...))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := exportPairs(&out, bytes.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func samePair(a, b *api.KVPair) bool {
	return a.Key == b.Key && a.Flags == b.Flags && bytes.Equal(a.Value, b.Value)
}
