package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

// How long clusters of real processes are treated badly.
var (
	faultTime = flag.Duration("faults", 0, "how long TestFaults goes on, at least; it takes each cluster through each fault once at least, and 0 skips it")
	faultSeed = flag.Uint64("faults.seed", 0, "where TestFaults begins; 0 is a new place each time")
)

const (
	// longFaults is from when on faults last as long as they do in production.
	longFaults = 10 * time.Minute
	// stopShort and stopLong are how long a leader is stopped.
	stopShort, stopLong = 3 * time.Second, 10 * time.Second
	// fewestOperations are in each history.
	fewestOperations = 5000
	// operationsLimit is how long to wait for them after the last fault.
	operationsLimit = 3 * time.Minute
	// faultClients is how many clients work at each agent.
	faultClients = 3
	// progressLimit is how long survivors may take to carry out operations again.
	progressLimit = 30 * time.Second
	// fullFor is how long a disk stays full.
	fullFor = 3 * time.Second
	// smallDisk holds a server's data and little more.
	smallDisk = "size=64m"
)

// trial is one cluster under load, and what is done to it.
type trial struct {
	*fleet
	load   *agenttest.Load
	random *rand.Rand
	stop   time.Duration
}

// fault is something that is done to a cluster under load, and undone.
type fault struct {
	name string
	do   func(t *testing.T, x *trial)
}

// course is a cluster and the faults that it goes through in any order.
type course struct {
	name             string
	servers, clients int
	extra            string
	small            bool // its data is on small disks
	ordered          bool
	faults           []fault
}

var courses = []course{
	{name: "three servers", servers: 3, clients: 1, faults: []fault{
		{"the leader is killed", func(t *testing.T, x *trial) { x.killAndReturn(t, x.leader(t)) }},
		{"a follower is killed", func(t *testing.T, x *trial) { x.killAndReturn(t, x.followers(x.leader(t))[x.random.IntN(2)]) }},
		{"the leader stops and goes on", stopLeader},
		{"all are killed at once", killAll},
		{"one after the other restarts", rollingRestart},
		{"a server loses its data but not its ID", func(t *testing.T, x *trial) { x.wipe(t, true) }},
		{"a server loses its data and its ID", func(t *testing.T, x *trial) { x.wipe(t, false) }},
	}},
	{name: "five servers", servers: 5, faults: []fault{
		{"two of five are killed", func(t *testing.T, x *trial) {
			leader := x.leader(t)
			x.killAndReturn(t, leader, x.followers(leader)[x.random.IntN(4)])
		}},
	}},
	{name: "small disks", servers: 3, small: true, faults: []fault{
		{"the leader's disk is full", func(t *testing.T, x *trial) { x.fill(t, x.leader(t)) }},
		{"a follower's disk is full", func(t *testing.T, x *trial) { x.fill(t, x.followers(x.leader(t))[x.random.IntN(2)]) }},
	}},
	{name: "snapshots", servers: 3, extra: earlySnapshots, ordered: true, faults: []fault{
		{"a follower needs a snapshot", missLog},
		{"an old snapshot has a long log", longLog},
	}},
}

// earlySnapshots takes snapshots soon and leaves little log, noSnapshots none for
// very long.
const (
	earlySnapshots = `
raft_snapshot_threshold = 150
raft_snapshot_interval = "100ms"
raft_trailing_logs = 50
`
	noSnapshots = `raft_snapshot_threshold = 10000000`
)

// Whatever happens to the servers of a cluster, what it answered stays true: see
// [agenttest.History.Check].
func TestFaults(t *testing.T) {
	if *faultTime == 0 {
		t.Skip("it takes minutes: give -faults")
	}
	seed := *faultSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	began := time.Now()
	operations, rounds := 0, 0
	for ; rounds == 0 || time.Since(began) < *faultTime && !t.Failed(); rounds++ {
		for i, c := range courses {
			t.Run(fmt.Sprintf("%s %d", c.name, rounds), func(t *testing.T) {
				t.Logf("to begin with this round: -faults.seed=%d", seed)
				operations += c.run(t, rand.New(rand.NewPCG(seed, uint64(i))))
			})
		}
		seed++
	}
	t.Logf("%d rounds with %d operations in %s", rounds, operations, time.Since(began).Round(time.Second))
}

// run takes a cluster through the course, and returns how many operations it took.
func (c course) run(t *testing.T, random *rand.Rand) int {
	x := &trial{fleet: newFleet(t, c.servers, c.clients, c.extra), random: random, stop: stopShort}
	if *faultTime >= longFaults {
		x.stop = stopLong
	}
	if c.small {
		x.mountSmall(t)
	}
	x.fleet.start(t)
	x.load = agenttest.StartLoad("h", random.Uint64(), faultClients, x.targets())
	defer x.load.Stop()
	order := random.Perm(len(c.faults))
	if c.ordered {
		slices.Sort(order)
	}
	for _, i := range order {
		began := time.Now()
		x.awaitProgress(t, x.all()...)
		c.faults[i].do(t, x)
		x.awaitWhole(t)
		x.awaitProgress(t, x.all()...)
		x.checkLogs(t)
		x.load.Pause()
		err := x.load.SameState(t.Context())
		x.load.Resume()
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s: %s", c.faults[i].name, time.Since(began).Round(100*time.Millisecond))
		if t.Failed() {
			break
		}
	}
	for deadline := time.Now().Add(operationsLimit); x.load.History.Len() < fewestOperations && time.Now().Before(deadline) && !t.Failed(); {
		<-time.After(pollInterval)
	}
	x.load.Stop()
	began := time.Now()
	err := x.load.Finish()
	t.Logf("%s; checked in %s", x.load.History.Summary(), time.Since(began).Round(time.Millisecond))
	if err != nil {
		t.Error(err)
	}
	if n := x.load.History.Len(); n < fewestOperations {
		t.Errorf("there were only %d operations", n)
	}
	return x.load.History.Len()
}

// awaitProgress waits until each of some agents carries out operations.
func (x *trial) awaitProgress(t *testing.T, agents ...*vessel) {
	t.Helper()
	const some = 20
	begin := map[string]int{}
	for _, v := range agents {
		begin[v.name] = x.load.Answered(v.name)
	}
	for _, v := range agents {
		eventually(t, progressLimit, v.name+" carries out operations", func(context.Context) error {
			if n := x.load.Answered(v.name) - begin[v.name]; n < some {
				return fmt.Errorf("there were %d", n)
			}
			return nil
		})
	}
}

// awaitOperations waits until the clients have done so much more.
func (x *trial) awaitOperations(t *testing.T, n int) {
	t.Helper()
	want := x.load.History.Len() + n
	eventually(t, operationsLimit, fmt.Sprintf("%d more operations", n), func(context.Context) error {
		if x.load.History.Len() < want {
			return errors.New("not yet")
		}
		return nil
	})
}

// living are the agents that the test did not kill.
func (x *trial) living() []*vessel {
	var out []*vessel
	for _, v := range x.all() {
		if !v.dead {
			out = append(out, v)
		}
	}
	return out
}

// killAndReturn kills servers, and starts them again when the others have gone on.
func (x *trial) killAndReturn(t *testing.T, servers ...*vessel) {
	t.Helper()
	for _, v := range servers {
		v.kill(t)
	}
	x.leader(t)
	x.awaitProgress(t, x.living()...)
	for _, v := range servers {
		v.start(t)
	}
}

func killAll(t *testing.T, x *trial) {
	for _, v := range x.servers {
		v.dead = true
		v.send(t, syscall.SIGKILL)
	}
	for _, v := range x.servers {
		v.exit(t)
	}
	for _, v := range x.servers {
		v.start(t)
	}
}

func stopLeader(t *testing.T, x *trial) {
	old := x.leader(t)
	old.send(t, syscall.SIGSTOP)
	wake := time.After(x.stop)
	x.leader(t, old)
	x.awaitProgress(t, slices.DeleteFunc(x.all(), func(v *vessel) bool { return v == old })...)
	<-wake
	old.send(t, syscall.SIGCONT)
}

func rollingRestart(t *testing.T, x *trial) {
	for _, v := range x.servers {
		v.dead = true
		if code := v.signal(t, syscall.SIGTERM); code != 0 && code != 1 {
			t.Errorf("%s ended with %d", v.name, code)
		}
		v.start(t)
		x.awaitWhole(t)
	}
}

// wipe kills a server, takes its data away, and starts it again.
func (x *trial) wipe(t *testing.T, keepID bool) {
	v := x.servers[x.random.IntN(len(x.servers))]
	v.kill(t)
	x.load.Pause()
	x.load.Lost(v.name)
	x.load.Resume()
	x.leader(t)
	x.awaitProgress(t, x.living()...)
	id, err := os.ReadFile(filepath.Join(v.data(), "node-id"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(v.data()); err != nil {
		t.Fatal(err)
	}
	if keepID {
		if err := errors.Join(os.Mkdir(v.data(), 0o700), os.WriteFile(filepath.Join(v.data(), "node-id"), id, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	v.start(t)
}

// mountSmall puts the data of all servers on small disks.
func (x *trial) mountSmall(t *testing.T) {
	for _, v := range x.servers {
		if err := os.MkdirAll(v.data(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", v.data(), "tmpfs", 0, smallDisk); err != nil {
			t.Skipf("cannot mount a small file system here: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(v.data(), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// fill fills the disk of a server for a while. The others go on, with another
// leader if they need one.
func (x *trial) fill(t *testing.T, v *vessel) {
	path := filepath.Join(v.data(), "filler")
	filler, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	if _, err := io.Copy(filler, endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	full := time.After(fullFor)
	began := time.Now()
	others := x.followers(v)
	eventually(t, progressLimit, "a write is taken although a disk is full", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return others[0].put(ctx, "full")
	})
	t.Logf("a write was taken %s after the disk was full", time.Since(began).Round(time.Millisecond))
	<-full
	t.Logf("the disk of %s was full, and at last %s led", v.name, x.leader(t).name)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
}

// missLog lets a server miss so much that its leader has no log for it any more.
func missLog(t *testing.T, x *trial) {
	v := x.followers(x.leader(t))[x.random.IntN(2)]
	v.kill(t)
	x.awaitOperations(t, 1500)
	v.start(t)
}

// longLog restarts all servers with a long log behind an old snapshot.
func longLog(t *testing.T, x *trial) {
	for _, v := range x.servers {
		if names, _ := filepath.Glob(filepath.Join(v.data(), "raft", "snapshots", "*-*-*")); len(names) == 0 {
			t.Errorf("%s has no snapshot", v.name)
		}
	}
	x.extra = noSnapshots
	killAll(t, x)
	x.awaitWhole(t)
	x.awaitOperations(t, 4000)
	killAll(t, x)
}

// A leader that was stopped for so long that another was elected answers nothing
// from the past when it goes on, even if Raft itself does not notice: here because
// the others are stopped now, and because nobody reads its log, in which it would
// say that it leads no more. It is the lease that keeps it from answering, and a
// build whose leaders believe that it never ends is found out.
func TestFaultsOfLease(t *testing.T) {
	if *faultTime == 0 {
		t.Skip("it builds a broken binary: give -faults")
	}
	t.Run("as it is", func(t *testing.T) {
		if err := stopWithoutLog(t, binary(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("without the check", func(t *testing.T) {
		err := stopWithoutLog(t, withoutLease(t))
		if err == nil || !strings.Contains(err.Error(), "not linearizable") {
			t.Errorf("found: %v", err)
		}
	})
}

// stopWithoutLog stops a leader, and lets it go on for a while in which the others
// are stopped and nobody reads its log. It returns what is wrong with what clients saw.
func stopWithoutLog(t *testing.T, path string) error {
	t.Helper()
	f := newFleet(t, 3, 0, "")
	f.binary = path
	for _, v := range f.servers {
		v.log = newValve(t)
	}
	f.start(t)
	x := &trial{fleet: f, load: agenttest.StartLoad("h", 1, faultClients, f.targets())}
	defer x.load.Stop()
	x.awaitProgress(t, x.all()...)
	old := x.leader(t)
	old.send(t, syscall.SIGSTOP)
	open := old.log.close()
	x.leader(t, old)
	x.awaitProgress(t, f.followers(old)...)
	for _, v := range f.followers(old) {
		v.send(t, syscall.SIGSTOP)
	}
	old.send(t, syscall.SIGCONT)
	alone := time.After(stopShort)
	x.load.ReadAll(old.name, agenttest.Default)
	<-alone
	for _, v := range f.followers(old) {
		v.send(t, syscall.SIGCONT)
	}
	open()
	f.awaitWhole(t)
	x.awaitProgress(t, x.all()...)
	x.load.Stop()
	err := x.load.Finish()
	t.Log(x.load.History.Summary())
	return err
}

// withoutLease builds the binary with a lease that never ends once it has begun.
func withoutLease(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "agent", "consensus", "lease.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const check = "func (l *lease) holds() bool {\n"
	broken := strings.Replace(string(text), check, check+"\tif l.until.Load() > 0 {\n\t\treturn true\n\t}\n", 1)
	if broken == string(text) {
		t.Fatalf("%s has no lease check to take out", source)
	}
	return buildWith(t, map[string]string{source: broken})
}
