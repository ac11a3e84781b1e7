package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/hashicorp/consul/api"
)

func usageCommand() *command {
	return &command{
		name:     "usage",
		summary:  "Count what is registered",
		examples: []example{{"Services and instances", "muster operator usage instances"}},
		children: []*command{{
			name:    "instances",
			summary: "Count services and their instances",
			details: `Without -billable and -connect both are counted. Billable instances are all but
those of the servers themselves and of a service mesh.`,
			examples: []example{
				{"Here", "muster operator usage instances"},
				{"In every datacenter, by datacenter", "muster operator usage instances -all-datacenters"},
			},
			new: func() runner { return &usageRunner{} },
		}},
	}
}

type usageRunner struct {
	connection connection
	everywhere bool
	billable   bool
	connect    bool
}

func (r *usageRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.BoolVar(&r.everywhere, "all-datacenters", false, "Count in all datacenters.")
	flags.BoolVar(&r.billable, "billable", false, "Count billable instances only.")
	flags.BoolVar(&r.connect, "connect", false, "Count instances of a service mesh only.")
}

func (r *usageRunner) run(streams streams, _ []string) error {
	usage, err := r.read()
	if err != nil {
		return fmt.Errorf("cannot count the instances: %w", err)
	}
	both := r.billable == r.connect
	if both || r.billable {
		r.printBillable(streams.out, usage)
	}
	if both {
		fmt.Fprintln(streams.out)
	}
	if both || r.connect {
		r.printConnect(streams.out, usage)
	}
	return nil
}

// read asks for the counts. The client library cannot ask for all datacenters.
func (r *usageRunner) read() (map[string]api.ServiceUsage, error) {
	client, err := r.connection.client()
	if err != nil {
		return nil, err
	}
	var usage api.Usage
	if !r.everywhere {
		found, _, err := client.Operator().Usage(r.connection.query())
		if err != nil {
			return nil, err
		}
		return found.Usage, nil
	}
	ctx, stop := untilInterrupted()
	defer stop()
	body, err := r.connection.open(ctx, "/v1/operator/usage", url.Values{"global": {""}}, streamSilence)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := readLimited(body, maxData)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &usage); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return usage.Usage, nil
}

func (r *usageRunner) printBillable(w io.Writer, usage map[string]api.ServiceUsage) {
	var services, billable int
	rows := [][]string{{"Services", "Service instances"}}
	if r.everywhere {
		rows[0] = append([]string{"Datacenter"}, rows[0]...)
	}
	for _, dc := range slices.Sorted(maps.Keys(usage)) {
		u := usage[dc]
		services, billable = services+u.Services, billable+u.BillableServiceInstances
		row := []string{strconv.Itoa(u.Services), strconv.Itoa(u.BillableServiceInstances)}
		if r.everywhere {
			row = append([]string{dc}, row...)
		}
		rows = append(rows, row)
	}
	if r.everywhere {
		rows = append(rows, []string{}, []string{"Total", strconv.Itoa(services), strconv.Itoa(billable)})
	}
	fmt.Fprintf(w, "Billable Service Instances Total: %d\n", billable)
	printTable(w, rows, helpGap)
}

func (r *usageRunner) printConnect(w io.Writer, usage map[string]api.ServiceUsage) {
	total := 0
	rows := [][]string{{"Type", "Service instances"}}
	if r.everywhere {
		rows[0] = append([]string{"Datacenter"}, rows[0]...)
	}
	for _, dc := range slices.Sorted(maps.Keys(usage)) {
		kinds := usage[dc].ConnectServiceInstances
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			total += kinds[kind]
			row := []string{kind, strconv.Itoa(kinds[kind])}
			if r.everywhere {
				row = append([]string{dc}, row...)
			}
			rows = append(rows, row)
		}
	}
	if r.everywhere {
		rows = append(rows, []string{}, []string{"Total", "", strconv.Itoa(total)})
	}
	fmt.Fprintf(w, "Connect Service Instances Total: %d\n", total)
	printTable(w, rows, helpGap)
}
