package dnsserver

import (
	"cmp"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// zone is a domain that the server has authority over.
type zone struct {
	// domain is in lower case, with a trailing dot.
	domain string
	// nodes and addresses follow the name of a node, and the digits of an address,
	// to make a full name.
	nodes, addresses string
	// targets says that such names fit into messages, which a datacenter that is
	// no DNS label prevents.
	targets bool
}

func newZone(domain, datacenter string) zone {
	return zone{
		targets:   plainLabel(datacenter),
		domain:    domain,
		nodes:     ".node." + datacenter + "." + domain,
		addresses: ".addr." + datacenter + "." + domain,
	}
}

// newZones orders the domains by falling length, so that the one that lies
// within the other is found first.
func newZones(datacenter string, domains ...string) []zone {
	var zones []zone
	for _, d := range domains {
		if d != "" {
			zones = append(zones, newZone(d, datacenter))
		}
	}
	slices.SortStableFunc(zones, func(a, b zone) int { return cmp.Compare(len(b.domain), len(a.domain)) })
	return zones
}

// cutDomain returns the length of what is left of domain in name, with its last
// dot, and whether name is domain or lies under it. Letter case does not matter.
func cutDomain(name, domain string) (int, bool) {
	at := len(name) - len(domain)
	if at < 0 || !strings.EqualFold(name[at:], domain) {
		return 0, false
	}
	return at, at == 0 || name[at-1] == '.' && !escaped(name, at-1)
}

// soa is the zone's SOA record.
func (q *query) soa(domain string) dns.RR {
	set := q.settings
	return &dns.SOA{
		Hdr:     header(domain, dns.TypeSOA, set.SOA.MinTTL),
		Ns:      "ns." + domain,
		Mbox:    "hostmaster." + domain,
		Serial:  uint32(q.server.config.Now().Unix()),
		Refresh: set.SOA.Refresh,
		Retry:   set.SOA.Retry,
		Expire:  set.SOA.Expire,
		Minttl:  set.SOA.MinTTL,
	}
}

// answerSOA gives the zone's SOA, and its name servers beside it.
func (q *query) answerSOA() {
	q.reply.Answer = append(q.reply.Answer, q.soa(q.zone.domain))
	for _, n := range q.nameServers() {
		q.reply.Ns = append(q.reply.Ns, n.record)
		q.addExtra(n.glue)
	}
}

// answerNS gives the zone's name servers.
func (q *query) answerNS() {
	for _, n := range q.nameServers() {
		q.reply.Answer = append(q.reply.Answer, n.record)
		q.addExtra(n.glue)
		q.endGlue()
	}
}

// nameServer is an NS record with the address of its target, if that has one.
type nameServer struct{ record, glue dns.RR }

// nameServers picks healthy servers at random. If they cannot be looked up there
// are none: the zone's own records are worth having even then.
func (q *query) nameServers() []nameServer {
	entries, _, err := q.server.config.Lookup.Service(q.ctx, q.settings.read, &health.ServiceQuery{Service: catalog.ServerService})
	if err != nil {
		q.server.noteFailure(q.name, err)
		return nil
	}
	order := q.healthy(entries, false)
	servers := make([]nameServer, 0, maxNameServers)
	for e := order.next(); e != nil && len(servers) < maxNameServers; e = order.next() {
		if !safeLabel(e.Node.Name) {
			continue
		}
		target := strings.ToLower(e.Node.Name + q.nodes)
		if !validName(target) || slices.ContainsFunc(servers, func(n nameServer) bool { return n.record.(*dns.NS).Ns == target }) {
			continue
		}
		ttl := q.settings.nodeTTL
		ns := nameServer{record: &dns.NS{Hdr: header(q.suffix, dns.TypeNS, ttl), Ns: target}}
		if place := nodePlace(e.Node, dns.TypeANY); place.ip.IsValid() {
			ns.glue = q.addressRecord(target, place.ip, ttl)
		}
		servers = append(servers, ns)
	}
	return servers
}
