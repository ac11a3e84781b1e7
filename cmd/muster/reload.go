package main

import (
	"flag"
	"fmt"

	"github.com/hashicorp/consul/api"
)

func reloadCommand() *command {
	return &command{
		name:    "reload",
		summary: "Let the agent read its configuration again",
		details: `Takes over what may change while the agent runs. If something is wrong with the
configuration, the command says what and the agent stays as it is.`,
		examples: []example{{"Check, then take over", "muster validate /etc/muster.d && muster reload"}},
		new: func() runner {
			return &requestRunner{doing: "reload the configuration", done: "Configuration reload triggered", request: (*api.Agent).Reload}
		},
	}
}

func leaveCommand() *command {
	return &command{
		name:    "leave",
		summary: "Let the agent leave its cluster and stop",
		details: `Others see that it left, instead of that it failed; what it registered is removed.`,
		examples: []example{
			{"The agent on this machine", "muster leave"},
		},
		new: func() runner {
			return &requestRunner{doing: "leave the cluster", done: "Graceful leave complete", request: (*api.Agent).Leave}
		},
	}
}

// requestRunner asks the agent for one thing, which has neither data nor answer.
type requestRunner struct {
	connection connection
	doing      string // what is asked, after "cannot"
	done       string // the line that tells of success
	request    func(*api.Agent) error
}

func (r *requestRunner) define(flags *flag.FlagSet) { r.connection.define(flags) }

func (r *requestRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	if err := r.request(client.Agent()); err != nil {
		return fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	fmt.Fprintln(streams.out, r.done)
	return nil
}
