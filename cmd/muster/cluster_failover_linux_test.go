package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/muster-sd/muster/agent/gossip"
)

// failoverRounds is how often each loss is measured.
var failoverRounds = flag.Int("failover", 0, "how often TestFailover measures each loss; 0 skips it")

const (
	// failoverSlack is how many times slower than its goal a loss may be noticed
	// before the test fails: figures are read by people, and machines are busy.
	failoverSlack = 5
	// failoverPool is how many agents are in the pool in which clients are lost.
	failoverPool = 10
	// failoverPause is between two rounds, in which everybody calms down.
	failoverPause = time.Second
	// lookOften is between two looks at something that is measured.
	lookOften = 2 * time.Millisecond
)

// times are measurements of one thing.
type times struct {
	name  string
	goal  time.Duration // of the median
	taken []time.Duration
}

func (m *times) add(t testing.TB, d time.Duration) {
	t.Logf("%s: %s", m.name, d.Round(time.Millisecond))
	m.taken = append(m.taken, d)
}

// report prints the median and the worst.
func (m *times) report(t testing.TB) {
	t.Helper()
	if len(m.taken) == 0 {
		t.Errorf("%s: nothing was measured", m.name)
		return
	}
	slices.Sort(m.taken)
	median, worst := m.taken[len(m.taken)/2], m.taken[len(m.taken)-1]
	t.Logf("RESULT %s: median %.3f s, worst of %d %.3f s (goal %.1f s)", m.name, median.Seconds(), len(m.taken), worst.Seconds(), m.goal.Seconds())
	if median > failoverSlack*m.goal {
		t.Errorf("%s: the median is %s, more than %d times the goal", m.name, median, failoverSlack)
	}
}

// How soon writes are taken again when the leader is lost.
func TestFailoverOfLeader(t *testing.T) {
	if *failoverRounds == 0 {
		t.Skip("it measures: give -failover")
	}
	for _, c := range []struct {
		name string
		goal time.Duration
		lose func(t *testing.T, f *fleet, old, survivor *vessel) time.Duration
	}{
		{"kill -9 of the leader", time.Second, func(t *testing.T, f *fleet, old, survivor *vessel) time.Duration {
			began := time.Now()
			old.send(t, syscall.SIGKILL)
			took := survivor.firstWrite(t, began)
			old.exit(t)
			old.start(t)
			return took
		}},
		{"stop of the leader", time.Second, func(t *testing.T, f *fleet, old, survivor *vessel) time.Duration {
			began := time.Now()
			old.send(t, syscall.SIGSTOP)
			took := survivor.firstWrite(t, began)
			old.send(t, syscall.SIGCONT)
			return took
		}},
		{"graceful leave of the leader", 300 * time.Millisecond, leaveLeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := startFleet(t, 3, 0, "")
			m := times{name: c.name, goal: c.goal}
			for round := range *failoverRounds {
				old := f.leader(t)
				survivor := f.followers(old)[round%2]
				for _, v := range f.servers {
					eventually(t, settleLimit, "every server is connected", func(ctx context.Context) error { return v.put(ctx, "warm") })
				}
				<-time.After(failoverPause)
				m.add(t, c.lose(t, f, old, survivor))
				f.awaitWhole(t)
			}
			m.report(t)
		})
	}
}

// firstWrite is the time until the agent acknowledges a write.
func (v *vessel) firstWrite(t *testing.T, began time.Time) time.Duration {
	t.Helper()
	eventually(t, recoverLimit, "a write is taken again", func(ctx context.Context) error { return v.put(ctx, "first") })
	return time.Since(began)
}

// leaveLeader makes the leader leave, and returns the longest time between two
// writes that were acknowledged one after the other: until it hands over, writes
// go on.
func leaveLeader(t *testing.T, _ *fleet, old, survivor *vessel) time.Duration {
	ctx, cancel := context.WithTimeout(t.Context(), recoverLimit)
	defer cancel()
	gaps := make(chan time.Duration, 1)
	gone := make(chan struct{})
	go func() {
		longest, last := time.Duration(0), time.Now()
		for after := 0; after < 20 && ctx.Err() == nil; {
			if survivor.put(ctx, "meanwhile") == nil {
				longest, last = max(longest, time.Since(last)), time.Now()
				select {
				case <-gone:
					after++
				default:
				}
			}
		}
		gaps <- longest
	}()
	began := time.Now()
	if err := old.client.Agent().Leave(); err != nil {
		t.Error(err)
	}
	t.Logf("the leave was answered after %s", time.Since(began).Round(time.Millisecond))
	old.exit(t)
	close(gone)
	longest := <-gaps
	old.start(t)
	return longest
}

// How soon a client agent that is lost is critical in the catalog, failed in the
// list of members, and out of DNS.
func TestFailoverOfClient(t *testing.T) {
	if *failoverRounds == 0 {
		t.Skip("it measures: give -failover")
	}
	f := startFleet(t, 3, failoverPool-3, "")
	for _, v := range f.clients {
		v.offer(t)
	}
	server := f.servers[0]
	lost := func(name string, goal time.Duration, status gossip.Status, lose, back func(v *vessel)) {
		t.Run(name, func(t *testing.T) {
			whole := times{name: name, goal: goal}
			for round := range *failoverRounds {
				v := f.clients[round%len(f.clients)]
				server.awaitOffered(t, v)
				<-time.After(failoverPause)
				began := time.Now()
				lose(v)
				var took [3]time.Duration
				eventually(t, recoverLimit, v.name+" is missed", func(ctx context.Context) error {
					for i, seen := range server.misses(ctx, v, status) {
						if seen && took[i] == 0 {
							took[i] = time.Since(began)
						}
					}
					if slices.Min(took[:]) == 0 {
						return fmt.Errorf("catalog, members and DNS say so after %v", took)
					}
					return nil
				})
				t.Logf("catalog %s, members %s, DNS %s", took[0].Round(time.Millisecond), took[1].Round(time.Millisecond), took[2].Round(time.Millisecond))
				whole.add(t, slices.Max(took[:]))
				back(v)
			}
			whole.report(t)
			f.awaitWhole(t)
		})
	}
	again := func(v *vessel) { v.start(t); v.offer(t) }
	lost("kill -9 of a client agent", 1500*time.Millisecond, gossip.Failed,
		func(v *vessel) { v.signal(t, syscall.SIGKILL) }, again)
	lost("graceful leave of a client agent", 500*time.Millisecond, gossip.Left,
		func(v *vessel) {
			go func() { _ = v.client.Agent().Leave() }() // what comes of it is looked at
		},
		func(v *vessel) { v.exit(t); again(v) })
	lost("a silent host in a pool of ten", 6500*time.Millisecond, gossip.Failed,
		func(v *vessel) { v.send(t, syscall.SIGSTOP) }, func(v *vessel) { v.send(t, syscall.SIGCONT) })
	t.Run("restart within a second", func(t *testing.T) { restartSoon(t, f) })
}

// restartSoon kills and starts client agents within a second each, and wants none
// of them to be critical at any time.
func restartSoon(t *testing.T, f *fleet) {
	server := f.servers[0]
	var longest time.Duration
	for round := range *failoverRounds {
		v := f.clients[round%len(f.clients)]
		server.awaitOffered(t, v)
		ctx, cancel := context.WithCancel(t.Context())
		bad := make(chan string, 1)
		go func() {
			defer close(bad)
			for ctx.Err() == nil {
				checks, _, err := server.client.Health().Node(v.name, (&api.QueryOptions{}).WithContext(ctx))
				for _, c := range checks {
					if err == nil && c.CheckID == "serfHealth" && c.Status != api.HealthPassing {
						bad <- c.Status + ": " + c.Output
						return
					}
				}
				<-time.After(lookOften)
			}
		}()
		began := time.Now()
		v.signal(t, syscall.SIGKILL)
		<-time.After(time.Duration(round%len(f.clients)) * 100 * time.Millisecond)
		v.start(t)
		eventually(t, settleLimit, v.name+" answers again", func(ctx context.Context) error {
			_, err := v.self(ctx)
			return err
		})
		took := time.Since(began)
		longest = max(longest, took)
		v.offer(t)
		<-time.After(3 * time.Second) // as long as noticing takes, and again
		cancel()
		if text, was := <-bad; was && took < time.Second {
			t.Errorf("%s was back after %s, and was %s", v.name, took, text)
		} else if was {
			t.Logf("%s was back only after %s, and was %s", v.name, took, text)
		}
	}
	t.Logf("RESULT restart within a second: %d rounds, back after %.3f s at most", *failoverRounds, longest.Seconds())
}

// offer registers a service of the agent's own name.
func (v *vessel) offer(t testing.TB) {
	t.Helper()
	eventually(t, settleLimit, v.name+" takes a registration", func(ctx context.Context) error {
		return v.client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{Name: "at-" + v.name, Port: 80}, api.ServiceRegisterOpts{}.WithContext(ctx))
	})
}

// awaitOffered waits until an agent is alive, passing and in DNS.
func (v *vessel) awaitOffered(t testing.TB, other *vessel) {
	t.Helper()
	eventually(t, recoverLimit, other.name+" is there", func(ctx context.Context) error {
		reply, err := v.lookup(ctx, "at-"+other.name+".service.consul.", dns.TypeSRV)
		if err == nil && len(reply.Answer) == 0 {
			err = errors.New("it is not in DNS")
		}
		if err == nil && slices.Contains(v.misses(ctx, other, gossip.Failed), true) {
			err = errors.New("it is missed")
		}
		return err
	})
}

// misses reports whether an agent is critical in the catalog or out of it, has a
// status in the list of members, and is out of DNS.
func (v *vessel) misses(ctx context.Context, other *vessel, status gossip.Status) []bool {
	out := make([]bool, 3)
	if checks, _, err := v.client.Health().Node(other.name, (&api.QueryOptions{}).WithContext(ctx)); err == nil {
		out[0] = len(checks) == 0
		for _, c := range checks {
			out[0] = out[0] || c.CheckID == "serfHealth" && c.Status == api.HealthCritical
		}
	}
	if members, err := v.client.Agent().Members(false); err == nil {
		for _, m := range members {
			out[1] = out[1] || m.Name == other.name && m.Status == int(status)
		}
	}
	if reply, err := v.lookup(ctx, "at-"+other.name+".service.consul.", dns.TypeSRV); err == nil {
		out[2] = len(reply.Answer) == 0
	}
	return out
}
