package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// An instance goes through what keeps people awake, and why says so each time as
// DNS has it.
func TestE2EWhy(t *testing.T) {
	t.Parallel()
	p := startServer(t, newSettings(t, ""))
	name := "web.service.consul."
	why := func(code int, args ...string) string {
		t.Helper()
		got := p.muster(t, append([]string{"why"}, args...)...)
		if got.code != code {
			t.Errorf("why %v exits with %d, want %d:\n%s%s", args, got.code, code, got.out, got.err)
		}
		return got.out + got.err
	}
	says := func(text string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Errorf("no %q in\n%s", line, text)
			}
		}
	}
	says(why(2, "web"), `No instance of the service "web" is known`, "history begins at index ")

	registerInstances(t, p, 8080)
	says(why(1, "web"), "web: its only instance does not answer.\n", "web-8080 on n1 (127.0.0.1:8080) does NOT answer.\n",
		"the application has not reported yet", "by 127.0.0.1:", "(PUT /v1/agent/service/register)")

	passes(t, p, "web-8080", api.HealthPassing)
	p.expectPorts(t, name, 8080)
	says(why(0, "web"), "web: its only instance answers.\n", "check service:web-8080 turned passing, by 127.0.0.1:", "(PUT /v1/agent/check/update/)")
	says(why(0, "-stale", "-node=n1", "web"), "web on n1: its only instance answers.\n")
	says(why(2, "-node=n2", "web"), `web has no instance on the node "n2"`)

	p.muster(t, "maint", "-enable", "-service=web-8080", "-reason=new disk").check(t, expectation{out: "Service maintenance is now enabled for \"web-8080\"\n"})
	p.expectPorts(t, name)
	says(why(1, "web"), "  Notes:       new disk\n", "muster maint -disable -service=web-8080",
		"check _service_maintenance:web-8080 registered critical, by 127.0.0.1:", "(PUT /v1/agent/service/maintenance/)")
	var a struct {
		Instances []struct {
			DNS   struct{ Configured struct{ Checks []string } }
			Local *struct{ Flaps int }
		}
		History struct{ Time *time.Time }
	}
	if err := json.Unmarshal([]byte(why(1, "-format=json", "web")), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Instances) != 1 || !slices.Equal(a.Instances[0].DNS.Configured.Checks, []string{"_service_maintenance:web-8080"}) ||
		a.Instances[0].Local == nil || a.Instances[0].Local.Flaps != 1 {
		t.Errorf("as JSON: %+v", a)
	}

	p.muster(t, "services", "deregister", "-id=web-8080").check(t, expectation{out: "Deregistered service: web-8080\n"})
	p.expectPorts(t, name)
	says(why(1, "web"), "web: no instance is registered any more.\n", "web-8080 on n1 (127.0.0.1:8080): ", "removed, by 127.0.0.1:", "(PUT /v1/agent/service/deregister/)")

	// The servers are a service too.
	says(why(0, "consul"), "consul: its only instance answers.\n")
}
