package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

func healthCommand() *command {
	return &command{
		name:    "health",
		summary: "Exit with 0 if the agent answers, for supervisors and containers",
		details: `By default it is enough that the agent answers; a server that still waits for
others to elect a leader is healthy, or it would be restarted for ever. With
-leader the agent must know a leader too, which tells when a cluster can be used.
No token is needed.`,
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
	leader, err := client.Status().LeaderWithQueryOptions(r.connection.query().WithContext(ctx))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the agent at %s did not answer within %s", r.connection.serverAddress(), r.timeout)
	case err != nil:
		return fmt.Errorf("the agent at %s is not healthy: %w", r.connection.serverAddress(), err)
	case leader == "" && r.leader:
		return fmt.Errorf("the agent at %s answers, but knows no leader", r.connection.serverAddress())
	case leader == "":
		fmt.Fprintln(streams.out, "The agent answers. It knows no leader.")
	default:
		fmt.Fprintf(streams.out, "The agent answers. The leader is %s.\n", leader)
	}
	return nil
}
