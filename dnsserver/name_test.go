package dnsserver

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		local    string
		services bool
		want     name
	}{
		{"web.service", false, name{serviceName, "web", ""}},
		{"a.b.web.service.dc1", false, name{serviceName, "a.b.web", "dc1"}},
		{"web.service.dc1.dc", false, name{serviceName, "web", "dc1.dc"}},
		{"node.service", false, name{serviceName, "node", ""}},
		{"service.node", false, name{nodeName, "service", ""}},
		{"a.node.service.node", false, name{nodeName, "a.node.service", ""}},
		{`a\.service.node`, false, name{nodeName, `a\.service`, ""}},
		{`web\.service`, false, name{}},
		{"_web._tcp", true, name{serviceName, "_web._tcp", ""}},
		{"_web._tcp.dc1", true, name{serviceName, "_web._tcp", "dc1"}},
		{"_web._tcp", false, name{}},
		{"_web._tcp.service", true, name{serviceName, "_web._tcp", ""}},
		{"service", false, name{}},
		{".service", false, name{}},
		{"", false, name{}},
		{"web", true, name{}},
	} {
		if got := parseName(c.local, c.services); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.local, got, c.want)
		}
	}
}

func TestServiceOfName(t *testing.T) {
	for labels, want := range map[string][2]string{
		"web":               {"web", ""},
		"v1.web":            {"web", "v1"},
		"a.b.web":           {"web", "a.b"},
		"_web._tcp":         {"web", ""},
		"_web._udp":         {"web", "udp"},
		"_web._":            {"web", ""},
		"_web":              {"_web", ""},
		"_a._b._c":          {"_c", "_a._b"},
		"x._web":            {"_web", "x"},
		`my\032web`:         {"my web", ""},
		`v\.1.dotted\.name`: {"dotted.name", "v.1"},
	} {
		if service, tag := (name{labels: labels}).service(); service != want[0] || tag != want[1] {
			t.Errorf("%q: got %q, %q, want %q", labels, service, tag, want)
		}
	}
}

func TestCutDomain(t *testing.T) {
	for _, c := range []struct {
		name, domain string
		left         int
		ok           bool
	}{
		{"web.service.consul.", "consul.", 12, true},
		{"web.service.CONSUL.", "consul.", 12, true},
		{"consul.", "consul.", 0, true},
		{"notconsul.", "consul.", 0, false},
		{`not\.consul.`, "consul.", 0, false},
		{`not\\.consul.`, "consul.", 6, true},
		{"onsul.", "consul.", 0, false},
	} {
		left, ok := cutDomain(c.name, c.domain)
		if ok != c.ok || ok && left != c.left {
			t.Errorf("%q in %q: got %d, %v, want %d, %v", c.name, c.domain, left, ok, c.left, c.ok)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"web.service", "_web._tcp.dc1", `a\.b.node.x.dc`, `\`, "..", `\046.addr`, "é.node"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, local string, services bool) {
		n := parseName(local, services)
		if n.kind == unknownName {
			if n != (name{}) {
				t.Fatalf("got %+v", n)
			}
			return
		}
		if !strings.HasPrefix(local, n.labels) || !strings.HasSuffix(local, n.locality) {
			t.Fatalf("%q: got %+v", local, n)
		}
		n.service()
		n.inDatacenter("dc1")
		if plain := unescape(n.labels); plain != unescape(escape(plain, false)) {
			t.Fatalf("%q does not come back", plain)
		}
	})
}
