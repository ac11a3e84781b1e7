package dnsserver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestSettings(t *testing.T) {
	own := &catalog.Node{Name: "Agent-One", Address: "127.0.0.1"}
	n1 := &catalog.Node{Name: "n1", Address: "10.28.0.1", Meta: map[string]string{"k": "v"}}
	at := func(name string) *catalog.Node { return &catalog.Node{Name: name, Address: "10.28.0.9"} }
	s := newServer(t, lookupIn([]health.Entry{
		instance(own, catalog.Service{Name: "consul"}, health.Passing),
		instance(at("not_safe"), catalog.Service{Name: "consul"}, health.Passing),
		instance(at("gone"), catalog.Service{Name: "consul"}, health.Critical),
		instance(n1, catalog.Service{Name: "web", Port: 1}, health.Passing),
		instance(at("n2"), catalog.Service{Name: "web", Port: 2}, health.Warning),
		instance(at("n3"), catalog.Service{Name: "app-x", Port: 3}),
		instance(at("n4"), catalog.Service{Name: "rest", Port: 4}),
		instance(at("n5"), catalog.Service{Name: "alias", Address: "web.service.alt.test"}),
	}), func(c *Config) {
		c.Domain, c.AltDomain = "cluster.local.", "alt.test."
		c.Settings = Settings{
			NodeTTL:        11*time.Second + 900*time.Millisecond,
			ServiceTTL:     map[string]time.Duration{"*": 5 * time.Second, "Web": 22 * time.Second, "app-*": 33 * time.Second},
			OnlyPassing:    true,
			UDPAnswerLimit: 3,
			SOA:            SOA{Refresh: 100, Retry: 200, Expire: 300, MinTTL: 7},
		}
	})
	soa := func(domain string) string {
		return domain + " 7 IN SOA ns." + domain + " hostmaster." + domain + " 1700000000 100 200 300 7"
	}
	ns := func(owner, domain string) string {
		return owner + " 11 IN NS agent-one.node.dc1." + strings.ToLower(domain)
	}
	glue := func(domain string) []string { return []string{"agent-one.node.dc1." + domain + " 11 IN A 127.0.0.1"} }
	for _, c := range []answerCase{
		{ask: "web.service.cluster.local", qtype: "A", answer: []string{"web.service.cluster.local. 22 IN A 10.28.0.1"}},
		{ask: "app-x.service.cluster.local", qtype: "A", answer: []string{"app-x.service.cluster.local. 33 IN A 10.28.0.9"}},
		{ask: "rest.service.cluster.local", qtype: "SRV", answer: []string{"rest.service.cluster.local. 5 IN SRV 1 1 4 n4.node.dc1.cluster.local."},
			additional: []string{"n4.node.dc1.cluster.local. 5 IN A 10.28.0.9"}},
		{ask: "n1.node.cluster.local", qtype: "A", answer: []string{"n1.node.cluster.local. 11 IN A 10.28.0.1"}},
		{ask: "n1.node.cluster.local", qtype: "ANY", answer: []string{"n1.node.cluster.local. 11 IN A 10.28.0.1", `n1.node.cluster.local. 11 IN TXT "k=v"`}},
		{ask: "0a1c0001.addr.cluster.local", qtype: "A", answer: []string{"0a1c0001.addr.cluster.local. 11 IN A 10.28.0.1"}},
		{ask: "web.service.alt.test", qtype: "A", answer: []string{"web.service.alt.test. 22 IN A 10.28.0.1"}},
		{ask: "web.service.Alt.Test", qtype: "SRV", answer: []string{"web.service.Alt.Test. 22 IN SRV 1 1 1 n1.node.dc1.Alt.Test."},
			additional: []string{"n1.node.dc1.Alt.Test. 22 IN A 10.28.0.1"}},
		{ask: "alias.service.cluster.local", qtype: "A", answer: []string{
			"alias.service.cluster.local. 5 IN CNAME web.service.alt.test.", "web.service.alt.test. 5 IN A 10.28.0.1"}},
		{ask: "web.service.consul", qtype: "A", rcode: dns.RcodeRefused},
		{ask: "cluster.local", qtype: "SOA", answer: []string{soa("cluster.local.")}, authority: []string{ns("cluster.local.", "cluster.local.")}, additional: glue("cluster.local.")},
		{ask: "ALT.test", qtype: "SOA", answer: []string{soa("alt.test.")}, authority: []string{ns("ALT.test.", "alt.test.")}, additional: glue("alt.test.")},
		{ask: "cluster.local", qtype: "NS", answer: []string{ns("cluster.local.", "cluster.local.")}, additional: glue("cluster.local.")},
		{ask: "none.service.cluster.local", qtype: "A", rcode: dns.RcodeNameError, authority: []string{soa("cluster.local.")}},
		{ask: "none.service.alt.test", qtype: "A", rcode: dns.RcodeNameError, authority: []string{soa("alt.test.")}},
		{ask: "9.9.9.9.in-addr.arpa", qtype: "PTR", rcode: dns.RcodeNameError, authority: []string{soa("cluster.local.")}},
		{ask: "1.0.28.10.in-addr.arpa", qtype: "PTR", answer: []string{"1.0.28.10.in-addr.arpa. 0 IN PTR n1.node.dc1.cluster.local."}},
	} {
		c.check(t, s)
	}
}

func TestNestedDomains(t *testing.T) {
	n := &catalog.Node{Name: "n", Address: "10.0.0.1"}
	for _, domains := range [][2]string{{"consul.", "dc.consul."}, {"dc.consul.", "consul."}} {
		s := newServer(t, lookupIn(nil, n), func(c *Config) { c.Domain, c.AltDomain = domains[0], domains[1] })
		answerCase{ask: "n.node.dc.consul", qtype: "A", answer: []string{"n.node.dc.consul. 0 IN A 10.0.0.1"}}.check(t, s)
		answerCase{ask: "n.node.consul", qtype: "A", answer: []string{"n.node.consul. 0 IN A 10.0.0.1"}}.check(t, s)
	}
}

// A datacenter may have a name that no message can carry. What needs it in an
// answer is left out.
func TestDatacenterThatIsNoLabel(t *testing.T) {
	n := &catalog.Node{Name: "n", Address: "10.0.0.1"}
	s := newServer(t, lookupIn([]health.Entry{
		instance(n, catalog.Service{Name: "web"}), instance(n, catalog.Service{Name: "web", ID: "2", Address: "10.0.0.2"}),
		instance(n, catalog.Service{Name: "consul"}),
	}), func(c *Config) { c.Datacenter = strings.Repeat("d", 64) })
	for _, c := range []answerCase{
		{ask: "n.node.consul", qtype: "A", answer: []string{"n.node.consul. 0 IN A 10.0.0.1"}},
		noData("web.service.consul", "SRV"),
		noName("1.0.0.10.in-addr.arpa", "PTR"),
		{ask: "consul", qtype: "NS"},
	} {
		c.check(t, s)
	}
}

func TestServiceTTL(t *testing.T) {
	s, err := newSettings(Settings{ServiceTTL: map[string]time.Duration{
		"*": 5 * time.Second, "web*": 11 * time.Second, "web": 13 * time.Second, "webx*": 15 * time.Second, "half": 500 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"web": 13, "webx1": 15, "weby": 11, "other": 5, "half": 0} {
		if got := s.serviceTTL(name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	good := Config{Datacenter: "dc1", Domain: "consul.", Lookup: fakeLookup{}, Settings: defaultSettings()}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Domain = "" }, `domain ""`},
		{func(c *Config) { c.Domain = "consul" }, `domain "consul"`},
		{func(c *Config) { c.Domain = "Consul." }, `domain "Consul."`},
		{func(c *Config) { c.AltDomain = "." }, `alt_domain "."`},
		{func(c *Config) { c.Datacenter = "" }, "datacenter"},
		{func(c *Config) { c.Lookup = nil }, "lookup"},
		{func(c *Config) { c.Settings.UDPAnswerLimit = -1 }, "udp_answer_limit must not be negative, got -1"},
		{func(c *Config) { c.Settings.ARecordLimit = -2 }, "a_record_limit must not be negative, got -2"},
		{func(c *Config) { c.Settings.NodeTTL = -time.Second }, "node_ttl must be from 0s to 2147483647s, got -1s"},
		{func(c *Config) { c.Settings.ServiceTTL = map[string]time.Duration{"a": -1} }, "service_ttl of a must be"},
	} {
		bad := good
		c.change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

func TestReload(t *testing.T) {
	s := newServer(t, lookupIn(nil, &catalog.Node{Name: "n", Address: "10.0.0.1"}))
	changed := defaultSettings()
	changed.NodeTTL = time.Minute
	if err := s.Reload(changed); err != nil {
		t.Fatal(err)
	}
	bad := changed
	bad.NodeTTL = -1
	if err := s.Reload(bad); err == nil {
		t.Error("a negative TTL was taken")
	}
	answerCase{ask: "n.node.consul", qtype: "A", answer: []string{"n.node.consul. 60 IN A 10.0.0.1"}}.check(t, s)
}

func TestLookupErrors(t *testing.T) {
	failing := func(err error) fakeLookup {
		return fakeLookup{
			service: func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, error) { return nil, err },
			node:    func(context.Context, mvcc.ReadOptions, *catalog.NodeQuery) (*catalog.Node, error) { return nil, err },
			address: func(context.Context, mvcc.ReadOptions, *catalog.AddressQuery) (*catalog.AddressOwner, error) {
				return nil, err
			},
		}
	}
	for _, err := range []error{
		&mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}, errors.New("broken"), context.DeadlineExceeded,
	} {
		s := newServer(t, failing(err))
		for _, c := range []answerCase{
			{ask: "web.service.consul", qtype: "A", rcode: dns.RcodeServerFailure},
			{ask: "n.node.consul", qtype: "A", rcode: dns.RcodeServerFailure},
			{ask: "consul", qtype: "SOA", answer: []string{soaLine}},
			{ask: "consul", qtype: "NS"},
			{ask: "0a000001.addr.consul", qtype: "A", answer: []string{"0a000001.addr.consul. 0 IN A 10.0.0.1"}},
			noName("1.0.0.10.in-addr.arpa", "PTR"),
		} {
			c.check(t, s)
		}
	}
	s := newServer(t, failing(&mvcc.Error{Code: mvcc.NoPath}))
	noName("web.service.consul", "A").check(t, s)
}

func TestReadOptions(t *testing.T) {
	var got mvcc.ReadOptions
	lookup := fakeLookup{node: func(_ context.Context, o mvcc.ReadOptions, _ *catalog.NodeQuery) (*catalog.Node, error) {
		got = o
		return nil, nil
	}}
	for _, c := range []struct {
		stale bool
		want  mvcc.ReadOptions
	}{
		{true, mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: time.Hour}},
		{false, mvcc.ReadOptions{}},
	} {
		s := newServer(t, lookup, func(x *Config) { x.Settings.AllowStale, x.Settings.MaxStale = c.stale, time.Hour })
		noName("n.node.consul", "A").check(t, s)
		if got != c.want {
			t.Errorf("stale %v: got %+v, want %+v", c.stale, got, c.want)
		}
	}
}

func TestMetadataText(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"a", "b", "a=b"},
		{"a=b", "c=d", "a`=b=c=d"},
		{"a`b", "c`d", "a``b=c``d"},
		{" a b ", " c ", "` a b` = c "},
		{"", "", "="},
		{"rfc1035-x", "text", "text"},
		{"RFC1035-x", "a`b", "a`b"},
	} {
		if got := metadataText(c.key, c.value); got != c.want {
			t.Errorf("%q, %q: got %q, want %q", c.key, c.value, got, c.want)
		}
	}
}

func TestMetadataIsSentAsItIs(t *testing.T) {
	value := "back\\slash \"quoted\" é" + strings.Repeat("\\", 300)
	s := newServer(t, lookupIn(nil, &catalog.Node{Name: "n", Address: "10.0.0.1", Meta: map[string]string{"k": value}}))
	packed, err := s.Answer(context.Background(), question("n.node.consul", "TXT"), TCP).Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(packed); err != nil {
		t.Fatal(err)
	}
	if got := unescape(strings.Join(m.Answer[0].(*dns.TXT).Txt, "")); got != "k="+value {
		t.Errorf("got %q, want %q", got, "k="+value)
	}
}
