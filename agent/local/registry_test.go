package local

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestRefusals(t *testing.T) {
	r := open(t, Config{})
	add(t, r, web("web-1", check.Definition{HTTP: "http://a", Interval: time.Hour}))
	ctx := t.Context()
	script := check.Definition{Name: "c", ScriptArgs: []string{"true"}, Interval: time.Second}
	const noService = `Unknown service ID "x". Ensure that the service ID is passed, not the service name.`
	const noCheck = `Unknown check ID "x". Ensure that the check ID is passed, not the check name.`
	const noScripts = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
	for _, c := range []struct {
		about string
		err   error
		code  mvcc.Code
		text  string
	}{
		{"service without a name", r.AddService(ctx, check.Registration{}, false), mvcc.Invalid, "Missing service name"},
		{"the servers' service", r.AddService(ctx, check.Registration{Service: catalog.Service{Name: "consul"}}, false), mvcc.Invalid,
			`Invalid service ID "consul": it is reserved for the servers of the cluster`},
		{"service with a bad check", r.AddService(ctx, web("w", check.Definition{}), false), mvcc.Invalid, "Invalid check: TTL must be > 0 for TTL checks"},
		{"service with a script", r.AddService(ctx, web("w", script), false), mvcc.Internal, noScripts},
		{"service on a port that is none", r.AddService(ctx, check.Registration{Service: catalog.Service{Name: "w", Port: 65536}}, false), mvcc.Invalid,
			"Invalid service: port 65536 is not between 0 and 65535"},
		{"the node's maintenance", r.AddCheck(ctx, ttl("_node_maintenance")), mvcc.Invalid,
			`Invalid check ID "_node_maintenance": it is reserved for maintenance mode, use PUT /v1/agent/maintenance`},
		{"a service's maintenance", r.AddService(ctx, web("w", ttl("_service_maintenance:w")), false), mvcc.Invalid,
			`Invalid check ID "_service_maintenance:w": it is reserved for maintenance mode, use PUT /v1/agent/service/maintenance/`},
		{"unknown service", r.RemoveService(ctx, "x"), mvcc.Unknown, noService},
		{"check without a name", r.AddCheck(ctx, check.Definition{TTL: 1}), mvcc.Invalid, "Missing check name"},
		{"gossip's check", r.AddCheck(ctx, ttl("serfHealth")), mvcc.Invalid, `Invalid check ID "serfHealth": it is reserved for the cluster`},
		{"check with a bad status", r.AddCheck(ctx, check.Definition{Name: "c", TTL: 1, Status: "x"}), mvcc.Invalid, "Bad check status"},
		{"check of an unknown service", r.AddCheck(ctx, check.Definition{Name: "c", TTL: 1, ServiceID: "none"}), mvcc.Unknown, `ServiceID "none" does not exist`},
		{"script", r.AddCheck(ctx, script), mvcc.Internal, noScripts},
		{"unknown check", r.RemoveCheck(ctx, "x"), mvcc.Unknown, noCheck},
		{"update of an unknown check", r.UpdateTTL(ctx, "x", "passing", ""), mvcc.Unknown, noCheck},
		{"update of another kind", r.UpdateTTL(ctx, "service:web-1", "passing", ""), mvcc.Internal, `CheckID "service:web-1" does not have associated TTL`},
		{"update to no status", r.UpdateTTL(ctx, "service:web-1", "splendid", ""), mvcc.Invalid, "Invalid check status: 'splendid'"},
	} {
		if c.err == nil || c.err.Error() != c.text || mvcc.CodeOf(c.err) != c.code {
			t.Errorf("%s: got code %d, %q, want code %d, %q", c.about, mvcc.CodeOf(c.err), c.err, c.code, c.text)
		}
	}
	expect(t, "nothing changed", ids(r)+" "+states(r), "web-1 service:web-1=critical")
}

func TestRegisterAgain(t *testing.T) {
	r := open(t, Config{})
	reg := web("web-1", ttl("a"), ttl("b"))
	reg.Service.Tags = []string{"old"}
	add(t, r, reg)
	extra := ttl("extra")
	extra.ServiceID = "web-1"
	if err := r.AddCheck(t.Context(), extra); err != nil {
		t.Fatal(err)
	}
	if err := r.UpdateTTL(t.Context(), "a", "passing", "fine"); err != nil {
		t.Fatal(err)
	}
	add(t, r, web("web-1", ttl("a")))
	expect(t, "omitted checks stay", states(r), "a=passing b=critical extra=critical")
	expect(t, "the output stays", r.Checks()[0].Output, "fine")
	for _, c := range r.Checks() {
		if len(c.ServiceTags) != 0 || c.ServiceName != "web" {
			t.Errorf("check %s is of service %s with tags %v", c.ID, c.ServiceName, c.ServiceTags)
		}
	}
	if err := r.AddService(t.Context(), web("web-1", ttl("b"), ttl("b")), true); err != nil {
		t.Fatal(err)
	}
	expect(t, "replaced", states(r), "b=critical")
	if err := r.AddService(t.Context(), web("web-1"), true); err != nil {
		t.Fatal(err)
	}
	expect(t, "replaced by none", states(r), "")
}

func TestShapes(t *testing.T) {
	r := open(t, Config{})
	if err := r.Load([]check.Registration{web("web-1", check.Definition{ID: "in", TTL: time.Minute})},
		[]check.Definition{{ID: "mem", Name: "memory", Notes: "by hand", TTL: time.Minute, Status: "warning"}, {ID: "nameless", TTL: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	if err := r.AddCheck(t.Context(), check.Definition{Name: "api", HTTP: "http://a", Interval: time.Second, Timeout: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range r.Checks() {
		got = append(got, fmt.Sprintf("%s name=%s type=%s interval=%s timeout=%s status=%s service=%s node=%s tags=%v",
			c.ID, c.Name, c.Type, c.Interval, c.Timeout, c.Status, c.ServiceName, c.Node, c.ServiceTags))
	}
	expect(t, "checks", strings.Join(got, "\n"), strings.Join([]string{
		"api name=api type=http interval=1s timeout=200ms status=critical service= node=one tags=[]",
		"in name=Service 'web' check type=ttl interval= timeout= status=critical service=web node=one tags=[]",
		"mem name=memory type= interval=0s timeout=0s status=warning service= node=one tags=[]",
		"nameless name=nameless type= interval=0s timeout=0s status=critical service= node=one tags=[]",
	}, "\n"))
	expect(t, "stats", fmt.Sprint(r.Stats()), "map[check_monitors:1 check_ttls:3 checks:4 services:1]")
}

func TestLoadFaults(t *testing.T) {
	script := check.Definition{ID: "s", ScriptArgs: []string{"true"}, Interval: time.Second}
	for _, c := range []struct {
		about    string
		services []check.Registration
		checks   []check.Definition
		text     string
	}{
		{"service without a name", []check.Registration{{Service: catalog.Service{ID: "x"}}}, nil, `service "x" in the configuration: Missing service name`},
		{"bad check of a service", []check.Registration{web("x", check.Definition{})}, nil, `service "x" in the configuration: Invalid check: TTL must be > 0 for TTL checks`},
		{"bad check", nil, []check.Definition{{ID: "c"}}, `check "c" in the configuration: Invalid check: TTL must be > 0 for TTL checks`},
		{"check without a name", nil, []check.Definition{{TTL: 1}}, `check "" in the configuration: Missing check name`},
		{"unknown service", nil, []check.Definition{{ID: "c", TTL: 1, ServiceID: "none"}}, `check "c" in the configuration: ServiceID "none" does not exist`},
		{"script", nil, []check.Definition{script}, `check "s" in the configuration: Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true`},
	} {
		r := open(t, Config{})
		add(t, r, web("here"))
		err := r.Load(c.services, c.checks)
		if err == nil || err.Error() != c.text {
			t.Errorf("%s: got %v, want %q", c.about, err, c.text)
		}
		expect(t, c.about+" changes nothing", ids(r)+states(r), "here")
	}
	r := open(t, Config{EnableLocalScripts: true})
	if err := r.Load(nil, []check.Definition{script}); err != nil || states(r) != "s=critical" {
		t.Errorf("a script that is allowed in files: %v, %q", err, states(r))
	}
	api := check.Definition{Name: "from a client", ScriptArgs: []string{"true"}, Interval: time.Second}
	if err := r.AddCheck(t.Context(), api); err == nil || !strings.HasPrefix(err.Error(), "Scripts are disabled on this agent from remote calls") {
		t.Errorf("a script of a client where only files may have them: %v", err)
	}
	if err := open(t, Config{EnableScriptChecks: true}).AddCheck(t.Context(), api); err != nil {
		t.Errorf("a script of a client that is allowed: %v", err)
	}
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		cat := newFakeCatalog()
		r := open(t, Config{DataDir: folder})
		load := func(services []check.Registration, checks ...check.Definition) {
			t.Helper()
			if err := r.Load(services, checks); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		stop := running(r, cat)
		defer stop()
		load([]check.Registration{web("alpha", ttl("alpha-c")), web("beta", ttl("beta-c"))}, ttl("mem"))
		add(t, r, web("gamma", ttl("gamma-c")))
		for _, id := range []string{"alpha-c", "gamma-c", "mem"} {
			if err := r.UpdateTTL(t.Context(), id, "passing", "ok"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		cat.wrote()

		alpha := web("alpha", ttl("alpha-c"))
		alpha.Service.Port = 11
		load([]check.Registration{alpha, web("delta")}, ttl("mem"))
		expect(t, "services", ids(r), "alpha delta gamma")
		expect(t, "checks", states(r), "alpha-c=passing gamma-c=passing mem=passing")
		expect(t, "the catalog", cat.wrote(), "+alpha +delta -beta")

		if err := r.RemoveService(t.Context(), "alpha"); err != nil {
			t.Fatal(err)
		}
		load([]check.Registration{alpha, web("delta")})
		expect(t, "what was taken out comes back, mem goes", ids(r)+" "+states(r), "alpha delta gamma alpha-c=critical gamma-c=passing")

		time.Sleep(59 * time.Minute)
		load([]check.Registration{alpha})
		time.Sleep(2 * time.Minute)
		expect(t, "a reload does not prolong a TTL", states(r), "alpha-c=critical gamma-c=critical")

		load([]check.Registration{web("gamma", ttl("gamma-f"))})
		expect(t, "the configuration wins", ids(r)+" "+states(r), "gamma gamma-c=critical gamma-f=critical")
		var log strings.Builder
		again := reopen(t, folder, &log)
		expect(t, "the file of the client is gone, with it the check", ids(again)+states(again), "")
	})
}

func TestConfigurationWins(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	add(t, r, web("web-1", ttl("a")))
	add(t, r, web("web-2"))
	if err := r.AddCheck(t.Context(), ttl("mem")); err != nil {
		t.Fatal(err)
	}
	again, err := New(Config{Node: testNode, DataDir: folder, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	mine := web("web-1", ttl("a"))
	mine.Service.Port = 99
	mem := ttl("mem")
	mem.Name = "from a file"
	if err := again.Load([]check.Registration{mine}, []check.Definition{mem}); err != nil {
		t.Fatal(err)
	}
	expect(t, "services", ids(again)+fmt.Sprint(again.Services()[0].Port), "web-1 web-299")
	expect(t, "check", again.Checks()[1].Name, "from a file")
	expect(t, "files", fmt.Sprint(len(strings.Fields(files(t, folder)))), "1")
}

func TestScriptsNoLongerAllowed(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	var e edit
	d := check.Definition{ID: "s", Name: "s", ScriptArgs: []string{"true"}, Interval: time.Minute}
	if err := r.store.put(&e, checksFolder, "s", newCheckRecord(&health.Check{ID: "s", Name: "s"}, &d)); err != nil {
		t.Fatal(err)
	}
	if err := r.store.apply(&e); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	expect(t, "checks", states(reopen(t, folder, &log)), "")
	expect(t, "files", files(t, folder), "")
	if !strings.Contains(log.String(), "Scripts are disabled") {
		t.Errorf("the log is %q", log.String())
	}
}

func TestLimits(t *testing.T) {
	r := open(t, Config{})
	reg := web("large")
	reg.Service.Tags = []string{strings.Repeat("x", MaxFileSize)}
	withDisk := open(t, Config{DataDir: t.TempDir()})
	if err := withDisk.AddService(t.Context(), reg, false); mvcc.CodeOf(err) != mvcc.TooLarge {
		t.Errorf("a large definition: %v", err)
	}
	for i := range MaxServices {
		r.services[fmt.Sprint(i)] = &service{row: &catalog.Service{ID: fmt.Sprint(i)}}
	}
	if err := r.AddService(t.Context(), web("one-more"), false); mvcc.CodeOf(err) != mvcc.TooLarge ||
		err.Error() != "10001 services are more than the 10000 that one agent may have" {
		t.Errorf("too many services: %v", err)
	}
	add(t, r, web("5"))
}

// TestProbes runs real checks through the registry and looks whether frequent
// registrations disturb them.
func TestProbes(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	cat := newFakeCatalog()
	r := open(t, Config{})
	stop := running(r, cat)
	defer stop()
	reg := web("web-1", check.Definition{HTTP: server.URL, Interval: time.Second})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); asked.Load() == 0; <-tick.C {
		add(t, r, reg)
		if time.Since(begin) > 20*time.Second {
			t.Fatal("registering again and again keeps the check from being run")
		}
	}
	for states(r) != "service:web-1=passing" || !strings.Contains(cat.output("service:web-1"), "200 OK") {
		<-tick.C
	}
	if err := r.RemoveService(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	stop()
	if r.running || len(r.checks) != 0 {
		t.Error("the registry did not come to rest")
	}
}

// TestAtOnce has many clients change the same few things. It means something
// under the race detector.
func TestAtOnce(t *testing.T) {
	cat := newFakeCatalog()
	r := open(t, Config{DataDir: t.TempDir(), CheckUpdateInterval: time.Millisecond})
	stop := running(r, cat)
	var clients sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for the catalog
	for client := range 8 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(client), 0))
			for range 60 {
				id := fmt.Sprint("s", random.IntN(3))
				switch random.IntN(8) {
				case 0, 1:
					r.AddService(ctx, web(id, ttl("c-"+id)), random.IntN(2) == 0)
				case 2:
					r.RemoveService(ctx, id)
				case 3:
					d := ttl("n-" + id)
					d.ServiceID = id
					r.AddCheck(ctx, d)
				case 4:
					r.RemoveCheck(ctx, "n-"+id)
				case 5, 6:
					r.UpdateTTL(ctx, "c-"+id, []health.Status{"passing", "warning", "critical"}[random.IntN(3)], fmt.Sprint(random.IntN(9)))
				case 7:
					r.Services()
					r.Checks()
					r.Stats()
					r.ServersUp()
				}
			}
		})
	}
	clients.Wait()
	stop()
	if err := r.fullSync(t.Context(), cat); err != nil {
		t.Fatal(err)
	}
	services, checks := cat.rows()
	if services != len(r.services) || checks != len(r.checks) {
		t.Errorf("the catalog has %d services, %d checks, the registry %d, %d", services, checks, len(r.services), len(r.checks))
	}
	for _, c := range r.Checks() {
		expect(t, "output of "+c.ID, cat.output(c.ID), c.Output)
	}
	again := open(t, Config{DataDir: r.cfg.DataDir})
	expect(t, "services on disk", ids(again), ids(r))
	expect(t, "checks on disk", fmt.Sprint(len(again.Checks())), fmt.Sprint(len(r.Checks())))
}

func BenchmarkAddService(b *testing.B) {
	for _, folder := range []string{"", b.TempDir()} {
		b.Run(fmt.Sprintf("disk=%v", folder != ""), func(b *testing.B) {
			r := open(b, Config{DataDir: folder})
			reg := web("web-1", ttl("a"))
			for b.Loop() {
				add(b, r, reg)
			}
		})
	}
}

func BenchmarkUpdateTTL(b *testing.B) {
	for _, folder := range []string{"", b.TempDir()} {
		b.Run(fmt.Sprintf("disk=%v", folder != ""), func(b *testing.B) {
			r := open(b, Config{DataDir: folder, CheckUpdateInterval: time.Hour})
			add(b, r, web("web-1", ttl("a")))
			for i := 0; b.Loop(); i++ {
				if err := r.UpdateTTL(b.Context(), "a", "passing", fmt.Sprint(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
