package dnsserver

import (
	"sort"

	"github.com/miekg/dns"
)

// bounds are what a reply has to fit into.
type bounds struct {
	// answers is how many answers there may be.
	answers int
	// size is how many bytes the reply may have.
	size int
	// plain says that sizes count without compression. Old clients are told less
	// than they could take, which leaves room for what is on the way.
	plain bool
}

// sizer tells how long messages are in wire format.
type sizer interface{ size(m *dns.Msg) int }

// trim makes a message fit. Authority goes first, then metadata, then answers
// from the end, each with the additional records that go with it: glueEnds tells
// for each answer how many additional records there are up to its own, and is
// empty if none go with answers. One answer stays, unless it alone is too
// large. trim reports whether answers were left out, and whether it was all of
// them for their size.
func trim(m *dns.Msg, b bounds, glueEnds []int, z sizer) (cut, overflow bool) {
	extra := m.Extra
	if len(m.Answer) > b.answers {
		m.Answer = m.Answer[:b.answers]
		m.Extra = glueOf(extra, glueEnds, len(m.Answer))
		cut = true
	}
	if fits(m, b, z) {
		return cut, false
	}
	m.Ns = nil
	m.Extra = glueOf(extra, glueEnds, len(m.Answer))
	if fits(m, b, z) {
		return cut, false
	}
	all := m.Answer
	// The first n that does not fit is looked for; what comes before it does.
	n := sort.Search(len(all), func(n int) bool {
		m.Answer, m.Extra = all[:n+1], glueOf(extra, glueEnds, n+1)
		return !fits(m, b, z)
	})
	m.Answer, m.Extra = all[:n], glueOf(extra, glueEnds, n)
	if n == 0 && len(all) > 0 {
		m.Answer, m.Extra = all[:1], nil
		if !fits(m, b, z) {
			m.Answer = nil
			overflow = true
		}
	}
	return cut || len(m.Answer) < len(all), overflow
}

// glueOf are the additional records that go with the first n answers, without
// metadata.
func glueOf(extra []dns.RR, glueEnds []int, n int) []dns.RR {
	if n == 0 || len(glueEnds) < n {
		return nil
	}
	kept := make([]dns.RR, 0, glueEnds[n-1])
	for _, rr := range extra[:glueEnds[n-1]] {
		if rr.Header().Rrtype != dns.TypeTXT {
			kept = append(kept, rr)
		}
	}
	return kept
}

// fits reports whether a message is small enough. Compression is worked out only
// if it matters.
func fits(m *dns.Msg, b bounds, z sizer) bool {
	if length(m) <= b.size {
		return true
	}
	return m.Compress && !b.plain && z.size(m) <= b.size
}

// length is the size of a message without compression.
func length(m *dns.Msg) int {
	compress := m.Compress
	m.Compress = false
	n := m.Len()
	m.Compress = compress
	return n
}

// size packs the message.
func (m *memory) size(reply *dns.Msg) int {
	packed, ok := m.packer.appendMessage(m.packed[:0], reply)
	if !ok {
		return reply.Len()
	}
	m.packed = packed
	return len(packed)
}
