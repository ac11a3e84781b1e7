package main

import (
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		name string
		line string
		code int
		out  string // contained in standard output; empty means nothing is there
		err  string // likewise in standard error
	}{
		{"no command", "", 127, "", "Commands:"},
		{"unknown command", "frobnicate", 127, "", `there is no command "muster frobnicate"`},
		{"slip in a command", "member", 127, "", `there is no command "muster member"; did you mean "muster members"?`},
		{"beginning of a command", "snap", 127, "", `did you mean "muster snapshot"?`},
		{"slip in a command of a group", "kv gte a", 1, "", `there is no command "muster kv gte"; did you mean "muster kv get"?`},
		{"nothing like any command", "xyzzyx", 127, "", "there is no command \"muster xyzzyx\"\n"},
		{"command of later", "keyring -list", 127, "", `there is no command "muster keyring": it is not supported yet`},
		{"command of the mesh", "connect ca", 127, "", `there is no command "muster connect": Muster has no service mesh`},
		{"help", "--help", 0, "Commands:", ""},
		{"help with one dash", "-h", 0, "Commands:", ""},
		{"group without a command", "kv", 1, "", "Commands:"},
		{"group with an unknown command", "kv frobnicate", 1, "", `there is no command "muster kv frobnicate"`},
		{"help of a group", "kv -h", 0, "Commands:", ""},
		{"help of a command", "kv get --help", 0, "Examples:", ""},
		{"unknown flag", "kv get -nope a", 1, "", "-nope"},
		{"unknown flag lists the flags", "kv get -nope a", 1, "", "-separator"},
		{"wrong value of a flag", "kv put -flags=many a", 1, "", `"many"`},
		{"wrong number", "kv put -flags=many a", 1, "", "it must be a whole number of 0 or more\n\n    -flags"},
		{"wrong duration", "snapshot agent -interval=10", 1, "", `"10" for flag -interval: parse error: it must be a duration as in "90s" or "1h30m"`},
		{"wrong switch", "operator autopilot set-config -cleanup-dead-servers=maybe", 1, "", "-cleanup-dead-servers: parse error: it must be true or false"},
		{"flag after an argument", "kv put a -flags=1 v", 1, "", "too many arguments (expected 1 to 2, got 3)"},
		{"that flag is named", "kv put a -flags=1 v", 1, "", `"-flags=1" must stand before`},
		{"arguments where none belong", "members one", 1, "", "too many arguments (expected none, got 1)"},
		{"argument is missing", "kv put", 1, "", "too few arguments (expected 1 to 2, got 0)"},
		{"version", "version", 0, "Muster v", ""},
		{"version as a flag", "-version", 0, "Muster v", ""},
		{"version as a flag with two dashes", "--version", 0, "Muster v", ""},
		{"version as a short flag", "-v", 0, "Muster v", ""},
		{"flags with two dashes", "version --format=json", 0, `"Version": "1.21.4"`, ""},
		{"version in an unknown form", "version -format=xml", 1, "", `not "xml"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := runLine("", strings.Fields(test.line)...)
			if got.code != test.code {
				t.Errorf("exit code = %d, want %d", got.code, test.code)
			}
			for _, stream := range []struct{ name, got, want string }{
				{"output", got.out, test.out}, {"error", got.err, test.err},
			} {
				if stream.want == "" && stream.got != "" {
					t.Errorf("standard %s = %q, want nothing", stream.name, stream.got)
				}
				if !strings.Contains(stream.got, stream.want) {
					t.Errorf("standard %s = %q, want %q in it", stream.name, stream.got, stream.want)
				}
			}
		})
	}
}

// Every command explains itself: a summary, an example, and each flag a text.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(t *testing.T, c *command)
	walk = func(t *testing.T, c *command) {
		if c.summary == "" && !c.isRoot() {
			t.Errorf("%s has no summary", c.path)
		}
		if strings.HasSuffix(c.summary, ".") {
			t.Errorf("the summary of %s ends in a full stop, which help adds", c.path)
		}
		if len(c.examples) == 0 && !c.isRoot() {
			t.Errorf("%s has no example", c.path)
		}
		for _, example := range c.examples {
			if !strings.Contains(example.line, "muster") {
				t.Errorf("the example %q of %s does not run muster", example.line, c.path)
			}
		}
		for _, child := range c.children {
			walk(t, child)
		}
		if c.new == nil {
			return
		}
		line := append(strings.Fields(c.path)[1:], "-h")
		got := runLine("", line...)
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, c.summary) {
			t.Errorf("%s -h: exit code %d, error %q, output %q", c.path, got.code, got.err, got.out)
		}
	}
	walk(t, commands())
}

func TestPrintTable(t *testing.T) {
	for _, test := range []struct {
		name string
		rows [][]string
		gap  int
		want string
	}{
		{"nothing", nil, 2, ""},
		{"columns", [][]string{{"Node", "ID"}, {"web-one", "1"}}, 2, "Node     ID\nweb-one  1\n"},
		{"no blanks at the end", [][]string{{"a", "b", "c"}, {"aa"}, {"a", "", ""}}, 2, "a   b  c\naa\na\n"},
		{"empty cell inside", [][]string{{"a", "b", "c"}, {"a", "", "c"}}, 2, "a  b  c\na     c\n"},
		{"letters of several bytes", [][]string{{"käse", "1"}, {"brot", "2"}}, 2, "käse  1\nbrot  2\n"},
		{"wide", [][]string{{"web", "v1"}, {"consul"}}, 6, "web         v1\nconsul\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			printTable(&out, test.rows, test.gap)
			if out.String() != test.want {
				t.Errorf("got\n%q, want\n%q", out.String(), test.want)
			}
		})
	}
}
