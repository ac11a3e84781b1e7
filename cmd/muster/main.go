package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Exit codes that every command keeps to; a few add one of their own with an
// [exitStatus].
const (
	exitOK             = 0
	exitFailed         = 1
	exitUnknownCommand = 127
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out one command line, given without the program's name, and
// returns the exit code of the process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := commands()
	streams := streams{in: stdin, out: stdout, err: stderr}
	if len(args) > 0 {
		switch args[0] {
		case "-v", "-version", "--version":
			args = append([]string{"version"}, args[1:]...)
		case "-h", "-help", "--help", "help":
			root.printGroup(stdout)
			return exitOK
		}
	}
	return root.dispatch(streams, args)
}

// streams are where a command reads and writes. Results go to out; errors,
// warnings and notices go to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// exitStatus is an error that has nothing to say but the exit code.
type exitStatus int

// Error satisfies the error interface; it is never printed.
func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// dispatch walks down the tree of commands along args and runs what it finds.
func (c *command) dispatch(streams streams, args []string) int {
	if c.new != nil {
		return c.execute(streams, args)
	}
	if len(args) > 0 && isHelp(args[0]) {
		c.printGroup(streams.out)
		return exitOK
	}
	if len(args) > 0 {
		if child := c.child(args[0]); child != nil {
			return child.dispatch(streams, args[1:])
		}
		fmt.Fprintf(streams.err, "Error: %s\n\n", c.unknown(args[0]))
	}
	c.printGroup(streams.err)
	// Scripts tell "no such command" from "the command failed" by this code; a
	// group of commands has always failed with the plain one.
	if c.isRoot() {
		return exitUnknownCommand
	}
	return exitFailed
}

// execute parses the flags of one command and runs it.
func (c *command) execute(streams streams, args []string) int {
	flags := flag.NewFlagSet(c.path, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // messages are ours, printed once
	runner := c.new()
	runner.define(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		c.printHelp(streams.out, flags)
		return exitOK
	case err != nil:
		if f, want := misread(flags, err); f != nil {
			fmt.Fprintf(streams.err, "Error: %v: it must be %s\n\n%s", err, want, flagHelp(f))
			return exitFailed
		}
		fmt.Fprintf(streams.err, "Error: %v\n\n", err)
		c.printFlags(streams.err, flags)
		return exitFailed
	}
	err := c.checkArguments(flags.Args())
	if err == nil {
		err = runner.run(streams, flags.Args())
	}
	return report(streams.err, err)
}

// misread finds the flag whose value could not be read, and says what it takes.
// The flag package itself only says "parse error".
func misread(flags *flag.FlagSet, failed error) (found *flag.Flag, want string) {
	flags.VisitAll(func(f *flag.Flag) {
		before, _, ok := strings.Cut(failed.Error(), "-"+f.Name+": ")
		if getter, is := f.Value.(flag.Getter); ok && is && strings.HasPrefix(before, "invalid ") {
			switch getter.Get().(type) {
			case bool:
				found, want = f, "true or false"
			case time.Duration:
				found, want = f, `a duration as in "90s" or "1h30m"`
			case int, int64:
				found, want = f, "a whole number"
			case uint, uint64:
				found, want = f, "a whole number of 0 or more"
			}
		}
	})
	return found, want
}

// report prints an error and returns the exit code that goes with it.
func report(stderr io.Writer, err error) int {
	var status exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	default:
		fmt.Fprintf(stderr, "Error: %v\n", err)
		var more advised
		switch {
		case errors.As(err, &more):
			fmt.Fprint(stderr, more.advice)
		case strings.Contains(err.Error(), noLeader):
			fmt.Fprint(stderr, noLeaderAdvice)
		case strings.Contains(err.Error(), noServers):
			fmt.Fprint(stderr, noServersAdvice)
		case nobodyThere(err):
			fmt.Fprint(stderr, noAgentAdvice)
		}
		return exitFailed
	}
}

// advised is an error for which there is other advice than its text would lead to.
type advised struct {
	error
	advice string
}

// What servers say that have no leader, and how to find out why.
const (
	noLeader       = "No cluster leader"
	noLeaderAdvice = `More than half of the servers must be up and reach each other to elect one.
"muster members" shows who is up, and if it shows no server, this agent has joined
nobody yet; "muster operator raft list-peers -stale" shows whose votes count.
Reads with -stale need no leader. If a majority is lost for good, see "muster
operator raft recover -h".
`
)

// What agents say that reach no server, and how to find out why.
const (
	noServers       = "No known Consul servers"
	noServersAdvice = `This agent reaches no server. "muster members" shows whom it knows: if it shows no
server, let it join one with "muster join ADDRESS", or set retry_join. What is
registered here, and maintenance, can be seen and changed all the same.
`
)

// isHelp reports whether an argument asks for help.
func isHelp(arg string) bool {
	return arg == "-h" || arg == "-help" || arg == "--help"
}
