package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/muster-sd/muster/kv/mvcc"
)

// nodeMaintenance takes the agent's node out of service, or puts it back.
func nodeMaintenance(c *call) (any, error) {
	on, err := c.enable()
	if err != nil {
		return nil, err
	}
	return done(c.h.Local.SetNodeMaintenance(c.r.Context(), on, c.value("reason")))
}

// serviceMaintenance does the same for one instance.
func serviceMaintenance(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest("Missing service ID")
	}
	on, err := c.enable()
	if err != nil {
		return nil, err
	}
	return done(c.h.Local.SetServiceMaintenance(c.r.Context(), c.rest, on, c.value("reason")))
}

// enable reads whether something is to be switched on or off.
func (c *call) enable() (bool, error) {
	if !c.has("enable") {
		return false, badRequest("Missing value for enable")
	}
	on, err := strconv.ParseBool(c.value("enable"))
	if err != nil {
		return false, badRequest("Invalid value for enable: %q", c.value("enable"))
	}
	return on, nil
}

// ReloadHeader is the header that tells what a reload led to, as JSON in ASCII.
// The body is empty, as clients know it.
const ReloadHeader = "X-Muster-Reload"

// reload reads the configuration again. Whatever is wrong with it, clients know
// as a 500.
func reload(c *call) (any, error) {
	report, err := c.h.Agent.Reload(c.r.Context())
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "%v", err)
	}
	c.w.Header().Set(ReloadHeader, report.header())
	return empty{}, nil
}

// header is the report as it stands in a header. Changes are left out, the last
// ones first, until it is short enough.
func (r ReloadReport) header() string {
	for {
		encoded, err := json.Marshal(r)
		if err != nil {
			return "{}" // texts cannot fail
		}
		text := inASCII(string(encoded))
		switch {
		case len(text) <= maxReloadHeader:
			return text
		case len(r.Applied) > 0 && len(r.Applied) >= len(r.Restart):
			r.Applied = r.Applied[:len(r.Applied)-1]
		case len(r.Restart) > 0:
			r.Restart = r.Restart[:len(r.Restart)-1]
		}
		r.More++
	}
}

// inASCII writes what is not ASCII in JSON the other way that JSON has (RFC 8259
// §7).
func inASCII(encoded string) string {
	var b strings.Builder
	for _, char := range encoded {
		if char < utf8.RuneSelf && char != 0x7f {
			b.WriteByte(byte(char))
			continue
		}
		for _, unit := range utf16.Encode([]rune{char}) {
			fmt.Fprintf(&b, "\\u%04x", unit)
		}
	}
	return b.String()
}

// leave begins to take the agent out of the cluster. The answer goes out while
// it does so.
func leave(c *call) (any, error) {
	c.h.Agent.Leave()
	return empty{}, nil
}

// join makes the agent a member of the pool that an address belongs to. Whatever
// hinders it, clients know as a 500.
func join(c *call) (any, error) {
	if err := c.h.Agent.Join(c.r.Context(), c.rest, c.value("wan") != ""); err != nil {
		return nil, refuse(http.StatusInternalServerError, "%v", err)
	}
	return empty{}, nil
}

// forceLeave makes a member that failed one that left. That there is none of that
// name, clients know as a 500.
func forceLeave(c *call) (any, error) {
	err := c.h.Agent.ForceLeave(c.r.Context(), c.rest, c.has("wan"), c.has("prune"))
	if mvcc.CodeOf(err) == mvcc.Unknown {
		return nil, refuse(http.StatusInternalServerError, "agent: No node found with name '%s'", c.rest)
	}
	return done(err)
}

// agentHost describes the machine that the agent runs on.
func agentHost(c *call) (any, error) { return c.h.Agent.Host(), nil }

// agentMetrics shows what was measured in the last whole interval.
func agentMetrics(c *call) (any, error) {
	if c.wantsPrometheus() {
		c.w.Header().Set("X-Consul-Reason", "Prometheus is not enabled: this version of Muster shows metrics as JSON")
		return empty{}, nil
	}
	return c.h.Telemetry.Metrics(), nil
}

// wantsPrometheus reports whether the request asks for the text format of
// Prometheus, in one of the ways that its scrapers do.
func (c *call) wantsPrometheus() bool {
	if c.value("format") == "prometheus" {
		return true
	}
	accept := strings.Join(c.r.Header["Accept"], ",")
	return strings.Contains(accept, "application/openmetrics-text") ||
		strings.Contains(strings.ReplaceAll(accept, " ", ""), "text/plain;version=0.4.0")
}

// agentMetricsStream shows what was measured in each interval as it ends, until
// the client goes.
func agentMetricsStream(c *call) (any, error) {
	ctx, cancel := c.untilDrained()
	defer cancel()
	out := c.stream("application/json")
	defer out.close()
	c.h.Telemetry.FollowMetrics(ctx, func(m Metrics) error { return out.object(m) })
	return streamed{}, nil
}
