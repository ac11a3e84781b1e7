package dnsserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// bigLookup has a service of n instances on nodes of their own.
func bigLookup(n int, meta map[string]string) Lookup {
	var entries []health.Entry
	for i := range n {
		node := &catalog.Node{Name: fmt.Sprintf("n%02d", i), Address: fmt.Sprintf("10.3.%d.%d", i/250, i%250), Meta: meta}
		entries = append(entries, instance(node, catalog.Service{Name: "big", Port: 8000 + i}))
	}
	return lookupIn(entries)
}

func TestSizes(t *testing.T) {
	truncate := func(c *Config) { c.Settings.EnableTruncate = true }
	answerLimit := func(n int) func(*Config) { return func(c *Config) { c.Settings.UDPAnswerLimit = n } }
	recordLimit := func(c *Config) { c.Settings.ARecordLimit = 2 }
	plain := func(c *Config) { c.Settings.DisableCompression = true }
	for _, c := range []struct {
		name      string
		qtype     string
		transport Transport
		edns      uint16
		change    []func(*Config)
		instances int
		answers   int
		truncated bool
	}{
		{name: "addresses without EDNS", qtype: "A", answers: 3},
		{name: "addresses without EDNS, told", qtype: "A", answers: 3, change: []func(*Config){truncate}, truncated: true},
		{name: "EDNS of 512 is as none", qtype: "A", edns: 512, answers: 3},
		{name: "EDNS below 512", qtype: "A", edns: 100, answers: 3},
		{name: "EDNS of 600", qtype: "A", edns: 600, answers: 34},
		{name: "EDNS of 600, told", qtype: "A", edns: 600, answers: 34, change: []func(*Config){truncate}, truncated: true},
		{name: "EDNS of 1232", qtype: "A", edns: 1232, answers: 40, change: []func(*Config){truncate}},
		{name: "SRV without EDNS", qtype: "SRV", answers: 3},
		{name: "SRV with EDNS of 600", qtype: "SRV", edns: 600, answers: 10},
		{name: "SRV with EDNS of 1232", qtype: "SRV", edns: 1232, answers: 21},
		{name: "SRV with EDNS of 4096", qtype: "SRV", edns: 4096, answers: 40},
		{name: "TCP", qtype: "A", transport: TCP, answers: 40, change: []func(*Config){truncate}},
		{name: "SRV by TCP", qtype: "SRV", transport: TCP, answers: 40},
		{name: "at most two addresses", qtype: "A", answers: 2, change: []func(*Config){recordLimit, truncate}},
		{name: "at most two addresses by TCP", qtype: "A", transport: TCP, answers: 2, change: []func(*Config){recordLimit}},
		{name: "that limit is not for SRV", qtype: "SRV", transport: TCP, answers: 40, change: []func(*Config){recordLimit}},
		{name: "a higher limit", qtype: "A", answers: 8, change: []func(*Config){answerLimit(20)}},
		{name: "a limit of zero", qtype: "A", answers: 0, change: []func(*Config){answerLimit(0)}},
		{name: "as many as the limit", qtype: "A", instances: 3, answers: 3, change: []func(*Config){truncate}},
		{name: "without compression", qtype: "A", edns: 600, answers: 16, change: []func(*Config){plain}},
		{name: "very many by TCP", qtype: "A", transport: TCP, instances: 5000, answers: 4092},
		{name: "very many SRV by TCP", qtype: "SRV", transport: TCP, instances: 5000, answers: 1024},
		{name: "very many by UDP", qtype: "A", edns: 65535, instances: 5000, answers: 4088},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.instances == 0 {
				c.instances = 40
			}
			s := newServer(t, bigLookup(c.instances, nil), c.change...)
			request := question("big.service.consul", c.qtype)
			if c.edns > 0 {
				request.SetEdns0(c.edns, true)
			}
			reply := s.Answer(context.Background(), request, c.transport)
			if len(reply.Answer) != c.answers || reply.Truncated != c.truncated {
				t.Errorf("got %d answers, truncated %v, want %d, %v", len(reply.Answer), reply.Truncated, c.answers, c.truncated)
			}
			checkFits(t, request, reply, c.transport)
			if c.qtype == "SRV" {
				checkGlue(t, reply)
			}
		})
	}
}

// checkFits checks that the client can take the reply, and that its OPT record
// came back.
func checkFits(t *testing.T, request, reply *dns.Msg, transport Transport) {
	t.Helper()
	packed, err := reply.Pack()
	if err != nil {
		t.Fatal(err)
	}
	most := 512
	asked, told := request.IsEdns0(), reply.IsEdns0()
	if asked != nil {
		most = max(most, int(asked.UDPSize()))
	}
	if transport == TCP {
		most = 65535
	}
	if len(packed) > most {
		t.Errorf("the reply has %d bytes, want at most %d", len(packed), most)
	}
	switch {
	case (asked == nil) != (told == nil):
		t.Errorf("EDNS: asked %v, told %v", asked, told)
	case told != nil && (told.UDPSize() != asked.UDPSize() || told.Do() || told.Version() != 0):
		t.Errorf("EDNS: told %v", told)
	}
}

// checkGlue checks that the addresses are those of the targets.
func checkGlue(t *testing.T, reply *dns.Msg) {
	t.Helper()
	var targets, owners []string
	for _, rr := range reply.Answer {
		targets = append(targets, rr.(*dns.SRV).Target)
	}
	for _, rr := range reply.Extra {
		if rr.Header().Rrtype == dns.TypeA {
			owners = append(owners, rr.Header().Name)
		}
	}
	if !slices.Equal(targets, owners) {
		t.Errorf("targets %q, but addresses for %q", targets, owners)
	}
}

func TestMetadataGoesBeforeAnswers(t *testing.T) {
	s := newServer(t, bigLookup(3, map[string]string{"note": strings.Repeat("x", 200)}))
	for _, c := range []struct {
		edns  uint16
		texts int
	}{{0, 0}, {600, 0}, {1232, 3}} {
		request := question("big.service.consul", "SRV")
		if c.edns > 0 {
			request.SetEdns0(c.edns, false)
		}
		reply := s.Answer(context.Background(), request, UDP)
		texts := 0
		for _, rr := range reply.Extra {
			if rr.Header().Rrtype == dns.TypeTXT {
				texts++
			}
		}
		if len(reply.Answer) != 3 || texts != c.texts {
			t.Errorf("EDNS %d: %d answers with %d texts, want 3 with %d", c.edns, len(reply.Answer), texts, c.texts)
		}
		checkFits(t, request, reply, UDP)
		checkGlue(t, reply)
	}
}

// One record can be too large for a client without EDNS. It is told to come back
// by TCP, whatever the settings: it would take an empty answer for the truth.
func TestAnswerTooLargeByItself(t *testing.T) {
	name := strings.Repeat("long.", 40) + "name"
	node := &catalog.Node{Name: name, Address: "10.0.0.1", Meta: map[string]string{"note": strings.Repeat("y", 400)}}
	s := newServer(t, lookupIn(nil, node))
	request := question(name+".node.consul", "TXT")
	reply := s.Answer(context.Background(), request, UDP)
	if len(reply.Answer) != 0 || !reply.Truncated {
		t.Errorf("got %d answers, truncated %v", len(reply.Answer), reply.Truncated)
	}
	checkFits(t, request, reply, UDP)

	reply = s.Answer(context.Background(), request, TCP)
	if len(reply.Answer) != 1 {
		t.Fatalf("by TCP: got %v", reply)
	}
	if text := strings.Join(reply.Answer[0].(*dns.TXT).Txt, ""); text != "note="+strings.Repeat("y", 400) {
		t.Errorf("got %q", text)
	}
}

func TestAnswersAreDrawnFromAll(t *testing.T) {
	s := newServer(t, bigLookup(40, nil))
	seen := map[string]bool{}
	for range 400 {
		for _, line := range lines(s.Answer(context.Background(), question("big.service.consul", "A"), UDP).Answer) {
			seen[line] = true
		}
	}
	if len(seen) != 40 {
		t.Errorf("400 replies named %d of 40 instances", len(seen))
	}
}
