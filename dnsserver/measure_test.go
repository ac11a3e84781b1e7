package dnsserver

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestQueriesAreMeasuredByType(t *testing.T) {
	var kinds []string
	s := newServer(t, vectorLookup(), func(c *Config) {
		c.Measure = func(kind string, _ time.Duration) { kinds = append(kinds, kind) }
	})
	for _, qtype := range []uint16{dns.TypeA, dns.TypePTR, 65280} {
		s.Answer(t.Context(), new(dns.Msg).SetQuestion("nothing.node.consul.", qtype), UDP)
	}
	s.Answer(t.Context(), new(dns.Msg), UDP) // asks nothing
	if want := []string{"A", "PTR", "other"}; !slices.Equal(kinds, want) {
		t.Errorf("got %q, want %q", kinds, want)
	}
}
