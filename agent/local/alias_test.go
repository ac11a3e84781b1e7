package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

// said is a check's status and output.
func said(r *Registry, id string) string {
	for _, c := range r.Checks() {
		if c.ID == id {
			return fmt.Sprintf("%s: %s", c.Status, c.Output)
		}
	}
	return "no such check"
}

func update(t *testing.T, r *Registry, id string, status health.Status, output string) {
	t.Helper()
	if err := r.UpdateTTL(t.Context(), id, status, output); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func addCheck(t *testing.T, r *Registry, d check.Definition) {
	t.Helper()
	if err := r.AddCheck(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestAliasOfLocalService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{})
		stop := running(r, newFakeCatalog())
		defer stop()
		began := time.Now()
		addCheck(t, r, check.Definition{ID: "mirror", Name: "mirror", AliasService: "web-1"})
		expect(t, "before there is a service", said(r, "mirror"), "critical: Service web-1 could not be found on node ")
		add(t, r, web("web-1"))
		synctest.Wait()
		expect(t, "a service without checks", said(r, "mirror"), "passing: No checks found.")
		add(t, r, web("web-1", check.Definition{ID: "a", Name: "A", TTL: time.Hour}))
		synctest.Wait()
		expect(t, "a check that has not run", said(r, "mirror"), `critical: Aliased check "A" failing: `)
		update(t, r, "a", "passing", "")
		expect(t, "it passes", said(r, "mirror"), "passing: All checks passing.")
		update(t, r, "a", "warning", "hm")
		expect(t, "it warns", said(r, "mirror"), `warning: Aliased check "A" failing: hm`)
		update(t, r, "a", "warning", "hm, still")
		expect(t, "another output", said(r, "mirror"), `warning: Aliased check "A" failing: hm, still`)
		add(t, r, web("web-2", check.Definition{ID: "b", Name: "B", TTL: time.Hour}))
		update(t, r, "a", "passing", "")
		expect(t, "another service does not count", said(r, "mirror"), "passing: All checks passing.")
		addCheck(t, r, check.Definition{ID: "disk", Name: "Disk", TTL: time.Hour})
		expect(t, "a check of the node counts", said(r, "mirror"), `critical: Aliased check "Disk" failing: `)
		if err := r.RemoveCheck(t.Context(), "disk"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "the node's check is gone", said(r, "mirror"), "passing: All checks passing.")
		if err := r.SetServiceMaintenance(t.Context(), "web-1", true, "disk swap"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "maintenance", said(r, "mirror"), `critical: Aliased check "Service Maintenance Mode" failing: `)
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "the service is gone", said(r, "mirror"), "critical: Service web-1 could not be found on node ")
		add(t, r, web("web-1", ttl("a")))
		addCheck(t, r, check.Definition{ID: "second", Name: "second", AliasService: "web-2"})
		expect(t, "both mirrors fail", said(r, "second"), `critical: Aliased check "B" failing: `)
		update(t, r, "a", "passing", "")
		update(t, r, "b", "passing", "")
		expect(t, "mirrors do not hold each other", said(r, "mirror")+" "+said(r, "second"), "passing: All checks passing. passing: All checks passing.")
		if took := time.Since(began); took != 0 {
			t.Errorf("to follow took %s", took)
		}
		if len(r.bells) > 3 {
			t.Errorf("%d bells hang for two alias checks", len(r.bells))
		}
	})
}

// blockingCatalog is a catalog with another node, whose reads wait for changes.
type blockingCatalog struct {
	*fakeCatalog
	two     *fakeCatalog
	mu      sync.Mutex
	index   uint64
	changed chan struct{}
	fault   error
	asked   int
}

func newBlockingCatalog() *blockingCatalog {
	return &blockingCatalog{fakeCatalog: newFakeCatalog(), two: newFakeCatalog(), index: 1, changed: make(chan struct{})}
}

// change changes the other node and wakes those who wait.
func (b *blockingCatalog) change(f func()) {
	b.two.mu.Lock()
	f()
	b.two.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.index++
	close(b.changed)
	b.changed = make(chan struct{})
}

// setReadFault has every read of other nodes fail from now on.
func (b *blockingCatalog) setReadFault(err error) {
	b.mu.Lock()
	b.fault = err
	b.mu.Unlock()
	b.change(func() {})
}

func (b *blockingCatalog) wait(ctx context.Context, o mvcc.ReadOptions) (mvcc.Meta, error) {
	b.mu.Lock()
	b.asked++
	index, changed := b.index, b.changed
	b.mu.Unlock()
	if o.Mode != mvcc.Stale || o.MaxStale != check.AliasMaxStale {
		return mvcc.Meta{}, errors.New("not a stale read")
	}
	if o.Index >= index {
		limit := time.NewTimer(o.Wait)
		defer limit.Stop()
		select {
		case <-changed:
		case <-limit.C:
		case <-ctx.Done():
			return mvcc.Meta{}, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return mvcc.Meta{Index: b.index}, b.fault
}

func (b *blockingCatalog) NodeServices(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeServices) (*catalog.NodeDetail, mvcc.Meta, error) {
	if q.Node == testNode.Name {
		return b.fakeCatalog.NodeServices(ctx, o, q)
	}
	meta, err := b.wait(ctx, o)
	if err != nil || q.Node != "two" {
		return nil, meta, err
	}
	b.two.mu.Lock()
	b.two.node = &catalog.Node{Name: "two"}
	b.two.mu.Unlock()
	detail, _, err := b.two.NodeServices(ctx, o, q)
	return detail, meta, err
}

func (b *blockingCatalog) NodeChecks(ctx context.Context, o mvcc.ReadOptions, q *health.NodeChecks) ([]*health.Check, mvcc.Meta, error) {
	if q.Node == testNode.Name {
		return b.fakeCatalog.NodeChecks(ctx, o, q)
	}
	meta, err := b.wait(ctx, o)
	if err != nil || q.Node != "two" {
		return nil, meta, err
	}
	checks, _, err := b.two.NodeChecks(ctx, o, q)
	return checks, meta, err
}

func TestAliasOfOtherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cat := newBlockingCatalog()
		r := open(t, Config{})
		stop := running(r, cat)
		defer stop()
		for _, d := range []check.Definition{
			{ID: "service", Name: "service", AliasNode: "two", AliasService: "db"},
			{ID: "node", Name: "node", AliasNode: "two"},
			{ID: "none", Name: "none", AliasNode: "elsewhere"},
			{ID: "none-service", Name: "none-service", AliasNode: "elsewhere", AliasService: "db"},
		} {
			addCheck(t, r, d)
		}
		row := func(id, service string, status health.Status) *health.Check {
			return &health.Check{Node: "two", ID: id, Name: id, ServiceID: service, Status: status, Output: "says " + id}
		}
		see := func(about, service, node string) {
			t.Helper()
			time.Sleep(2 * AliasPause)
			synctest.Wait()
			expect(t, about+", the service", said(r, "service"), service)
			expect(t, about+", the node", said(r, "node"), node)
		}
		see("nothing there", "critical: Service db could not be found on node two", "critical: Service  could not be found on node two")
		expect(t, "a node that is not there", said(r, "none"), "passing: No checks found.")
		expect(t, "a service there", said(r, "none-service"), "critical: Service db could not be found on node elsewhere")

		cat.change(func() { cat.two.services["db"] = &catalog.Service{Node: "two", ID: "db", Name: "db"} })
		see("a service", "passing: No checks found.", "critical: Service  could not be found on node two")
		cat.change(func() { cat.two.checks["serfHealth"] = row("serfHealth", "", "passing") })
		see("a living node", "passing: All checks passing.", "passing: All checks passing.")
		cat.change(func() { cat.two.checks["c"] = row("c", "db", "warning") })
		see("its check warns", `warning: Aliased check "c" failing: says c`, "passing: All checks passing.")
		cat.change(func() { cat.two.checks["serfHealth"] = row("serfHealth", "", "critical") })
		see("the node fails", `critical: Aliased check "serfHealth" failing: says serfHealth`, `critical: Aliased check "serfHealth" failing: says serfHealth`)
		cat.change(func() {
			delete(cat.two.services, "db")
			delete(cat.two.checks, "c")
			cat.two.checks["serfHealth"] = row("serfHealth", "", "passing")
		})
		see("the service is gone", "critical: Service db could not be found on node two", "passing: All checks passing.")

		cat.mu.Lock()
		cat.asked = 0
		cat.mu.Unlock()
		time.Sleep(10 * time.Minute)
		cat.mu.Lock()
		if cat.asked > 4*2*11 {
			t.Errorf("4 alias checks asked %d times in 10 quiet minutes", cat.asked)
		}
		cat.mu.Unlock()

		cat.setReadFault(errors.New("no route"))
		time.Sleep(10 * time.Second)
		expect(t, "the catalog fails", said(r, "node"),
			`critical: Failure checking the aliased node or service: cannot read the services of node "two": no route`)
		cat.setReadFault(nil)
		time.Sleep(check.AliasMaxRetry)
		expect(t, "the catalog is back", said(r, "node"), "passing: All checks passing.")
	})
}

func TestWatchService(t *testing.T) {
	r := open(t, Config{})
	if row, changed := r.WatchService("web-1"); row != nil || changed != nil {
		t.Error("a service that is not there can be watched")
	}
	rung := func(changed <-chan struct{}) bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	reg := web("web-1", ttl("a"))
	add(t, r, reg)
	row, changed := r.WatchService("web-1")
	if row == nil || row.Port != 80 {
		t.Fatalf("watched %+v", row)
	}
	add(t, r, reg)
	if err := r.UpdateTTL(t.Context(), "a", "passing", ""); err != nil {
		t.Fatal(err)
	}
	if rung(changed) {
		t.Error("the watch ended without a change of the service")
	}
	reg.Service.Port = 81
	add(t, r, reg)
	if !rung(changed) {
		t.Error("another port went unnoticed")
	}
	_, changed = r.WatchService("web-1")
	if err := r.RemoveService(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if !rung(changed) {
		t.Error("that the service went was not noticed")
	}
	if len(r.bells) != 0 {
		t.Errorf("%d bells are left", len(r.bells))
	}
}
