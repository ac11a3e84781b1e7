package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/muster-sd/muster/agent"
)

func versionCommand() *command {
	return &command{
		name:    "version",
		summary: "Print the version of Muster and the version it is compatible with",
		details: `With -format=json, Version is the compatibility level, because that is what
clients and scripts look for there; MusterVersion is Muster's own.`,
		examples: []example{
			{"For people", "muster version"},
			{"For scripts", "muster version -format=json"},
		},
		new: func() runner { return &versionRunner{} },
	}
}

type versionRunner struct{ format string }

func (r *versionRunner) define(flags *flag.FlagSet) {
	flags.StringVar(&r.format, "format", "pretty", "The `form` of the answer: pretty or json.")
}

// versionFacts is the answer as JSON. The protocol versions are those of the
// remote calls that clients may know by number.
type versionFacts struct {
	Version       string
	Revision      string
	Prerelease    string
	BuildDate     time.Time
	RPC           protocolRange
	MusterVersion string
}

type protocolRange struct{ Default, Min, Max int }

func (r *versionRunner) run(streams streams, _ []string) error {
	facts := versionFacts{
		Version:       agent.CompatVersion,
		Revision:      agent.Revision(),
		BuildDate:     agent.BuildDate(),
		RPC:           protocolRange{Default: 2, Min: 2, Max: 3},
		MusterVersion: agent.Version,
	}
	switch r.format {
	case "json":
		encoder := json.NewEncoder(streams.out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(facts)
	case "pretty":
		facts.print(streams.out)
		return nil
	}
	return fmt.Errorf("the value of -format must be pretty or json, not %q", r.format)
}

func (f versionFacts) print(w io.Writer) {
	fmt.Fprintf(w, "Muster v%s\n", f.MusterVersion)
	fmt.Fprintf(w, "Compatible with Consul v%s (HTTP API, DNS, configuration, command line)\n", f.Version)
	fmt.Fprintf(w, "Revision %s\n", f.Revision)
	if !f.BuildDate.IsZero() {
		fmt.Fprintf(w, "Build Date %s\n", f.BuildDate.Format(time.RFC3339))
	}
}
