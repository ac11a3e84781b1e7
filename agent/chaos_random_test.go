package agent_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
)

const (
	// roundsShort and roundsLong are how often a cluster is treated badly and may
	// heal, and roundActions how many things are done to it each time.
	roundsShort, roundsLong = 2, 5
	roundActions            = 12
	// longestPause is between two of them.
	longestPause = 1200 * time.Millisecond
	// farthestJump is how wrong a clock can be.
	farthestJump = 48 * time.Hour
)

// Whatever is done to the network, the disks, the clocks and the agents: what the
// clients saw can be explained, nothing acknowledged is lost, the servers have one
// state, and all is well soon after all faults have ended.
func TestChaosRandom(t *testing.T) {
	if *chaosTime == 0 {
		t.Skip("it takes a minute: give -chaos")
	}
	seed := seedOf(t)
	began := time.Now()
	operations, clusters := 0, 0
	for ; clusters == 0 || time.Since(began) < *chaosTime && !t.Failed(); clusters++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Logf("to do the same again: -chaos.seed=%d", seed)
			rounds, fewest := roundsShort, 1000
			if *chaosTime >= time.Minute {
				rounds, fewest = roundsLong, 5000
			}
			servers := 3
			if rand.New(rand.NewPCG(seed, 1)).IntN(3) == 0 {
				servers = 5
			}
			x := newTrial(t, seed, servers, 1)
			for range rounds {
				x.round()
				if t.Failed() {
					return
				}
			}
			operations += x.finish(fewest)
		})
		seed++
	}
	t.Logf("%d clusters with %d operations in %s", clusters, operations, time.Since(began).Round(time.Second))
}

// round does some things by chance, and lets the cluster heal.
func (x *trial) round() {
	stopped := map[*agenttest.Agent]bool{}
	forgot := false // at most one server loses its memory or its seat before all is whole again
	for range roundActions {
		x.act(stopped, &forgot)
		timer := time.NewTimer(time.Duration(x.random.Int64N(int64(longestPause))))
		select {
		case <-timer.C:
		case <-x.t.Context().Done():
		}
	}
	for _, a := range x.Agents() {
		if stopped[a] {
			x.rerun(a)
		}
	}
	for _, c := range x.clocks {
		c.Set(0)
	}
	x.heal()
	x.sameState()
}

// any returns an agent by chance.
func (x *trial) any(agents []*agenttest.Agent) *agenttest.Agent {
	return agents[x.random.IntN(len(agents))]
}

// stop stops an agent in order, for which its disk has to go on.
func (x *trial) stop(a *agenttest.Agent, stopped map[*agenttest.Agent]bool) {
	x.disks[a.Name].mend()
	if err := a.Stop(); err != nil {
		x.t.Errorf("%s did not stop in order: %v", a.Name, err)
	}
	stopped[a] = true
}

// rerun starts an agent that was stopped, which looks for all others.
func (x *trial) rerun(a *agenttest.Agent) {
	a.JoinVia(without(x.Agents(), a)...)
	a.Rerun()
}

// act does one thing by chance.
func (x *trial) act(stopped map[*agenttest.Agent]bool, forgot *bool) {
	a := x.any(x.Agents())
	b := x.any(without(x.Agents(), a))
	s := x.any(x.Servers)
	share := func(most float64) float64 { return most * x.random.Float64() }
	var what string
	switch x.random.IntN(14) {
	case 0:
		what = "cut " + a.Name + " to " + b.Name
		x.Net.Cut(a.Name, b.Name)
	case 1:
		what = "part " + a.Name
		x.part(a)
	case 2:
		what = "part " + a.Name + " and " + b.Name
		x.part(a, b)
	case 3:
		what = "mend the network"
		x.Net.Heal()
	case 4, 5:
		what = "break connections of " + a.Name
		for _, other := range without(x.Agents(), a) {
			x.Net.Reset(a.Name, other.Name)
		}
	case 6:
		loss, double, stall := share(0.4), share(0.2), share(0.2)
		what = fmt.Sprintf("lose %.2f, double %.2f, stall %.2f", loss, double, stall)
		x.Net.Packets(loss, double)
		x.Net.Stall(stall)
	case 7:
		delay, jitter := time.Duration(share(100))*time.Millisecond, time.Duration(share(100))*time.Millisecond
		what = fmt.Sprintf("delay by %s and up to %s", delay, jitter)
		x.Net.Delay(delay, jitter)
	case 8:
		what = "hang the disk of " + s.Name
		x.disks[s.Name].hang()
	case 9:
		what = "fail the disk of " + s.Name
		x.disks[s.Name].fail()
	case 10:
		what = "mend the disks"
		for _, d := range x.disks {
			d.mend()
		}
	case 11:
		off := time.Duration(x.random.Int64N(int64(2*farthestJump))) - farthestJump
		what = fmt.Sprintf("set the clock of %s by %s", a.Name, off)
		x.clocks[a.Name].Set(off)
	case 12:
		if stopped[a] {
			what = "start " + a.Name
			x.rerun(a)
			delete(stopped, a)
			break
		}
		what = "stop " + a.Name
		x.stop(a, stopped)
	case 13:
		what = x.forget(s, stopped, forgot)
	}
	x.t.Logf("%7.3f %s", x.load.History.Now().Seconds(), what)
}

// forget lets a server lose its data or its seat.
func (x *trial) forget(s *agenttest.Agent, stopped map[*agenttest.Agent]bool, forgot *bool) string {
	if *forgot {
		return "nothing"
	}
	if x.random.IntN(2) == 0 {
		for _, other := range x.Servers {
			if other != s && other.Running() && other.Leads() {
				*forgot = true
				status, body, err := other.Do(x.t.Context(), http.MethodDelete, "/v1/operator/raft/peer?id="+s.NodeID(), nil)
				return fmt.Sprintf("take %s out: %d %s %v", s.Name, status, body, err)
			}
		}
		return "nothing, for nobody leads"
	}
	*forgot = true
	if !stopped[s] {
		x.stop(s, stopped)
	}
	s.Wipe()
	x.load.Pause() // until whoever was answered has said so
	x.load.Lost(s.Name)
	x.load.Resume()
	x.rerun(s)
	delete(stopped, s)
	return "wipe " + s.Name
}
