package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
)

func monitorCommand() *command {
	return &command{
		name:    "monitor",
		summary: "Follow the log of the agent",
		details: `Prints what is logged from now on until it is interrupted, and exits with 0 then,
or with 1 if the agent ends.`,
		examples: []example{
			{"What it logs", "muster monitor"},
			{"More of it than it writes itself, as JSON", "muster monitor -log-level=debug -log-json"},
		},
		new: func() runner { return &monitorRunner{} },
	}
}

type monitorRunner struct {
	connection connection
	level      string
	json       bool
}

func (r *monitorRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.StringVar(&r.level, "log-level", "", "The least `level` to show: trace, debug, info, warn or error. The agent's default is info.")
	flags.BoolVar(&r.json, "log-json", false, "Print JSON, one object a line.")
}

func (r *monitorRunner) run(streams streams, _ []string) error {
	ctx, stop := untilInterrupted()
	defer stop()
	return r.follow(ctx, streams.out)
}

// follow copies the log until ctx ends, which is no error, or the agent ends.
func (r *monitorRunner) follow(ctx context.Context, w io.Writer) error {
	parameters := url.Values{}
	if r.level != "" {
		parameters.Set("loglevel", r.level)
	}
	if r.json {
		parameters.Set("logjson", "true")
	}
	log, err := r.connection.open(ctx, "/v1/agent/monitor", parameters, 0) // an idle agent logs nothing
	if err == nil {
		defer log.Close()
		if _, err = io.Copy(w, log); err == nil {
			err = errors.New("the agent ended the stream")
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("cannot follow the log of the agent: %w", err)
}
