package agenttest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// labelName is the profiler's label of all goroutines of one agent: they inherit
// it from the one that started them. It tells them from those of other agents
// and tests in the same process.
const labelName = "agenttest"

// started counts agents, to give each a label of its own.
var started atomic.Int64

// inLabelled calls fn in a goroutine with a new label, and returns the label.
func inLabelled(fn func()) (label string) {
	label = fmt.Sprintf("agent-%d.", started.Add(1))
	go pprof.Do(context.Background(), pprof.Labels(labelName, label), func(context.Context) { fn() })
	return label
}

// labelled returns the stacks of the goroutines with a label, or nothing.
func labelled(label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	var found []string
	for _, stack := range strings.Split(profile.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", labelName, label)) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

// awaitGoroutines fails the test if goroutines with a label are left. Those that
// ended a connection, say, may need a moment more than who told them to.
func awaitGoroutines(t testing.TB, label string) {
	t.Helper()
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	again := time.NewTicker(time.Millisecond) // nothing tells of a goroutine's end
	defer again.Stop()
	for {
		left := labelled(label)
		if left == "" {
			return
		}
		select {
		case <-again.C:
		case <-limit.C:
			t.Errorf("goroutines of the agent are left:\n%s", left)
			return
		}
	}
}
