package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestInstanceState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{CheckUpdateInterval: 5 * time.Minute})
		defer running(r, cat)()
		began := time.Now()
		up := ttl("up")
		up.Status, up.DeregisterCriticalServiceAfter = health.Warning, time.Hour
		add(t, r, web("web-1", up))
		add(t, r, web("web-2", ttl("other")))
		if err := r.AddCheck(t.Context(), check.Definition{ID: "a-disk", Name: "disk", TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if err := r.SetNodeMaintenance(t.Context(), true, "new disk"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, ok := r.InstanceState("none"); ok {
			t.Error("an instance that nobody registered is known")
		}
		state, ok := r.InstanceState("web-1")
		if !ok || state.Service.ID != "web-1" || state.FromFile || !state.Synced || state.Refused {
			t.Errorf("got %+v, %v", state, ok)
		}
		var ids []string
		for _, c := range state.Checks {
			ids = append(ids, c.Check.ID)
		}
		expect(t, "checks", strings.Join(ids, " "), "_node_maintenance a-disk up")
		expect(t, "maintenance", state.Checks[0].Check.Notes, "new disk")
		c := state.Checks[2]
		if c.Definition.Status != health.Warning || !c.LastRun.IsZero() || !c.NextRun.Equal(began.Add(time.Hour)) || !c.OutputDue.IsZero() || c.Flaps != 0 || !c.Since.Equal(began) {
			t.Errorf("before the first update: %+v", c)
		}

		time.Sleep(time.Minute)
		update := func(status health.Status, output string) {
			t.Helper()
			if err := r.UpdateTTL(t.Context(), "up", status, output); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		update(health.Passing, "200")
		update(health.Critical, "500")
		turned := time.Now()
		time.Sleep(time.Second)
		update(health.Critical, "501")
		state, _ = r.InstanceState("web-1")
		c = state.Checks[2]
		if c.Flaps != 2 || !c.Since.Equal(turned) || !c.RemoveAt.Equal(turned.Add(time.Hour)) || !c.LastRun.Equal(time.Now()) {
			t.Errorf("after three updates: %+v", c)
		}
		if wait := time.Until(c.OutputDue); c.Check.Output != "501" || wait <= 0 || wait > 8*time.Minute || cat.output("up") != "500" {
			t.Errorf("an output that waits: %q, due in %s; the catalog has %q", c.Check.Output, wait, cat.output("up"))
		}
	})
}

// Whoever holds one lock while a check runs must not wait for the other.
func TestInstanceStateWhileChecksTurn(t *testing.T) {
	r := open(t, Config{})
	defer running(r, newFakeCatalog())()
	add(t, r, web("web-1", ttl("up")))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			status := []health.Status{health.Passing, health.Critical}[i%2]
			if err := r.UpdateTTL(t.Context(), "up", status, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			if _, ok := r.InstanceState("web-1"); !ok {
				t.Fatal("the instance is not there")
			}
		}
	}
}

// originCatalog notes by whom instances were written.
type originCatalog struct {
	*fakeCatalog
	origins chan string
}

func (c originCatalog) Register(ctx context.Context, dc string, r *health.Register) error {
	err := c.fakeCatalog.Register(ctx, dc, r)
	if r.Service != nil {
		o := mvcc.OriginOf(ctx)
		c.origins <- fmt.Sprintf("+%s %s %s", r.Service.ID, o.Address, o.Endpoint)
	}
	return err
}

func (c originCatalog) Deregister(ctx context.Context, dc string, d *catalog.Deregister) error {
	err := c.fakeCatalog.Deregister(ctx, dc, d)
	o := mvcc.OriginOf(ctx)
	c.origins <- fmt.Sprintf("-%s %s %s", d.ServiceID, o.Address, o.Endpoint)
	return err
}

// wroteOrigins returns a check of what was written since the last one.
func wroteOrigins(t *testing.T, origins <-chan string) func(about, want string) {
	return func(about, want string) {
		t.Helper()
		synctest.Wait()
		var got []string
		for len(origins) > 0 {
			got = append(got, <-origins)
		}
		// What could not be written is tried again.
		expect(t, about, strings.Join(slices.Compact(got), ", "), want)
	}
}

func TestWritesNameWhoAskedForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := originCatalog{newFakeCatalog(), make(chan string, 100)}
		r := open(t, Config{})
		defer running(r, cat)()
		wrote := wroteOrigins(t, cat.origins)
		as := func(caller string) context.Context {
			return mvcc.WithOrigin(t.Context(), mvcc.Origin{Node: "one", Address: caller, Endpoint: "PUT /v1/x"})
		}
		register := func(caller string, port int) {
			t.Helper()
			reg := web("web-1", ttl("up"))
			reg.Service.Port = port
			if err := r.AddService(as(caller), reg, false); err != nil {
				t.Fatal(err)
			}
		}
		wrote("start", "")
		register("a:1", 80)
		wrote("registered", "+web-1 a:1 PUT /v1/x")
		register("b:1", 80)
		wrote("registered again, as it was", "")
		register("b:1", 81)
		wrote("registered anew", "+web-1 b:1 PUT /v1/x")

		// What somebody else removed, this agent writes again by itself.
		cat.mu.Lock()
		delete(cat.services, "web-1")
		cat.mu.Unlock()
		time.Sleep(3 * FullSyncInterval)
		wrote("full sync", "+web-1  anti-entropy")

		cat.setDown(&mvcc.Error{Code: mvcc.NoLeader, Text: "down"})
		register("c:1", 82)
		wrote("while nobody can be reached", "+web-1 c:1 PUT /v1/x")
		cat.setDown(nil)
		time.Sleep(3 * FullSyncInterval)
		wrote("later", "+web-1 c:1 PUT /v1/x")

		if err := r.RemoveService(as("d:1"), "web-1"); err != nil {
			t.Fatal(err)
		}
		wrote("removed", "-web-1 d:1 PUT /v1/x")

		gone := ttl("gone")
		gone.TTL, gone.DeregisterCriticalServiceAfter = time.Second, time.Minute
		add(t, r, web("web-2", gone))
		wrote("registered by the agent", "+web-2  anti-entropy")
		time.Sleep(2 * time.Minute)
		wrote("critical for too long", "-web-2  deregister_critical_service_after")
		if len(r.askers) > 0 {
			t.Errorf("still remembered: %v", r.askers)
		}
	})
}

// checkOrigins notes by whom checks were written that came without their instance.
type checkOrigins struct {
	*fakeCatalog
	origins chan string
}

func (c checkOrigins) Register(ctx context.Context, dc string, r *health.Register) error {
	err := c.fakeCatalog.Register(ctx, dc, r)
	o := mvcc.OriginOf(ctx)
	for _, check := range r.Checks {
		c.origins <- fmt.Sprintf("+%s %s %s %s", check.ID, check.Status, o.Address, o.Endpoint)
	}
	return err
}

func (c checkOrigins) Deregister(ctx context.Context, dc string, d *catalog.Deregister) error {
	err := c.fakeCatalog.Deregister(ctx, dc, d)
	o := mvcc.OriginOf(ctx)
	c.origins <- fmt.Sprintf("-%s %s %s", d.CheckID, o.Address, o.Endpoint)
	return err
}

func TestWritesOfChecksNameWhoAskedForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := checkOrigins{newFakeCatalog(), make(chan string, 100)}
		r := open(t, Config{})
		defer running(r, cat)()
		wrote := wroteOrigins(t, cat.origins)
		as := func(caller, endpoint string) context.Context {
			return mvcc.WithOrigin(t.Context(), mvcc.Origin{Node: "one", Address: caller, Endpoint: endpoint})
		}
		do := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		up := ttl("up")
		do(r.AddService(as("a:1", "PUT /register"), web("web-1", up), false))
		wrote("registered with its instance", "+up critical a:1 PUT /register")

		do(r.SetServiceMaintenance(as("b:1", "PUT /maintenance"), "web-1", true, ""))
		wrote("into maintenance", "+_service_maintenance:web-1 critical b:1 PUT /maintenance")
		do(r.SetServiceMaintenance(as("b:2", "PUT /maintenance"), "web-1", true, ""))
		wrote("as it was", "")
		do(r.SetServiceMaintenance(as("b:3", "PUT /maintenance"), "web-1", false, ""))
		wrote("out of maintenance", "-_service_maintenance:web-1 b:3 PUT /maintenance")
		do(r.SetNodeMaintenance(as("b:4", "PUT /maintenance"), true, ""))
		wrote("the node into maintenance", "+_node_maintenance critical b:4 PUT /maintenance")

		do(r.UpdateTTL(as("c:1", "PUT /pass"), "up", health.Passing, "well"))
		wrote("said to pass", "+up passing c:1 PUT /pass")
		do(r.UpdateTTL(as("c:2", "PUT /pass"), "up", health.Passing, "well"))
		time.Sleep(up.TTL + time.Second)
		wrote("not said any more", "+up critical  anti-entropy")

		disk := check.Definition{ID: "disk", Name: "Disk", TTL: time.Hour}
		do(r.AddCheck(as("d:1", "PUT /check"), disk))
		wrote("a check alone", "+disk critical d:1 PUT /check")
		do(r.AddCheck(as("d:2", "PUT /check"), disk))
		wrote("the same again", "")
		do(r.RemoveCheck(as("d:3", "PUT /uncheck"), "disk"))
		wrote("it goes", "-disk d:3 PUT /uncheck")

		// Two callers while nobody can be reached: each write names its own.
		cat.setDown(&mvcc.Error{Code: mvcc.NoLeader, Text: "down"})
		do(r.UpdateTTL(as("e:1", "PUT /pass"), "up", health.Passing, "well"))
		do(r.SetServiceMaintenance(as("e:2", "PUT /maintenance"), "web-1", true, ""))
		synctest.Wait()
		for len(cat.origins) > 0 {
			<-cat.origins
		}
		cat.setDown(nil)
		time.Sleep(up.TTL / 2)
		wrote("later", "+_service_maintenance:web-1 critical e:2 PUT /maintenance, +up passing e:1 PUT /pass")
		if len(r.askers) > 0 {
			t.Errorf("still remembered: %v", r.askers)
		}
	})
}
