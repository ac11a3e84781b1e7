package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
)

func TestAliasJudges(t *testing.T) {
	row := func(name string, status health.Status) *health.Check {
		return &health.Check{ID: name, Name: name, Status: status, Output: "said " + name}
	}
	for _, c := range []struct {
		about  string
		state  TargetState
		status health.Status
		output string
	}{
		{"not there", TargetState{}, "critical", "Service web-1 could not be found on node n1"},
		{"no checks", TargetState{Found: true}, "passing", "No checks found."},
		{"all pass", TargetState{true, []*health.Check{row("a", "passing"), row("b", "passing")}}, "passing", "All checks passing."},
		{"one warns", TargetState{true, []*health.Check{row("a", "passing"), row("b", "warning")}}, "warning", `Aliased check "b" failing: said b`},
		{"critical is worse", TargetState{true, []*health.Check{row("a", "warning"), row("b", "critical"), row("c", "critical")}}, "critical", `Aliased check "b" failing: said b`},
		{"another status counts for nothing", TargetState{true, []*health.Check{row("a", "splendid")}}, "passing", "All checks passing."},
	} {
		found := (&aliasChecker{node: "n1", service: "web-1", limit: 4096}).judge(c.state)
		if found.status != c.status || found.output != c.output {
			t.Errorf("%s: got %s, %q, want %s, %q", c.about, found.status, found.output, c.status, c.output)
		}
	}
}

// targetFunc is a target made of a function.
type targetFunc func(ctx context.Context) (TargetState, error)

func (f targetFunc) Next(ctx context.Context) (TargetState, error) { return f(ctx) }

// TestAliasFailures has the target fail, at once each time.
func TestAliasFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var asked, said []string
		var answer func(context.Context) (TargetState, error)
		replace := func(f func(context.Context) (TargetState, error)) {
			mu.Lock()
			defer mu.Unlock()
			answer, said = f, nil
		}
		spoken := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return said
		}
		since := func() string { return time.Since(began).String() }
		replace(func(context.Context) (TargetState, error) { return TargetState{}, errors.New("no route") })
		r, err := Start(Definition{AliasNode: "n1"}, Options{
			Alias: targetFunc(func(ctx context.Context) (TargetState, error) {
				mu.Lock()
				asked = append(asked, since())
				f := answer
				mu.Unlock()
				return f(ctx)
			}),
			Notify: func(s health.Status, output string) {
				mu.Lock()
				defer mu.Unlock()
				said = append(said, fmt.Sprint(since(), " ", s, " ", output))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		mu.Lock()
		if got, want := strings.Join(asked, " "), "0s 1s 2s 3s 5s 9s 17s 33s 1m5s 2m5s 3m5s 4m5s 5m5s"; got != want {
			t.Errorf("asked at %s, want %s", got, want)
		}
		mu.Unlock()
		if said := spoken(); len(said) == 0 || said[0] != "1s critical Failure checking the aliased node or service: no route" {
			t.Errorf("said %q", said)
		}
		replace(func(ctx context.Context) (TargetState, error) {
			if len(spoken()) > 0 {
				<-ctx.Done()
			}
			return TargetState{Found: true}, ctx.Err()
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if said := spoken(); len(said) != 1 || !strings.HasSuffix(said[0], "passing No checks found.") {
			t.Errorf("once it answers: said %q", said)
		}
		r.Stop()
		r.Stop()
		if said := spoken(); len(said) != 1 {
			t.Errorf("a check that was stopped said %q", said[1:])
		}
	})
}
