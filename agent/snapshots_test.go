package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/kv/mvcc"
)

// perServer reaches servers that answer what the test says.
type perServer struct {
	deafCaller
	query func(ctx context.Context, to string, query []byte, each func(rpc.Reply) error) error
}

func (p perServer) Query(ctx context.Context, to string, r *rpc.QueryRequest, each func(rpc.Reply) error) error {
	return p.query(ctx, to, r.Query, each)
}

// newClientAgent is an agent that asks the servers a and b.
func newClientAgent(query func(ctx context.Context, to string, query []byte, each func(rpc.Reply) error) error) *Agent {
	a := &Agent{id: "c", config: &config.Config{Datacenter: "dc1"}, backend: &backend{datacenter: "dc1"}}
	a.router = newRouter("c", "dc1", twoServers{}, time.Now)
	a.remote = &remote{calls: perServer{query: query}, hold: testHold, router: a.router}
	return a
}

// A server that goes away before it sent anything of an archive is not the end of
// a save; one that goes away later is.
func TestSaveAtAnotherServer(t *testing.T) {
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		name string
		fail func(ctx context.Context, each func(rpc.Reply) error) error
		// failures is how often the servers fail, asks how often they are asked, and
		// after the time until the save ends.
		failures, asks int
		err            error
		got            string
		after          time.Duration
	}{
		{"nothing is wrong", nil, 0, 1, nil, "archive", 0},
		{"it stops", func(context.Context, func(rpc.Reply) error) error { return &mvcc.Error{Code: mvcc.ShuttingDown} }, 1, 2, nil, "archive", 0},
		{"it has no leader, nor has the other at first", func(context.Context, func(rpc.Reply) error) error { return &mvcc.Error{Code: mvcc.NoLeader} }, 3, 4, nil, "archive", retryPause},
		{"the connection breaks", func(context.Context, func(rpc.Reply) error) error { return broken }, 1, 2, nil, "archive", 0},
		{"it says nothing", func(ctx context.Context, _ func(rpc.Reply) error) error {
			<-ctx.Done()
			return ctx.Err()
		}, 1, 2, nil, "archive", testHold + callGrace},
		{"it refuses", func(context.Context, func(rpc.Reply) error) error { return &mvcc.Error{Code: mvcc.Invalid} }, 1, 1, &mvcc.Error{Code: mvcc.Invalid}, "", 0},
		{"it breaks after the first piece", func(_ context.Context, each func(rpc.Reply) error) error {
			return errors.Join(each(rpc.Reply{Body: []byte("arch")}), broken)
		}, 1, 1, broken, "arch", 0},
		{"it is silent after the first piece", func(ctx context.Context, each func(rpc.Reply) error) error {
			if err := each(rpc.Reply{Body: []byte("arch")}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}, 1, 1, errSilent, "arch", pieceLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asks := 0
				a := newClientAgent(func(ctx context.Context, _ string, _ []byte, each func(rpc.Reply) error) error {
					if asks++; asks <= c.failures {
						return c.fail(ctx, each)
					}
					return errors.Join(each(rpc.Reply{Body: []byte("arch")}), each(rpc.Reply{Body: []byte("ive")}))
				})
				var got bytes.Buffer
				begun, began := 0, time.Now()
				err := archives{a}.Save(t.Context(), mvcc.ReadOptions{}, func(mvcc.Meta) io.Writer {
					begun++
					return &got
				})
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || got.String() != c.got || asks != c.asks || begun > 1 || time.Since(began) != c.after {
					t.Errorf("got %q and %v, after %v and %d questions, begun %d times", got.String(), err, time.Since(began), asks, begun)
				}
			})
		})
	}
}

// A restore is sent to another server, or again, only if it certainly did not begin.
func TestRestoreBeginsOnce(t *testing.T) {
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		name     string
		call     byte // that fails the first time
		err      error
		code     mvcc.Code
		restores int
	}{
		{"nothing is wrong", 0, nil, 0, 1},
		{"the leader breaks off what is sent", callUpload, broken, 0, 1},
		{"it stops while it is sent", callUpload, &mvcc.Error{Code: mvcc.ShuttingDown}, 0, 1},
		{"it does not lead any more", callUpload, &mvcc.Error{Code: mvcc.NoLeader}, 0, 1},
		{"it refuses what is sent", callUpload, &mvcc.Error{Code: mvcc.TooLarge}, mvcc.TooLarge, 0},
		{"it leads no more when it has all", callRestore, &mvcc.Error{Code: mvcc.NoLeader}, 0, 2},
		{"it was started anew", callRestore, errNoUpload, 0, 2},
		{"it stops while it restores", callRestore, &mvcc.Error{Code: mvcc.ShuttingDown}, mvcc.Timeout, 1},
		{"it is lost while it restores", callRestore, broken, mvcc.Timeout, 1},
		{"it does not know whether it restored", callRestore, &mvcc.Error{Code: mvcc.Timeout}, mvcc.Timeout, 1},
		{"it finds it wrong", callRestore, &mvcc.Error{Code: mvcc.Invalid}, mvcc.Invalid, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				content := bytes.Repeat([]byte("x"), pieceSize+1)
				leader, failed, restores := "a", false, 0
				sent := map[string]int{} // to each server, by token
				a := newClientAgent(func(_ context.Context, to string, query []byte, each func(rpc.Reply) error) error {
					if query[0] == c.call && !failed {
						failed, leader = true, "b"
						if c.call == callRestore {
							restores++
						}
						return c.err
					}
					switch query[0] {
					case callStats:
						return each(rpc.Reply{Body: []byte(`{"Leader":"` + leader + `"}`)})
					case callUpload:
						sent[to+string(query[1:1+tokenLength])] += len(query) - 1 - tokenLength
					case callRestore:
						restores++
						if to != leader || sent[to+string(query[1:])] != len(content) {
							t.Errorf("%s restores %d bytes", to, sent[to+string(query[1:])])
						}
					}
					return each(rpc.Reply{})
				})
				f, err := os.CreateTemp(t.TempDir(), "")
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.Write(content); err != nil {
					t.Fatal(err)
				}
				err = a.restoreSomewhere(t.Context(), spooled{f})
				if mvcc.CodeOf(err) != c.code || restores != c.restores {
					t.Errorf("got %v after %d restores", err, restores)
				}
				if c.err == broken && c.code == mvcc.Timeout && !strings.Contains(err.Error(), "may still take effect") {
					t.Errorf("it does not say what that means: %v", err)
				}
			})
		})
	}
}

// Archives that come in pieces are bounded in number, bytes and time.
func TestUploadsAreBounded(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	synctest.Test(t, func(t *testing.T) {
		u := &uploads{a: &Agent{}}
		token := func(i byte) string { return strings.Repeat(string('a'+rune(i)), tokenLength) }
		put := func(i byte, piece string) error {
			return u.take([]byte(token(i)+piece), func(rpc.Reply) error { return nil })
		}
		expect := func(what string, files, held int, bytes int64) {
			t.Helper()
			synctest.Wait()
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != files || u.held != held || u.bytes != bytes {
				t.Errorf("%s: %d files, %d archives with %d bytes: %v", what, len(entries), u.held, u.bytes, err)
			}
		}
		for i := range byte(maxUploads) {
			if err := put(i, "12345"); err != nil {
				t.Fatal(err)
			}
		}
		expect("as many as there may be", maxUploads, maxUploads, 5*maxUploads)
		if err := put(maxUploads, "x"); mvcc.CodeOf(err) != mvcc.TooLarge || !strings.Contains(err.Error(), "4 archives") {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(uploadLimit - time.Second)
		if err := put(0, "678"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		expect("after the time of all but one", 1, 1, 8)
		it := u.claim(token(0))
		if it == nil || u.claim(token(0)) != nil {
			t.Fatal("it can be claimed twice, or not at all")
		}
		time.Sleep(time.Hour)
		expect("what is claimed is left alone", 1, 1, 8)
		u.release(it)
		expect("what is released", 0, 0, 0)

		u.bytes = maxUploadBytes
		if err := put(1, "x"); mvcc.CodeOf(err) != mvcc.TooLarge || !strings.Contains(err.Error(), "are the limit") {
			t.Errorf("too many bytes: %v", err)
		}
		u.bytes = 0
		if err := put(1, "12345"); err != nil {
			t.Fatal(err)
		}
		u.open[token(1)].size = maxArchive
		u.bytes = maxArchive
		if err := put(1, "x"); mvcc.CodeOf(err) != mvcc.TooLarge {
			t.Errorf("an archive that is too large: %v", err)
		}
		expect("what was too large", 0, 0, 0)
		if err := put(2, "12345"); err != nil {
			t.Fatal(err)
		}
		if err := u.close(); err != nil {
			t.Fatal(err)
		}
		expect("after the end", 0, 0, 0)
		if err := put(3, "x"); mvcc.CodeOf(err) != mvcc.ShuttingDown {
			t.Errorf("after the end: %v", err)
		}
	})
}
