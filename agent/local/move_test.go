package local

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// lose takes away all that the catalog has, as if it were that of a new cluster.
func (f *fakeCatalog) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.node = nil
	clear(f.services)
	clear(f.checks)
}

// An agent that comes to another cluster writes all that it has there at once, and
// says nothing of others who took it away.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log safeLog
		var home atomic.Value
		home.Store("a")
		cat := newFakeCatalog()
		r := open(t, Config{
			Logger: log.logger(), Members: func() int { return 3 }, Cluster: func() string { return home.Load().(string) },
			CheckUpdateInterval: 5 * time.Minute,
		})
		add(t, r, web("web-1", ttl("a")))
		add(t, r, web("web-2"))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		expect(t, "at the start", cat.wrote(), "+node +web-1,a=critical +web-2")

		cat.lose()
		home.Store("b")
		r.Moved()
		r.ServersUp() // which does not put it off
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		expect(t, "in a new cluster", cat.wrote(), "+node +web-1,a=critical +web-2")
		expect(t, "said", log.take(), "")

		// Its servers are gone, and others answer before anybody knows whose they are.
		cat.lose()
		home.Store("")
		if err := r.UpdateTTL(t.Context(), "a", health.Passing, "fine"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "between two clusters", cat.wrote(), "")
		if text := log.take(); !strings.Contains(text, errBetween.Error()) || strings.Contains(text, logTakenAway) {
			t.Errorf("it said %q", text)
		}
		home.Store("c")
		if err := r.UpdateTTL(t.Context(), "a", health.Warning, "so so"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "a change before it is told", cat.wrote(), "+node +web-1,a=warning +web-2")
		r.Moved()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		expect(t, "once it is told", cat.wrote()+log.take(), "")

		// The new cluster has no leader yet.
		cat.lose()
		cat.setDown(&mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"})
		home.Store("d")
		r.Moved()
		time.Sleep(10 * time.Second)
		cat.setDown(nil)
		time.Sleep(2 * StartRetryInterval)
		expect(t, "once there is a leader", cat.wrote(), "+node +web-1,a=warning +web-2")
	})
}

// Thousands of agents that move do not come all at once, but no later than when
// their servers are back.
func TestHerdMoves(t *testing.T) {
	const members, agents = 8192, 200
	synctest.Test(t, func(t *testing.T) {
		early, late := 0, 0
		limit := min(members*MoveStagger, time.Duration(scale(members))*ServerUpStagger)
		for range agents {
			r := open(t, Config{Members: func() int { return members }})
			switch d := r.spreadMove(); {
			case d >= limit:
				t.Errorf("it waits %s, and may wait %s", d, limit)
			case d < limit/2:
				early++
			default:
				late++
			}
		}
		if early < agents/5 || late < agents/5 {
			t.Errorf("%d come in the first half of the time, %d in the second", early, late)
		}
	})
}

// A catalog that lost an instance refuses what its checks say: then all is compared,
// but not over and over.
func TestRefusedCheckOfLostInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("web-1", ttl("a")))
		add(t, r, web("web-2"))
		stop := running(r, cat)
		defer stop()
		time.Sleep(RetryInterval)
		cat.wrote()
		cat.lose()
		if err := r.UpdateTTL(t.Context(), "a", health.Passing, "fine"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if got := cat.wrote(); !strings.HasSuffix(got, "+web-1,a=passing +web-2") {
			t.Errorf("the catalog was written %q", got)
		}

		cat.setFault(func(c *health.Register) error {
			for _, check := range c.Checks {
				if check.ID == "a" {
					return &mvcc.Error{Code: mvcc.Invalid, Text: "no"}
				}
			}
			return nil
		})
		before := len(cat.reads)
		const flaps = 60
		for i := range flaps {
			if err := r.UpdateTTL(t.Context(), "a", []health.Status{health.Warning, health.Passing}[i%2], ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(cat.reads) - before; n > int(flaps*time.Second/RetryInterval)+1 || n < 2 {
			t.Errorf("a check that is refused each second has the catalog read %d times a minute", n)
		}
	})
}

// What is asked for soon is not put off by what is asked for later.
func TestServersUpPutsNothingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members = 1 << 14
		longest := time.Duration(1+scale(members)) * StartRetryInterval
		for range 20 {
			cat := newFakeCatalog()
			cat.down = errors.New("connection refused")
			r := open(t, Config{Members: func() int { return members }})
			stop := running(r, cat)
			synctest.Wait()
			for began := time.Now(); len(cat.reads) < 2 && time.Since(began) <= longest; {
				r.ServersUp()
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			if len(cat.reads) < 2 {
				t.Errorf("what was due within %s was put off", longest)
			}
			stop()
		}
	})
}

// An agent whose catalog was replaced writes what is missing there soon, and however
// often it is told so, it does not compare all the time.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{Members: func() int { return 3 }, CheckUpdateInterval: 5 * time.Minute})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		expect(t, "at the start", cat.wrote(), "+node +web-1,a=critical")
		for range 3 {
			cat.lose()
			r.Replaced()
			time.Sleep(ReplacedInterval + 3*MoveStagger)
			synctest.Wait()
			expect(t, "when it was replaced", cat.wrote(), "+node +web-1,a=critical")
		}
		// At once after a comparison it waits, and several times are one.
		cat.lose()
		for range 10 {
			r.Replaced()
			synctest.Wait()
		}
		time.Sleep(ReplacedInterval / 2)
		synctest.Wait()
		expect(t, "too soon", cat.wrote(), "")
		time.Sleep(ReplacedInterval)
		synctest.Wait()
		expect(t, "then", cat.wrote(), "+node +web-1,a=critical")
	})
}
