package local

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestSyncOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("early"))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		expect(t, "at the start", cat.wrote(), "+node +early")

		began := time.Now()
		add(t, r, web("web-1", ttl("a"), ttl("b")))
		expect(t, "a service with checks", cat.wrote(), "+web-1,a=critical,b=critical")
		if err := r.AddCheck(t.Context(), ttl("disk")); err != nil {
			t.Fatal(err)
		}
		expect(t, "a check of the node", cat.wrote(), "+disk=critical")
		add(t, r, web("web-1", ttl("a")))
		expect(t, "the same again", cat.wrote(), "")
		if err := r.UpdateTTL(t.Context(), "a", health.Passing, "fine"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "a status", cat.wrote(), "+a=passing")
		if err := r.RemoveCheck(t.Context(), "disk"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a check removed", cat.wrote(), "-disk")
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a service removed, its checks with it", cat.wrote(), "-web-1")
		if d := time.Since(began); d != 0 {
			t.Errorf("the changes took %s", d)
		}
	})
}

func TestFullSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()

		for _, c := range []struct {
			about  string
			meddle func()
			want   string
		}{
			{"nothing changed", func() {}, ""},
			{"a service changed", func() { cat.services["web-1"] = &catalog.Service{Node: "one", ID: "web-1", Name: "web", Port: 81} }, "+web-1"},
			{"a check changed", func() { c := *cat.checks["a"]; c.Status = "passing"; cat.checks["a"] = &c }, "+a=critical"},
			{"a service is gone", func() { clear(cat.services); clear(cat.checks) }, "+web-1,a=critical"},
			{"a check is gone", func() { clear(cat.checks) }, "+a=critical"},
			{"a foreign service with a check", func() {
				cat.services["x"] = &catalog.Service{ID: "x"}
				cat.checks["xc"] = &health.Check{ID: "xc", ServiceID: "x"}
			}, "-x"},
			{"a foreign check", func() { cat.checks["y"] = &health.Check{ID: "y"} }, "-y"},
			{"what belongs to the cluster", func() {
				cat.services["consul"] = &catalog.Service{ID: "consul", Name: "consul"}
				cat.checks["serfHealth"] = &health.Check{ID: "serfHealth"}
			}, ""},
			{"the node changed", func() { n := *cat.node; n.Address = "10.9.9.9"; cat.node = &n }, "+node"},
			{"all is gone", func() { cat.node = nil; clear(cat.services); clear(cat.checks) }, "+node +web-1,a=critical"},
		} {
			cat.mu.Lock()
			c.meddle()
			cat.mu.Unlock()
			time.Sleep(2 * FullSyncInterval)
			expect(t, c.about, cat.wrote(), c.want)
		}
	})
}

func TestFullSyncTimes(t *testing.T) {
	for _, c := range []struct {
		members           int
		shortest, longest time.Duration
	}{
		{0, time.Minute, 2 * time.Minute},
		{128, time.Minute, 2 * time.Minute},
		{129, time.Minute, 3 * time.Minute},
		{8192, time.Minute, 8 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat := newFakeCatalog()
			r := open(t, Config{Members: func() int { return c.members }})
			began := time.Now()
			stop := running(r, cat)
			time.Sleep(100 * time.Minute)
			stop()
			if !cat.reads[0].Equal(began) {
				t.Errorf("the first full sync came after %s", cat.reads[0].Sub(began))
			}
			var most time.Duration
			for i := 1; i < len(cat.reads); i++ {
				gap := cat.reads[i].Sub(cat.reads[i-1])
				most = max(most, gap)
				if gap < c.shortest || gap > c.longest {
					t.Errorf("%d members: a full sync after %s, want %s to %s", c.members, gap, c.shortest, c.longest)
				}
			}
			if c.members > 1000 && most < 3*time.Minute {
				t.Errorf("%d members: the longest gap was %s", c.members, most)
			}
		})
	}
}

func TestScale(t *testing.T) {
	for members, want := range map[int]int{0: 1, 1: 1, 128: 1, 129: 2, 256: 2, 257: 3, 512: 3, 513: 4, 8192: 7, math.MaxInt32: 25} {
		if got := scale(members); got != want {
			t.Errorf("scale of %d members is %d, want %d", members, got, want)
		}
	}
}

func TestSyncRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("web-1"))
		cat.down = &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
		stop := running(r, cat)
		defer stop()
		time.Sleep(RetryInterval)
		expect(t, "without a leader", cat.wrote(), "")
		cat.setDown(nil)
		time.Sleep(2 * StartRetryInterval)
		expect(t, "once there is one", cat.wrote(), "+node +web-1")

		cat.setDown(errors.New("connection refused"))
		add(t, r, web("web-2"))
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Errorf("a registration depends on the catalog: %v", err)
		}
		expect(t, "while it is down", ids(r), "web-2")
		synctest.Wait()
		cat.setDown(nil)
		time.Sleep(RetryInterval - time.Second)
		expect(t, "before it is tried again", cat.wrote(), "")
		time.Sleep(RetryInterval + time.Second)
		expect(t, "later", cat.wrote(), "+web-2 -web-1")

		cat.setDown(errors.New("connection refused"))
		add(t, r, web("web-3"))
		cat.setDown(nil)
		r.ServersUp()
		time.Sleep(ServerUpStagger)
		expect(t, "when servers are back", cat.wrote(), "+web-3")
	})
}

// TestStartBacksOff has an agent start whose servers cannot be reached.
func TestStartBacksOff(t *testing.T) {
	for _, c := range []struct {
		err  error
		most int // comparisons in five minutes
	}{{errors.New("connection refused"), 24}, {&mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}, 301}} {
		synctest.Test(t, func(t *testing.T) {
			cat := newFakeCatalog()
			cat.down = c.err
			r := open(t, Config{})
			stop := running(r, cat)
			time.Sleep(5 * time.Minute)
			stop()
			if n := len(cat.reads); n > c.most || n < c.most*2/5 {
				t.Errorf("%v: the catalog was asked %d times, want at most %d", c.err, n, c.most)
			}
			for i := 2; i < len(cat.reads); i++ { // the start itself may ask twice
				if gap := cat.reads[i].Sub(cat.reads[i-1]); gap < StartRetryInterval || gap > 2*RetryInterval {
					t.Errorf("%v: asked again after %s", c.err, gap)
				}
			}
		})
	}
}

// TestRegistrationWaitsLittle has a catalog that does not answer in time.
func TestRegistrationWaitsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.setFault(func(*health.Register) error { time.Sleep(CatalogTimeout); return &mvcc.Error{Code: mvcc.Timeout} })
		began := time.Now()
		add(t, r, web("web-1"))
		if d := time.Since(began); d != SyncWait {
			t.Errorf("it waited %s, want %s", d, SyncWait)
		}
	})
}

func TestRefusedEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log safeLog
		cat := newFakeCatalog()
		r := open(t, Config{Logger: log.logger()})
		cat.fault = func(c *health.Register) error {
			if c.Service != nil && c.Service.ID == "bad" {
				return &mvcc.Error{Code: mvcc.Invalid, Text: "no"}
			}
			for _, check := range c.Checks {
				if check.ID == "bad" {
					return &mvcc.Error{Code: mvcc.Invalid, Text: "no"}
				}
			}
			return nil
		}
		add(t, r, web("bad"))
		add(t, r, web("good"))
		for _, id := range []string{"a", "bad", "c"} {
			if err := r.AddCheck(t.Context(), ttl(id)); err != nil {
				t.Fatal(err)
			}
		}
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		expect(t, "the others are written", cat.wrote(), "+node +good +a=critical +c=critical")
		r.wakeSyncer()
		synctest.Wait()
		expect(t, "it is not offered again at once", cat.wrote(), "")
		time.Sleep(2 * FullSyncInterval)
		if text := log.take(); strings.Contains(text, logTakenAway) {
			t.Errorf("what the catalog never took is missed: %s", text)
		}
		cat.setFault(nil)
		time.Sleep(2 * FullSyncInterval)
		expect(t, "it is offered at the next full sync", cat.wrote(), "+bad +bad=critical")
	})
}

func TestManyChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		var checks []check.Definition
		for i := range 150 {
			checks = append(checks, ttl(fmt.Sprintf("c%03d", i)))
		}
		add(t, r, web("web-1", checks...))
		cat.setFault(func(c *health.Register) error {
			if len(c.Checks) > MaxChecksPerCall {
				t.Errorf("a call had %d checks", len(c.Checks))
			}
			return nil
		})
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		_, written := cat.rows()
		if calls := len(strings.Fields(cat.wrote())); written != 150 || calls != 4 {
			t.Errorf("%d checks were written in %d calls", written, calls)
		}
	})
}

func TestTagOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		reg := web("web-1", ttl("a"))
		reg.Service.EnableTagOverride = true
		reg.Service.Tags = []string{"mine"}
		add(t, r, reg)
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()

		there := cat.service("web-1")
		there.Tags = []string{"theirs"}
		cat.mu.Lock()
		cat.services["web-1"] = &there
		cat.mu.Unlock()
		time.Sleep(2 * FullSyncInterval)
		expect(t, "tags of the catalog", fmt.Sprint(r.Services()[0].Tags, cat.wrote()), "[theirs]")

		add(t, r, reg)
		expect(t, "registered again", fmt.Sprint(r.Services()[0].Tags), "[theirs]")
		reg.Service.Port = 81
		add(t, r, reg)
		expect(t, "other fields still flow", fmt.Sprint(cat.service("web-1").Tags, cat.service("web-1").Port), "[theirs] 81")
		time.Sleep(10 * FullSyncInterval)
		cat.wrote()
		time.Sleep(10 * FullSyncInterval)
		expect(t, "it comes to rest", cat.wrote(), "")
	})
}

func TestOutputWaits(t *testing.T) {
	const interval = 5 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{CheckUpdateInterval: interval})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		say := func(status health.Status, output string) {
			t.Helper()
			if err := r.UpdateTTL(t.Context(), "a", status, output); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		there := func() string { return cat.output("a") }
		synctest.Wait()
		say("passing", "one")
		expect(t, "a status takes its output along", there(), "one")
		began := time.Now()
		say("passing", "two")
		expect(t, "the agent shows it at once", r.Checks()[0].Output, "two")
		expect(t, "the catalog does not", there(), "one")
		time.Sleep(interval/2 - time.Second)
		say("passing", "three")
		expect(t, "full syncs do not bring it", there(), "one")
		for there() == "one" {
			time.Sleep(time.Second)
		}
		expect(t, "the last one comes", there(), "three")
		if d := time.Since(began); d < interval/2 || d > interval*3/2+time.Second {
			t.Errorf("it came after %s", d)
		}
		say("passing", "four")
		say("warning", "five")
		expect(t, "a status does not wait", there(), "five")
		cat.wrote()
		time.Sleep(3 * interval)
		expect(t, "nothing is left to write", cat.wrote(), "")
	})
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		for _, output := range []string{"one", "two"} {
			if err := r.UpdateTTL(t.Context(), "a", "passing", output); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			expect(t, "without an interval", cat.output("a"), output)
		}
	})
}

func TestDiscardOutput(t *testing.T) {
	r := open(t, Config{DiscardCheckOutput: true})
	add(t, r, web("web-1", ttl("a")))
	if err := r.UpdateTTL(t.Context(), "a", "passing", "secret"); err != nil {
		t.Fatal(err)
	}
	expect(t, "output", r.Checks()[0].Output, "")
	expect(t, "state", states(r), "a=passing")
}

func TestSweep(t *testing.T) {
	for _, c := range []struct {
		about string
		after time.Duration
		gone  time.Duration // zero is never
	}{
		{"never", 0, 0},
		{"after two minutes", 2 * time.Minute, 2 * time.Minute},
		{"raised to a minute", time.Second, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat := newFakeCatalog()
			r := open(t, Config{DataDir: t.TempDir()})
			d := ttl("a")
			d.DeregisterCriticalServiceAfter = c.after
			add(t, r, web("web-1", d, ttl("b")))
			stop := running(r, cat)
			defer stop()
			synctest.Wait()
			if err := r.UpdateTTL(t.Context(), "a", "passing", ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Minute + time.Second)
			expect(t, c.about+", while it passes", ids(r), "web-1")
			if err := r.UpdateTTL(t.Context(), "a", "critical", ""); err != nil {
				t.Fatal(err)
			}
			if c.gone == 0 {
				time.Sleep(30 * time.Minute)
				expect(t, c.about, ids(r), "web-1")
				return
			}
			time.Sleep(c.gone - time.Second)
			expect(t, c.about+", too early", ids(r), "web-1")
			time.Sleep(SweepInterval + 2*time.Second)
			expect(t, c.about, ids(r)+states(r), "")
			if services, checks := cat.rows(); services+checks != 0 {
				t.Errorf("%s: the catalog has %d services, %d checks", c.about, services, checks)
			}
			expect(t, c.about+", files", files(t, r.cfg.DataDir), "")
		})
	}
}

func TestExpiryReachesCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{})
		add(t, r, web("web-1", check.Definition{TTL: time.Minute, Status: "passing"}))
		stop := running(r, cat)
		defer stop()
		time.Sleep(61 * time.Second)
		expect(t, "expired", cat.output("service:web-1"), "TTL expired")
		stop()
		if err := r.AddCheck(t.Context(), ttl("late")); err != nil {
			t.Fatal(err)
		}
	})
}
