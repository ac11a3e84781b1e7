package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	entryA = `{"LockIndex":0,"Key":"app/a","Flags":3,"Value":"b25l","CreateIndex":5,"ModifyIndex":6}`
	entryB = `{"LockIndex":2,"Key":"app/b","Flags":0,"Value":"dHdv","Session":"9f1b-s","CreateIndex":7,"ModifyIndex":9}`
	none   = `{"LockIndex":0,"Key":"app/c","Flags":0,"Value":null,"CreateIndex":8,"ModifyIndex":8}`
)

func TestKV(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "data")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		args    []string // after "kv", words before flags first
		stdin   string
		answers map[string]answer
		asked   string // the last request, empty if there must be none
		body    string
		want    expectation
	}{
		{name: "get", args: []string{"get", "app/a"},
			answers: map[string]answer{"GET /v1/kv/app/a": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/app/a", want: expectation{out: "one\n"}},
		{name: "get strips one slash", args: []string{"get", "/app/a"},
			answers: map[string]answer{"GET /v1/kv/app/a": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/app/a", want: expectation{out: "one\n"}},
		{name: "get of an empty value", args: []string{"get", "app/c"},
			answers: map[string]answer{"GET /v1/kv/app/c": {body: "[" + none + "]"}},
			asked:   "GET /v1/kv/app/c", want: expectation{out: "\n"}},
		{name: "get in base64", args: []string{"get", "-base64", "app/a"},
			answers: map[string]answer{"GET /v1/kv/app/a": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/app/a", want: expectation{out: "b25l\n"}},
		{name: "get of a key with blanks and signs", args: []string{"get", "a b?c%d"},
			answers: map[string]answer{"GET /v1/kv/a%20b%3Fc%25d": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/a%20b%3Fc%25d", want: expectation{out: "one\n"}},
		{name: "get of a missing key", args: []string{"get", "nope"},
			answers: map[string]answer{"GET /v1/kv/nope": {status: 404}},
			asked:   "GET /v1/kv/nope", want: expectation{err: "there is no key nope", code: 1}},
		{name: "get in detail", args: []string{"get", "-detailed", "app/a"},
			answers: map[string]answer{"GET /v1/kv/app/a": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/app/a",
			want: expectation{out: "CreateIndex      5\nFlags            3\nKey              app/a\nLockIndex        0\n" +
				"ModifyIndex      6\nSession          -\nValue            one\n"}},
		{name: "get a tree", args: []string{"get", "-recurse", "app/"},
			answers: map[string]answer{"GET /v1/kv/app/?recurse=": {body: "[" + entryA + "," + entryB + "]"}},
			asked:   "GET /v1/kv/app/?recurse=", want: expectation{out: "app/a:one\napp/b:two\n"}},
		{name: "get all", args: []string{"get", "-recurse"},
			answers: map[string]answer{"GET /v1/kv/?recurse=": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/?recurse=", want: expectation{out: "app/a:one\n"}},
		{name: "get a tree in detail", args: []string{"get", "-recurse", "-detailed", "app/"},
			answers: map[string]answer{"GET /v1/kv/app/?recurse=": {body: "[" + entryA + "," + entryB + "]"}},
			asked:   "GET /v1/kv/app/?recurse=",
			want: expectation{out: "CreateIndex      5\nFlags            3\nKey              app/a\nLockIndex        0\n" +
				"ModifyIndex      6\nSession          -\nValue            one\n\n" +
				"CreateIndex      7\nFlags            0\nKey              app/b\nLockIndex        2\n" +
				"ModifyIndex      9\nSession          9f1b-s\nValue            two\n"}},
		{name: "get names", args: []string{"get", "-keys", "app/"},
			answers: map[string]answer{"GET /v1/kv/app/?keys=&separator=%2F": {body: `["app/a","app/d/"]`}},
			asked:   "GET /v1/kv/app/?keys=&separator=%2F", want: expectation{out: "app/a\napp/d/\n"}},
		{name: "get names with another separator", args: []string{"get", "-keys", "-separator=:", "app"},
			answers: map[string]answer{"GET /v1/kv/app?keys=&separator=%3A": {body: `["app:"]`}},
			asked:   "GET /v1/kv/app?keys=&separator=%3A", want: expectation{out: "app:\n"}},
		{name: "get all names", args: []string{"get", "-keys", "-recurse"},
			answers: map[string]answer{"GET /v1/kv/?keys=": {body: `["app/a","app/d/e"]`}},
			asked:   "GET /v1/kv/?keys=", want: expectation{out: "app/a\napp/d/e\n"}},
		{name: "get without a key", args: []string{"get"}, want: expectation{err: "the key is missing", code: 1}},
		{name: "get from another datacenter, stale", args: []string{"get", "-datacenter=dc2", "-stale", "a"},
			answers: map[string]answer{"GET /v1/kv/a?dc=dc2&stale=": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/a?dc=dc2&stale=", want: expectation{out: "one\n"}},
		{name: "get with tenancy, which is ignored", args: []string{"get", "-namespace=n", "-partition=p", "a"},
			answers: map[string]answer{"GET /v1/kv/a": {body: "[" + entryA + "]"}},
			asked:   "GET /v1/kv/a", want: expectation{out: "one\n"}},

		{name: "put", args: []string{"put", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a": {body: "true\n"}},
			asked:   "PUT /v1/kv/a", body: "v", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put nothing", args: []string{"put", "a"},
			answers: map[string]answer{"PUT /v1/kv/a": {body: "true"}},
			asked:   "PUT /v1/kv/a", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put a file", args: []string{"put", "a", "@" + file},
			answers: map[string]answer{"PUT /v1/kv/a": {body: "true"}},
			asked:   "PUT /v1/kv/a", body: "from a file", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put a missing file", args: []string{"put", "a", "@" + file + "2"},
			want: expectation{err: "cannot read the data", code: 1}},
		{name: "put standard input", args: []string{"put", "a", "-"}, stdin: "piped",
			answers: map[string]answer{"PUT /v1/kv/a": {body: "true"}},
			asked:   "PUT /v1/kv/a", body: "piped", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put base64", args: []string{"put", "-base64", "a", "b25l"},
			answers: map[string]answer{"PUT /v1/kv/a": {body: "true"}},
			asked:   "PUT /v1/kv/a", body: "one", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put what is not base64", args: []string{"put", "-base64", "a", "?"},
			want: expectation{err: "the data is not base64", code: 1}},
		{name: "put with flags", args: []string{"put", "-flags=18446744073709551615", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?flags=18446744073709551615": {body: "true"}},
			asked:   "PUT /v1/kv/a?flags=18446744073709551615", body: "v",
			want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put if new", args: []string{"put", "-cas", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?cas=0": {body: "false"}},
			asked:   "PUT /v1/kv/a?cas=0", body: "v",
			want: expectation{err: "did not write to a: it exists already", code: 1}},
		{name: "put if unchanged", args: []string{"put", "-cas", "-modify-index=4", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?cas=4": {body: "true"}},
			asked:   "PUT /v1/kv/a?cas=4", body: "v", want: expectation{out: "Success! Data written to: a\n"}},
		{name: "put if unchanged, but it was", args: []string{"put", "-cas", "-modify-index=4", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?cas=4": {body: "false"}},
			asked:   "PUT /v1/kv/a?cas=4", body: "v",
			want: expectation{err: "did not write to a: its modify index is not 4", code: 1}},
		{name: "put with an index but no check", args: []string{"put", "-modify-index=4", "a", "v"},
			want: expectation{err: "-modify-index=4 needs -cas", code: 1}},
		{name: "lock", args: []string{"put", "-acquire", "-session=s1", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?acquire=s1": {body: "true"}},
			asked:   "PUT /v1/kv/a?acquire=s1", body: "v", want: expectation{out: "Success! Lock acquired on: a\n"}},
		{name: "lock that another has", args: []string{"put", "-acquire", "-session=s1", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?acquire=s1": {body: "false"}},
			asked:   "PUT /v1/kv/a?acquire=s1", body: "v", want: expectation{err: "did not write to a", code: 1}},
		{name: "unlock", args: []string{"put", "-release", "-session=s1", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a?release=s1": {body: "true"}},
			asked:   "PUT /v1/kv/a?release=s1", body: "v", want: expectation{out: "Success! Lock released on: a\n"}},
		{name: "lock without a session", args: []string{"put", "-acquire", "a", "v"},
			want: expectation{err: "-acquire needs a -session", code: 1}},
		{name: "lock and unlock", args: []string{"put", "-acquire", "-release", "-session=s", "a", "v"},
			want: expectation{err: "only one of -acquire and -release", code: 1}},
		{name: "put what the agent refuses", args: []string{"put", "a", "v"},
			answers: map[string]answer{"PUT /v1/kv/a": {status: 413, body: "Value for key \"a\" is too large"}},
			asked:   "PUT /v1/kv/a", body: "v", want: expectation{err: "is too large", code: 1}},
		{name: "put to a key that begins with a slash", args: []string{"put", "/a", "v"},
			want: expectation{err: `the key "/a" must not begin with a slash`, code: 1}},
		{name: "put to no key", args: []string{"put", "", "v"},
			want: expectation{err: "the key must not be empty", code: 1}},

		{name: "delete", args: []string{"delete", "/a"},
			answers: map[string]answer{"DELETE /v1/kv/a": {body: "true"}},
			asked:   "DELETE /v1/kv/a", want: expectation{out: "Success! Deleted key: a\n"}},
		{name: "delete a tree", args: []string{"delete", "-recurse", "app/"},
			answers: map[string]answer{"DELETE /v1/kv/app/?recurse=": {body: "true"}},
			asked:   "DELETE /v1/kv/app/?recurse=", want: expectation{out: "Success! Deleted keys with prefix: app/\n"}},
		{name: "delete if unchanged", args: []string{"delete", "-cas", "-modify-index=4", "a"},
			answers: map[string]answer{"DELETE /v1/kv/a?cas=4": {body: "true"}},
			asked:   "DELETE /v1/kv/a?cas=4", want: expectation{out: "Success! Deleted key: a\n"}},
		{name: "delete if unchanged, but it was", args: []string{"delete", "-cas", "-modify-index=4", "a"},
			answers: map[string]answer{"DELETE /v1/kv/a?cas=4": {body: "false"}},
			asked:   "DELETE /v1/kv/a?cas=4", want: expectation{err: "its modify index is not 4", code: 1}},
		{name: "delete if unchanged since never", args: []string{"delete", "-cas", "a"},
			want: expectation{err: "-cas needs a -modify-index above zero", code: 1}},
		{name: "delete a tree if unchanged", args: []string{"delete", "-cas", "-recurse", "-modify-index=4", "a"},
			want: expectation{err: "only one of -cas and -recurse", code: 1}},
		{name: "delete nothing", args: []string{"delete", "/"},
			want: expectation{err: "the key must not be empty", code: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := newStubAgent(t, test.answers)
			args := connectTo(stub, 2, append([]string{"kv"}, test.args...))
			runLine(test.stdin, args...).check(t, test.want)
			if test.asked == "" {
				if lines := stub.lines(); len(lines) > 0 {
					t.Errorf("the agent was asked %q, want nothing", lines)
				}
				return
			}
			if got := stub.last(t); got.line != test.asked || got.body != test.body {
				t.Errorf("the agent was asked %q with %q, want %q with %q", got.line, got.body, test.asked, test.body)
			}
		})
	}
}

func TestDataLimit(t *testing.T) {
	if _, err := readLimited(strings.NewReader("12345"), 5); err != nil {
		t.Errorf("as much as the limit: %v", err)
	}
	_, err := readLimited(strings.NewReader("123456"), 5)
	if err == nil || !strings.Contains(err.Error(), "the limit of 5 bytes") {
		t.Errorf("more than the limit: %v, want an error that names it", err)
	}
}
