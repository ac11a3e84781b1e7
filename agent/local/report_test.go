package local

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// safeLog is a log that goroutines may write at once.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns the warnings since it was last called.
func (l *safeLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	l.text.Reset()
	return text
}

func (l *safeLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// TestReports has others write under this agent's node.
func TestReports(t *testing.T) {
	const foreign, kept = `msg="Removing what is not registered at this agent from its node in the catalog" `,
		`msg="The catalog has something under this node that is not registered at this agent" `
	use := func(s string) string { return ` use="` + s + "\"\n" }
	synctest.Test(t, func(t *testing.T) {
		var log safeLog
		cat := newFakeCatalog()
		r := open(t, Config{Logger: log.logger()})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()
		log.take()
		for _, c := range []struct {
			about  string
			meddle func()
			wrote  string
			log    string
		}{
			{"nothing", func() {}, "", ""},
			{"a foreign service with a check", func() {
				cat.services["x"] = &catalog.Service{ID: "x", ModifyIndex: 7}
				cat.checks["xc"] = &health.Check{ID: "xc", ServiceID: "x"}
			}, "-x", foreign + "service=x index=7" + use(useServiceRegister)},
			{"a foreign check", func() { cat.checks["y"] = &health.Check{ID: "y", ModifyIndex: 8} }, "-y",
				foreign + "check=y index=8" + use(useCheckRegister)},
			{"a service changed", func() {
				cat.services["web-1"] = &catalog.Service{Node: "one", ID: "web-1", Name: "web", Port: 81, ModifyIndex: 9}
			}, "+web-1",
				`msg="Others changed an entry of this agent in the catalog, it is written anew" service=web-1 index=9` + use(useServiceRegister)},
			{"a status changed", func() { c := *cat.checks["a"]; c.Status, c.ModifyIndex = "passing", 10; cat.checks["a"] = &c }, "+a=critical",
				`msg="Others changed an entry of this agent in the catalog, it is written anew" check=a index=10` + use(useCheckUpdate)},
			{"a service taken away", func() { clear(cat.services); clear(cat.checks) }, "+web-1,a=critical",
				`msg="Others removed an entry of this agent from the catalog, it is written anew" service=web-1 index=0` + use(useServiceDeregister)},
			{"a check taken away", func() { clear(cat.checks) }, "+a=critical",
				`msg="Others removed an entry of this agent from the catalog, it is written anew" check=a index=0` + use(useCheckDeregister)},
			{"the node taken away", func() { cat.node = nil; clear(cat.services); clear(cat.checks) }, "+node +web-1,a=critical",
				`msg="Others removed an entry of this agent from the catalog, it is written anew" node=one index=0` + use("PUT /v1/agent/leave of this agent")},
		} {
			cat.mu.Lock()
			c.meddle()
			cat.mu.Unlock()
			time.Sleep(2 * FullSyncInterval)
			expect(t, c.about, cat.wrote(), c.wrote)
			got := log.take()
			if c.about == "a service taken away" { // its check went too
				got, _, _ = strings.Cut(got, `msg="Others removed an entry of this agent from the catalog, it is written anew" check=a`)
			}
			expect(t, c.about+", reported", got, c.log)
		}
		cat.mu.Lock()
		cat.services["consul"] = &catalog.Service{ID: "consul"}
		cat.checks["serfHealth"] = &health.Check{ID: "serfHealth"}
		cat.mu.Unlock()
		time.Sleep(2 * FullSyncInterval)
		expect(t, "what belongs to the cluster", cat.wrote()+log.take(), "")
		cat.setDown(fmt.Errorf("connection refused"))
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cat.setDown(nil)
		log.take()
		time.Sleep(3 * FullSyncInterval)
		expect(t, "our own removal", cat.wrote(), "-web-1")
		expect(t, "our own removal, reported", log.take(), "")
	})
	synctest.Test(t, func(t *testing.T) {
		var log safeLog
		cat := newFakeCatalog()
		r := open(t, Config{Logger: log.logger(), KeepForeign: true})
		add(t, r, web("web-1"))
		stop := running(r, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()
		cat.mu.Lock()
		cat.services["x"] = &catalog.Service{ID: "x", ModifyIndex: 7}
		cat.checks["xc"] = &health.Check{ID: "xc", ServiceID: "x", ModifyIndex: 8}
		cat.mu.Unlock()
		time.Sleep(10 * FullSyncInterval)
		expect(t, "kept", cat.wrote(), "")
		expect(t, "kept, reported once", log.take(), kept+"service=x index=7"+use(useServiceRegister)+kept+"check=xc index=8"+use(useCheckRegister))
		if err := r.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "our own goes", cat.wrote(), "-web-1")
		cat.mu.Lock()
		cat.services["x"] = &catalog.Service{ID: "x", ModifyIndex: 11}
		cat.mu.Unlock()
		time.Sleep(2 * FullSyncInterval)
		expect(t, "written again, reported again", log.take(), kept+"service=x index=11"+use(useServiceRegister))
	})
}

// TestDamagedStaysInCatalog has an agent lose files of its definitions: what they
// stand for is not taken from the catalog.
func TestDamagedStaysInCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		cat := newFakeCatalog()
		r := open(t, Config{DataDir: folder})
		add(t, r, web("web-1", ttl("a")))
		add(t, r, web("web-2", ttl("b"), ttl("c")))
		add(t, r, web("web-3"))
		stop := running(r, cat)
		synctest.Wait()
		stop()
		cat.wrote()
		cut(t, r.store.path(servicesFolder, "web-1"), 10)
		cut(t, r.store.path(checksFolder, "b"), 10)

		var log safeLog
		again := open(t, Config{DataDir: folder, Logger: log.logger()})
		expect(t, "what is left", ids(again)+" "+states(again), "web-2 web-3 c=critical")
		stop = running(again, cat)
		defer stop()
		time.Sleep(10 * FullSyncInterval)
		expect(t, "written", cat.wrote(), "")
		if text := log.take(); strings.Count(text, logKeptDamaged) != 3 || !strings.Contains(text, "service=web-1") || !strings.Contains(text, "check=b") {
			t.Errorf("the log is %s", text)
		}
		add(t, again, web("web-1"))
		synctest.Wait()
		expect(t, "registered again", cat.wrote(), "+web-1")
		time.Sleep(2 * FullSyncInterval)
		expect(t, "without its check, which goes", cat.wrote(), "-a")
		if err := again.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "removed", cat.wrote(), "-web-1")
	})
}

// TestRemoveDamaged has a client remove an instance whose file is damaged.
func TestRemoveDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		cat := newFakeCatalog()
		r := open(t, Config{DataDir: folder})
		add(t, r, web("web-1"))
		stop := running(r, cat)
		synctest.Wait()
		stop()
		cut(t, r.store.path(servicesFolder, "web-1"), 10)
		again := open(t, Config{DataDir: folder})
		stop = running(again, cat)
		defer stop()
		synctest.Wait()
		cat.wrote()
		if err := again.RemoveService(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "the catalog", cat.wrote(), "-web-1")
		expect(t, "files", files(t, folder), "")
		if err := again.RemoveService(t.Context(), "web-1"); err == nil {
			t.Error("it could be removed twice")
		}
	})
}

func TestFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turned []string
		r := open(t, Config{CheckTurned: func(now *health.Check, before health.Status) {
			turned = append(turned, fmt.Sprint(now.ID, " ", before, ">", now.Status))
		}})
		begin := time.Now()
		d := ttl("a")
		d.DeregisterCriticalServiceAfter = 2 * time.Minute
		add(t, r, web("web-1", d))
		state, ok := r.CheckState("a")
		if !ok || state.Flaps != 0 || !state.Since.Equal(begin) || !state.RemoveAt.Equal(begin.Add(2*time.Minute)) || state.Check.Status != "critical" {
			t.Errorf("at first: %+v, %v", state, ok)
		}
		for _, status := range []health.Status{"passing", "passing", "warning", "critical", "critical", "passing"} {
			time.Sleep(time.Minute)
			update(t, r, "a", status, "")
		}
		state, _ = r.CheckState("a")
		if state.Flaps != 4 || !state.Since.Equal(begin.Add(6*time.Minute)) || !state.RemoveAt.IsZero() {
			t.Errorf("after some turns: %+v", state)
		}
		expect(t, "told", strings.Join(turned, " "), "a critical>passing a passing>warning a warning>critical a critical>passing")
		add(t, r, web("web-1", d))
		if state, _ = r.CheckState("a"); state.Flaps != 4 {
			t.Errorf("registered again, it has %d flaps", state.Flaps)
		}
		time.Sleep(FlapWindow - 2*time.Minute)
		if state, _ = r.CheckState("a"); state.Flaps != 2 {
			t.Errorf("later: %d flaps", state.Flaps)
		}
		time.Sleep(FlapWindow)
		if state, _ = r.CheckState("a"); state.Flaps != 0 {
			t.Errorf("much later: %d flaps", state.Flaps)
		}
		for i := range 3 * MaxFlaps {
			update(t, r, "a", []health.Status{"warning", "passing"}[i%2], "")
		}
		if state, _ = r.CheckState("a"); state.Flaps != MaxFlaps || len(r.checks["a"].turns) != MaxFlaps {
			t.Errorf("after very many turns: %d flaps", state.Flaps)
		}
		if _, ok := r.CheckState("none"); ok {
			t.Error("a check that is not there has a state")
		}
	})
}

// TestOutputCostsNoWrites has checks say something new at every run.
func TestOutputCostsNoWrites(t *testing.T) {
	const interval, runs = 5 * time.Minute, 1000
	synctest.Test(t, func(t *testing.T) {
		cat := newFakeCatalog()
		r := open(t, Config{CheckUpdateInterval: interval})
		add(t, r, web("web-1", ttl("a")))
		stop := running(r, cat)
		defer stop()
		update(t, r, "a", "passing", "first")
		cat.wrote()
		for i := range runs {
			time.Sleep(interval / 2 / (runs + 1))
			update(t, r, "a", "passing", fmt.Sprint("run ", i))
			if i%100 == 0 { // nor does a client that registers again and again
				add(t, r, web("web-1", ttl("a")))
			}
		}
		expect(t, "1000 runs before the output is due", cat.wrote(), "")
		time.Sleep(2 * interval)
		expect(t, "once it is due", cat.wrote(), "+a=passing")
		expect(t, "the output", cat.output("a"), "run 999")
	})
}

// TestStateIsWrittenWithoutLocks has the state of a TTL check wait for the disk.
func TestStateIsWrittenWithoutLocks(t *testing.T) {
	r := open(t, Config{DataDir: t.TempDir()})
	add(t, r, web("web-1", ttl("a"), ttl("b")))
	lock := r.stateLock("a")
	lock.Lock() // as one does who waits for the disk
	done := make(chan error, 1)
	go func() { done <- r.UpdateTTL(t.Context(), "a", "passing", "one") }()
	for deadline := time.Now().Add(20 * time.Second); said(r, "a") != "passing: one"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the update was not seen")
		}
	}
	add(t, r, web("web-2", ttl("c")))
	if err := r.RemoveService(t.Context(), "web-2"); err != nil && r.stateLock("c") != lock {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Errorf("the update did not wait for its file: %v", err)
	default:
	}
	lock.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestStateOfRemovedCheck has an update and the removal of its check meet.
func TestStateOfRemovedCheck(t *testing.T) {
	folder := t.TempDir()
	r := open(t, Config{DataDir: folder})
	for range 50 {
		add(t, r, web("web-1", ttl("a")))
		var both sync.WaitGroup
		both.Go(func() { r.UpdateTTL(t.Context(), "a", "passing", "late") })
		both.Go(func() { r.RemoveService(t.Context(), "web-1") })
		both.Wait()
		if left := files(t, folder); left != "" {
			t.Fatalf("left behind: %s", left)
		}
	}
}

// TestCheckThatCannotStart shows why a check is not carried out.
func TestCheckThatCannotStart(t *testing.T) {
	t.Setenv("DOCKER_HOST", "npipe:////x")
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{EnableScriptChecks: true})
		stop := running(r, newFakeCatalog())
		defer stop()
		addCheck(t, r, check.Definition{Name: "d", DockerContainerID: "x", ScriptArgs: []string{"true"}, Interval: time.Hour})
		expect(t, "the check", said(r, "d"), `critical: Invalid check: DOCKER_HOST is "npipe:////x", but must begin with unix://, tcp://, http:// or https://`)
	})
}
