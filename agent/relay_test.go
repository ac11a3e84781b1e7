package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/kv/mvcc"
)

// What a leader was asked for is asked again only if it was certainly not done, or
// if to do it twice is the same.
func TestRelayOfOperations(t *testing.T) {
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		name   string
		err    error
		change mvcc.Code // of the error of what changes something; zero is success at the second try
		tells  mvcc.Code // the same of what only tells
	}{
		{"no leader", &mvcc.Error{Code: mvcc.NoLeader}, 0, 0},
		{"not ready", &mvcc.Error{Code: mvcc.NotReady}, 0, 0},
		{"a stopping leader", &mvcc.Error{Code: mvcc.ShuttingDown, Text: "the server is shutting down"}, mvcc.Timeout, 0},
		{"a broken connection", broken, mvcc.Timeout, 0},
		{"not confirmed", &mvcc.Error{Code: mvcc.Timeout}, mvcc.Timeout, 0},
		{"not possible", &mvcc.Error{Code: mvcc.Unknown}, mvcc.Unknown, mvcc.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				follower, _, stop := newFollower(t, func(_ context.Context, _ []byte, each func(rpc.Reply) error) error {
					if asked++; asked == 1 {
						return c.err
					}
					return each(rpc.Reply{Body: []byte(`{"Servers":[]}`)})
				})
				defer stop()
				expect := func(what string, want mvcc.Code, err error) {
					t.Helper()
					times := 2
					if want != 0 {
						times = 1
					}
					if mvcc.CodeOf(err) != want || asked != times {
						t.Errorf("%s came to %v after %d tries, want the code %d", what, err, asked, want)
					}
					if want == mvcc.Timeout && c.err == broken && !strings.Contains(err.Error(), "may still take effect") {
						t.Errorf("%s: %v", what, err)
					}
					asked = 0
				}
				o := operator{follower}
				expect("a transfer", c.change, o.TransferLeader(t.Context(), "", ""))
				expect("a removal", c.change, o.RemovePeer(t.Context(), "", api.PeerName{ID: "b"}))
				_, err := o.RaftConfiguration(t.Context(), mvcc.ReadOptions{})
				expect("the configuration", c.tells, err)
			})
		})
	}
}

// A leader that never answers is waited for as long as it leads, and a little
// longer.
func TestRelayEndsWithTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		follower, leader, stop := newFollower(t, func(ctx context.Context, _ []byte, _ func(rpc.Reply) error) error {
			<-ctx.Done()
			return ctx.Err()
		})
		defer stop()
		done := make(chan error)
		go func() { done <- operator{follower}.RemovePeer(t.Context(), "", api.PeerName{ID: "x"}) }()
		time.Sleep(time.Minute) // of the test's own time
		select {
		case err := <-done:
			t.Fatalf("it ended while the leader led: %v", err)
		default:
		}
		if err := leader.node.Stop(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-done; mvcc.CodeOf(err) != mvcc.Timeout || !strings.Contains(err.Error(), "may still take effect") || time.Since(began) > operateGrace+10*time.Second {
			t.Errorf("it ended %v after the leader with %v", time.Since(began), err)
		}
	})
}
