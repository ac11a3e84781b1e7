package consensus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// depose makes a lone leader lose its leadership for good: it takes a voter
// into the configuration that nobody can reach. (Raft commits the change itself
// by the quorum of before.)
func depose(t *testing.T, n *Node) {
	t.Helper()
	if err := n.AddVoter(t.Context(), "unreachable"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Apply(t.Context(), number(1)); !errors.Is(err, ErrLeadershipLost) || !errors.Is(err, ErrUncertain) {
		t.Fatalf("Apply without a quorum: %v", err)
	}
	synctest.Wait()
}

// reelect ends the reign of a leader and begins the next one.
func reelect(t *testing.T, n *Node) {
	t.Helper()
	r, _ := n.currentReign()
	n.endReign(r)
	if n.Leading() {
		t.Error("leads between two reigns")
	}
	n.beginReign()
	synctest.Wait()
	if !n.Leading() {
		t.Error("does not lead in the second reign")
	}
}

func TestWhileLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, alone("", new(counter)))
		defer stop(t, n)
		ctx, cancel := context.WithCancel(t.Context())
		began, ended, release := make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{})
		result := make(chan error, 1)
		go func() {
			result <- n.WhileLeader(ctx, func(ctx context.Context) error {
				began <- struct{}{}
				<-ctx.Done()
				ended <- struct{}{}
				<-release // slow to end
				return errors.New("an error of ending, which is no news")
			})
		}()
		synctest.Wait()
		if len(began) != 0 {
			t.Fatal("called before anybody led")
		}
		bootstrap(t, n)
		synctest.Wait()
		if len(began) != 1 || len(ended) != 0 {
			t.Fatalf("leading: called %d times, ended %d", len(began), len(ended))
		}
		reelect(t, n)
		if len(began) != 1 || len(ended) != 1 {
			t.Fatalf("elected again: called %d times, ended %d, want the second call to wait for the first", len(began), len(ended))
		}
		release <- struct{}{}
		synctest.Wait()
		if len(began) != 2 || len(ended) != 1 {
			t.Fatalf("the first call is done: called %d times, ended %d", len(began), len(ended))
		}
		depose(t, n)
		if len(began) != 2 || len(ended) != 2 || n.Leading() {
			t.Fatalf("deposed: called %d times, ended %d, leading %v", len(began), len(ended), n.Leading())
		}
		release <- struct{}{}
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("returned with leadership: %v", err)
		default:
		}
		cancel()
		if err := <-result; err != nil {
			t.Errorf("WhileLeader: %v", err)
		}
	})
}

func TestWhileLeaderReturns(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		fn    func(ctx context.Context) error
		after func(n *Node, cancel func()) // what happens when the function has begun
		want  error
	}{
		{"its function fails", func(context.Context) error { return broken }, func(*Node, func()) {}, broken},
		{"its function is done, then its context ends", func(context.Context) error { return nil },
			func(_ *Node, cancel func()) { cancel() }, nil},
		{"its context ends", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			func(_ *Node, cancel func()) { cancel() }, nil},
		{"the node stops", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			func(n *Node, _ func()) { _ = n.Stop() }, ErrStopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := open(t, alone("", new(counter)))
				defer stop(t, n)
				bootstrap(t, n)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				calls, result := 0, make(chan error, 1)
				go func() {
					result <- n.WhileLeader(ctx, func(ctx context.Context) error { calls++; return c.fn(ctx) })
				}()
				synctest.Wait()
				c.after(n, cancel)
				if err := <-result; !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("WhileLeader: %v, want %v", err, c.want)
				}
				if calls != 1 {
					t.Errorf("called %d times", calls)
				}
			})
		})
	}
}
