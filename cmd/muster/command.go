package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// command is a node of the tree of commands: a group of further ones, or a leaf
// that can be run.
type command struct {
	name    string
	summary string // one line, without a full stop
	// arguments says in words what follows the flags; fewest and most count it.
	// A negative most is no bound.
	arguments    string
	fewest, most int
	// details are paragraphs that --help adds to the summary.
	details  string
	examples []example
	new      func() runner
	children []*command

	path string // the whole command line up to here, filled in by link
}

// runner is a command at work: it declares its flags, and after they were
// parsed it runs with what followed them.
type runner interface {
	define(flags *flag.FlagSet)
	run(streams streams, args []string) error
}

// example is one line of a command's help.
type example struct{ does, line string }

// commands is the table of contents of the command line.
func commands() *command {
	root := &command{
		name: "muster",
		children: []*command{
			agentCommand(),
			catalogCommand(),
			forceLeaveCommand(),
			healthCommand(),
			infoCommand(),
			joinCommand(),
			kvCommand(),
			leaveCommand(),
			maintCommand(),
			membersCommand(),
			monitorCommand(),
			operatorCommand(),
			reloadCommand(),
			servicesCommand(),
			snapshotCommand(),
			validateCommand(),
			versionCommand(),
			whyCommand(),
		},
	}
	root.link("")
	return root
}

// link tells each command its place in the tree.
func (c *command) link(parent string) {
	c.path = strings.TrimSpace(parent + " " + c.name)
	for _, child := range c.children {
		child.link(c.path)
	}
}

func (c *command) isRoot() bool { return c.path == c.name }

func (c *command) child(name string) *command {
	for _, child := range c.children {
		if child.name == name {
			return child
		}
	}
	return nil
}

// checkArguments counts what follows the flags. Flags are not looked for after
// the first argument, so one that stands there is counted, and named.
func (c *command) checkArguments(args []string) error {
	expected := "none"
	switch {
	case c.most < 0:
		expected = fmt.Sprintf("at least %d", c.fewest)
	case c.fewest != c.most:
		expected = fmt.Sprintf("%d to %d", c.fewest, c.most)
	case c.most > 0:
		expected = fmt.Sprint(c.most)
	}
	if len(args) < c.fewest {
		return fmt.Errorf("too few arguments (expected %s, got %d): usage: %s", expected, len(args), c.usage())
	}
	if c.most < 0 || len(args) <= c.most {
		return nil
	}
	hint := ""
	for _, arg := range args[1:] {
		if len(arg) > 1 && strings.HasPrefix(arg, "-") {
			hint = fmt.Sprintf("; %q must stand before the first argument to count as a flag", arg)
			break
		}
	}
	return fmt.Errorf("too many arguments (expected %s, got %d)%s", expected, len(args), hint)
}

func (c *command) usage() string {
	return strings.TrimSpace(c.path + " [flags] " + c.arguments)
}

// printGroup lists the commands of a group.
func (c *command) printGroup(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s <command> [flags] [arguments]\n\n", c.path)
	if c.summary != "" {
		fmt.Fprintf(w, "%s.\n\n", c.summary)
	}
	rows := make([][]string, 0, len(c.children))
	for _, child := range c.children {
		rows = append(rows, []string{"    " + child.name, child.summary})
	}
	fmt.Fprintln(w, "Commands:")
	printTable(w, rows, helpGap)
	if c.isRoot() {
		fmt.Fprintf(w, "\n%s <command> -h explains a command.\n", c.path)
		return
	}
	c.printExamples(w)
}

// printHelp explains a command that can be run.
func (c *command) printHelp(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: %s\n\n%s.\n", c.usage(), c.summary)
	if c.details != "" {
		fmt.Fprintf(w, "\n%s\n", c.details)
	}
	c.printExamples(w)
	fmt.Fprintln(w)
	c.printFlags(w, flags)
}

func (c *command) printExamples(w io.Writer) {
	if len(c.examples) == 0 {
		return
	}
	fmt.Fprintln(w, "\nExamples:")
	for i, example := range c.examples {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "    # %s\n    %s\n", example.does, example.line)
	}
}

// printFlags lists a command's own flags, then those that many commands share.
func (c *command) printFlags(w io.Writer, flags *flag.FlagSet) {
	own, shared := "", ""
	flags.VisitAll(func(f *flag.Flag) {
		if _, ok := f.Value.(sharedFlag); ok {
			shared += flagHelp(f)
			return
		}
		own += flagHelp(f)
	})
	if own == "" && shared == "" {
		fmt.Fprintln(w, "This command has no flags.")
		return
	}
	if own != "" {
		fmt.Fprintf(w, "Flags:\n%s", own)
	}
	if own != "" && shared != "" {
		fmt.Fprintln(w)
	}
	if shared != "" {
		fmt.Fprintf(w, "Connection flags:\n%s", shared)
	}
}

// flagHelp is the paragraph of one flag.
func flagHelp(f *flag.Flag) string {
	value, usage := flag.UnquoteUsage(f)
	if value != "" {
		value = "=<" + value + ">"
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		usage += fmt.Sprintf(" Default: %s.", f.DefValue)
	}
	return fmt.Sprintf("    -%s%s\n        %s\n", f.Name, value, strings.ReplaceAll(usage, "\n", "\n        "))
}
