package main

import (
	"os"
	"testing"
)

// With auto_reload_config a file counts soon after it was changed, and the
// command tells what else did.
func TestE2EAutoReload(t *testing.T) {
	t.Parallel()
	const auto = "auto_reload_config = true\n"
	s := newSettings(t, auto)
	p := startServer(t, s)
	s.extra = auto + `service { name = "web" port = 80 }`
	s.write(t)
	p.expectPorts(t, "web.service.consul.", 80)

	s.extra = auto + `nonsense = 1`
	s.write(t)
	p.muster(t, "reload").check(t, expectation{err: "nonsense", code: 1})
	p.expectPorts(t, "web.service.consul.", 80)

	if err := os.Remove(s.file()); err != nil {
		t.Fatal(err)
	}
	s.extra = auto + "service { name = \"web\" port = 81 }\ndomain = \"example\""
	s.write(t)
	p.expectPorts(t, "web.service.consul.", 81)
	p.muster(t, "reload").check(t, expectation{out: "Configuration reload triggered\nNeeds a restart: domain: from \"consul.\" to \"example\"\n"})
}
