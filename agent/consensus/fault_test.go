package consensus

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// disk stands between a node and its stores, and fails or hangs when it is told
// to.
type disk struct {
	mu          sync.Mutex
	log, stable error         // of what stores, if not nil
	hang        chan struct{} // what stores waits for it, if it is not nil
	tries       int           // how often something was to be stored
}

// faults are those of a node that this is the disk of.
func (d *disk) faults() faults {
	return faults{
		log:    func(s raft.LogStore) raft.LogStore { return &diskLog{s, d} },
		stable: func(s raft.StableStore) raft.StableStore { return &diskStable{s, d} },
	}
}

func (d *disk) fail(log, stable error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log, d.stable = log, stable
}

// block makes what stores wait until the function it returns is called.
func (d *disk) block() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hang := make(chan struct{})
	d.hang = hang
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hang = nil
		close(hang)
	}
}

func (d *disk) write(why *error) error {
	d.mu.Lock()
	d.tries++
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return *why
}

type diskLog struct {
	raft.LogStore
	disk *disk
}

func (l *diskLog) StoreLogs(logs []*raft.Log) error {
	if err := l.disk.write(&l.disk.log); err != nil {
		return err
	}
	return l.LogStore.StoreLogs(logs)
}

type diskStable struct {
	raft.StableStore
	disk *disk
}

func (s *diskStable) Set(key, value []byte) error {
	if err := s.disk.write(&s.disk.stable); err != nil {
		return err
	}
	return s.StableStore.Set(key, value)
}

func (s *diskStable) SetUint64(key []byte, value uint64) error {
	if err := s.disk.write(&s.disk.stable); err != nil {
		return err
	}
	return s.StableStore.SetUint64(key, value)
}

// on is the configuration of a lone node on a disk.
func on(d *disk, dir string, machine *counter) Config {
	cfg := alone(dir, machine)
	cfg.Multiplier, cfg.faults = 1, d.faults()
	return cfg
}

// waitLeader waits for a leader for as long as the agent holds requests.
func waitLeader(n *Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 7*time.Second)
	defer cancel()
	return n.WaitLeader(ctx)
}

// isFault checks that an error is of a kind, and says what is wrong with the disk.
func isFault(t *testing.T, what string, err, kind error, words ...string) {
	t.Helper()
	var fault *Fault
	if !errors.Is(err, kind) || !errors.As(err, &fault) {
		t.Errorf("%s: %v, want %q and a fault", what, err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want it to say %q", what, err, word)
		}
	}
}

// A lone server whose stores fail stays there, says why it does not serve, and
// leads again by itself.
func TestStoreFails(t *testing.T) {
	full := syscall.ENOSPC
	for _, c := range []struct {
		name        string
		log, stable error
		call        string // which the fault names in the end
	}{
		{"the log", full, nil, "storing entr"},
		{"term and vote too", full, full, "storing CurrentTerm"},
	} {
		where(t, func(t *testing.T, dir string) {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d, machine := new(disk), new(counter)
					n := open(t, on(d, dir, machine))
					defer stop(t, n)
					bootstrap(t, n)
					apply(t, n, 3)
					d.fail(c.log, c.stable)
					_, err := n.Apply(t.Context(), number(1000))
					isFault(t, "Apply", err, ErrStore, full.Error())
					if !errors.Is(err, ErrUncertain) {
						t.Errorf("Apply: %v, want it to be uncertain", err)
					}
					for range 5 {
						isFault(t, "WaitLeader", waitLeader(n), ErrNoLeader, c.call, full.Error())
						if n.Leading() {
							t.Error("leads")
						}
					}
					_, err = n.Apply(t.Context(), number(2000))
					isFault(t, "Apply while it does not lead", err, ErrNotLeader, full.Error())
					if sum, count := machine.state(); sum != 6 || count != 3 {
						t.Errorf("the state is %d of %d numbers", sum, count)
					}
					d.fail(nil, nil)
					if err := waitLeader(n); err != nil {
						t.Fatal(err)
					}
					apply(t, n, 3)
					if sum, count := machine.state(); sum != 12 || count != 6 {
						t.Errorf("the state is %d of %d numbers", sum, count)
					}
					if fault := n.Fault(); fault != nil {
						t.Errorf("the fault is still %v", fault)
					}
				})
			})
		})
	}
}

// A node that is told to stop while it cannot store its vote does stop.
func TestStopWhileVoteCannotBeStored(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) {
			d := new(disk)
			n := open(t, on(d, dir, new(counter)))
			bootstrap(t, n)
			apply(t, n, 3)
			d.fail(syscall.EIO, syscall.EIO)
			_, _ = n.Apply(t.Context(), number(1000))
			isFault(t, "WaitLeader", waitLeader(n), ErrNoLeader, "storing CurrentTerm")
			start := time.Now()
			stop(t, n)
			if took := time.Since(start); took > storeRetry {
				t.Errorf("Stop took %v", took)
			}
			if dir == "" {
				return
			}
			machine := new(counter)
			n = open(t, on(new(disk), dir, machine))
			defer stop(t, n)
			await(t, n)
			if sum, count := machine.state(); sum != 6 || count != 3 {
				t.Errorf("after the restart: %d of %d numbers", sum, count)
			}
		})
	})
}

// A server starts while nothing can be stored, and leads when it can.
func TestStartWhileStoresFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "raft")
		d, machine := new(disk), new(counter)
		n := open(t, on(d, dir, new(counter)))
		bootstrap(t, n)
		apply(t, n, 3)
		stop(t, n)
		d.fail(syscall.ENOSPC, syscall.ENOSPC)
		n = open(t, on(d, dir, machine))
		defer stop(t, n)
		isFault(t, "WaitLeader", waitLeader(n), ErrNoLeader, "storing CurrentTerm", dir)
		d.fail(nil, nil)
		if err := waitLeader(n); err != nil {
			t.Fatal(err)
		}
		if sum, count := machine.state(); sum != 6 || count != 3 {
			t.Errorf("the state is %d of %d numbers", sum, count)
		}
	})
}

// reigns counts what WhileLeader does.
type reigns struct {
	mu           sync.Mutex
	began, ended int
}

func (r *reigns) count() (began, ended int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began, r.ended
}

func (r *reigns) over(ctx context.Context) error {
	r.mu.Lock()
	r.began++
	r.mu.Unlock()
	<-ctx.Done()
	r.mu.Lock()
	r.ended++
	r.mu.Unlock()
	return nil
}

// outcomeOf is what a call came to, and after how long.
type outcomeOf struct {
	err  error
	took time.Duration
}

// begin makes a call in a goroutine.
func begin(call func() error) <-chan outcomeOf {
	done := make(chan outcomeOf, 1)
	start := time.Now()
	go func() {
		err := call()
		done <- outcomeOf{err, time.Since(start)}
	}()
	return done
}

// A server whose disk hangs does not lead, answers within named limits, and
// leads again when the disk answers.
func TestDiskHangs(t *testing.T) {
	where(t, func(t *testing.T, dir string) {
		synctest.Test(t, func(t *testing.T) {
			d, machine := new(disk), new(counter)
			n := open(t, on(d, dir, machine))
			defer stop(t, n)
			bootstrap(t, n)
			apply(t, n, 3)
			var r reigns
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = n.WhileLeader(ctx, r.over) }()
			release := d.block()
			write := begin(func() error { _, err := n.Apply(t.Context(), number(1000)); return err })
			synctest.Wait()
			queued := begin(func() error { _, err := n.Apply(t.Context(), number(2000)); return err })
			read := begin(func() error { return n.Verify(t.Context()) })

			time.Sleep(HangLimit - time.Millisecond) // of the bubble's time
			synctest.Wait()
			if began, ended := r.count(); !n.Leading() || n.Fault() != nil || began != 1 || ended != 0 {
				t.Errorf("before the limit: leading %v, fault %v, %d reigns, %d ended", n.Leading(), n.Fault(), began, ended)
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if began, ended := r.count(); n.Leading() || n.Fault() == nil || began != 1 || ended != 1 {
				t.Errorf("at the limit: leading %v, fault %v, %d reigns, %d ended", n.Leading(), n.Fault(), began, ended)
			}
			if id, ok := n.Leader(); ok || n.LastContact() < HangLimit {
				t.Errorf("the leader is %q, heard of %v ago", id, n.LastContact())
			}
			isFault(t, "Verify", n.Verify(t.Context()), ErrNotLeader, "the disk hangs", "storing entry 7")
			_, err := n.Apply(t.Context(), number(4000))
			isFault(t, "Apply", err, ErrNotLeader, "the disk hangs")
			isFault(t, "WaitLeader", waitLeader(n), ErrNoLeader, "storing entry 7", "has not returned for 9s")

			if o := <-queued; !errors.Is(o.err, ErrBusy) || o.took != QueueTimeout {
				t.Errorf("a write that Raft did not take: %v after %v", o.err, o.took)
			}
			o := <-read
			isFault(t, "a consistent read under way", o.err, ErrTimeout, "the disk hangs")
			if o.took != VerifyTimeout {
				t.Errorf("a consistent read ended after %v", o.took)
			}
			o = <-write
			isFault(t, "a write under way", o.err, ErrTimeout, "the disk hangs")
			if o.took != ApplyTimeout || !errors.Is(o.err, ErrUncertain) {
				t.Errorf("a write ended after %v: %v", o.took, o.err)
			}
			if sum, count := machine.state(); sum != 6 || count != 3 {
				t.Errorf("while it hangs, the state is %d of %d numbers", sum, count)
			}

			release()
			synctest.Wait()
			if began, ended := r.count(); !n.Leading() || n.Fault() != nil || began != 2 || ended != 1 {
				t.Errorf("when the disk answers: leading %v, fault %v, %d reigns, %d ended", n.Leading(), n.Fault(), began, ended)
			}
			apply(t, n, 1)
			if sum, count := machine.state(); sum != 1007 || count != 5 {
				t.Errorf("at last, the state is %d of %d numbers", sum, count)
			}
		})
	})
}

// A disk that is slow, again and again, does not hang.
func TestSlowDiskDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(disk)
		n := open(t, on(d, "", new(counter)))
		defer stop(t, n)
		bootstrap(t, n)
		for range 20 {
			release := d.block()
			write := begin(func() error { _, err := n.Apply(t.Context(), number(1)); return err })
			time.Sleep(HangLimit * 3 / 4) // of the bubble's time
			synctest.Wait()
			if !n.Leading() || n.Fault() != nil {
				t.Fatalf("leading %v, fault %v", n.Leading(), n.Fault())
			}
			release()
			if o := <-write; o.err != nil {
				t.Fatal(o.err)
			}
		}
	})
}

// Of three servers, the one whose disk hangs stops to lead, and the others go on
// without it.
func TestLeaderWithHungDiskIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(disk)
		var net network
		nodes := make([]*Node, 3)
		for i, id := range []string{"a", "b", "c"} {
			cfg := on(new(disk), "", new(counter))
			if i == 0 {
				cfg.faults = d.faults()
			}
			cfg.ID, cfg.Stream = id, net.port(id)
			nodes[i] = open(t, cfg)
			defer stop(t, nodes[i])
		}
		bootstrap(t, nodes[0])
		for _, id := range []string{"b", "c"} {
			admit(t, nodes[int(id[0]-'a')])
			if err := nodes[0].AddVoter(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		apply(t, nodes[0], 3)
		release := d.block()
		write := begin(func() error { _, err := nodes[0].Apply(t.Context(), number(1000)); return err })
		time.Sleep(HangLimit + 10*BaseTimeout) // of the bubble's time
		synctest.Wait()
		var leader *Node
		for _, n := range nodes {
			if n.Leading() {
				leader = n
			}
		}
		if leader == nil || leader == nodes[0] {
			t.Fatal("no other server leads")
		}
		if _, err := leader.Apply(t.Context(), number(7)); err != nil {
			t.Fatal(err)
		}
		release()
		if o := <-write; !errors.Is(o.err, ErrUncertain) {
			t.Errorf("the write on the old leader: %v", o.err)
		}
		time.Sleep(10 * BaseTimeout)
		synctest.Wait()
		if id, _ := nodes[0].Leader(); nodes[0].Leading() || id != leader.cfg.ID {
			t.Errorf("the old leader: leading %v, and knows %q to lead, not %q", nodes[0].Leading(), id, leader.cfg.ID)
		}
	})
}
