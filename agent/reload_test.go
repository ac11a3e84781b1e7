package agent_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/config"
)

// Each part that can refuse does so when those before it have taken their new
// settings over already.
func TestReloadOfWhatCannotBeAcceptedChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, c *config.Config, folder string)
		want  string
	}{
		{"DNS", func(_ *testing.T, c *config.Config, _ string) { c.DNS.UDPAnswerLimit = -1 }, "udp_answer_limit"},
		{"Raft", func(_ *testing.T, c *config.Config, _ string) { c.RaftSnapshotInterval = time.Nanosecond }, "SnapshotInterval"},
		{"a definition", func(_ *testing.T, c *config.Config, _ string) { c.Checks[len(c.Checks)-1].ServiceID = "nobody" }, "nobody"},
		{"the disk", func(t *testing.T, _ *config.Config, folder string) {
			// What clients registered is put away when a file defines it, and cannot be.
			checks := filepath.Join(folder, "checks")
			if err := errors.Join(os.RemoveAll(checks), os.WriteFile(checks, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "checks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			a := agenttest.Start(t, agenttest.OnDisk(folder), agenttest.HCL(`
				service { name = "old" port = 1 }
				check { id = "gone" name = "gone" ttl = "1h" }`))
			if got := do(t, "PUT", a.URL("/v1/agent/check/pass/gone?note=fine"), ""); got.code != 200 {
				t.Fatal(got)
			}
			level := a.Level()
			cfg, err := a.Load(`service { name = "new" }`, `check { name = "lonely" ttl = "9s" }`, `node_meta { rack = "r2" }`,
				`dns_config { node_ttl = "7s" }`, `log_level = "ERROR"`, `enable_debug = true`, `discard_check_output = true`,
				`limits { http_max_conns_per_client = 1 }`)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Checks = cfg.Checks[1:]
			c.spoil(t, cfg, folder)
			report, err := a.Reload(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v", err)
			}
			if len(report.Applied)+len(report.Restart) > 0 {
				t.Errorf("it reports %+v", report)
			}
			if ttl := lookup(t, a, "n1.node.consul.").Answer[0].Header().Ttl; ttl != 0 {
				t.Errorf("the TTL is %d", ttl)
			}
			if a.Level() != level {
				t.Errorf("the level is %v", a.Level())
			}
			for path, is := range map[string]func(body string) bool{
				"/v1/agent/services": func(body string) bool { return !strings.Contains(body, `"new"`) && strings.Contains(body, `"old"`) },
				"/v1/agent/checks":   func(body string) bool { return !strings.Contains(body, `"lonely"`) && strings.Contains(body, `"fine"`) },
				"/v1/agent/self":     func(body string) bool { return !strings.Contains(body, `"r2"`) },
			} {
				if got := do(t, "GET", a.URL(path), ""); !is(got.body) {
					t.Errorf("%s: %s", path, got.body)
				}
			}
			if got := do(t, "GET", a.URL("/debug/pprof/cmdline"), ""); got.code != 404 {
				t.Errorf("debugging: %d", got.code)
			}

			// What was refused does not count as running either: only what changes from
			// here is reported.
			cfg, err = a.Load()
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "the disk" {
				return
			}
			if report, err := a.Reload(cfg); err != nil || len(report.Applied)+len(report.Restart) > 0 {
				t.Errorf("the same again: %+v, %v", report, err)
			}
		})
	}
}

// What a check said last stands while others come and go.
func TestReloadKeepsWhatChecksSaid(t *testing.T) {
	a := agenttest.Start(t, agenttest.HCL(`check { id = "said" name = "said" ttl = "1h" }`))
	if got := do(t, "PUT", a.URL("/v1/agent/check/warn/said?note=as+it+was"), ""); got.code != 200 {
		t.Fatal(got)
	}
	for _, fragment := range []string{`check { id = "more" name = "more" ttl = "9s" }`, ``} {
		cfg, err := a.Load(fragment)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		body := do(t, "GET", a.URL("/v1/agent/checks"), "").body
		if !strings.Contains(body, `"as it was"`) || !strings.Contains(body, `"warning"`) || strings.Contains(body, `"more"`) != (fragment != "") {
			t.Errorf("the checks are %s", body)
		}
	}
}

func TestReloadOfLimitsAndSwitches(t *testing.T) {
	a := agenttest.Start(t, agenttest.HCL("enable_debug = false\ncheck { id = \"c\" name = \"c\" ttl = \"1h\" }"))
	reload := func(fragments ...string) []config.Change {
		t.Helper()
		cfg, err := a.Load(fragments...)
		if err != nil {
			t.Fatal(err)
		}
		report, err := a.Reload(cfg)
		if err != nil || len(report.Restart) > 0 {
			t.Fatalf("%+v, %v", report, err)
		}
		return report.Applied
	}
	output := func() string {
		t.Helper()
		if got := do(t, "PUT", a.URL("/v1/agent/check/fail/c?note=said+"+time.Now().Format("150405.000000000")), ""); got.code != 200 {
			t.Fatal(got)
		}
		return do(t, "GET", a.URL("/v1/agent/checks"), "").body
	}
	profile := func() int { return do(t, "GET", a.URL("/debug/pprof/cmdline"), "").code }
	if !strings.Contains(output(), `"said `) || profile() != 404 {
		t.Fatal("output is not kept, or debugging is on")
	}
	applied := reload(`enable_debug = true`, `discard_check_output = true`, `raft_snapshot_threshold = 77`, `raft_trailing_logs = 7`,
		`raft_snapshot_interval = "1h"`, `limits { http_max_conns_per_client = 1, rpc_max_conns_per_client = 7 }`)
	if len(applied) != 7 {
		t.Errorf("applied were %v", applied)
	}
	if body := output(); strings.Contains(body, "said") {
		t.Errorf("output is kept: %s", body)
	}
	if profile() != 200 {
		t.Error("debugging is off")
	}
	// The client of this test keeps one connection, which is as many as may be.
	other := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if r, err := other.Get(a.URL("/v1/agent/self")); err != nil || r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second connection: %v, %v", r, err)
	}
	if applied := reload(); len(applied) != 7 {
		t.Errorf("back again were %v", applied)
	}
	if !strings.Contains(output(), `"said `) || profile() != 404 {
		t.Error("output is not kept, or debugging is on")
	}
	if r, err := other.Get(a.URL("/v1/agent/self")); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("a second connection: %v, %v", r, err)
	} else {
		_ = r.Body.Close()
	}
}

// What is as it was is not written to the catalog again.
func TestReloadWithoutChangesSyncsNothing(t *testing.T) {
	log := new(buffer)
	a := agenttest.Start(t, agenttest.Log(log), agenttest.HCL(`
		node_meta { rack = "r1" }
		service { name = "old" port = 1 }`))
	// A service that comes later is synced after all that waited before it.
	syncs := func(service string) int {
		t.Helper()
		if got := do(t, "PUT", a.URL("/v1/agent/service/register"), `{"Name": "`+service+`"}`); got.code != 200 {
			t.Fatal(got)
		}
		eventually(t, a, "/v1/catalog/services", func(got answer) bool { return strings.Contains(got.body, `"`+service+`"`) })
		return strings.Count(log.String(), "Synced node info") + strings.Count(log.String(), "Synced service: service=old")
	}
	before := syncs("first")
	for _, c := range []struct {
		what     string
		fragment string
		more     int
	}{
		{"nothing changed", `node_meta { rack = "r1" }`, 0},
		{"the node changed", `node_meta { rack = "r2" }`, 1},
	} {
		cfg, err := a.Load(c.fragment)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if n := syncs(strings.ReplaceAll(c.what, " ", "-")); n != before+c.more {
			t.Errorf("%s: the log has %d syncs, and had %d:\n%s", c.what, n, before, log)
		}
	}
}
