package dnsserver

import (
	"context"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

const soaLine = "consul. 0 IN SOA ns.consul. hostmaster.consul. 1700000000 3600 600 86400 0"

// answerCase is a question and the records that answer it, as zone-file text in
// any order.
type answerCase struct {
	ask, qtype string
	rcode      int
	answer     []string
	authority  []string
	additional []string
}

func noName(ask, qtype string) answerCase {
	return answerCase{ask: ask, qtype: qtype, rcode: dns.RcodeNameError, authority: []string{soaLine}}
}

func noData(ask, qtype string) answerCase {
	return answerCase{ask: ask, qtype: qtype, authority: []string{soaLine}}
}

func (c answerCase) check(t *testing.T, s *Server) {
	t.Helper()
	request := question(c.ask, c.qtype)
	reply := s.Answer(context.Background(), request, TCP)
	if reply.Rcode != c.rcode {
		t.Errorf("%s %s: rcode %s, want %s", c.ask, c.qtype, dns.RcodeToString[reply.Rcode], dns.RcodeToString[c.rcode])
	}
	if reply.Authoritative == (c.rcode == dns.RcodeRefused) {
		t.Errorf("%s %s: AA is %v", c.ask, c.qtype, reply.Authoritative)
	}
	if reply.Id != request.Id || !reply.RecursionDesired || reply.RecursionAvailable || !slices.Equal(reply.Question, request.Question) {
		t.Errorf("%s %s: the header or the question does not come back: %v", c.ask, c.qtype, reply)
	}
	for _, section := range []struct {
		name string
		got  []dns.RR
		want []string
	}{{"answer", reply.Answer, c.answer}, {"authority", reply.Ns, c.authority}, {"additional", reply.Extra, c.additional}} {
		want := slices.Sorted(slices.Values(section.want))
		if got := lines(section.got); !slices.Equal(got, want) {
			t.Errorf("%s %s: %s\n got  %q\n want %q", c.ask, c.qtype, section.name, got, want)
		}
	}
	packed, err := reply.Pack()
	if err != nil {
		t.Errorf("%s %s: %v", c.ask, c.qtype, err)
	}
	if again := new(dns.Msg); again.Unpack(packed) != nil {
		t.Errorf("%s %s: the reply cannot be read", c.ask, c.qtype)
	}
}

// vectorLookup has the nodes and instances of a small cluster.
func vectorLookup() Lookup {
	m1 := &catalog.Node{Name: "m1", Address: "127.0.0.1"}
	ext1 := &catalog.Node{Name: "ext1", Address: "10.1.1.1", Meta: map[string]string{"rack": "r7", "rfc1035-note": "plain text"}}
	ext2 := &catalog.Node{Name: "ext2", Address: "10.2.2.2"}
	one := catalog.Weights{Passing: 1, Warning: 1}
	return lookupIn([]health.Entry{
		instance(m1, catalog.Service{Name: "consul", Port: 8300, Weights: one}, health.Passing),
		instance(ext1, catalog.Service{Name: "web", Port: 80, Weights: one}),
		instance(ext2, catalog.Service{Name: "web", Port: 80, Weights: catalog.Weights{Passing: 10, Warning: 3}}, health.Warning),
		instance(ext1, catalog.Service{Name: "web", ID: "web2", Port: 8080, Address: "10.9.9.9", Weights: one}),
		instance(ext2, catalog.Service{Name: "dead", Port: 1}, health.Passing, health.Critical),
	})
}

func TestAnswerVectors(t *testing.T) {
	s := newServer(t, vectorLookup())
	srv := func(ask, owner string) answerCase {
		return answerCase{ask: ask, qtype: "SRV",
			answer: []string{
				owner + " 0 IN SRV 1 1 80 ext1.node.dc1.consul.",
				owner + " 0 IN SRV 1 3 80 ext2.node.dc1.consul.",
				owner + " 0 IN SRV 1 1 8080 0a090909.addr.dc1.consul.",
			},
			additional: []string{
				"ext1.node.dc1.consul. 0 IN A 10.1.1.1",
				`ext1.node.dc1.consul. 0 IN TXT "rack=r7"`,
				`ext1.node.dc1.consul. 0 IN TXT "plain text"`,
				"ext2.node.dc1.consul. 0 IN A 10.2.2.2",
				"0a090909.addr.dc1.consul. 0 IN A 10.9.9.9",
				`ext1.node.dc1.consul. 0 IN TXT "rack=r7"`,
				`ext1.node.dc1.consul. 0 IN TXT "plain text"`,
			},
		}
	}
	addresses := func(ask, qtype, owner string) answerCase {
		return answerCase{ask: ask, qtype: qtype, answer: []string{
			owner + " 0 IN A 10.1.1.1", owner + " 0 IN A 10.2.2.2", owner + " 0 IN A 10.9.9.9",
		}}
	}
	txt := []string{`ext1.node.consul. 0 IN TXT "rack=r7"`, `ext1.node.consul. 0 IN TXT "plain text"`}
	for _, c := range []answerCase{
		srv("web.service.consul", "web.service.consul."),
		srv("_web._tcp.service.consul", "_web._tcp.service.consul."),
		srv("_web._tcp.consul", "_web._tcp.consul."),
		srv("_web._.service.consul", "_web._.service.consul."),
		srv("_web._tcp.dc1.consul", "_web._tcp.dc1.consul."),
		noName("_web._udp.service.consul", "SRV"),
		noName("_web._tcp.consul", "A"),
		noName("_web.service.consul", "SRV"),
		addresses("web.service.consul", "A", "web.service.consul."),
		addresses("web.service.consul", "ANY", "web.service.consul."),
		addresses("WEB.Service.CONSUL", "A", "WEB.Service.CONSUL."),
		addresses("web.service.dc1.consul", "A", "web.service.dc1.consul."),
		addresses("web.service.DC1.dc.consul", "A", "web.service.DC1.dc.consul."),
		noData("web.service.consul", "AAAA"),
		noData("web.service.consul", "TXT"),
		noData("web.service.consul", "MX"),
		noData("web.service.consul", "CNAME"),
		noData("web.service.consul", "IXFR"),
		noName("dead.service.consul", "A"),
		noName("nope.service.consul", "A"),
		noName("web.service.dc9.consul", "A"),
		noName("web.service.dc1.peer.consul", "A"),
		noName("web.service.dc1.dc.dc1.dc.consul", "A"),
		noName("web.service.a.b.c.consul", "A"),
		noName("service.consul", "A"),
		noName("consul", "A"),
		noName("web.things.consul", "A"),
		noName("web.query.consul", "A"),
		noName("web.connect.consul", "A"),
		noName("web.ingress.consul", "A"),
		{ask: "web.virtual.consul", qtype: "A"},
		{ask: "ext1.node.consul", qtype: "A", answer: []string{"ext1.node.consul. 0 IN A 10.1.1.1"}, additional: txt},
		{ask: "ext1.node.consul", qtype: "AAAA", additional: txt},
		{ask: "ext1.node.consul", qtype: "TXT", answer: txt},
		{ask: "ext1.node.consul", qtype: "ANY", answer: append([]string{"ext1.node.consul. 0 IN A 10.1.1.1"}, txt...)},
		{ask: "ext1.node.consul", qtype: "SRV"},
		noName("nope.node.consul", "A"),
		noName("ext1.node.dc9.consul", "A"),
		{ask: "0a010101.addr.consul", qtype: "A", answer: []string{"0a010101.addr.consul. 0 IN A 10.1.1.1"}},
		{ask: "0A010101.ADDR.dc9.x.Consul", qtype: "A", answer: []string{"0a010101.addr.dc9.x.Consul. 0 IN A 10.1.1.1"}},
		{ask: "0a010101.addr.consul", qtype: "AAAA", additional: []string{"0a010101.addr.consul. 0 IN A 10.1.1.1"}},
		{ask: "20010db8000000000000000000000001.addr.consul", qtype: "AAAA",
			answer: []string{"20010db8000000000000000000000001.addr.consul. 0 IN AAAA 2001:db8::1"}},
		noName("zz.addr.consul", "A"),
		noName("0a01010g.addr.consul", "A"),
		noName("x.0a010101.addr.consul", "A"),
		{ask: "1.1.1.10.in-addr.arpa", qtype: "PTR", answer: []string{"1.1.1.10.in-addr.arpa. 0 IN PTR ext1.node.dc1.consul."}},
		{ask: "1.1.1.10.IN-ADDR.arpa", qtype: "A", answer: []string{"1.1.1.10.IN-ADDR.arpa. 0 IN PTR ext1.node.dc1.consul."}},
		{ask: "1.1.1.10.in-addr.arpa", qtype: "SOA", answer: []string{"1.1.1.10.in-addr.arpa. 0 IN PTR ext1.node.dc1.consul."}, authority: []string{soaLine}},
		{ask: "9.9.9.10.in-addr.arpa", qtype: "PTR", answer: []string{"9.9.9.10.in-addr.arpa. 0 IN PTR web.service.dc1.consul."}},
		noName("4.3.2.1.in-addr.arpa", "PTR"),
		noName("4.3.2.1.in-addr.arpa", "SOA"),
		noName("3.2.1.in-addr.arpa", "PTR"),
		noName("arpa", "PTR"),
		{ask: "consul", qtype: "SOA", answer: []string{soaLine}, authority: []string{"consul. 0 IN NS m1.node.dc1.consul."},
			additional: []string{"m1.node.dc1.consul. 0 IN A 127.0.0.1"}},
		{ask: "consul", qtype: "NS", answer: []string{"consul. 0 IN NS m1.node.dc1.consul."},
			additional: []string{"m1.node.dc1.consul. 0 IN A 127.0.0.1"}},
		{ask: "any.thing.Consul", qtype: "NS", answer: []string{"Consul. 0 IN NS m1.node.dc1.consul."},
			additional: []string{"m1.node.dc1.consul. 0 IN A 127.0.0.1"}},
		{ask: "consul", qtype: "AXFR", rcode: dns.RcodeNotImplemented},
		{ask: "example.com", qtype: "A", rcode: dns.RcodeRefused},
		{ask: "notconsul", qtype: "A", rcode: dns.RcodeRefused},
		{ask: `web\.consul`, qtype: "A", rcode: dns.RcodeRefused},
		{ask: ".", qtype: "NS", rcode: dns.RcodeRefused},
	} {
		c.check(t, s)
	}
}
