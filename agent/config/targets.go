package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health/check"
)

// What is checked here is accepted by Consul and by the agent, because it may come
// true later, or on another machine. But a check whose every run must fail is hardly
// what its author meant, so each fault is a warning.

// target warns of what a check asks if it can never be asked.
func (r *resolver) target(s record, d *check.Definition) {
	name := shorten(d.ID)
	hopeless := func(key, format string, args ...any) {
		r.warn(s.at(key), "check %q: %s: every run will fail", name, key+fmt.Sprintf(format, args...))
	}
	switch d.Kind() {
	case check.HTTP:
		if fault := urlFault(d.HTTP); fault != "" {
			hopeless("check.http", " %s", fault)
		}
		if d.Method != "" && !httpguts.ValidHeaderFieldName(d.Method) {
			hopeless("check.method", " = %q is no method of HTTP", shorten(d.Method))
		}
		for _, header := range slices.Sorted(maps.Keys(d.Header)) {
			values := d.Header[header]
			if !httpguts.ValidHeaderFieldName(header) {
				hopeless("check.header", ": %q is no name of a header", shorten(header))
			} else if slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
				hopeless("check.header", ".%s: a value has characters that a header cannot have", shorten(header))
			}
		}
	case check.TCP, check.UDP, check.H2Ping:
		address := map[string]string{check.TCP: d.TCP, check.UDP: d.UDP, check.H2Ping: d.H2PING}[d.Kind()]
		if fault := hostPortFault(address); fault != "" {
			hopeless("check."+d.Kind(), " = %q %s", shorten(address), fault)
		}
	case check.GRPC:
		address, _, _ := strings.Cut(d.GRPC, "/")
		if strings.Contains(d.GRPC, "://") {
			address = d.GRPC
		}
		if fault := hostPortFault(address); fault != "" {
			hopeless("check.grpc", " = %q %s", shorten(d.GRPC), fault)
		}
	case check.Script:
		if _, err := exec.LookPath(d.ScriptArgs[0]); err != nil && !errors.Is(err, exec.ErrDot) {
			hopeless("check.args", "[0] = %q is no program that this machine can run (%s)", shorten(d.ScriptArgs[0]), cause(err))
		}
	case check.Alias:
		if d.AliasNode == "" {
			r.aliases = append(r.aliases, alias{s.at("check.alias_service"), name, d.ServiceID, d.AliasService})
		}
	}
}

// cause is an error without what was looked for, which the caller says.
func cause(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		return inner.Error()
	}
	return err.Error()
}

// urlFault says why no HTTP check can ask for a URL, or nothing. It shows no URL
// that may hold a password.
func urlFault(text string) string {
	lower := strings.ToLower(text)
	if !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") {
		switch {
		case strings.Contains(text, "@"):
			return "must begin with http:// or https://"
		case strings.Contains(text, "://"):
			return fmt.Sprintf("must begin with http:// or https://, but is %q", shorten(text))
		}
		return fmt.Sprintf("must begin with http:// or https://, as in %q, but is %q", "http://"+shorten(text), shorten(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		return "is no URL: " + cause(err)
	}
	if u.Hostname() == "" {
		return fmt.Sprintf("names no host in %q", shorten(u.Redacted()))
	}
	if port := u.Port(); port != "" && !isPort(port) {
		return fmt.Sprintf("has the port %q, which is not from 1 to %d", shorten(port), MaxPort)
	}
	return ""
}

// hostPortFault says why nothing can be dialled at an address, or nothing.
func hostPortFault(address string) string {
	if _, after, ok := strings.Cut(address, "://"); ok {
		return fmt.Sprintf("must be a host and a port without a scheme, as in %q", shorten(after))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if _, err := netip.ParseAddr(address); err == nil || !strings.ContainsAny(address, ":[]") {
			return fmt.Sprintf("has no port: write a host and a port, as in %q", net.JoinHostPort(shorten(address), "8080"))
		}
		return `must be a host and a port, as in "127.0.0.1:8080" or "[::1]:8080"`
	}
	if strings.ContainsAny(host, "/ ,") {
		return fmt.Sprintf("has the host %q, which is neither an IP address nor a name", shorten(host))
	}
	if _, err := strconv.Atoi(port); err != nil {
		// Services of the system have names, "http" for one.
		if _, err := net.LookupPort("tcp", port); err == nil && port != "" {
			return ""
		}
	}
	if !isPort(port) {
		return fmt.Sprintf("has the port %q, which is not from 1 to %d", shorten(port), MaxPort)
	}
	return ""
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= MaxPort
}

// alias is a check that mirrors a service of this agent.
type alias struct {
	pos           Pos
	check         string
	owner, target string
}

// mirrors warns of alias checks of services that no file defines, and of those that
// wait for themselves.
func (r *resolver) mirrors(services map[string]int) {
	follows := map[string][]string{}
	for _, a := range r.aliases {
		if a.owner != a.target {
			follows[a.owner] = append(follows[a.owner], a.target)
		}
	}
	for _, a := range r.aliases {
		switch _, known := services[a.target]; {
		case a.owner != "" && a.owner == a.target:
			r.warn(a.pos, "check %q: check.alias_service = %q is the service that the check belongs to, so it says nothing of its own", a.check, shorten(a.target))
		case a.owner != "" && reaches(follows, a.target, a.owner):
			r.warn(a.pos, "check %q: check.alias_service = %q waits in turn for service %q, so that both stay as they begin", a.check, shorten(a.target), shorten(a.owner))
		case !known:
			r.warn(a.pos, "check %q: no service of this configuration has the ID %q, so the check is critical until a client registers one%s", a.check, shorten(a.target), r.named(a.target))
		}
	}
}

// reaches reports whether following aliases leads from one service to another.
func reaches(follows map[string][]string, from, to string) bool {
	seen := map[string]bool{}
	for next := []string{from}; len(next) > 0; {
		id := next[0]
		next = next[1:]
		if id == to {
			return true
		}
		if !seen[id] {
			seen[id] = true
			next = append(next, follows[id]...)
		}
	}
	return false
}

// named says which IDs services of a name have, if there are any.
func (r *resolver) named(name string) string {
	for _, reg := range r.out.Services {
		if reg.Service.Name == name {
			return fmt.Sprintf(" (the service named %q has the ID %q)", shorten(name), shorten(reg.Service.ID))
		}
	}
	return ""
}

// reachable warns of addresses of a service that nobody can connect to.
func (r *resolver) reachable(s record, service *catalog.Service) {
	if fault := hostFault(service.Address); service.Address != "" && fault != "" {
		r.warn(s.at("service.address"), "service %q: service.address = %q %s", shorten(service.Name), shorten(service.Address), fault)
	}
	for _, key := range slices.Sorted(maps.Keys(service.TaggedAddresses)) {
		at := service.TaggedAddresses[key]
		if fault := hostFault(at.Address); at.Address != "" && at.Address != service.Address && fault != "" {
			r.warn(s.at("service.tagged_addresses"), "service %q: service.tagged_addresses.%s.address = %q %s", shorten(service.Name), shorten(key), shorten(at.Address), fault)
		}
	}
}

// hostFault says why a text is no address of a machine, or nothing.
func hostFault(text string) string {
	if _, err := netip.ParseAddr(text); err == nil {
		return ""
	}
	if _, after, ok := strings.Cut(text, "://"); ok {
		return fmt.Sprintf("must be an IP address or a name without a scheme, as in %q", shorten(after))
	}
	if host, port, err := net.SplitHostPort(text); err == nil {
		return fmt.Sprintf("must not have a port: write %q, and the port %s in the key port", shorten(host), shorten(port))
	}
	name := strings.TrimSuffix(text, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits := strings.Trim(last, "0123456789") == ""
	if digits || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return "is neither an IP address nor a name that DNS can have"
	}
	return ""
}
