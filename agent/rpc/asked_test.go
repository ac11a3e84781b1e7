package rpc

import (
	"context"
	"errors"
	"net"
	"testing"
)

// A query that is asked without waiting for it has the same end as one that is.
func TestAsk(t *testing.T) {
	gate := make(chan struct{})
	n := start(t, handler{apply: echoing.apply, query: func(ctx context.Context, r *QueryRequest, send func(Reply) error) error {
		if string(r.Query) == "later" {
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return echoing.query(ctx, r, send)
	}}, nil)
	c := client(t, n, nil)
	ask := func(query string) *Asked { return c.Ask("a", &QueryRequest{Short: true, Query: []byte(query)}) }
	if ask("x") != nil {
		t.Error("a query is asked on a connection that is not there")
	}
	x := exchanging(t, c)
	if c.Ask("a", &QueryRequest{Query: []byte("x")}) != nil || ask(string(make([]byte, MaxShortBytes+1))) != nil {
		t.Error("a query that is not short is asked as one")
	}
	held := ask("later")
	await(t, "the answer", ended(ask("x"), func(r Reply, err error) {
		if err != nil || string(r.Body) != "x" {
			t.Errorf("%q, %v", r.Body, err)
		}
	}))
	given := ask("later")
	if err := given.GiveUp(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	close(gate)
	await(t, "the answer that was waited for", ended(held, func(r Reply, err error) {
		if err != nil || string(r.Body) != "later" {
			t.Errorf("%q, %v", r.Body, err)
		}
	}))
	x.mu.Lock()
	waiting := len(x.waiting)
	x.mu.Unlock()
	if waiting > 0 {
		t.Errorf("%d calls wait after the last", waiting)
	}
	c.mu.Lock()
	calls := c.links["a"].conn.calls
	c.mu.Unlock()
	if calls != 0 {
		t.Errorf("%d calls are counted after the last", calls)
	}
	// What is under way when the connection breaks says so.
	lost := ask("gone")
	_ = x.conn.Close()
	await(t, "the end", ended(lost, func(_ Reply, err error) {
		if err != nil && !Lost(err) && !Unsent(err) {
			t.Errorf("a broken connection: %v", err)
		}
	}))
}

// ended hands the end of a query on.
func ended(a *Asked, then func(Reply, error)) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		<-a.Done()
		then(a.Reply())
	}()
	return out
}

// A command that ends while a connection is still being made was certainly not sent.
func TestEndedBeforeTheConnection(t *testing.T) {
	c := NewClient(ClientConfig{
		ID: "b", Cluster: cluster(blue), Resolve: func(string) (string, error) { return "192.0.2.1:1", nil },
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	})
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Apply(ctx, "a", &ApplyRequest{Command: []byte("x")}); !Unsent(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("a command of which not a byte was sent: %v", err)
	}
}
