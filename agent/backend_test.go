package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

const testHold = 7 * time.Second

// nobody is a stream to servers that cannot be reached.
type nobody struct {
	once   sync.Once
	closed chan struct{}
}

func (n *nobody) Accept() (net.Conn, error) {
	<-n.closed
	return nil, net.ErrClosed
}

func (n *nobody) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (*nobody) Dial(id string, _ time.Duration) (net.Conn, error) {
	return nil, errors.New("nobody is " + id)
}

// dropMetrics puts nothing in the place of the process's metrics, which Raft
// writes to: those of an agent of another test do not belong to this test's time.
func dropMetrics(t *testing.T) {
	t.Helper()
	config := metrics.DefaultConfig("test")
	config.EnableRuntimeMetrics = false
	if _, err := metrics.NewGlobal(config, &metrics.BlackholeSink{}); err != nil {
		t.Fatal(err)
	}
}

// newBackend is a backend over a server in memory that has no cluster yet.
func newBackend(t *testing.T) *backend {
	t.Helper()
	dropMetrics(t)
	machine := state.NewMachine()
	node, err := consensus.Open(consensus.Config{ID: "a", FSM: machine, Stream: &nobody{closed: make(chan struct{})}, Multiplier: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &backend{id: "a", datacenter: "dc1", nodeName: "n1", machine: machine, node: node, hold: testHold, now: time.Now}
}

// newLeader is the backend of the only server of a cluster.
func newLeader(t *testing.T) *backend {
	t.Helper()
	b := newBackend(t)
	if _, err := b.node.Bootstrap(); err != nil {
		t.Fatal(err)
	}
	if err := b.node.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// depose makes a lone leader lose its leadership for good: it takes a voter into
// the configuration that nobody can reach.
func depose(t *testing.T, b *backend) {
	t.Helper()
	if err := b.node.AddVoter(t.Context(), "unreachable"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ApplyKey(t.Context(), &kv.Set{Key: "lost"}); err == nil {
		t.Fatal("a write without a quorum succeeded")
	}
	synctest.Wait()
}

// A command that another server forwarded is not held by one that does not lead: it
// would come into the log when whoever gave it has gone on.
func TestForwardedCommandIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		depose(t, b)
		data, err := state.Encode(&kv.Set{Key: "late"}, 1, mvcc.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		for forwarded, want := range map[bool]time.Duration{true: 0, false: testHold} {
			began := time.Now()
			if _, err := b.applyBytes(t.Context(), data, forwarded); mvcc.CodeOf(err) != mvcc.NoLeader || time.Since(began) != want {
				t.Errorf("forwarded: %t: after %v, want %v: %v", forwarded, time.Since(began), want, err)
			}
		}
	})
}

func set(t *testing.T, b *backend, key, value string) {
	t.Helper()
	if ok, err := b.ApplyKey(t.Context(), &kv.Set{Key: key, Value: []byte(value)}); !ok || err != nil {
		t.Fatalf("set %s: %v %v", key, ok, err)
	}
}

// reading is a read that waits.
type reading struct {
	done  chan struct{}
	after time.Duration
	entry *kv.Entry
	meta  mvcc.Meta
	err   error
}

// read begins to read a key in a goroutine, and returns once it waits or is done.
func read(ctx context.Context, b *backend, o mvcc.ReadOptions, key string) *reading {
	r := &reading{done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(r.done)
		r.entry, r.meta, r.err = b.Key(ctx, o, &kv.Get{Key: key})
		r.after = time.Since(began)
	}()
	synctest.Wait()
	return r
}

func (r *reading) waits(t *testing.T, when string) {
	t.Helper()
	synctest.Wait()
	select {
	case <-r.done:
		t.Fatalf("%s: the reader was answered: %+v %+v %v", when, r.entry, r.meta, r.err)
	default:
	}
}

func (r *reading) is(t *testing.T, value string, after time.Duration) {
	t.Helper()
	<-r.done
	if r.err != nil || r.entry == nil || string(r.entry.Value) != value {
		t.Fatalf("got %+v, %v, want the value %q", r.entry, r.err, value)
	}
	if r.after != after {
		t.Errorf("answered after %v, want %v", r.after, after)
	}
	if r.meta.Index != r.entry.ModifyIndex {
		t.Errorf("the index is %d, and the entry's %d", r.meta.Index, r.entry.ModifyIndex)
	}
}

// now reads a key at once.
func now(t *testing.T, b *backend, key string) (*kv.Entry, mvcc.Meta) {
	t.Helper()
	e, meta, err := b.Key(t.Context(), mvcc.ReadOptions{}, &kv.Get{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e, meta
}

func TestWaitingReaderIsWokenByItsOwnChangeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		r.waits(t, "before any change")
		set(t, b, "ab", "1")
		set(t, b, "b", "1")
		set(t, b, "a", "1") // the same again
		r.waits(t, "after changes of others")
		set(t, b, "a", "2")
		r.is(t, "2", 0)
	})
}

// A server whose state is another than that of the others answers nobody, not even
// who waited since before it was found out.
func TestWaitingReaderIsNotAnsweredFromAStateThatDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "k", "1")
		index := b.machine.View().Index
		for _, mode := range []mvcc.Mode{mvcc.Default, mvcc.Stale} {
			r := read(t.Context(), b, mvcc.ReadOptions{Mode: mode, Index: index, Wait: time.Minute}, "k")
			r.waits(t, "before the check")
			defer func() {
				if <-r.done; mvcc.CodeOf(r.err) != mvcc.NotReady {
					t.Errorf("the reader in mode %v was answered: %+v %v", mode, r.entry, r.err)
				}
			}()
		}
		if _, err := b.apply(t.Context(), &state.CheckHash{Index: index, Hash: mvcc.Sum{Lo: 1}}); err != nil {
			t.Fatal(err)
		}
		set(t, b, "k", "2")
	})
}

func TestWaitingReaderIsAnsweredAtTheLatestWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		r.is(t, "1", time.Minute)
		if r.meta.Index != meta.Index {
			t.Errorf("the index is %d, want %d", r.meta.Index, meta.Index)
		}
	})
}

func TestWaitingForAnIndexOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index + 1, Wait: time.Minute}, "a")
		set(t, b, "a", "2") // its index is the one given, so not above it
		r.waits(t, "after the change with the index itself")
		set(t, b, "a", "3")
		r.is(t, "3", 0)

		r = read(t.Context(), b, mvcc.ReadOptions{Index: 1 << 40, Wait: time.Minute}, "a")
		r.is(t, "3", time.Minute)
	})
}

func TestWaitingForAMissingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "other", "1")
		_, meta := now(t, b, "miss")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "miss")
		for _, neighbour := range []string{"m", "mis", "missing", "misses", "n"} {
			set(t, b, neighbour, "1")
		}
		if _, err := b.ApplyKey(t.Context(), &kv.Delete{Key: "missing"}); err != nil {
			t.Fatal(err)
		}
		r.waits(t, "after changes of neighbours")
		set(t, b, "miss", "here")
		r.is(t, "here", 0)
	})
}

func TestWaitingReaderSeesTheEndOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		if _, err := b.ApplyKey(t.Context(), &kv.Delete{Key: "a"}); err != nil {
			t.Fatal(err)
		}
		<-r.done
		if r.entry != nil || r.err != nil || r.meta.Index <= meta.Index {
			t.Errorf("got %+v %+v %v, want nothing at a later index than %d", r.entry, r.meta, r.err, meta.Index)
		}
	})
}

func TestRestoreWakesWaitingReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		var before bytes.Buffer
		if err := state.WriteSnapshot(&before, b.machine.View()); err != nil {
			t.Fatal(err)
		}
		_, meta := now(t, b, "a")
		set(t, b, "a", "2")
		var after bytes.Buffer
		if err := state.WriteSnapshot(&after, b.machine.View()); err != nil {
			t.Fatal(err)
		}
		restore := func(snapshot *bytes.Buffer) {
			if err := b.machine.Restore(io.NopCloser(snapshot)); err != nil {
				t.Fatal(err)
			}
		}
		lower := *bytes.NewBuffer(bytes.Clone(before.Bytes()))
		restore(&before)
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		again := bytes.Buffer{}
		if err := state.WriteSnapshot(&again, b.machine.View()); err != nil {
			t.Fatal(err)
		}
		// What has the same index in another history may be something else.
		restore(&again)
		r.is(t, "1", 0)
		r = read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		restore(&after)
		r.is(t, "2", 0)
		// The indexes of a restored state may be lower than what a reader waits for.
		_, meta = now(t, b, "a")
		r = read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		restore(&lower)
		r.is(t, "1", 0)
	})
}

// What an answer says of the leader is so when it is given, not when its reader
// began to wait.
func TestWokenReaderLearnsThatTheLeaderWent(t *testing.T) {
	for _, mode := range []mvcc.Mode{mvcc.Default, mvcc.Stale} {
		synctest.Test(t, func(t *testing.T) {
			b := newLeader(t)
			set(t, b, "a", "1")
			_, meta := now(t, b, "a")
			r := read(t.Context(), b, mvcc.ReadOptions{Mode: mode, Index: meta.Index, Wait: time.Minute}, "a")
			set(t, b, "a", "2")
			r.is(t, "2", 0)
			if !r.meta.KnownLeader || r.meta.LastContact != 0 {
				t.Errorf("while it leads: %+v", r.meta)
			}
			r = read(t.Context(), b, mvcc.ReadOptions{Mode: mode, Index: r.meta.Index, Wait: time.Hour}, "a")
			depose(t, b)
			time.Sleep(time.Second) // of the test's own time: the last contact gets old
			r.waits(t, "without a leader")
			// What was committed before may be applied later.
			data, err := state.Encode(&kv.Set{Key: "a", Value: []byte("3")}, 1, mvcc.Origin{})
			if err != nil {
				t.Fatal(err)
			}
			b.machine.Apply(&raft.Log{Index: b.machine.View().Index + 1, Term: 1, Type: raft.LogCommand, Data: data})
			r.is(t, "3", testHold+time.Second)
			if r.meta.KnownLeader || r.meta.LastContact < time.Second || r.meta.Mode != mode {
				t.Errorf("after the leader went: %+v", r.meta)
			}
		})
	}
}

func TestWaitingReaderEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		ctx, cancel := context.WithCancel(t.Context())
		r := read(ctx, b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		cancel()
		<-r.done
		if !errors.Is(r.err, context.Canceled) {
			t.Errorf("got %v, want the context's error", r.err)
		}
	})
}

// A server that never learnt what was committed does not answer as if that were
// nothing.
func TestServerThatHasNotCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		depose(t, b)
		b.caughtUp.Store(false)
		r := read(t.Context(), b, mvcc.ReadOptions{Mode: mvcc.Stale}, "a")
		<-r.done
		if mvcc.CodeOf(r.err) != mvcc.NoLeader || r.after != testHold {
			t.Errorf("got %v after %v", r.err, r.after)
		}
	})
}

// A follower that cannot answer in time says why: it lags, the leader is not ready,
// or the leader does not answer.
func TestReadsOfAFollowerThatCannotAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(ctx context.Context, each func(rpc.Reply) error) error
		code   mvcc.Code
		text   string
	}{
		{"it lags", func(_ context.Context, each func(rpc.Reply) error) error { return answerCommitted(1<<20, each) }, mvcc.NotReady,
			"Not ready to serve consistent reads: this server has not caught up: entry 1048576 of the log is committed"},
		{"the leader is not ready", func(context.Context, func(rpc.Reply) error) error {
			return &mvcc.Error{Code: mvcc.NotReady, Text: textNotReady}
		}, mvcc.NotReady, textNotReady},
		{"the leader is silent", func(ctx context.Context, _ func(rpc.Reply) error) error {
			<-ctx.Done()
			return ctx.Err()
		}, mvcc.NoLeader, "No cluster leader"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				follower, _, stop := newFollower(t, func(ctx context.Context, _ []byte, each func(rpc.Reply) error) error { return c.answer(ctx, each) })
				defer stop()
				for _, mode := range []mvcc.Mode{mvcc.Default, mvcc.Consistent, mvcc.Stale} { // it has never caught up
					r := read(t.Context(), follower.backend, mvcc.ReadOptions{Mode: mode}, "a")
					<-r.done
					if mvcc.CodeOf(r.err) != c.code || !strings.HasPrefix(r.err.Error(), c.text) || r.after != testHold {
						t.Errorf("in mode %v: %v after %v", mode, r.err, r.after)
					}
				}
			})
		})
	}
}

func TestReadsWithoutALeader(t *testing.T) {
	for _, c := range []struct {
		name    string
		options mvcc.ReadOptions
		code    mvcc.Code
		after   time.Duration
	}{
		{"default", mvcc.ReadOptions{}, mvcc.NoLeader, testHold},
		{"consistent", mvcc.ReadOptions{Mode: mvcc.Consistent}, mvcc.NoLeader, testHold},
		{"stale", mvcc.ReadOptions{Mode: mvcc.Stale}, 0, 0},
		{"stale within its bound", mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: time.Hour}, 0, 0},
		{"stale beyond its bound", mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: time.Millisecond}, mvcc.NoLeader, testHold},
		{"waiting", mvcc.ReadOptions{Index: 1 << 40, Wait: time.Minute}, mvcc.NoLeader, testHold},
		{"stale and waiting", mvcc.ReadOptions{Mode: mvcc.Stale, Index: 1 << 40, Wait: time.Minute}, 0, time.Minute},
		{"of another datacenter", mvcc.ReadOptions{Datacenter: "dc2"}, mvcc.NoPath, 0},
		{"stale of another datacenter", mvcc.ReadOptions{Mode: mvcc.Stale, Datacenter: "dc2"}, mvcc.NoPath, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLeader(t)
				set(t, b, "a", "1")
				depose(t, b)
				time.Sleep(time.Second) // of the test's own time: the last contact gets old
				r := read(t.Context(), b, c.options, "a")
				<-r.done
				if mvcc.CodeOf(r.err) != c.code {
					t.Fatalf("got %v, want the code %d", r.err, c.code)
				}
				if r.after != c.after {
					t.Errorf("answered after %v, want %v", r.after, c.after)
				}
				if c.code != 0 {
					return
				}
				if r.entry == nil || r.meta.KnownLeader || r.meta.LastContact < time.Second || r.meta.Mode != mvcc.Stale {
					t.Errorf("got %+v with %+v", r.entry, r.meta)
				}
			})
		})
	}
}

func TestLeadershipLostWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		set(t, b, "a", "1")
		_, meta := now(t, b, "a")
		r := read(t.Context(), b, mvcc.ReadOptions{Index: meta.Index, Wait: time.Minute}, "a")
		depose(t, b)
		<-r.done
		if mvcc.CodeOf(r.err) != mvcc.NoLeader || r.after != time.Minute+testHold {
			t.Errorf("got %v after %v", r.err, r.after)
		}
	})
}

func TestWritesWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		began := time.Now()
		_, err := b.ApplyKey(t.Context(), &kv.Set{Key: "a"})
		if mvcc.CodeOf(err) != mvcc.NoLeader || time.Since(began) != testHold {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.ApplyKey(ctx, &kv.Set{Key: "a"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that ends first: %v", err)
		}
	})
}

func TestALeaderWithinTheHoldTimeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		r := read(t.Context(), b, mvcc.ReadOptions{}, "a")
		r.waits(t, "without a leader")
		if _, err := b.node.Bootstrap(); err != nil {
			t.Fatal(err)
		}
		<-r.done
		if r.err != nil || !r.meta.KnownLeader {
			t.Errorf("got %+v, %v", r.meta, r.err)
		}
	})
}

func TestModesOfALeader(t *testing.T) {
	for _, c := range []struct {
		name    string
		options mvcc.ReadOptions
		want    mvcc.Mode
	}{
		{"default", mvcc.ReadOptions{}, mvcc.Default},
		{"consistent", mvcc.ReadOptions{Mode: mvcc.Consistent}, mvcc.Consistent},
		{"stale", mvcc.ReadOptions{Mode: mvcc.Stale}, mvcc.Stale},
		{"its datacenter, in any case", mvcc.ReadOptions{Datacenter: "DC1"}, mvcc.Default},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newLeader(t)
				set(t, b, "a", "1")
				e, meta, err := b.Key(t.Context(), c.options, &kv.Get{Key: "a"})
				if err != nil || e == nil {
					t.Fatalf("got %+v, %v", e, err)
				}
				want := mvcc.Meta{Index: e.ModifyIndex, KnownLeader: true, Mode: c.want}
				if meta != want {
					t.Errorf("got %+v, want %+v", meta, want)
				}
			})
		})
	}
}

func TestAfterTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		if err := b.node.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ApplyKey(t.Context(), &kv.Set{Key: "a"}); mvcc.CodeOf(err) != mvcc.ShuttingDown {
			t.Errorf("a write: %v", err)
		}
		if _, _, err := b.Key(t.Context(), mvcc.ReadOptions{}, &kv.Get{Key: "a"}); mvcc.CodeOf(err) != mvcc.ShuttingDown {
			t.Errorf("a read: %v", err)
		}
	})
}

func TestOriginStandsInTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		from := mvcc.Origin{Node: "n1", Address: "192.0.2.1:5", Endpoint: "PUT /v1/kv/"}
		start := b.machine.View().Index
		if _, err := b.ApplyKey(mvcc.WithOrigin(t.Context(), from), &kv.Set{Key: "a"}); err != nil {
			t.Fatal(err)
		}
		records, err := b.machine.History().Since(start)
		if err != nil || len(records) != 1 || records[0].Origin != from {
			t.Errorf("got %+v, %v", records, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		start := b.machine.View().Index
		good := func() *health.Register {
			return &health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: "x", Address: "192.0.2.1"}}}
		}
		for _, c := range []struct {
			name string
			err  error
			code mvcc.Code
		}{
			{"a registration elsewhere", b.Register(t.Context(), "dc2", good()), mvcc.NoPath},
			{"a registration without a node", b.Register(t.Context(), "", &health.Register{}), mvcc.Invalid},
			{"a deregistration elsewhere", b.Deregister(t.Context(), "dc2", &catalog.Deregister{Node: "x"}), mvcc.NoPath},
			{"a deregistration of nothing", b.Deregister(t.Context(), "", &catalog.Deregister{}), mvcc.Invalid},
		} {
			if mvcc.CodeOf(c.err) != c.code {
				t.Errorf("%s: got %v, want the code %d", c.name, c.err, c.code)
			}
		}
		if index := b.machine.View().Index; index != start {
			t.Errorf("what was refused went through the log: the index went from %d to %d", start, index)
		}
		if err := b.Register(t.Context(), "dc1", good()); err != nil {
			t.Error(err)
		}
		if _, err := b.ApplyKey(t.Context(), &kv.Set{Key: "a", Value: make([]byte, consensus.MaxCommandBytes)}); mvcc.CodeOf(err) != mvcc.TooLarge {
			t.Errorf("a command above the limit: %v", err)
		}
	})
}

func TestClusterBeginsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLeader(t)
		if err := b.beginCluster(t.Context()); err != nil {
			t.Fatal(err)
		}
		id, index := b.machine.View().Cluster(), b.machine.View().Index
		if id == (state.ClusterID{}) {
			t.Error("the cluster has no ID")
		}
		if err := b.beginCluster(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v := b.machine.View(); v.Cluster() != id || v.Index != index {
			t.Errorf("it began again: %x at %d, then %x at %d", id, index, v.Cluster(), v.Index)
		}
	})
}
