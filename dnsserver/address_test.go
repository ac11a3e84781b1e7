package dnsserver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

func TestAnswerByAddress(t *testing.T) {
	at := func(name, address string, tagged ...string) *catalog.Node {
		n := &catalog.Node{Name: name, Address: address, TaggedAddresses: map[string]string{}}
		for i := 0; i < len(tagged); i += 2 {
			n.TaggedAddresses[tagged[i]] = tagged[i+1]
		}
		return n
	}
	s := newServer(t, lookupIn([]health.Entry{
		instance(at("a1", "10.25.0.1"), catalog.Service{Name: "ext", Port: 443, Address: "api.example.com"}),
		instance(at("a2", "10.25.0.2"), catalog.Service{Name: "six", Port: 66, Address: "2001:db8::66"}),
		instance(at("a3", "host.example.com"), catalog.Service{Name: "onname", Port: 7}),
		instance(at("a4", "10.25.0.4"), catalog.Service{Name: "inner", Port: 8, Address: "six.service.consul"}),
		instance(at("a5", "2001:db8::5"), catalog.Service{Name: "nodesix", Port: 9}),
		instance(at("a6", "10.25.0.6", "lan_ipv4", "10.25.0.6", "lan_ipv6", "2001:db8::a6"), catalog.Service{Name: "dual", Port: 10}),
		instance(at("a7", "10.25.0.7"), catalog.Service{Name: "dual2", Port: 11, TaggedAddresses: map[string]catalog.ServiceAddress{
			"lan_ipv4": {Address: "10.25.0.77", Port: 12}, "lan_ipv6": {Address: "2001:db8::77", Port: 13},
		}}),
		instance(at("CaseNode", "10.25.0.8"), catalog.Service{Name: "self", Port: 14, Address: "Self.service.consul"}),
		instance(at("a9", "10.25.0.9"), catalog.Service{Name: "loop1", Port: 15, Address: "loop2.service.consul"}),
		instance(at("a9", "10.25.0.9"), catalog.Service{Name: "loop2", Port: 16, Address: "loop1.service.consul"}),
		instance(at("a1", "10.25.0.1"), catalog.Service{Name: "mixed", ID: "m1", Port: 17, Address: "x.example.com"}),
		instance(at("a2", "10.25.0.2"), catalog.Service{Name: "mixed", ID: "m2", Port: 18}),
		instance(at("a2", "10.25.0.2"), catalog.Service{Name: "mixed", ID: "m3", Port: 18}),
		instance(at("a1", "10.25.0.1"), catalog.Service{Name: "same", Port: 19, Address: "10.25.0.1"}),
		instance(at("odd name", "10.25.0.10"), catalog.Service{Name: "odd", Port: 20}),
		instance(at("dotted.name_x", "10.25.0.11"), catalog.Service{Name: "dotted", Port: 21}),
		instance(at("bad..name", "10.25.0.12"), catalog.Service{Name: "bad", Port: 22}),
		instance(at("a13", "::ffff:10.25.0.13"), catalog.Service{Name: "mapped", Port: 23}),
		instance(at("a14", "not..a.name"), catalog.Service{Name: "nowhere", Port: 24}),
		instance(at("a15", "10.25.0.15"), catalog.Service{Name: "My_Service", Port: 25, Tags: []string{"V1", "a.b"}}),
	}, at("named", "host.example.com"), at("inzone", "0a190063.addr.consul")))
	const six = "20010db8000000000000000000000066"
	for _, c := range []answerCase{
		{ask: "ext.service.consul", qtype: "A", answer: []string{"ext.service.consul. 0 IN CNAME api.example.com."}},
		{ask: "ext.service.consul", qtype: "ANY", answer: []string{"ext.service.consul. 0 IN CNAME api.example.com."}},
		{ask: "ext.service.consul", qtype: "CNAME", answer: []string{"ext.service.consul. 0 IN CNAME api.example.com."}},
		{ask: "ext.service.consul", qtype: "SRV", answer: []string{"ext.service.consul. 0 IN SRV 1 1 443 api.example.com."}},
		{ask: "six.service.consul", qtype: "AAAA", answer: []string{"six.service.consul. 0 IN AAAA 2001:db8::66"}},
		{ask: "six.service.consul", qtype: "ANY", answer: []string{"six.service.consul. 0 IN AAAA 2001:db8::66"}},
		noData("six.service.consul", "A"),
		{ask: "six.service.consul", qtype: "SRV", answer: []string{"six.service.consul. 0 IN SRV 1 1 66 " + six + ".addr.dc1.consul."},
			additional: []string{six + ".addr.dc1.consul. 0 IN AAAA 2001:db8::66"}},
		{ask: "onname.service.consul", qtype: "A", answer: []string{"onname.service.consul. 0 IN CNAME host.example.com."}},
		{ask: "onname.service.consul", qtype: "SRV", answer: []string{"onname.service.consul. 0 IN SRV 1 1 7 host.example.com."}},
		{ask: "inner.service.consul", qtype: "A", answer: []string{"inner.service.consul. 0 IN CNAME six.service.consul.", "six.service.consul. 0 IN AAAA 2001:db8::66"}},
		{ask: "inner.service.consul", qtype: "SRV", answer: []string{"inner.service.consul. 0 IN SRV 1 1 8 six.service.consul."},
			additional: []string{"six.service.consul. 0 IN AAAA 2001:db8::66"}},
		{ask: "nodesix.service.consul", qtype: "SRV", answer: []string{"nodesix.service.consul. 0 IN SRV 1 1 9 a5.node.dc1.consul."},
			additional: []string{"a5.node.dc1.consul. 0 IN AAAA 2001:db8::5"}},
		{ask: "dual.service.consul", qtype: "A", answer: []string{"dual.service.consul. 0 IN A 10.25.0.6"}},
		{ask: "dual.service.consul", qtype: "AAAA", answer: []string{"dual.service.consul. 0 IN AAAA 2001:db8::a6"}},
		{ask: "dual.service.consul", qtype: "ANY", answer: []string{"dual.service.consul. 0 IN AAAA 2001:db8::a6"}},
		{ask: "dual.service.consul", qtype: "SRV", answer: []string{"dual.service.consul. 0 IN SRV 1 1 10 a6.node.dc1.consul."},
			additional: []string{"a6.node.dc1.consul. 0 IN AAAA 2001:db8::a6"}},
		{ask: "dual2.service.consul", qtype: "A", answer: []string{"dual2.service.consul. 0 IN A 10.25.0.77"}},
		{ask: "dual2.service.consul", qtype: "AAAA", answer: []string{"dual2.service.consul. 0 IN AAAA 2001:db8::77"}},
		{ask: "self.service.consul", qtype: "A", answer: []string{"self.service.consul. 0 IN A 10.25.0.8"}},
		{ask: "self.Service.Consul", qtype: "SRV", answer: []string{"self.Service.Consul. 0 IN SRV 1 1 14 CaseNode.node.dc1.Consul."},
			additional: []string{"CaseNode.node.dc1.Consul. 0 IN A 10.25.0.8"}},
		{ask: "loop1.service.consul", qtype: "A", answer: []string{
			"loop1.service.consul. 0 IN CNAME loop2.service.consul.", "loop2.service.consul. 0 IN CNAME loop1.service.consul."}},
		{ask: "mixed.service.consul", qtype: "A", answer: []string{"mixed.service.consul. 0 IN A 10.25.0.2"}},
		noData("mixed.service.consul", "MX"),
		{ask: "same.service.consul", qtype: "SRV", answer: []string{"same.service.consul. 0 IN SRV 1 1 19 0a190001.addr.dc1.consul."},
			additional: []string{"0a190001.addr.dc1.consul. 0 IN A 10.25.0.1"}},
		{ask: "odd.service.consul", qtype: "SRV", answer: []string{`odd.service.consul. 0 IN SRV 1 1 20 odd\ name.node.dc1.consul.`},
			additional: []string{`odd\ name.node.dc1.consul. 0 IN A 10.25.0.10`}},
		{ask: `odd\032name.node.consul`, qtype: "A", answer: []string{`odd\ name.node.consul. 0 IN A 10.25.0.10`}},
		{ask: "dotted.name_x.node.consul", qtype: "A", answer: []string{"dotted.name_x.node.consul. 0 IN A 10.25.0.11"}},
		{ask: "bad.service.consul", qtype: "SRV", answer: []string{"bad.service.consul. 0 IN SRV 1 1 22 0a19000c.addr.dc1.consul."},
			additional: []string{"0a19000c.addr.dc1.consul. 0 IN A 10.25.0.12"}},
		{ask: "mapped.service.consul", qtype: "A", answer: []string{"mapped.service.consul. 0 IN A 10.25.0.13"}},
		noData("nowhere.service.consul", "A"),
		noData("nowhere.service.consul", "SRV"),
		{ask: "v1.my_service.service.consul", qtype: "A", answer: []string{"v1.my_service.service.consul. 0 IN A 10.25.0.15"}},
		{ask: "a.b.my_service.service.consul", qtype: "A", answer: []string{"a.b.my_service.service.consul. 0 IN A 10.25.0.15"}},
		{ask: "_my_service._v1.service.consul", qtype: "A", answer: []string{"_my_service._v1.service.consul. 0 IN A 10.25.0.15"}},
		{ask: "named.node.consul", qtype: "A", answer: []string{"named.node.consul. 0 IN CNAME host.example.com."}},
		{ask: "named.node.consul", qtype: "ANY", answer: []string{"named.node.consul. 0 IN CNAME host.example.com."}},
		{ask: "named.node.consul", qtype: "CNAME"},
		{ask: "inzone.node.consul", qtype: "A", answer: []string{"inzone.node.consul. 0 IN CNAME 0a190063.addr.consul.", "0a190063.addr.consul. 0 IN A 10.25.0.99"}},
		{ask: "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", qtype: "PTR",
			answer: []string{"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 0 IN PTR a5.node.dc1.consul."}},
		{ask: "10.0.25.10.in-addr.arpa", qtype: "PTR", answer: []string{`10.0.25.10.in-addr.arpa. 0 IN PTR odd\ name.node.dc1.consul.`}},
		noName("12.0.25.10.in-addr.arpa", "PTR"), // no message can carry that node's name
		noName("0.0.0.ip6.arpa", "PTR"),
	} {
		c.check(t, s)
	}
}

func TestChoosePlace(t *testing.T) {
	const none = ""
	for _, c := range []struct {
		plain, v4, v6 string
		a, aaaa, srv  string // what each type of question gets
	}{
		{plain: "10.0.0.1", a: "10.0.0.1", aaaa: none, srv: "10.0.0.1"},
		{plain: "2001:db8::1", a: none, aaaa: "2001:db8::1", srv: "2001:db8::1"},
		{plain: "10.0.0.1", v6: "2001:db8::6", a: "10.0.0.1", aaaa: "2001:db8::6", srv: "2001:db8::6"},
		{plain: "2001:db8::1", v4: "10.0.0.4", a: "10.0.0.4", aaaa: "2001:db8::1", srv: "10.0.0.4"},
		{plain: "10.0.0.1", v4: "10.0.0.4", v6: "2001:db8::6", a: "10.0.0.4", aaaa: "2001:db8::6", srv: "2001:db8::6"},
		{plain: "h.example", v4: "10.0.0.4", a: "10.0.0.4", aaaa: "h.example.", srv: "10.0.0.4"},
		{plain: "h.example", a: "h.example.", aaaa: "h.example.", srv: "h.example."},
		{plain: "10.0.0.1", v4: "2001:db8::4", v6: "10.0.0.6", a: "10.0.0.1", aaaa: none, srv: "10.0.0.1"},
		{plain: "fe80::1%eth0", a: none, aaaa: "fe80::1", srv: "fe80::1"},
		{v6: "2001:db8::6", a: none, aaaa: "2001:db8::6", srv: "2001:db8::6"},
		{a: none, aaaa: none, srv: none},
	} {
		for qtype, want := range map[uint16]string{dns.TypeA: c.a, dns.TypeAAAA: c.aaaa, dns.TypeSRV: c.srv, dns.TypeANY: c.srv} {
			p := choosePlace(c.plain, c.v4, c.v6, qtype)
			got := p.host
			if p.ip.IsValid() {
				got = p.ip.String()
			}
			if got != want {
				t.Errorf("%q, v4 %q, v6 %q as %s: got %q, want %q", c.plain, c.v4, c.v6, dns.TypeToString[qtype], got, want)
			}
		}
	}
}

func TestAddressLabel(t *testing.T) {
	for text, want := range map[string]string{
		"0a0b0c0d":                         "10.11.12.13",
		"20010db8000000000000000000000001": "2001:db8::1",
		"00000000000000000000ffff0a0b0c0d": "::ffff:10.11.12.13",
	} {
		ip := parseAddressLabel(text)
		if ip.String() != want || addressLabel(ip) != text {
			t.Errorf("%s: got %s and back %s, want %s", text, ip, addressLabel(ip), want)
		}
	}
	for _, text := range []string{"", "0a0b0c0", "0a0b0c0d0", "0a0b0c0x", "é23456"} {
		if ip := parseAddressLabel(text); ip != (netip.Addr{}) {
			t.Errorf("%q: got %s, want none", text, ip)
		}
	}
}
