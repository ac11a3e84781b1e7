package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/muster-sd/muster/agent/config"
)

func validateCommand() *command {
	return &command{
		name:      "validate",
		summary:   "Check configuration files without starting an agent",
		arguments: "PATH...",
		fewest:    1,
		most:      -1,
		details: `Each PATH is a file or a folder, read as the agent would read it with -config-file
and -config-dir; all together are checked as the configuration of one agent.
Errors and warnings name the file, line and column. Warnings, among them those
about checks that can never pass, go to standard error and do not change the
exit code.`,
		examples: []example{
			{"A folder", "muster validate /etc/muster.d"},
			{"A file whose name does not tell its format", "muster validate -config-format=hcl agent.conf"},
		},
		new: func() runner { return &validateRunner{} },
	}
}

type validateRunner struct {
	quiet  bool
	format string
}

func (r *validateRunner) define(flags *flag.FlagSet) {
	flags.BoolVar(&r.quiet, "quiet", false, "Say nothing if the configuration is valid.")
	flags.StringVar(&r.format, "config-format", "", "The `format` of all files, hcl or json, whatever their names.")
}

// wholeAdvice is said of files without what every agent needs, which probably are
// only a part of what one reads.
const wholeAdvice = `What is named is checked as all that an agent reads. Files that only define
services or checks are checked together with the others: name the whole folder.
`

func (r *validateRunner) run(streams streams, paths []string) error {
	warnings, err := config.Validate(paths, r.format)
	if err != nil {
		fmt.Fprintf(streams.err, "Config validation failed: %v\n", err)
		if strings.Contains(err.Error(), "data_dir must be set") {
			fmt.Fprint(streams.err, wholeAdvice)
		}
		return exitStatus(exitFailed)
	}
	for _, warning := range warnings {
		fmt.Fprintln(streams.err, warning)
	}
	if !r.quiet {
		fmt.Fprintln(streams.out, "Configuration is valid!")
	}
	return nil
}
