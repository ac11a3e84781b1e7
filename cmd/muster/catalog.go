package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

func catalogCommand() *command {
	return &command{
		name:     "catalog",
		summary:  "Look at the datacenters, nodes and services of the cluster",
		children: []*command{datacentersCommand(), nodesCommand(), catalogServicesCommand()},
		examples: []example{
			{"The nodes that run a service", "muster catalog nodes -service=web"},
			{"The services with their tags", "muster catalog services -tags"},
		},
	}
}

func datacentersCommand() *command {
	return &command{
		name:     "datacenters",
		summary:  "List the datacenters that are known, one a line",
		examples: []example{{"All of them", "muster catalog datacenters"}},
		new:      func() runner { return &datacentersRunner{} },
	}
}

type datacentersRunner struct{ connection connection }

func (r *datacentersRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
}

func (r *datacentersRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	datacenters, err := client.Catalog().Datacenters()
	if err != nil {
		return fmt.Errorf("cannot list the datacenters: %w", err)
	}
	for _, datacenter := range datacenters {
		fmt.Fprintln(streams.out, datacenter)
	}
	return nil
}

func nodesCommand() *command {
	return &command{
		name:    "nodes",
		summary: "List the nodes of the catalog",
		details: "Exits with 0 if no node matches, with a notice on standard error.",
		examples: []example{
			{"All of them", "muster catalog nodes"},
			{"Those that run a service", "muster catalog nodes -service=web"},
			{"Those in one rack, with all their data", "muster catalog nodes -detailed -node-meta=rack=r1"},
		},
		new: func() runner { return &nodesRunner{} },
	}
}

type nodesRunner struct {
	connection connection
	detailed   bool
	filter     string
	near       string
	nodeMeta   mapFlag
	service    string
}

func (r *nodesRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.BoolVar(&r.detailed, "detailed", false, "Show whole IDs, tagged addresses and metadata.")
	flags.StringVar(&r.filter, "filter", "", "Only nodes for which this `expression` holds; @FILE and - are read.")
	flags.StringVar(&r.near, "near", "", "Sort by the round trip from this `node`; _agent is the agent's own.")
	flags.Var(&r.nodeMeta, "node-meta", "Only nodes with this metadata, as `key=value`; may be repeated.")
	flags.StringVar(&r.service, "service", "", "Only nodes that run the service of this `name`.")
}

func (r *nodesRunner) run(streams streams, _ []string) error {
	filter, err := readData(r.filter, streams.in)
	if err != nil {
		return err
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	query := r.connection.query()
	query.Near, query.NodeMeta, query.Filter = r.near, r.nodeMeta, string(filter)
	nodes, err := r.nodes(client.Catalog(), query)
	if err != nil {
		return fmt.Errorf("cannot list the nodes: %w", err)
	}
	if len(nodes) == 0 {
		fmt.Fprintln(streams.err, "No node matches.")
		return nil
	}
	rows := [][]string{{"Node", "ID", "Address", "DC"}}
	if r.detailed {
		rows[0] = append(rows[0], "TaggedAddresses", "Meta")
	}
	for _, node := range nodes {
		rows = append(rows, r.row(node))
	}
	printTable(streams.out, rows, tableGap)
	return nil
}

// nodes asks for all nodes, or for those that run the service: a node with
// several instances is in the second answer several times.
func (r *nodesRunner) nodes(catalog *api.Catalog, query *api.QueryOptions) ([]*api.Node, error) {
	if r.service == "" {
		nodes, _, err := catalog.Nodes(query)
		return nodes, err
	}
	instances, _, err := catalog.Service(r.service, "", query)
	if err != nil {
		return nil, err
	}
	var nodes []*api.Node
	seen := map[string]bool{}
	for _, instance := range instances {
		if seen[instance.Node] {
			continue
		}
		seen[instance.Node] = true
		nodes = append(nodes, &api.Node{
			ID:              instance.ID,
			Node:            instance.Node,
			Address:         instance.Address,
			Datacenter:      instance.Datacenter,
			TaggedAddresses: instance.TaggedAddresses,
			Meta:            instance.NodeMeta,
		})
	}
	return nodes, nil
}

func (r *nodesRunner) row(node *api.Node) []string {
	if r.detailed {
		return []string{
			node.Node, node.ID, node.Address, node.Datacenter,
			joinPairs(node.TaggedAddresses, ", "), joinPairs(node.Meta, ", "),
		}
	}
	group, _, _ := strings.Cut(node.ID, "-")
	return []string{node.Node, group, node.Address, node.Datacenter}
}

func catalogServicesCommand() *command {
	return &command{
		name:    "services",
		summary: "List the services of the catalog",
		details: "Exits with 0 if no service matches, with a notice on standard error.",
		examples: []example{
			{"All of them, with their tags", "muster catalog services -tags"},
			{"Those of one node", "muster catalog services -node=web-1"},
		},
		new: func() runner { return &catalogServicesRunner{} },
	}
}

type catalogServicesRunner struct {
	connection connection
	node       string
	nodeMeta   mapFlag
	tags       bool
}

func (r *catalogServicesRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.node, "node", "", "Only services of the node of this `name` or ID.")
	flags.Var(&r.nodeMeta, "node-meta", "Only services of nodes with this metadata, as `key=value`; may be repeated.")
	flags.BoolVar(&r.tags, "tags", false, "Show the tags of each service.")
}

func (r *catalogServicesRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	query := r.connection.query()
	query.NodeMeta = r.nodeMeta
	services, err := r.services(client.Catalog(), query)
	if err != nil {
		return fmt.Errorf("cannot list the services: %w", err)
	}
	if len(services) == 0 {
		fmt.Fprintln(streams.err, "No service matches.")
		return nil
	}
	rows := make([][]string, 0, len(services))
	for name, tags := range services {
		row := []string{name}
		if r.tags {
			slices.Sort(tags)
			row = append(row, strings.Join(slices.Compact(tags), ","))
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	printTable(streams.out, rows, wideGap)
	return nil
}

// services maps names to tags, of the whole catalog or of one node.
func (r *catalogServicesRunner) services(catalog *api.Catalog, query *api.QueryOptions) (map[string][]string, error) {
	if r.node == "" {
		services, _, err := catalog.Services(query)
		return services, err
	}
	node, _, err := catalog.Node(r.node, query)
	if err != nil || node == nil {
		return nil, err
	}
	services := map[string][]string{}
	for _, service := range node.Services {
		services[service.Service] = append(services[service.Service], service.Tags...)
	}
	return services, nil
}
