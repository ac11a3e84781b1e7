package main

import (
	"flag"
	"fmt"

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
and -config-dir. Warnings go to standard error and do not change the exit code.`,
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

func (r *validateRunner) run(streams streams, paths []string) error {
	warnings, err := config.Validate(paths, r.format)
	if err != nil {
		fmt.Fprintf(streams.err, "Config validation failed: %v\n", err)
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
