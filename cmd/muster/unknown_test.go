package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
)

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kv", "kv", 0}, {"member", "members", 1}, {"gte", "get", 2},
		{"reload", "relod", 1}, {"info", "join", 4}, {strings.Repeat("x", 1000), "", maxCommandName},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("from %.40q to %q it is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// A command that there is must not be said to be missing.
func TestCommandsThatAreNotThere(t *testing.T) {
	for _, child := range commands().children {
		if slices.Contains(laterCommands, child.name) || slices.Contains(meshCommands, child.name) {
			t.Errorf("%s is there", child.path)
		}
	}
}

// Every command that talks to an agent says where it looked for one, and how to
// say that it is elsewhere.
func TestEveryCommandWithoutAnAgent(t *testing.T) {
	arguments := map[string]string{
		"muster kv get": "a", "muster kv import": `[{"key":"a","value":""}]`, "muster operator autopilot set-config": "-max-trailing-logs=9",
		"muster operator raft remove-peer": "-id=x", "muster services register": "-name=x", "muster services deregister": "-id=x",
		"muster snapshot restore": "", // it reads the file first
		"muster snapshot agent":   "-interval=0 -local-path=" + t.TempDir(), "muster snapshot save": t.TempDir() + "/x",
	}
	tried := 0
	var walk func(c *command)
	walk = func(c *command) {
		for _, child := range c.children {
			walk(child)
		}
		if c.new == nil || c.path == "muster snapshot restore" {
			return
		}
		flags := flag.NewFlagSet(c.path, flag.ContinueOnError)
		c.new().define(flags)
		if flags.Lookup("http-addr") == nil {
			return
		}
		tried++
		for address, shown := range map[string]string{"127.0.0.1:1": "127.0.0.1:1", "unix:///nowhere/muster.sock": "/nowhere/muster.sock"} {
			line := append(strings.Fields(c.path)[1:], "-http-addr="+address)
			given, ok := arguments[c.path]
			line = append(line, strings.Fields(given)...)
			for i := 0; !ok && i < c.fewest; i++ {
				line = append(line, "x")
			}
			got := runLine("", line...)
			if got.code != 1 || got.out != "" || !strings.Contains(got.err, shown) {
				t.Errorf("%s: exit code %d, output %q, errors %q", strings.Join(line, " "), got.code, got.out, got.err)
			}
			if !strings.HasSuffix(got.err, noAgentAdvice) {
				t.Errorf("%s gives no advice: %q", strings.Join(line, " "), got.err)
			}
		}
	}
	walk(commands())
	if tried < 20 {
		t.Errorf("only %d commands were tried", tried)
	}
}
