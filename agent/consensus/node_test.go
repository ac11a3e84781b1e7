package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// counter is a state machine that adds up numbers and remembers how many it
// was given.
type counter struct {
	mu         sync.Mutex
	sum, count uint64
	restored   uint64        // how many were in the snapshot that was restored
	failing    error         // of Restore
	hold       chan struct{} // if set, ApplyBatch waits for it to close
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (c *counter) Apply(log *raft.Log) any { return c.ApplyBatch([]*raft.Log{log})[0] }

func (c *counter) ApplyBatch(logs []*raft.Log) []any {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]any, len(logs))
	for i, log := range logs {
		if log.Type == raft.LogCommand {
			c.sum += binary.BigEndian.Uint64(log.Data)
			c.count++
			results[i] = c.sum
		}
	}
	return results
}

func (c *counter) state() (sum, count uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum, c.count
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) {
	sum, count := c.state()
	return counted(append(number(sum), number(count)...)), nil
}

func (c *counter) Restore(source io.ReadCloser) error {
	if c.failing != nil {
		return c.failing
	}
	data, err := io.ReadAll(source)
	if err != nil || len(data) != 16 {
		return fmt.Errorf("%d bytes, %w", len(data), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum, c.count = binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])
	c.restored = c.count
	return nil
}

type counted []byte

func (c counted) Persist(sink raft.SnapshotSink) error {
	if _, err := io.Copy(sink, bytes.NewReader(c)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}
func (c counted) Release() {}

// alone is the configuration of a node that has no others.
func alone(dir string, machine *counter) Config {
	return Config{ID: "a", Dir: dir, FSM: machine, Stream: new(network).port("a")}
}

// open opens a node, and stops it with the test.
func open(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// bootstrap makes n a cluster and waits until it leads.
func bootstrap(t testing.TB, n *Node) {
	t.Helper()
	if fresh, err := n.Bootstrap(); err != nil || !fresh {
		t.Fatalf("Bootstrap: %v, %v", fresh, err)
	}
	await(t, n)
}

// await waits until a leader is known to n.
func await(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
}

// apply adds the numbers from one to count.
func apply(t testing.TB, n *Node, count int) {
	t.Helper()
	for i := range count {
		if _, err := n.Apply(context.Background(), number(uint64(i+1))); err != nil {
			t.Fatal(err)
		}
	}
}

// where runs a test in memory and on disk.
func where(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("memory", func(t *testing.T) { test(t, "") })
	t.Run("disk", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "raft")) })
}

// A lone server leads at once, whatever the multiplier. In the bubble of
// synctest, time passes only while every goroutine waits for it: even at
// multiplier 10 nothing may wait for a heartbeat timeout.
func TestLoneServerLeadsAtOnce(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		for _, multiplier := range []int{1, 2, 10} {
			synctest.Test(t, func(t *testing.T) {
				cfg := alone("", new(counter))
				if dir != "" {
					cfg.Dir = filepath.Join(dir, fmt.Sprint(multiplier))
				}
				cfg.Multiplier = multiplier
				for _, life := range []string{"fresh", "restarted"} {
					if life == "restarted" && dir == "" {
						continue
					}
					cfg.FSM, cfg.Stream = new(counter), new(network).port("a")
					start := time.Now()
					n := open(t, cfg)
					if fresh, err := n.Bootstrap(); err != nil || fresh != (life == "fresh") {
						t.Fatalf("Bootstrap of a %s server: %v, %v", life, fresh, err)
					}
					await(t, n)
					apply(t, n, 1)
					if took := time.Since(start); took > BaseTimeout/5 {
						t.Errorf("multiplier %d, %s: the first write took %v", multiplier, life, took)
					}
					stop(t, n)
				}
			})
		}
	})
}

func TestReplayAfterRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	n := open(t, alone(dir, new(counter)))
	bootstrap(t, n)
	apply(t, n, 100)
	stop(t, n)

	machine := new(counter)
	n = open(t, alone(dir, machine))
	if fresh, err := n.Bootstrap(); fresh || err != nil {
		t.Fatalf("Bootstrap of a server with state: %v, %v", fresh, err)
	}
	await(t, n)
	// Leading means that all of the log is applied.
	if sum, count := machine.state(); sum != 5050 || count != 100 {
		t.Errorf("after the restart: sum %d of %d numbers", sum, count)
	}
	if answer, err := n.Apply(t.Context(), number(7)); err != nil || answer != uint64(5057) {
		t.Errorf("Apply: %v, %v", answer, err)
	}
}

func TestSnapshotTruncatesAndRestores(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	cfg := alone(dir, new(counter))
	cfg.TrailingLogs = 10
	n := open(t, cfg)
	bootstrap(t, n)
	apply(t, n, 100)
	if err := n.Snapshot(); err != nil {
		t.Fatal(err)
	}
	first, err := n.stores.log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := n.stores.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if last-first+1 != 10 {
		t.Errorf("the log holds %d to %d, want 10 entries", first, last)
	}
	apply(t, n, 5)
	stop(t, n)

	machine := new(counter)
	cfg.FSM, cfg.Stream = machine, new(network).port("a")
	n = open(t, cfg)
	await(t, n)
	if sum, count := machine.state(); sum != 5065 || count != 105 || machine.restored != 100 {
		t.Errorf("after the restart: sum %d of %d numbers, %d from the snapshot", sum, count, machine.restored)
	}
}

// A snapshot is taken without being asked for when the log has grown enough.
func TestSnapshotByThreshold(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) {
			cfg := alone(dir, new(counter))
			cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = 50, time.Second, 5
			n := open(t, cfg)
			defer stop(t, n)
			bootstrap(t, n)
			apply(t, n, 60)
			time.Sleep(3 * time.Second) // of the bubble's time
			synctest.Wait()
			first, err := n.stores.log.FirstIndex()
			if err != nil || first < 50 {
				t.Errorf("the log begins at %d, %v", first, err)
			}
		})
	})
}

func TestStopped(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) {
			n := open(t, alone(dir, new(counter)))
			bootstrap(t, n)
			apply(t, n, 1)
			stop(t, n)
			stop(t, n)
			_, applied := n.Apply(t.Context(), number(1))
			_, bootstrapped := n.Bootstrap()
			for call, err := range map[string]error{
				"Apply": applied, "Bootstrap": bootstrapped, "Verify": n.Verify(t.Context()), "Snapshot": n.Snapshot(),
				"WaitLeader":  n.WaitLeader(t.Context()),
				"WhileLeader": n.WhileLeader(t.Context(), func(context.Context) error { return errors.New("called") }),
			} {
				if !errors.Is(err, ErrStopped) || errors.Is(err, ErrUncertain) {
					t.Errorf("%s after Stop: %v", call, err)
				}
			}
			if n.Leading() {
				t.Error("a stopped node leads")
			}
		}) // fails if a goroutine is left
	})
}

// Stop lets what is under way have its answer, and no goroutine stays behind.
func TestStopUnderLoad(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		for round := range 5 {
			synctest.Test(t, func(t *testing.T) {
				cfg := alone("", new(counter))
				if dir != "" {
					cfg.Dir = filepath.Join(dir, fmt.Sprint(round))
				}
				n := open(t, cfg)
				bootstrap(t, n)
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(func() {
						for {
							_, err := n.Apply(t.Context(), number(1))
							verified := n.Verify(t.Context())
							if err != nil {
								if !errors.Is(err, ErrStopped) || errors.Is(err, ErrUncertain) {
									t.Errorf("Apply while stopping: %v", err)
								}
								if !errors.Is(verified, ErrStopped) {
									t.Errorf("Verify while stopping: %v", verified)
								}
								return
							}
						}
					})
				}
				apply(t, n, 10)
				stop(t, n)
				callers.Wait()
			})
		}
	})
}

// If the state machine hangs, Stop says so instead of hanging too. (Raft then
// forgets what it had not handed over, and with it the goroutines that wait.)
func TestStopHanging(t *testing.T) {
	held := &counter{hold: make(chan struct{})}
	n, err := Open(alone("", held))
	if err != nil {
		t.Fatal(err)
	}
	defer close(held.hold)
	n.patience = 20 * time.Millisecond
	if fresh, err := n.Bootstrap(); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	for n.raft.State() != raft.Leader {
		runtime.Gosched()
	}
	result := make(chan error, 1)
	go func() {
		_, err := n.Apply(context.Background(), number(1))
		result <- err
	}()
	for n.raft.AppliedIndex() < 4 { // handed to the state machine
		runtime.Gosched()
	}
	if err := n.Stop(); err == nil || !strings.Contains(err.Error(), "cannot end Raft") {
		t.Errorf("Stop: %v", err)
	}
	if err := <-result; !errors.Is(err, ErrStopped) || !errors.Is(err, ErrUncertain) {
		t.Errorf("Apply: %v", err)
	}
}

func TestMembershipRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, alone("", new(counter)))
		defer stop(t, n)
		if err := n.AddVoter(t.Context(), "b"); !errors.Is(err, ErrNotLeader) {
			t.Errorf("AddVoter on no leader: %v", err)
		}
		bootstrap(t, n)
		if err := n.RemoveServer(t.Context(), "a"); err == nil || errors.Is(err, ErrUncertain) {
			t.Errorf("RemoveServer of the only voter: %v", err)
		}
		if err := n.RemoveServer(t.Context(), "z"); err != nil {
			t.Errorf("RemoveServer of an unknown server: %v", err)
		}
	})
}

func TestNotLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, alone("", new(counter)))
		defer stop(t, n)
		if _, err := n.Apply(t.Context(), number(1)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Apply: %v", err)
		}
		if err := n.Verify(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("Verify: %v", err)
		}
		if id, ok := n.Leader(); ok {
			t.Errorf("Leader: %q", id)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := n.WaitLeader(ctx); !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("WaitLeader: %v", err)
		}
		if since := n.LastContact(); since < time.Hour {
			t.Errorf("LastContact: %v", since)
		}
	})
}

func TestApplyLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := &counter{hold: make(chan struct{})}
		n := open(t, alone("", machine))
		if fresh, err := n.Bootstrap(); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		synctest.Wait()
		if n.Leading() {
			t.Error("leads before its first barrier was applied")
		}
		if err := n.Verify(t.Context()); !errors.Is(err, ErrNotReady) {
			t.Errorf("Verify before the first barrier: %v", err)
		}
		if _, err := n.Apply(t.Context(), make([]byte, MaxCommandBytes+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a large command: %v", err)
		}
		start := time.Now()
		_, err := n.Apply(t.Context(), number(1))
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, ErrUncertain) || time.Since(start) != ApplyTimeout {
			t.Errorf("a command that is not applied: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Apply(ctx, number(1))
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a command whose context ends: %v", err)
		}
		close(machine.hold)
		await(t, n)
		if sum, _ := machine.state(); sum != 2 {
			t.Errorf("sum %d, want the late commands to be applied", sum)
		}
		stop(t, n)
	})
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 100)
		never := make(chan struct{})
		enter := func(bytes int) chan error {
			result := make(chan error, 1)
			go func() { result <- g.enter(t.Context(), bytes, never) }()
			synctest.Wait()
			return result
		}
		inside := func(result chan error) bool {
			synctest.Wait()
			return len(result) == 1
		}
		first, large, small := enter(60), enter(60), enter(10)
		if !inside(first) || inside(large) || inside(small) {
			t.Fatal("want the first inside and the small one behind the large one")
		}
		g.leave(60)
		if !inside(large) || !inside(small) {
			t.Fatal("want both inside when the first is gone")
		}
		third := enter(1)
		if inside(third) {
			t.Fatal("three are inside, two are possible")
		}
		if err := <-third; !errors.Is(err, ErrBusy) {
			t.Errorf("no place came free: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.enter(ctx, 1, never); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		g.leave(60)
		g.leave(10)
		if g.count != 0 || g.bytes != 0 || g.waiting.Len() != 0 {
			t.Errorf("%d commands of %d bytes are left, %d wait", g.count, g.bytes, g.waiting.Len())
		}
	})
}

// Those who call while a round is under way share the next one, and no round
// that began before their call.
func TestVerifyIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, alone("", new(counter)))
		defer stop(t, n)
		bootstrap(t, n)
		rounds, answer := 0, make(chan struct{})
		n.verifier.ask = func() error {
			rounds++
			<-answer
			return n.askQuorum()
		}
		verify := func(callers int) <-chan error {
			results := make(chan error, callers)
			for range callers {
				go func() { results <- n.Verify(t.Context()) }()
			}
			synctest.Wait()
			return results
		}
		first, others := verify(1), verify(100)
		answer <- struct{}{}
		synctest.Wait()
		if len(first) != 1 || len(others) != 0 || rounds != 2 {
			t.Fatalf("after the first round %d and %d callers have an answer, round %d is under way", len(first), len(others), rounds)
		}
		close(answer)
		for range 100 {
			if err := <-others; err != nil {
				t.Errorf("Verify: %v", err)
			}
		}
		if err := n.Verify(t.Context()); err != nil || rounds != 3 {
			t.Errorf("Verify alone: %v, round %d", err, rounds)
		}
	})
}

func TestVerifyLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, alone("", new(counter)))
		defer stop(t, n)
		bootstrap(t, n)
		answer := make(chan struct{})
		n.verifier.ask = func() error { <-answer; return nil }
		start := time.Now()
		if err := n.Verify(t.Context()); !errors.Is(err, ErrTimeout) || time.Since(start) != VerifyTimeout {
			t.Errorf("no answer: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Verify(ctx); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a context that ends: %v", err)
		}
		close(answer)
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"no ID", func(c *Config) { c.ID = "" }, "no ID"},
		{"no state machine", func(c *Config) { c.FSM = nil }, "no state machine"},
		{"no stream", func(c *Config) { c.Stream = nil }, "no stream"},
		{"multiplier", func(c *Config) { c.Multiplier = 11 }, "multiplier is 11, 1 to 10"},
		{"negative multiplier", func(c *Config) { c.Multiplier = -1 }, "multiplier is -1"},
		{"interval", func(c *Config) { c.SnapshotInterval = -time.Second }, "-1s"},
		{"folder below a file", func(c *Config) { c.Dir = filepath.Join(os.Args[0], "raft") }, os.Args[0]},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := alone("", new(counter))
			c.change(&cfg)
			n, err := Open(cfg)
			if err == nil {
				stop(t, n)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}
