package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// ask sends the bytes of a query through the server.
func ask(s *Server, query []byte, transport Transport) []byte {
	return s.respond(context.Background(), query, nil, transport, new(scratch))
}

func TestAcceptance(t *testing.T) {
	s := newServer(t, vectorLookup())
	query := func(change func(*dns.Msg)) []byte {
		m := question("web.service.consul", "A")
		m.Id = 0x1234
		change(m)
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	good := query(func(*dns.Msg) {})
	patched := func(at int, b ...byte) []byte {
		q := slices.Clone(good)
		copy(q[at:], b)
		return q
	}
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "consul.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: "."}
	const silent = -1
	for _, c := range []struct {
		name       string
		query      []byte
		rcode      int
		headerOnly bool
		answers    int
	}{
		{"a query", good, dns.RcodeSuccess, false, 3},
		{"a notification", query(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeSuccess, false, 3},
		{"another class", query(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeSuccess, false, 3},
		{"STATUS", query(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), dns.RcodeNotImplemented, true, 0},
		{"UPDATE", query(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented, true, 0},
		{"no question", query(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError, true, 0},
		{"two questions", query(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError, true, 0},
		{"one answer", query(func(m *dns.Msg) { m.Answer = []dns.RR{soa} }), dns.RcodeSuccess, false, 3},
		{"two answers", query(func(m *dns.Msg) { m.Answer = []dns.RR{soa, soa} }), dns.RcodeFormatError, true, 0},
		{"two of authority", query(func(m *dns.Msg) { m.Ns = []dns.RR{soa, soa} }), dns.RcodeFormatError, true, 0},
		{"three additional", query(func(m *dns.Msg) { m.Extra = []dns.RR{soa, soa, soa} }), dns.RcodeFormatError, true, 0},
		{"cut off in its name", good[:20], dns.RcodeFormatError, true, 0},
		{"cut off behind its header", good[:12], dns.RcodeFormatError, true, 0},
		{"a broken record behind the question", append(patched(11, 1), 0xC0), dns.RcodeFormatError, true, 0},
		{"a label that is none", patched(12, 0x80), dns.RcodeFormatError, true, 0},
		{"a name that points to itself", patched(12, 0xC0, 12), dns.RcodeFormatError, true, 0},
		{"bytes behind the end", append(slices.Clone(good), 1, 2, 3), dns.RcodeSuccess, false, 3},
		{"EDNS of another version", query(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers, false, 0},
		{"a reply", query(func(m *dns.Msg) { m.Response = true }), silent, false, 0},
		{"shorter than a header", good[:11], silent, false, 0},
		{"nothing", nil, silent, false, 0},
	} {
		for _, transport := range []Transport{UDP, TCP} {
			raw := ask(s, c.query, transport)
			if c.rcode == silent {
				if raw != nil {
					t.Errorf("%s: got a reply", c.name)
				}
				continue
			}
			m := new(dns.Msg)
			if err := m.Unpack(raw); err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if m.Rcode != c.rcode || len(m.Answer) != c.answers || (len(raw) == headerSize) != c.headerOnly {
				t.Errorf("%s: got %s with %d answers in %d bytes", c.name, dns.RcodeToString[m.Rcode], len(m.Answer), len(raw))
			}
			opcode := int(c.query[2]>>3) & 0xF
			if m.Id != 0x1234 || !m.Response || m.Opcode != opcode || !m.RecursionDesired || m.RecursionAvailable || m.AuthenticatedData || m.CheckingDisabled {
				t.Errorf("%s: got header %v", c.name, m.MsgHdr)
			}
		}
	}
}

func TestClientSubnet(t *testing.T) {
	s := newServer(t, vectorLookup())
	for _, name := range []string{"web.service.consul", "none.service.consul", "example.com"} {
		request := question(name, "A")
		request.SetEdns0(1232, true)
		opt := request.IsEdns0()
		opt.Option = append(opt.Option,
			&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"},
			&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, SourceScope: 24, Address: net.IPv4(192, 0, 2, 0)})
		packed, err := request.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(ask(s, packed, UDP)); err != nil {
			t.Fatal(err)
		}
		told := m.IsEdns0()
		if told == nil || told.Do() || len(told.Option) != 1 {
			t.Fatalf("%s: got %v", name, told)
		}
		subnet := told.Option[0].(*dns.EDNS0_SUBNET)
		if subnet.SourceScope != 0 || subnet.SourceNetmask != 24 || !subnet.Address.Equal(net.IPv4(192, 0, 2, 0)) {
			t.Errorf("%s: got %v", name, subnet)
		}
	}
}

func TestPanicIsAFailure(t *testing.T) {
	s := newServer(t, fakeLookup{node: func(context.Context, mvcc.ReadOptions, *catalog.NodeQuery) (*catalog.Node, error) {
		panic("broken")
	}})
	packed, err := question("n.node.consul", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(ask(s, packed, UDP)); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v, %v", m, err)
	}
}

// A lookup that takes too long is given up, and a client that waits is told.
func TestLookupTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, fakeLookup{service: func(ctx context.Context, _ mvcc.ReadOptions, _ *health.ServiceQuery) ([]health.Entry, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		packed, err := question("web.service.consul", "A").Pack()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		ctx := newQueryContext(context.Background(), lookupTimeout)
		raw := s.respond(ctx, packed, nil, UDP, new(scratch))
		ctx.end()
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil || m.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v, %v", m, err)
		}
		if took := time.Since(begin); took != lookupTimeout {
			t.Errorf("took %s, want %s", took, lookupTimeout)
		}
	})
}

func TestQueryContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		ended := newQueryContext(parent, time.Second)
		if ended.Err() != nil {
			t.Error("a new context has ended")
		}
		derived, cancelDerived := context.WithCancel(ended)
		defer cancelDerived()
		ended.end()
		<-derived.Done()

		late := newQueryContext(parent, time.Second)
		late.end()
		if late.Err() == nil {
			t.Error("a context that has ended goes on")
		}
		cancelled := newQueryContext(parent, time.Second)
		cancel()
		<-cancelled.Done()
	})
}

// checkPacked compares our bytes with those of the library.
func checkPacked(t *testing.T, m *dns.Msg) {
	t.Helper()
	ours, ok := new(packer).appendMessage([]byte("xx"), m)
	if !ok {
		return
	}
	theirs, err := m.Pack()
	if err != nil {
		t.Fatalf("packed what the library does not: %v: %v", err, m)
	}
	a, b := new(dns.Msg), new(dns.Msg)
	if err := a.Unpack(ours[2:]); err != nil {
		t.Fatalf("%v: %v", err, m)
	}
	if err := b.Unpack(theirs); err != nil {
		t.Fatal(err)
	}
	again, err := a.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, reference) {
		t.Errorf("got\n%v\nwant\n%v", a, b)
	}
}

func TestPackerAgreesWithTheLibrary(t *testing.T) {
	lookups := map[string]Lookup{"web": vectorLookup(), "big": bigLookup(300, map[string]string{"k": "v", "w": `back\slash`})}
	for service, lookup := range lookups {
		s := newServer(t, lookup)
		for _, compress := range []bool{true, false} {
			set := defaultSettings()
			set.DisableCompression = !compress
			if err := s.Reload(set); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{service + ".service.consul", "_" + service + "._tcp.service.Consul", "consul", "n01.node.consul",
				"ext1.node.consul", "none.service.consul", "example.com", "1.1.1.10.in-addr.arpa", ".", `a\.b.consul`} {
				for _, qtype := range []string{"A", "AAAA", "SRV", "SOA", "NS", "ANY", "TXT", "AXFR"} {
					for _, size := range []uint16{0, 1232, 65535} {
						request := question(name, qtype)
						if size > 0 {
							request.SetEdns0(size, false)
						}
						for _, transport := range []Transport{UDP, TCP} {
							reply := s.Answer(context.Background(), request, transport)
							checkPacked(t, reply)
							checkFits(t, request, reply, transport)
						}
					}
				}
			}
		}
	}
}

func TestPackerIsAsShortAsTheLibrary(t *testing.T) {
	for _, qtype := range []string{"A", "SRV"} {
		reply := newServer(t, bigLookup(200, nil)).Answer(context.Background(), question("big.service.consul", qtype), TCP)
		ours, ok := new(packer).appendMessage(nil, reply)
		if theirs := reply.Len(); !ok || len(ours) > theirs {
			t.Errorf("%s: got %d bytes, the library needs %d", qtype, len(ours), theirs)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, c := range [][2]string{{"web.service.consul", "A"}, {"_web._tcp.service.consul", "SRV"}, {"ext1.node.consul", "ANY"},
		{"0a010101.addr.consul", "A"}, {"1.1.1.10.in-addr.arpa", "PTR"}, {"consul", "SOA"}, {"loop.service.consul", "ANY"}} {
		for _, size := range []uint16{0, 600, 4096} {
			m := question(c[0], c[1])
			if size > 0 {
				m.SetEdns0(size, false)
				m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 8, Address: net.IPv4(10, 0, 0, 0)})
			}
			packed, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packed, size == 600)
		}
	}
	meta := map[string]string{"a=b": `c\`, "rfc1035-x": strings.Repeat("z", 600), "": ""}
	nodes := []*catalog.Node{
		{Name: "n1", Address: "10.1.1.1", Meta: meta},
		{Name: "odd name\\", Address: "host.example.com", Meta: meta},
		{Name: strings.Repeat("x", 70), Address: "2001:db8::1"},
	}
	var entries []health.Entry
	for i, address := range []string{"", "10.9.9.9", "loop.service.consul", "web.service.consul", "..", `a\`, strings.Repeat("l.", 120)} {
		entries = append(entries, instance(nodes[i%len(nodes)], catalog.Service{Address: address, Port: i * 20000}, health.Passing))
	}
	// Whatever is asked for exists.
	s := newServer(f, fakeLookup{
		service: func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, error) {
			return entries, nil
		},
		node: func(_ context.Context, _ mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, error) {
			return nodes[len(q.Name)%len(nodes)], nil
		},
		address: func(_ context.Context, _ mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, error) {
			return &catalog.AddressOwner{Node: nodes[len(q.Address)%len(nodes)]}, nil
		},
	})
	f.Fuzz(func(t *testing.T, query []byte, tcp bool) {
		transport, most := UDP, plainUDPSize
		if tcp {
			transport, most = TCP, 65535
		}
		sc := new(scratch)
		raw := s.respond(context.Background(), query, nil, transport, sc)
		if len(raw) == 0 {
			if len(query) >= headerSize && query[2]&0x80 == 0 {
				t.Fatal("a query got no reply")
			}
			return
		}
		if binary.BigEndian.Uint16(raw) != binary.BigEndian.Uint16(query) || raw[2]&0x80 == 0 {
			t.Fatalf("a reply to something else: % x", raw[:4])
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(raw); err != nil {
			t.Fatalf("the reply cannot be read: %v", err)
		}
		if len(raw) > headerSize {
			if opt := sc.request.IsEdns0(); opt != nil {
				most = max(most, int(opt.UDPSize()))
			}
			checkPacked(t, &sc.reply)
		}
		if len(raw) > most {
			t.Fatalf("the reply has %d bytes, want at most %d", len(raw), most)
		}
	})
}
