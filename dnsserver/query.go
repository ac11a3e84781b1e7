package dnsserver

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/health"
)

// query is one question on its way to its reply.
type query struct {
	server   *Server
	ctx      context.Context
	settings *settings
	random   *rand.Rand
	reply    *dns.Msg
	// sized says that the client told what it can take (RFC 6891).
	sized bool
	// room is how many answers may survive trimming. No more than one above it are
	// built, which shows that there are more.
	room int
	// chased are the names whose host names led here.
	chased []string

	// name and qtype are what was asked, in the client's letter case.
	name  string
	qtype uint16
	// zone is the zone that the name lies in, or nil.
	zone *zone
	// local is what stands left of the domain, in lower case and without its last
	// dot; suffix is the domain as the client wrote it.
	local, suffix string
	// nodes and addresses are those of the zone, with suffix as their end.
	nodes, addresses string

	// glueEnds holds, for each answer that others go with, how many additional
	// records there are up to and with its own. It is empty for other answers.
	glueEnds []int

	*memory
}

// memory is what one query needs and the next may use again.
type memory struct {
	records
	candidates []candidate
	answers    []dns.RR
	extra      []dns.RR
	ends       []int

	seenAddresses set[netip.Addr]
	seenServices  set[serviceKey]
	// packer packs the reply, and before that tells how long it will be.
	packer packer
	packed []byte
}

// newMemory has room for what most queries need.
func newMemory() *memory {
	const few = 4
	return &memory{
		records:    records{v4: make([]recordV4, 0, few)},
		candidates: make([]candidate, 0, few),
		answers:    make([]dns.RR, 0, few),
		extra:      make([]dns.RR, 0, few),
	}
}

// reset forgets what an earlier query left behind.
func (m *memory) reset() {
	m.records.reset()
	clear(m.candidates)
	clear(m.answers)
	clear(m.extra)
	m.candidates, m.answers, m.extra, m.ends = m.candidates[:0], m.answers[:0], m.extra[:0], m.ends[:0]
}

// ask sets what is asked, and finds the zone that it lies in.
func (q *query) ask(name string, qtype uint16) {
	q.name, q.qtype = name, qtype
	for i := range q.server.zones {
		z := &q.server.zones[i]
		at, ok := cutDomain(name, z.domain)
		if !ok {
			continue
		}
		q.zone = z
		q.suffix = name[at:]
		q.nodes, q.addresses = z.nodes, z.addresses
		if q.suffix != z.domain {
			q.nodes = strings.TrimSuffix(z.nodes, z.domain) + q.suffix
			q.addresses = strings.TrimSuffix(z.addresses, z.domain) + q.suffix
		}
		if at > 0 {
			q.local = strings.ToLower(name[:at-1])
		}
		return
	}
}

// resolve fills the reply.
func (q *query) resolve() {
	_, reverse := cutDomain(q.name, "arpa.")
	switch {
	case reverse:
		q.reply.Authoritative = true
		q.answerReverse()
	case q.zone != nil:
		q.reply.Authoritative = true
		q.resolveInZone()
	default:
		q.reply.Rcode = dns.RcodeRefused
	}
}

func (q *query) resolveInZone() {
	switch q.qtype {
	case dns.TypeSOA:
		q.answerSOA()
		return
	case dns.TypeNS:
		q.answerNS()
		return
	case dns.TypeAXFR:
		q.reply.Rcode = dns.RcodeNotImplemented
		return
	}
	n := parseName(q.local, q.qtype == dns.TypeSRV)
	switch {
	case n.kind == addressName: // whatever the locality says
		q.answerAddress(n)
	case !n.inDatacenter(q.server.config.Datacenter):
		q.noName()
	case n.kind == serviceName:
		q.answerService(n)
	case n.kind == nodeName:
		q.answerNode(n)
	case n.kind == virtualName: // no address is ever allotted
	default:
		q.noName()
	}
}

// noName says that there is no such name (RFC 2308 §2.1).
func (q *query) noName() {
	q.reply.Rcode = dns.RcodeNameError
	q.addSOA()
}

// noData says that the name has no records of this type, if there are none
// (RFC 2308 §2.2).
func (q *query) noData() {
	if len(q.reply.Answer) == 0 {
		q.addSOA()
	}
}

// addSOA adds the SOA of the zone, or of the first zone for names outside.
func (q *query) addSOA() {
	domain := q.server.config.Domain
	if q.zone != nil {
		domain = q.zone.domain
	}
	q.reply.Ns = append(q.reply.Ns, q.soa(domain))
}

// fail ends the query with a lookup's error.
func (q *query) fail(err error) {
	q.server.noteFailure(q.name, err)
	q.reply.Answer, q.reply.Ns, q.reply.Extra = nil, nil, nil
	q.reply.Rcode = rcodeOf(err)
	if q.reply.Rcode == dns.RcodeNameError {
		q.addSOA()
	}
}

// healthy are the instances that may be given out, in random order, those with
// more weight rather sooner if byWeight is set.
func (q *query) healthy(entries []health.Entry, byWeight bool) order {
	for i := range entries {
		if weight, ok := Judge(&entries[i], q.settings.OnlyPassing); ok {
			q.candidates = append(q.candidates, candidate{entry: &entries[i], weight: weight})
		}
	}
	if byWeight && len(q.candidates) > 0 {
		return shuffleByWeight(q.candidates, q.random)
	}
	return shuffle(q.candidates, q.random)
}

// addAnswer adds an answer that no others go with.
func (q *query) addAnswer(rr dns.RR) {
	q.reply.Answer = append(q.reply.Answer, rr)
}

// addExtra adds an additional record, if there is one.
func (q *query) addExtra(rr dns.RR) {
	if rr != nil {
		q.reply.Extra = append(q.reply.Extra, rr)
	}
}

// endGlue marks the additional records since the last mark as those that go with
// the last answer.
func (q *query) endGlue() {
	q.glueEnds = append(q.glueEnds, len(q.reply.Extra))
}

// chase follows a host name that lies inside one of the zones, and returns the
// addresses and further names that it leads to. Other names are left to the
// client.
func (q *query) chase(host string) []dns.RR {
	seen := func(name string) bool { return strings.EqualFold(name, host) }
	if len(q.chased) >= maxChaseDepth || seen(q.name) || slices.ContainsFunc(q.chased, seen) {
		return nil
	}
	next := &query{
		server:   q.server,
		ctx:      q.ctx,
		settings: q.settings,
		random:   q.random,
		reply:    new(dns.Msg),
		sized:    q.sized,
		room:     q.room,
		chased:   append(q.chased[:len(q.chased):len(q.chased)], q.name),
		memory:   new(memory),
	}
	next.ask(host, dns.TypeANY)
	if next.zone == nil {
		return nil
	}
	next.resolve()
	var found []dns.RR
	for _, rr := range next.reply.Answer {
		switch rr.Header().Rrtype {
		case dns.TypeCNAME, dns.TypeA, dns.TypeAAAA:
			if q.sized || len(found) < maxChasedRecords {
				found = append(found, rr)
			}
		}
	}
	return found
}

// chaseService is chase with the TTL of a service.
func (q *query) chaseService(host string, ttl uint32) []dns.RR {
	found := q.chase(host)
	for _, rr := range found {
		rr.Header().Ttl = ttl
	}
	return found
}
