package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUndoIsNewestFirstAndOnce(t *testing.T) {
	var u undo
	var order []string
	for _, name := range []string{"first", "second", "third"} {
		u.push(name, func() error {
			order = append(order, name)
			if name == "second" {
				return errors.New("it is stuck")
			}
			return nil
		})
	}
	err := u.run(time.Minute)
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("undone as %s", got)
	}
	if err == nil || err.Error() != "cannot stop the second: it is stuck" {
		t.Errorf("got %v", err)
	}
	if err := u.run(time.Minute); err != nil || len(order) != 3 {
		t.Errorf("undone twice: %v, %v", order, err)
	}
}

func TestUndoIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u undo
		release := make(chan struct{})
		u.push("never reached", func() error { return nil })
		u.push("stubborn part", func() error { <-release; return nil })
		began := time.Now()
		err := u.run(time.Second)
		if err == nil || err.Error() != "the stubborn part did not stop within 1s" || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		close(release)
	})
}

func TestGroup(t *testing.T) {
	until := func(err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	for _, c := range []struct {
		name  string
		parts map[string]func(context.Context) error
		stop  bool
		want  string
	}{
		{name: "a part that ends well ends all", parts: map[string]func(context.Context) error{
			"a": func(context.Context) error { return nil }, "b": until(nil),
		}},
		{name: "a part that fails ends all", parts: map[string]func(context.Context) error{
			"a": func(context.Context) error { return errors.New("no more") }, "b": until(nil),
		}, want: "the a failed: no more"},
		{name: "what comes of being told to end is no failure", stop: true, parts: map[string]func(context.Context) error{
			"a": until(context.Canceled), "b": until(errors.New("closed")),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t.Context())
				for name, run := range c.parts {
					g.start(name, run)
				}
				if c.stop {
					g.cancel()
				}
				got := ""
				if err := g.wait(time.Minute); err != nil {
					got = err.Error()
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestGroupIsBoundedOnceItIsToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t.Context())
		release := make(chan struct{})
		g.start("stubborn part", func(context.Context) error { <-release; return nil })
		g.start("other", func(ctx context.Context) error { <-ctx.Done(); return nil })
		began := time.Now()
		time.AfterFunc(time.Hour, g.cancel) // running for long is fine
		err := g.wait(time.Second)
		if err == nil || err.Error() != "the stubborn part did not stop within 1s" || time.Since(began) != time.Hour+time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		close(release)
	})
}
