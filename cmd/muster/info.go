package main

import (
	"flag"
	"fmt"
	"maps"
	"slices"
)

func infoCommand() *command {
	return &command{
		name:     "info",
		summary:  "Print what the agent counts about itself, in groups",
		examples: []example{{"All of it", "muster info"}, {"Whether this server leads", "muster info | grep 'leader ='"}},
		new:      func() runner { return &infoRunner{} },
	}
}

type infoRunner struct{ connection connection }

func (r *infoRunner) define(flags *flag.FlagSet) { r.connection.define(flags) }

func (r *infoRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	self, err := client.Agent().Self()
	if err != nil {
		return fmt.Errorf("cannot ask the agent about itself: %w", err)
	}
	groups, ok := self["Stats"]
	if !ok {
		return fmt.Errorf("the agent at %s tells nothing about itself", r.connection.serverAddress())
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(streams.out, "%s:\n", group)
		values, ok := groups[group].(map[string]any)
		if !ok {
			return fmt.Errorf("the agent's group %q is not a list of values", group)
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(streams.out, "\t%s = %v\n", key, values[key])
		}
	}
	return nil
}
