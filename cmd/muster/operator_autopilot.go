package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

func autopilotCommand() *command {
	return &command{
		name:     "autopilot",
		summary:  "See how the servers are, and say how they are looked after",
		examples: []example{{"Whether all is well", "muster operator autopilot state"}},
		children: []*command{
			{
				name:     "get-config",
				summary:  "Print how the servers are looked after",
				examples: []example{{"All settings", "muster operator autopilot get-config"}},
				new:      func() runner { return &getAutopilotRunner{} },
			},
			{
				name:    "set-config",
				summary: "Say how the servers are looked after",
				details: `Only what a flag names is changed. The cluster keeps it; the autopilot settings
in configuration files count only before anything was set.`,
				examples: []example{
					{"Keep servers that failed", "muster operator autopilot set-config -cleanup-dead-servers=false"},
					{"Never clean up below three voters", "muster operator autopilot set-config -min-quorum=3"},
				},
				new: func() runner { return &setAutopilotRunner{} },
			},
			{
				name:    "state",
				summary: "Print how the servers are, as the leader sees them",
				details: `The failure tolerance is how many voters that are well may fail before there
is no leader any more.`,
				examples: []example{
					{"For people", "muster operator autopilot state"},
					{"For programs", "muster operator autopilot state -format=json"},
				},
				new: func() runner { return &autopilotStateRunner{} },
			},
		},
	}
}

type getAutopilotRunner struct{ connection connection }

func (r *getAutopilotRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
}

func (r *getAutopilotRunner) run(streams streams, _ []string) error {
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	config, err := client.Operator().AutopilotGetConfiguration(r.connection.query())
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"CleanupDeadServers", config.CleanupDeadServers},
		{"LastContactThreshold", config.LastContactThreshold},
		{"MaxTrailingLogs", config.MaxTrailingLogs},
		{"MinQuorum", config.MinQuorum},
		{"ServerStabilizationTime", config.ServerStabilizationTime},
		{"RedundancyZoneTag", fmt.Sprintf("%q", config.RedundancyZoneTag)},
		{"DisableUpgradeMigration", config.DisableUpgradeMigration},
		{"UpgradeVersionTag", fmt.Sprintf("%q", config.UpgradeVersionTag)},
	} {
		fmt.Fprintf(streams.out, "%s = %v\n", line.name, line.value)
	}
	return nil
}

type setAutopilotRunner struct {
	connection connection
	flags      *flag.FlagSet
	given      api.AutopilotConfiguration
	threshold  time.Duration
	stable     time.Duration
}

func (r *setAutopilotRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	r.flags = flags
	flags.BoolVar(&r.given.CleanupDeadServers, "cleanup-dead-servers", false, "Whether servers that failed are removed, as far as that is safe.")
	flags.DurationVar(&r.threshold, "last-contact-threshold", 0, "How `long` a healthy server may not have heard from the leader.")
	flags.Uint64Var(&r.given.MaxTrailingLogs, "max-trailing-logs", 0, "How `many` log entries a healthy server may be behind.")
	flags.UintVar(&r.given.MinQuorum, "min-quorum", 0, "How `many` voters the clean-up leaves at least.")
	flags.DurationVar(&r.stable, "server-stabilization-time", 0, "How `long` a new server must be healthy before it gets a vote.")
	flags.StringVar(&r.given.RedundancyZoneTag, "redundancy-zone-tag", "", "Kept, and without an effect: a `name` of metadata.")
	flags.BoolVar(&r.given.DisableUpgradeMigration, "disable-upgrade-migration", false, "Kept, and without an effect.")
	flags.StringVar(&r.given.UpgradeVersionTag, "upgrade-version-tag", "", "Kept, and without an effect: a `name` of metadata.")
}

func (r *setAutopilotRunner) run(streams streams, _ []string) error {
	if r.threshold < 0 || r.stable < 0 {
		return errors.New("a time must not be negative")
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	config, err := client.Operator().AutopilotGetConfiguration(nil)
	if err != nil {
		return fmt.Errorf("cannot read the configuration that is to be changed: %w", err)
	}
	if changed := r.change(config); changed == 0 {
		return errors.New("nothing to change: no setting is given")
	}
	doubt := r.doubtQuorum(client, config.MinQuorum)
	switch done, err := client.Operator().AutopilotCASConfiguration(config, nil); {
	case err != nil:
		return fmt.Errorf("cannot change the configuration: %w", err)
	case !done:
		return errors.New("cannot change the configuration: somebody else changed it at the same time; look at it and try again")
	}
	if doubt != "" {
		fmt.Fprintf(streams.err, "Warning: %s\n", doubt)
	}
	fmt.Fprintln(streams.out, "Configuration updated!")
	return nil
}

// doubtQuorum says what is to be said of a number of voters, if it was given, that
// there are not. It may be meant for servers to come.
func (r *setAutopilotRunner) doubtQuorum(client *api.Client, least uint) string {
	given := false
	r.flags.Visit(func(f *flag.Flag) { given = given || f.Name == "min-quorum" })
	if !given || least <= 1 {
		return ""
	}
	now, err := client.Operator().RaftGetConfiguration(&api.QueryOptions{AllowStale: true})
	if err != nil {
		return "" // who may set it need not know it
	}
	voters := uint(0)
	for _, s := range now.Servers {
		if s.Voter {
			voters++
		}
	}
	if least <= voters {
		return ""
	}
	return fmt.Sprintf("-min-quorum=%d is more than the servers that vote, %d: none of those that fails is removed until there are more", least, voters)
}

// change carries what the flags gave over to config, and counts it.
func (r *setAutopilotRunner) change(config *api.AutopilotConfiguration) int {
	settings := map[string]func(){
		"cleanup-dead-servers":      func() { config.CleanupDeadServers = r.given.CleanupDeadServers },
		"last-contact-threshold":    func() { config.LastContactThreshold = api.NewReadableDuration(r.threshold) },
		"max-trailing-logs":         func() { config.MaxTrailingLogs = r.given.MaxTrailingLogs },
		"min-quorum":                func() { config.MinQuorum = r.given.MinQuorum },
		"server-stabilization-time": func() { config.ServerStabilizationTime = api.NewReadableDuration(r.stable) },
		"redundancy-zone-tag":       func() { config.RedundancyZoneTag = r.given.RedundancyZoneTag },
		"disable-upgrade-migration": func() { config.DisableUpgradeMigration = r.given.DisableUpgradeMigration },
		"upgrade-version-tag":       func() { config.UpgradeVersionTag = r.given.UpgradeVersionTag },
	}
	changed := 0
	r.flags.Visit(func(f *flag.Flag) {
		if set, ok := settings[f.Name]; ok {
			set()
			changed++
		}
	})
	return changed
}

type autopilotStateRunner struct {
	connection connection
	format     string
}

func (r *autopilotStateRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.format, "format", formatPretty, "The `form` of the output: pretty or json.")
}

func (r *autopilotStateRunner) run(streams streams, _ []string) error {
	if err := checkFormat(r.format); err != nil {
		return err
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	state, err := client.Operator().AutopilotState(r.connection.query())
	if err != nil {
		return fmt.Errorf("cannot see how the servers are: %w", err)
	}
	if r.format == formatJSON {
		return printJSON(streams.out, state)
	}
	printAutopilotState(streams.out, state)
	return nil
}

func printAutopilotState(w io.Writer, state *api.AutopilotState) {
	fmt.Fprintf(w, "Healthy:                      %v\n", state.Healthy)
	fmt.Fprintf(w, "Failure Tolerance:            %d\n", state.FailureTolerance)
	fmt.Fprintf(w, "Optimistic Failure Tolerance: %d\n", state.OptimisticFailureTolerance)
	fmt.Fprintf(w, "Leader:                       %s\n", state.Leader)
	fmt.Fprintln(w, "Voters:")
	for _, id := range state.Voters {
		fmt.Fprintf(w, "   %s\n", id)
	}
	fmt.Fprintln(w, "Servers:")
	for _, id := range slices.Sorted(maps.Keys(state.Servers)) {
		printAutopilotServer(w, state.Servers[id])
	}
}

func printAutopilotServer(w io.Writer, s api.AutopilotServer) {
	fmt.Fprintf(w, "   %s\n", s.ID)
	for _, line := range []struct {
		name  string
		value any
	}{
		{"Name", s.Name}, {"Address", s.Address}, {"Version", s.Version}, {"Status", s.Status}, {"Node Type", s.NodeType},
		{"Node Status", s.NodeStatus}, {"Healthy", s.Healthy}, {"Last Contact", s.LastContact}, {"Last Term", s.LastTerm},
		{"Last Index", s.LastIndex},
	} {
		fmt.Fprintf(w, "      %-16s %v\n", line.name+":", line.value)
	}
	if len(s.Meta) == 0 {
		return
	}
	fmt.Fprintln(w, "      Meta")
	for _, key := range slices.Sorted(maps.Keys(s.Meta)) {
		fmt.Fprintf(w, "         %q: %q\n", key, s.Meta[key])
	}
}
