package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

func maintCommand() *command {
	return &command{
		name:    "maint",
		summary: "Take the agent's node or one of its services out of service, or list what is",
		details: `What is in maintenance counts as critical: it is no longer found by DNS, nor by
queries for what is healthy, until maintenance is disabled.`,
		examples: []example{
			{"What is out of service", "muster maint"},
			{"The node, with a reason", "muster maint -enable -reason='new disk'"},
			{"One service", "muster maint -enable -service=web-1"},
			{"Back to service", "muster maint -disable -service=web-1"},
		},
		new: func() runner { return &maintRunner{} },
	}
}

type maintRunner struct {
	connection connection
	enable     bool
	disable    bool
	reason     string
	service    string
}

func (r *maintRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.BoolVar(&r.enable, "enable", false, "Take out of service.")
	flags.BoolVar(&r.disable, "disable", false, "Take back to service.")
	flags.StringVar(&r.reason, "reason", "", "A `text` that tells others why, for -enable.")
	flags.StringVar(&r.service, "service", "", "The `ID` of a service of this agent, instead of the node.")
}

func (r *maintRunner) run(streams streams, _ []string) error {
	switch {
	case r.enable && r.disable:
		return fmt.Errorf("only one of -enable and -disable can be given")
	case r.reason != "" && !r.enable:
		return fmt.Errorf("-reason needs -enable")
	case r.service != "" && !r.enable && !r.disable:
		return fmt.Errorf("-service needs -enable or -disable")
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	if !r.enable && !r.disable {
		return r.list(streams.out, client.Agent())
	}
	return r.change(streams.out, client.Agent())
}

func (r *maintRunner) change(w io.Writer, agent *api.Agent) error {
	state := "disabled"
	if r.enable {
		state = "enabled"
	}
	if r.service == "" {
		change := agent.DisableNodeMaintenance
		if r.enable {
			change = func() error { return agent.EnableNodeMaintenance(r.reason) }
		}
		if err := change(); err != nil {
			return fmt.Errorf("cannot change the maintenance of the node: %w", err)
		}
		fmt.Fprintf(w, "Node maintenance is now %s\n", state)
		return nil
	}
	change := agent.DisableServiceMaintenance
	if r.enable {
		change = func(id string) error { return agent.EnableServiceMaintenance(id, r.reason) }
	}
	if err := change(r.service); err != nil {
		return fmt.Errorf("cannot change the maintenance of the service %q: %w", r.service, err)
	}
	fmt.Fprintf(w, "Service maintenance is now %s for %q\n", state, r.service)
	return nil
}

// list prints what is in maintenance on the agent, the node first.
func (r *maintRunner) list(w io.Writer, agent *api.Agent) error {
	checks, err := agent.Checks()
	if err != nil {
		return fmt.Errorf("cannot list what is in maintenance: %w", err)
	}
	if check := checks[api.NodeMaint]; check != nil {
		fmt.Fprintf(w, "Node:\n  Name:   %s\n  Reason: %s\n\n", check.Node, check.Notes)
	}
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		service, ok := strings.CutPrefix(id, api.ServiceMaintPrefix)
		if !ok {
			continue
		}
		fmt.Fprintf(w, "Service:\n  ID:     %s\n  Reason: %s\n\n", service, checks[id].Notes)
	}
	return nil
}
