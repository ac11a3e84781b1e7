package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

func healthCommand() *command {
	return &command{
		name:    "health",
		summary: "Exit with 0 if the agent answers, for supervisors and containers",
		details: `By default it is enough that the agent answers; a server that still waits for
others to elect a leader is healthy, and so is an agent that reaches no server, or
they would be restarted for ever. With -leader the agent must know a leader too,
which tells when a cluster can be used. No token is needed.`,
		examples: []example{
			{"In a Dockerfile", `HEALTHCHECK CMD ["/muster", "health"]`},
			{"Wait until a cluster can be used", "until muster health -leader; do sleep 1; done"},
		},
		new: func() runner { return &healthRunner{} },
	}
}

type healthRunner struct {
	connection connection
	leader     bool
	timeout    time.Duration
}

func (r *healthRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	flags.BoolVar(&r.leader, "leader", false, "Fail unless the agent knows a leader.")
	flags.DurationVar(&r.timeout, "timeout", healthTimeout, "How `long` to wait for the answer.")
}

func (r *healthRunner) run(streams streams, _ []string) error {
	if r.timeout <= 0 {
		return fmt.Errorf("the value of -timeout must be above zero, not %s", r.timeout)
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	if err := r.answers(ctx, client); err != nil {
		return err
	}
	// Who only wants to know of the agent does not wait for its servers for long.
	if !r.leader {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, min(r.timeout, leaderTimeout))
		defer cancel()
	}
	leader, err := client.Status().LeaderWithQueryOptions(r.connection.query().WithContext(ctx))
	switch {
	case err != nil && r.leader:
		return r.unhealthy(err)
	case leader == "" && r.leader:
		return fmt.Errorf("the agent at %s answers, but knows no leader", r.connection.serverAddress())
	case err != nil:
		fmt.Fprintf(streams.out, "The agent answers. It cannot say who leads: %v\n", err)
	case leader == "":
		fmt.Fprintln(streams.out, "The agent answers. It knows no leader.")
	default:
		fmt.Fprintf(streams.out, "The agent answers. The leader is %s.\n", leader)
	}
	return nil
}

// answers asks the agent for what it knows by itself.
func (r *healthRunner) answers(ctx context.Context, client *api.Client) error {
	var version map[string]any
	_, err := client.Raw().Query("/v1/agent/version", &version, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return r.unhealthy(err)
	}
	return nil
}

// unhealthy says why the agent is not.
func (r *healthRunner) unhealthy(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the agent at %s did not answer within %s", r.connection.serverAddress(), r.timeout)
	}
	return fmt.Errorf("the agent at %s is not healthy: %w", r.connection.serverAddress(), err)
}
