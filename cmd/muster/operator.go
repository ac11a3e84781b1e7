package main

import (
	"encoding/json"
	"fmt"
	"io"
)

func operatorCommand() *command {
	return &command{
		name:    "operator",
		summary: "Look after the servers of a cluster",
		examples: []example{
			{"Who takes part, and who is behind", "muster operator raft list-peers"},
			{"Whether all is well", "muster operator autopilot state"},
		},
		children: []*command{autopilotCommand(), raftCommand(), usageCommand()},
	}
}

// Forms in which some results are printed.
const (
	formatPretty = "pretty"
	formatJSON   = "json"
)

// checkFormat refuses a form that is not known.
func checkFormat(format string) error {
	if format != formatPretty && format != formatJSON {
		return fmt.Errorf("the value of -format must be %s or %s, not %q", formatPretty, formatJSON, format)
	}
	return nil
}

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return fmt.Errorf("cannot print the result as JSON: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
