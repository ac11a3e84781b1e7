package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// exitUnknownService tells scripts that nothing is known of a service.
const exitUnknownService = 2

func whyCommand() *command {
	return &command{
		name:      "why",
		summary:   "Say why the instances of a service answer, or do not",
		arguments: "<service>",
		fewest:    1,
		most:      1,
		details: `For each instance: whether DNS answers with it, which check decides that, since
when and with what output, who registered it and from where, when it will be
removed, and what changed last. An instance on the node of the agent that is
asked is told with what only that agent knows. How far back changes are known
depends on the server that answers, and is said.

Exits with 0 if at least one instance answers, with 2 if nothing is known of the
service, else with 1.`,
		examples: []example{
			{"All instances", "muster why web"},
			{"Those on one node, while there is no leader", "muster why -node=n1 -stale web"},
			{"For programs", "muster why -format=json web"},
		},
		new: func() runner { return &whyRunner{now: time.Now} },
	}
}

type whyRunner struct {
	connection connection
	node       string
	changes    int
	format     string
	now        func() time.Time
}

func (r *whyRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.node, "node", "", "Only instances on the node of this `name`.")
	flags.IntVar(&r.changes, "changes", shownChanges, "How `many` changes of each instance to show.")
	flags.StringVar(&r.format, "format", formatPretty, "The `form` of the output: pretty or json.")
}

// whyAnswer is what the agent says, in its own order.
type whyAnswer struct {
	Service     string
	Datacenter  string
	Agent       string
	OnlyPassing bool
	Answering   int
	Passing     int
	Instances   []json.RawMessage
	Removed     []json.RawMessage
	RemovedCut  bool
	History     whyHistory
}

type whyHistory struct {
	Begins uint64
	Time   *time.Time
	Text   string
}

// whyInstance is what is shown of an instance, be it there or removed.
type whyInstance struct {
	Node, ServiceID, Address string
	Port                     int
	DNS                      struct {
		Default, Configured whyVerdict
		Remark              string
	}
	Passing    whyVerdict
	Checks     []*whyCheck
	Registered whyStep
	Removal    []struct {
		At   *time.Time
		Text string
	}
	Changes    []*whyChange
	ChangesCut bool
	Local      *struct {
		Synced, Refused bool
		Flaps           int
		FlapWindow      string
		Checks          []*whyLocalCheck
	}
}

type whyVerdict struct {
	Answered bool
	Weight   int
	Checks   []string
}

type whyCheck struct {
	CheckID, Name, Scope, Status, Output, Notes, Type, ReportedBy string
	Turned, Written                                               whyStep
}

type whyStep struct {
	Index   uint64
	Time    *time.Time
	Origin  *whyOrigin
	Unknown string
}

type whyOrigin struct{ Node, Address, Endpoint string }

type whyChange struct {
	Index                            uint64
	Time                             time.Time
	Origin                           whyOrigin
	Kind, CheckID, CheckName, Output string
	Fields                           []struct{ Field, Before, After string }
}

type whyLocalCheck struct {
	CheckID, Kind, Status, Output string
	AliasNode, AliasService       string
	TTL, RemoveAfter              string
	LastRun, NextRun, OutputDue   *time.Time
	Flaps                         int
}

func (r *whyRunner) run(streams streams, args []string) error {
	if err := checkFormat(r.format); err != nil {
		return err
	}
	if r.changes < 0 {
		return fmt.Errorf("the value of -changes must not be below zero, not %d", r.changes)
	}
	answer, err := r.ask(args[0])
	var status api.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusNotFound && strings.HasPrefix(status.Body, "No instance of the service"):
		fmt.Fprintf(streams.err, "%s.\n", printed(status.Body))
		return exitStatus(exitUnknownService)
	case err != nil:
		return fmt.Errorf("cannot learn why %q answers or does not: %w", args[0], err)
	}
	report, err := r.pick(answer)
	if err != nil {
		return err
	}
	switch {
	case r.format == formatJSON:
		err = printJSON(streams.out, answer)
	case len(report.there)+len(report.gone) == 0:
		fmt.Fprintf(streams.err, "%s has no instance on the node %q, and none was removed there lately: %s.\n",
			printed(answer.Service), r.node, printed(answer.History.Text))
	default:
		report.now, report.changes = r.now(), r.changes
		err = report.print(streams.out)
	}
	switch {
	case err != nil:
		return err
	case len(report.there)+len(report.gone) == 0:
		return exitStatus(exitUnknownService)
	case answer.Answering == 0:
		return exitStatus(exitFailed)
	}
	return nil
}

// ask asks the agent. The client library does not know the question.
func (r *whyRunner) ask(service string) (*whyAnswer, error) {
	ctx, stop := untilInterrupted()
	defer stop()
	body, err := r.connection.open(ctx, "/v1/catalog/why/"+url.PathEscape(service), url.Values{}, streamSilence)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := readLimited(body, maxData)
	if err != nil {
		return nil, err
	}
	var answer whyAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return &answer, nil
}

// pick keeps in the answer what is asked for, and reads it.
func (r *whyRunner) pick(a *whyAnswer) (*whyReport, error) {
	report := &whyReport{answer: a, node: r.node}
	for _, list := range []struct {
		raw  *[]json.RawMessage
		read *[]*whyInstance
	}{{&a.Instances, &report.there}, {&a.Removed, &report.gone}} {
		kept := []json.RawMessage{}
		for _, text := range *list.raw {
			var in whyInstance
			if err := json.Unmarshal(text, &in); err != nil {
				return nil, fmt.Errorf("the answer cannot be read: %w", err)
			}
			if r.node == "" || strings.EqualFold(r.node, in.Node) {
				kept = append(kept, text)
				*list.read = append(*list.read, &in)
			}
		}
		*list.raw = kept
	}
	a.Answering, a.Passing = 0, 0
	for _, in := range report.there {
		if in.DNS.Configured.Answered {
			a.Answering++
		}
		if in.Passing.Answered {
			a.Passing++
		}
	}
	return report, nil
}
