package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flag"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent"
)

// How long and from where the agent is killed over and over. The variables of
// the environment stand in for flags where a test is not run by hand; they are
// read before TestMain takes them away.
var (
	torture       = flag.Duration("torture", 0, "how long TestTorture kills agents, at least; it never kills fewer than its rounds")
	tortureSeed   = flag.Uint64("torture.seed", numberFrom("MUSTER_TORTURE_SEED"), "where TestTorture begins; 0 is a new place each time")
	tortureRounds = flag.Uint64("torture.rounds", numberFrom("MUSTER_TORTURE_ROUNDS"), "how often TestTorture kills the agent, at least; 0 is its own choice")
)

func numberFrom(variable string) uint64 {
	number, _ := strconv.ParseUint(os.Getenv(variable), 10, 64) // 0 if there is none
	return number
}

const (
	// tortureFull and tortureShort are how often the agent is killed.
	tortureFull, tortureShort = 30, 6
	// tortureInFlight is how many writes at least are under way when it is.
	tortureInFlight = 8
	// tortureLife is the longest time that writers have before a kill.
	tortureLife = 500 * time.Millisecond
	// snapshotLimit is how long to wait for a snapshot to begin, which under
	// writes happens many times in a second.
	snapshotLimit = 30 * time.Second
)

// moment is when an agent is killed.
type moment int

const (
	amidWrites moment = iota
	inSnapshot        // while a snapshot is being written
	inReplay          // before the agent leads again after a kill
)

// round is how an agent is set up and when it is killed.
type round struct {
	moment moment
	busy   bool // it takes snapshots all the time
}

// tortureCycle is gone through again and again. A third of the kills is inside
// of a snapshot or a replay, and before a replay the log grows.
var tortureCycle = []round{
	{amidWrites, false}, {inReplay, false}, {amidWrites, true}, {inSnapshot, true}, {amidWrites, true}, {amidWrites, false},
}

// missedCycle makes up for kills that came too late to be inside.
var missedCycle = []round{{inReplay, false}, {inSnapshot, true}}

// busySnapshots makes the agent take a snapshot after a handful of writes, and
// leave almost no log behind it.
const busySnapshots = `
raft_snapshot_threshold = 16
raft_snapshot_interval = "5ms"
raft_trailing_logs = 8
`

// An agent that is killed in the middle of writes, of snapshots and of replays
// leads again by itself, and has all that it ever acknowledged, nothing by half,
// and nothing that was never written. The index never falls.
func TestTorture(t *testing.T) {
	t.Parallel()
	seed := *tortureSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("to begin at the same place: -torture.seed=%d", seed)
	rounds := *tortureRounds
	switch {
	case rounds > 0:
	case testing.Short():
		rounds = tortureShort
	default:
		rounds = tortureFull
	}
	v := &victim{settings: newSettings(t, ""), random: rand.New(rand.NewPCG(seed, 0)), writers: newWriters(seed), fewest: 1 << 20}
	deadline := time.Now().Add(*torture)
	for i := uint64(0); ; i++ {
		r := tortureCycle[i%uint64(len(tortureCycle))]
		if i >= rounds && time.Now().After(deadline) {
			if v.inside*3 >= v.kills || i >= 6*rounds {
				break
			}
			r = missedCycle[i%uint64(len(missedCycle))]
		}
		v.round(t, r)
		if t.Failed() {
			return
		}
	}
	v.check(t, v.start(t))
	v.report(t)
}

// victim is an agent that is killed, and what is known of its past lives.
type victim struct {
	settings *settings
	random   *rand.Rand
	writers  []writer
	index    uint64 // the highest that was seen

	startTime time.Duration // of the last start, until it led
	bindTime  time.Duration // of the last start, until it took connections
	kills     int
	inside    int // kills inside of a snapshot or a replay
	early     int // kills right after a start, before there could be writes
	fewest    int // writes under way at a kill
}

// round starts the agent, has it checked, and kills it.
func (v *victim) round(t *testing.T, r round) {
	t.Helper()
	v.settings.extra = ""
	if r.busy {
		v.settings.extra = busySnapshots
	}
	v.settings.write(t)
	if r.moment == inReplay {
		v.killAtStart(t)
		v.killInReplay(t)
		return
	}
	p := v.start(t)
	v.check(t, p)
	if t.Failed() {
		return
	}
	w := v.startWriters(t, p)
	<-time.After(v.upTo(tortureLife))
	if r.moment == inSnapshot {
		awaitSnapshot(t, v.settings)
	}
	v.kill(t, p, w)
	if r.moment == inSnapshot && len(unfinishedSnapshots(v.settings)) > 0 {
		v.inside++
	}
}

func (v *victim) upTo(limit time.Duration) time.Duration {
	return time.Duration(v.random.Int64N(int64(limit) + 1))
}

// start starts the agent, waits until it leads, and remembers how long it took.
func (v *victim) start(t *testing.T) *agentProcess {
	t.Helper()
	begin := time.Now()
	p := launch(t, v.settings)
	awaitBound(t, p)
	v.bindTime = time.Since(begin)
	p.awaitLeader(t)
	v.startTime = time.Since(begin)
	return p
}

// killAtStart kills an agent that has hardly begun.
func (v *victim) killAtStart(t *testing.T) {
	t.Helper()
	p := launch(t, v.settings)
	<-time.After(v.upTo(v.bindTime))
	p.signal(t, syscall.SIGKILL)
	v.early++
}

// killInReplay kills an agent that reads its log, with writes waiting for it.
func (v *victim) killInReplay(t *testing.T) {
	t.Helper()
	p := launch(t, v.settings)
	awaitBound(t, p)
	w := v.startWriters(t, p)
	<-time.After(v.upTo(max(0, v.startTime-v.bindTime) / 2))
	v.kill(t, p, w)
	if !strings.Contains(p.out.String(), agent.PhraseLeading) {
		v.inside++
	}
}

// awaitBound waits until the agent takes connections. It answers them later.
func awaitBound(t *testing.T, p *agentProcess) {
	t.Helper()
	eventually(t, readyLimit, "the agent takes connections", func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.settings.address())
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// unfinishedSnapshots are the folders of snapshots that are being written.
func unfinishedSnapshots(s *settings) []string {
	names, _ := filepath.Glob(filepath.Join(s.dir, "data", "raft", "snapshots", "*.tmp")) // the pattern is right
	return names
}

// awaitSnapshot returns when a snapshot is being written. It looks without a
// pause: writing one takes a few milliseconds.
func awaitSnapshot(t *testing.T, s *settings) {
	t.Helper()
	for deadline := time.Now().Add(snapshotLimit); len(unfinishedSnapshots(s)) == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Errorf("no snapshot began within %s", snapshotLimit)
			return
		}
	}
}

// writing is a group of writers at work.
type writing struct {
	killed   atomic.Bool
	inFlight atomic.Int64
	group    sync.WaitGroup
}

// startWriters lets all writers write, each as fast as it can, until the agent
// is killed.
func (v *victim) startWriters(t *testing.T, p *agentProcess) *writing {
	t.Helper()
	w := &writing{}
	client := writersClient(t, p.settings, &w.inFlight)
	for _, one := range v.writers {
		w.group.Go(func() {
			for !w.killed.Load() {
				if err := one.write(client); err != nil {
					if _, answered := err.(api.StatusError); answered {
						t.Errorf("%s: %v", one.name(), err)
					}
					return // killed, so this one may have happened or not
				}
			}
		})
	}
	return w
}

// kill kills the agent while enough writes are under way.
func (v *victim) kill(t *testing.T, p *agentProcess, w *writing) {
	t.Helper()
	deadline := time.Now().Add(settleLimit)
	for w.inFlight.Load() < tortureInFlight && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	inFlight := int(w.inFlight.Load())
	p.signal(t, syscall.SIGKILL)
	w.killed.Store(true)
	w.group.Wait()
	v.fewest = min(v.fewest, inFlight)
	v.kills++
}

// check holds what the agent has against what the writers know.
func (v *victim) check(t *testing.T, p *agentProcess) {
	t.Helper()
	has := readAll(t, p)
	for _, w := range v.writers {
		w.check(t, has)
	}
	if has.index < v.index {
		t.Errorf("the index fell from %d to %d", v.index, has.index)
	}
	v.index = has.index
	has.checkStrangers(t, v.writers)
	checkSynced(t, p)
}

// report says what there was.
func (v *victim) report(t *testing.T) {
	t.Helper()
	total, parts := 0, map[string]int{}
	for _, w := range v.writers {
		total += w.acknowledged()
		parts[w.kind()] += w.acknowledged()
	}
	var lines []string
	for kind, count := range parts {
		lines = append(lines, fmt.Sprintf("%d %s", count, kind))
	}
	slices.Sort(lines)
	t.Logf("%d acknowledged writes, all there: %s", total, strings.Join(lines, ", "))
	t.Logf("%d kills amid at least %d writes, %d of them inside of a snapshot or a replay, and %d kills right after a start",
		v.kills, v.fewest, v.inside, v.early)
	if v.fewest < tortureInFlight {
		t.Errorf("only %d writes were under way at one of the kills, want %d", v.fewest, tortureInFlight)
	}
	if v.inside*3 < v.kills {
		t.Errorf("only %d of %d kills were inside of a snapshot or a replay, want a third", v.inside, v.kills)
	}
	for kind, count := range parts {
		if count == 0 {
			t.Errorf("no write of the kind %q was ever acknowledged, so this showed nothing", kind)
		}
	}
}
