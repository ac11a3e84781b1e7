package check

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestCheckRules(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		about string
		check Definition
		kind  string
		fault string
	}{
		{"ttl", Definition{TTL: second}, TTL, ""},
		{"http", Definition{HTTP: "http://a", Interval: second}, HTTP, ""},
		{"tcp", Definition{TCP: "a:1", Interval: second}, TCP, ""},
		{"udp", Definition{UDP: "a:1", Interval: second}, UDP, ""},
		{"grpc", Definition{GRPC: "a:1", Interval: second}, GRPC, ""},
		{"h2ping", Definition{H2PING: "a:1", Interval: second}, H2Ping, ""},
		{"os service", Definition{OSService: "a", Interval: second}, OSService, ""},
		{"script", Definition{ScriptArgs: []string{"true"}, Interval: second}, Script, ""},
		{"docker", Definition{ScriptArgs: []string{"true"}, DockerContainerID: "x", Interval: second}, Docker, ""},
		{"alias of a service", Definition{AliasService: "x"}, Alias, ""},
		{"alias of a node", Definition{AliasNode: "x"}, Alias, ""},
		{"alias with an interval, which is ignored", Definition{AliasNode: "x", Interval: second}, Alias, ""},
		{"grpc comes before http", Definition{GRPC: "a:1", HTTP: "http://a", Interval: second}, GRPC, ""},
		{"http comes before tcp", Definition{HTTP: "http://a", TCP: "a:1", Interval: second}, HTTP, ""},
		{"warning before critical", Definition{TTL: second, FailuresBeforeWarning: 1, FailuresBeforeCritical: 2}, TTL, ""},

		{"nothing", Definition{}, "", "TTL must be > 0 for TTL checks"},
		{"negative ttl", Definition{TTL: -second}, "", "TTL must be > 0 for TTL checks"},
		{"container without a command", Definition{DockerContainerID: "x", Interval: second}, "", "TTL must be > 0 for TTL checks"},
		{"no interval", Definition{HTTP: "http://a"}, HTTP, "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{"negative interval", Definition{TCP: "a:1", Interval: -1}, TCP, "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{"interval and ttl", Definition{HTTP: "http://a", Interval: second, TTL: second}, HTTP, "Interval and TTL cannot both be specified"},
		{"alias of two kinds", Definition{AliasNode: "x", HTTP: "http://a", Interval: second}, HTTP, "Interval cannot be set for Alias checks"},
		{"alias with ttl", Definition{AliasNode: "x", TTL: second}, TTL, "TTL must be not be set for Alias checks"},
		{"negative output", Definition{TTL: second, OutputMaxSize: -1}, TTL, "MaxOutputMaxSize must be positive"},
		{"warning after critical", Definition{TTL: second, FailuresBeforeWarning: 3, FailuresBeforeCritical: 2}, TTL, "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"},
	} {
		if got := c.check.Kind(); got != c.kind {
			t.Errorf("%s: kind is %q, want %q", c.about, got, c.kind)
		}
		want := c.fault
		if want != "" {
			want = "Invalid check: " + want
		}
		expectFault(t, c.about, c.check.Validate(), mvcc.Invalid, want)
	}
}

func TestRequestRules(t *testing.T) {
	for _, c := range []struct {
		about string
		check Definition
		fault string
	}{
		{"good", Definition{Name: "c", TTL: 1, Status: "warning"}, ""},
		{"no name", Definition{ID: "c", TTL: 1}, "Missing check name"},
		{"unknown status", Definition{Name: "c", TTL: 1, Status: "splendid"}, "Bad check status"},
		{"name that no path can carry", Definition{Name: "c\n", TTL: 1}, `Invalid check: name "c\n", which is the ID too, must have printable characters only`},
		{"such a name with an ID", Definition{Name: "c\n", ID: "c", TTL: 1}, ""},
		{"ID that no path can carry", Definition{Name: "c", ID: "c\x00", TTL: 1}, `Invalid check: ID "c\x00" must have printable characters only`},
		{"name and ID of other letters", Definition{Name: "ü c/1", ID: "é c/1", TTL: 1}, ""},
		{"no kind", Definition{Name: "c"}, "Invalid check: TTL must be > 0 for TTL checks"},
	} {
		expectFault(t, c.about, c.check.ValidateRequest(), mvcc.Invalid, c.fault)
	}
}

func TestRegistrationRules(t *testing.T) {
	tooMuch := map[string]string{}
	for i := range MaxMetaPairs + 1 {
		tooMuch[fmt.Sprint("k", i)] = "v"
	}
	k129, v513 := strings.Repeat("k", 129), strings.Repeat("v", 513)
	web := func(change func(*catalog.Service)) Registration {
		r := Registration{Service: catalog.Service{Name: "web"}}
		change(&r.Service)
		return r
	}
	meta := func(m map[string]string) Registration {
		return web(func(s *catalog.Service) { s.Meta = m })
	}
	weights := func(passing, warning int) Registration {
		return web(func(s *catalog.Service) { s.Weights = catalog.Weights{Passing: passing, Warning: warning} })
	}
	tagged := func(key, address string) Registration {
		return web(func(s *catalog.Service) {
			s.TaggedAddresses = map[string]catalog.ServiceAddress{key: {Address: address}}
		})
	}
	for _, c := range []struct {
		about string
		reg   Registration
		fault string
	}{
		{"only a name", web(func(*catalog.Service) {}), ""},
		{"no name", Registration{}, "Missing service name"},
		{"any address", web(func(s *catalog.Service) { s.Address = "0.0.0.0" }), "Invalid service address"},
		{"any address in IPv6", web(func(s *catalog.Service) { s.Address = "::" }), "Invalid service address"},
		{"host name", web(func(s *catalog.Service) { s.Address = "db.example" }), ""},
		{"name that no path can carry", web(func(s *catalog.Service) { s.Name = "w\n" }), `Invalid service: name "w\n" must have printable characters only`},
		{"ID that no path can carry", web(func(s *catalog.Service) { s.ID = "\u202ew" }), `Invalid service: ID "\u202ew" must have printable characters only`},
		{"name and ID of other letters", web(func(s *catalog.Service) { s.Name, s.ID = "ü w/1", "é #1?" }), ""},
		{"proxy that is nested too deeply", web(func(s *catalog.Service) { s.Proxy = []byte(strings.Repeat("[", 65) + strings.Repeat("]", 65)) }),
			"Invalid service proxy: 65 objects and lists stand in each other, which is more than 64"},
		{"socket and port", web(func(s *catalog.Service) { s.SocketPath = "/s"; s.Port = 1 }), `Invalid service: a socket path ("/s") excludes an address and a port`},
		{"highest port", web(func(s *catalog.Service) { s.Port = 65535 }), ""},
		{"port above all", web(func(s *catalog.Service) { s.Port = 65536 }), "Invalid service: port 65536 is not between 0 and 65535"},
		{"negative port", web(func(s *catalog.Service) { s.Port = -1 }), "Invalid service: port -1 is not between 0 and 65535"},
		{"port of an address above all", web(func(s *catalog.Service) {
			s.TaggedAddresses = map[string]catalog.ServiceAddress{"lan_ipv4": {Address: "10.0.0.1", Port: 70000}}
		}), `Invalid service: port of the tagged address "lan_ipv4": 70000 is not between 0 and 65535`},
		{"zone alone", web(func(s *catalog.Service) { s.Locality = &catalog.Locality{Zone: "z"} }), "Validation failed: 1 error occurred:\n\t* zone cannot be set without region\n\n"},

		{"weights of zero and one", weights(0, 1), "Invalid Weights: Passing must be greater than 0"},
		{"negative weight", weights(-1, 1), "Invalid Weights: Passing must be greater than 0"},
		{"large weight", weights(65536, 1), "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{"negative warning", weights(1, -1), "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{"no weight while warning", weights(1, 0), ""},

		{"largest metadata", meta(map[string]string{k129[1:]: v513[1:]}), ""},
		{"space in a key", meta(map[string]string{"a b": "c"}), "Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters"},
		{"empty key", meta(map[string]string{"": "c"}), "Invalid Service Meta: Couldn't load metadata pair ('', 'c'): Key cannot be blank"},
		{"long key", meta(map[string]string{k129: "v"}), "Invalid Service Meta: Couldn't load metadata pair ('" + k129 + "', 'v'): Key is too long (limit: 128 characters)"},
		{"long value", meta(map[string]string{"k": v513}), "Invalid Service Meta: Couldn't load metadata pair ('k', '" + v513 + "'): Value is too long (limit: 512 characters)"},
		{"reserved key", meta(map[string]string{"consul-x": "v"}), "Invalid Service Meta: Couldn't load metadata pair ('consul-x', 'v'): Key prefix 'consul-' is reserved for internal use"},
		{"too many pairs", meta(tooMuch), "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs"},

		{"IPv4", tagged("lan_ipv4", "10.0.0.1"), ""},
		{"IPv6", tagged("wan_ipv6", "2001:db8::1"), ""},
		{"any other key", tagged("vpn", "host"), ""},

		{"check with an unknown status", Registration{Service: catalog.Service{Name: "x"}, Checks: []Definition{{TTL: 1, Status: "splendid"}}},
			"Status for checks must 'passing', 'warning', 'critical'"},
		{"check without a kind", Registration{Service: catalog.Service{Name: "x"}, Checks: []Definition{{}}},
			"Invalid check: TTL must be > 0 for TTL checks"},
		{"too many checks", Registration{Service: catalog.Service{Name: "x"}, Checks: make([]Definition, 257)},
			"Invalid service: 257 checks are more than the 256 that one service may have"},
	} {
		expectFault(t, c.about, c.reg.Validate(), mvcc.Invalid, c.fault)
		c.reg.Normalize()
		expectFault(t, c.about+", filled in", c.reg.Validate(), mvcc.Invalid, c.fault)
	}
	for key, address := range map[string]string{"lan_ipv4": "2001:db8::1", "wan_ipv6": "10.0.0.1", "wan_ipv4": "host"} {
		r := tagged(key, address)
		if err := r.Validate(); err == nil || mvcc.CodeOf(err) != mvcc.Internal {
			t.Errorf("tagged address %s = %s: got %v", key, address, err)
		}
	}
}

func TestNormalize(t *testing.T) {
	type kept struct{ id, name string }
	for _, c := range []struct {
		about  string
		checks []Definition
		want   []kept
	}{
		{"one check", []Definition{{}}, []kept{{"service:web-1", "Service 'web' check"}}},
		{"every check takes a number, named ones too", []Definition{{}, {}, {ID: "third", Name: "mine"}, {}}, []kept{
			{"service:web-1:1", "Service 'web' check"}, {"service:web-1:2", "Service 'web' check"},
			{"third", "mine"}, {"service:web-1:4", "Service 'web' check"}}},
		{"a name is no ID", []Definition{{Name: "mine"}}, []kept{{"service:web-1", "mine"}}},
	} {
		r := Registration{Service: catalog.Service{ID: "web-1", Name: "web"}, Checks: c.checks}
		r.Normalize()
		for i, d := range r.Checks {
			if got := (kept{d.ID, d.Name}); got != c.want[i] || d.ServiceID != "web-1" || d.Status != "critical" {
				t.Errorf("%s: check %d is %+v", c.about, i, d)
			}
		}
		again := r
		again.Normalize()
		if !reflect.DeepEqual(again, r) {
			t.Errorf("%s: the second time gave %+v after %+v", c.about, again, r)
		}
	}
}

func TestNormalizeAddresses(t *testing.T) {
	at := func(address string) catalog.ServiceAddress { return catalog.ServiceAddress{Address: address, Port: 80} }
	given := map[string]catalog.ServiceAddress{"lan_ipv4": {Address: "10.9.9.9", Port: 1}}
	for _, c := range []struct {
		address string
		given   map[string]catalog.ServiceAddress
		want    map[string]catalog.ServiceAddress
	}{
		{"", nil, nil},
		{"db.example", nil, nil},
		{"10.1.1.1", nil, map[string]catalog.ServiceAddress{"lan_ipv4": at("10.1.1.1"), "wan_ipv4": at("10.1.1.1")}},
		{"2001:db8::1", nil, map[string]catalog.ServiceAddress{"lan_ipv6": at("2001:db8::1"), "wan_ipv6": at("2001:db8::1")}},
		{"10.1.1.1", given, map[string]catalog.ServiceAddress{"lan_ipv4": given["lan_ipv4"], "wan_ipv4": at("10.1.1.1")}},
	} {
		r := Registration{Service: catalog.Service{Name: "web", Port: 80, Address: c.address, TaggedAddresses: c.given}}
		r.Normalize()
		if !reflect.DeepEqual(r.Service.TaggedAddresses, c.want) {
			t.Errorf("%q with %v: got %v, want %v", c.address, c.given, r.Service.TaggedAddresses, c.want)
		}
	}
	if len(given) != 1 {
		t.Errorf("the caller's map was written to: %v", given)
	}
}

func expectFault(t *testing.T, about string, err error, code mvcc.Code, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: got %q, want no error", about, err)
	case want != "" && err == nil:
		t.Errorf("%s: got no error, want %q", about, want)
	case want != "" && (err.Error() != want || mvcc.CodeOf(err) != code):
		t.Errorf("%s: got code %d, %q, want code %d, %q", about, mvcc.CodeOf(err), err, code, want)
	}
}
