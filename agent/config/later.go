package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// later checks the values of keys that have no effect yet, so that a file that
// is right today still is on the day when they get one.
func (r *resolver) later() {
	r.recursors()
	if ip := r.address("serf_wan"); r.text("serf_wan") == "" {
		r.wan = r.out.BindAddr
	} else {
		r.wan = ip
	}
	r.networks("serf_wan_allowed_cidrs")
	for i, text := range r.list("auto_config.server_addresses") {
		r.filled(r.in["auto_config.server_addresses"].element(i), "auto_config.server_addresses", text)
	}
	for i, text := range r.list("primary_gateways") {
		r.filled(r.in["primary_gateways"].element(i), "primary_gateways", text)
	}
	for _, name := range []string{"https", "grpc", "grpc_tls"} {
		for _, word := range r.expanded("addresses." + name) {
			if !strings.HasPrefix(word, unixScheme) {
				r.ip("addresses."+name, word)
			}
		}
	}
	if r.given("rpc.enable_streaming") && !r.out.Server {
		r.note("rpc.enable_streaming", " has no effect: it is for servers")
	}
	if r.yes("ui_config.enabled") && r.text("ui_config.dir") != "" {
		r.fail("ui_config.dir", " and ui_config.enabled = true exclude each other")
	}
	if path := r.text("ui_config.content_path"); path != "" && (!strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/")) {
		r.fail("ui_config.content_path", " must begin and end with a slash, but is %q", shorten(path))
	}
	for _, path := range []string{"cache.entry_fetch_rate", "limits.rpc_rate", "limits.request_limits.read_rate", "limits.request_limits.write_rate"} {
		if _, ok := r.in[path]; ok && value[float64](r, path) == 0 {
			r.fail(path, " must not be 0: nothing would ever be asked for")
		}
	}
	if _, ok := r.in["cache.entry_fetch_max_burst"]; ok && r.number("cache.entry_fetch_max_burst") <= 0 {
		r.fail("cache.entry_fetch_max_burst", " must be at least 1, but is %d", r.number("cache.entry_fetch_max_burst"))
	}
	for _, s := range value[[]record](r, "watches") {
		r.watch(s)
	}
}

// recursors checks the addresses of other DNS servers.
func (r *resolver) recursors() {
	const path = "recursors"
	for i, text := range r.list(path) {
		pos := r.in[path].element(i)
		for _, word := range r.filled(pos, path, text) {
			if _, err := netip.ParseAddrPort(word); err == nil {
				continue
			}
			if _, err := netip.ParseAddr(strings.Trim(word, "[]")); err != nil {
				r.errs.add(pos, "%s must be IP addresses with or without a port, but one is %q", path, shorten(word))
			}
		}
	}
}

// watchParameters are the parameters of each type of watch, and whether it
// cannot do without.
var watchParameters = map[string]map[string]bool{
	"key":       {"key": true, "stale": false},
	"keyprefix": {"prefix": true, "stale": false},
	"services":  {"stale": false, "filter": false},
	"nodes":     {"stale": false, "filter": false},
	"service":   {"service": true, "tag": false, "passingonly": false, "stale": false, "filter": false},
	"checks":    {"service": false, "state": false, "stale": false, "filter": false},
	"event":     {"name": false},
}

// watchKeys are the keys that every watch may have.
var watchKeys = []string{"type", "args", "handler", "handler_type", "datacenter", "token"}

// watch checks the record of a watch.
func (r *resolver) watch(s record) {
	const of = "watches."
	kind := get[string](s, of+"type")
	if kind == "" {
		r.errs.add(s.pos, "watch without type")
		return
	}
	parameters := watchParameters[kind]
	for _, path := range slices.Sorted(maps.Keys(s.values)) {
		name := strings.TrimPrefix(path, of)
		_, known := parameters[name]
		if !known && !slices.Contains(watchKeys, name) && !strings.HasPrefix(name, "http_handler_config.") {
			r.errs.add(s.values[path].pos, "watch of type %s: it has no %s", kind, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if parameters[name] && get[string](s, of+name) == "" {
			r.errs.add(s.pos, "watch of type %s: %s must be set", kind, name)
		}
	}
	if get[string](s, of+"service") != "" && get[string](s, of+"state") != "" {
		r.errs.add(s.pos, "watch of type checks: service and state exclude each other")
	}
	for _, key := range []struct {
		name  string
		fault func(*node) string
	}{{"args", argsFault}, {"tag", textsFault}} {
		if n := get[*node](s, of+key.name); n != nil {
			if text := key.fault(n); text != "" {
				r.errs.add(n.pos, "watch of type %s: %s %s", kind, key.name, text)
			}
		}
	}
	r.handler(s, kind)
}

// handler checks that a watch has one handler.
func (r *resolver) handler(s record, kind string) {
	const config = "watches.http_handler_config"
	args, old := get[*node](s, "watches.args") != nil, get[string](s, "watches.handler") != ""
	http := get[string](s, "watches.handler_type") == "http"
	if old {
		r.warn(s.values["watches.handler"].pos, "watches.handler is an old name: use watches.args")
	}
	switch {
	case http && (args || old):
		r.errs.add(s.pos, "watch of type %s: handler_type = \"http\" excludes args and handler", kind)
	case http && get[string](s, config+".path") == "":
		r.errs.add(s.pos, "watch of type %s: handler_type = \"http\" needs http_handler_config.path", kind)
	case args && old:
		r.errs.add(s.pos, "watch of type %s: args and handler exclude each other", kind)
	case !http && !args && !old:
		r.errs.add(s.pos, "watch of type %s: it has no args, so nothing would be run", kind)
	}
}

// argsFault says what is wrong with the words of a command, or nothing.
func argsFault(n *node) string {
	if text := textsFault(n); text != "" {
		return text
	}
	if n.inert() {
		return "must not be empty"
	}
	return ""
}

// textsFault says what is wrong with a text or a list of texts, or nothing.
func textsFault(n *node) string {
	if n.kind == stringNode {
		return ""
	}
	if n.kind != listNode {
		return fmt.Sprintf("must be a list of texts, not %v", n.kind)
	}
	for _, e := range n.list {
		if e.kind != stringNode {
			return fmt.Sprintf("must be a list of texts, not of %v", e.kind)
		}
	}
	return ""
}
