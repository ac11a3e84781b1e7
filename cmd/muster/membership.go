package main

import (
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

func joinCommand() *command {
	return &command{
		name:      "join",
		summary:   "Make the agent a member of the cluster that an address belongs to",
		arguments: "<address>...",
		fewest:    1,
		most:      -1,
		details: `An address is an IP or a name, with the port of the other agent's gossip or
without it. Each is tried, and one that answers is enough: its members tell
the rest. To join at every start, set retry_join instead.

Two clusters cannot become one: where both agents belong to one already, the
command says so and fails. To move an agent, stop it and start it with an empty
data directory.`,
		examples: []example{
			{"A cluster that one of two servers is reached of", "muster join 10.0.0.1 10.0.0.2"},
			{"An agent on another port", "muster join 10.0.0.1:8401"},
		},
		new: func() runner { return &joinRunner{} },
	}
}

type joinRunner struct {
	connection connection
	wan        bool
}

func (r *joinRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.BoolVar(&r.wan, "wan", false, "Join the pool of servers across datacenters instead. Agents of this version refuse it.")
}

func (r *joinRunner) run(streams streams, addresses []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if strings.HasPrefix(address, "-") {
			return fmt.Errorf("%q is no address; it must stand before the first address to count as a flag", address)
		}
	}
	joined := 0
	for _, address := range addresses {
		if err := client.Agent().Join(address, r.wan); err != nil {
			if nobodyThere(err) { // nor will it be for the next one
				return fmt.Errorf("cannot join %s: %w", address, err)
			}
			fmt.Fprintf(streams.err, "Error: cannot join %s: %v\n", address, err)
			continue
		}
		joined++
	}
	if joined == 0 {
		return exitStatus(exitFailed)
	}
	fmt.Fprintf(streams.out, "Successfully joined cluster by contacting %d nodes.\n", joined)
	return nil
}

func forceLeaveCommand() *command {
	return &command{
		name:      "force-leave",
		summary:   "Count a member that failed as one that left",
		arguments: "<node>",
		fewest:    1,
		most:      1,
		details: `Its node, services and checks go from the catalog, and a server loses its part
in Raft. A member that is alive says so, and stays, with a warning here and exit
code 0; let that one leave by itself, by "muster leave" on its machine.`,
		examples: []example{
			{"A machine that does not come back", "muster force-leave web-3"},
			{"Forget it at once, too", "muster force-leave -prune web-3"},
		},
		new: func() runner { return &forceLeaveRunner{} },
	}
}

type forceLeaveRunner struct {
	connection connection
	options    api.ForceLeaveOpts
}

func (r *forceLeaveRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.BoolVar(&r.options.Prune, "prune", false, "Also take it off the list of members at once. It may have left already.")
	flags.BoolVar(&r.options.WAN, "wan", false, "Only in the pool of servers across datacenters; the node is then named <name>.<datacenter>.")
}

func (r *forceLeaveRunner) run(streams streams, args []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	if err := client.Agent().ForceLeaveOptions(args[0], r.options, nil); err != nil {
		return fmt.Errorf("cannot count %q as left: %w", args[0], err)
	}
	// The agent calls it a success as well if nothing came of it.
	members, err := client.Agent().Members(r.options.WAN)
	if err != nil {
		return nil
	}
	for _, m := range members {
		if m.Name == args[0] && statusName(m.Status) == "alive" {
			fmt.Fprintf(streams.err, `Warning: %q at %s is alive, so it stays a member. Stop it first, or have it leave by itself with "muster leave".
If its process has just ended, it counts as failed within seconds; then run this again.
`, m.Name, net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port))))
		}
	}
	return nil
}
