package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

func reloadCommand() *command {
	return &command{
		name:    "reload",
		summary: "Let the agent read its configuration again",
		details: `Takes over what may change while the agent runs, and names it, and also what waits
for a restart. If something is wrong with the configuration, the command says what and
the agent stays as it is.`,
		examples: []example{{"Check, then take over", "muster validate /etc/muster.d && muster reload"}},
		new: func() runner {
			return &reloadRunner{}
		},
	}
}

type reloadRunner struct{ connection connection }

func (r *reloadRunner) define(flags *flag.FlagSet) { r.connection.define(flags) }

func (r *reloadRunner) run(streams streams, _ []string) error {
	config, err := r.connection.config()
	if err != nil {
		return err
	}
	// The client keeps the headers of this answer to itself.
	headers := &headerTransport{base: config.HttpClient.Transport}
	config.HttpClient.Transport = headers
	client, err := api.NewClient(config)
	if err != nil {
		return fmt.Errorf("cannot use the address %q: %w", r.connection.serverAddress(), err)
	}
	if err := client.Agent().Reload(); err != nil {
		return fmt.Errorf("cannot reload the configuration: %w", err)
	}
	fmt.Fprintln(streams.out, "Configuration reload triggered")
	printReloadReport(streams.out, headers.last.Get("X-Muster-Reload"))
	return nil
}

// headerTransport remembers the headers of the last answer.
type headerTransport struct {
	base http.RoundTripper
	last http.Header
}

// RoundTrip sends one request.
func (t *headerTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.base.RoundTrip(request)
	if err == nil {
		t.last = response.Header
	}
	return response, err
}

// printReloadReport prints what a reload led to, as the agent tells it. Agents
// that are not Muster tell nothing.
func printReloadReport(w io.Writer, header string) {
	var report struct {
		Applied, Restart []struct{ Key, Text string }
		More             int
	}
	if header == "" || json.Unmarshal([]byte(header), &report) != nil {
		return
	}
	if len(report.Applied)+len(report.Restart)+report.More == 0 {
		fmt.Fprintln(w, "Nothing changed")
	}
	for _, change := range report.Applied {
		fmt.Fprintf(w, "Taken over: %s: %s\n", printed(change.Key), printed(change.Text))
	}
	for _, change := range report.Restart {
		fmt.Fprintf(w, "Needs a restart: %s: %s\n", printed(change.Key), printed(change.Text))
	}
	if report.More > 0 {
		fmt.Fprintf(w, "And %d more, which the agent's log names\n", report.More)
	}
}

// printed is a text on one line, without what would do something to the terminal.
func printed(text string) string {
	quoted := strconv.Quote(text)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
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
