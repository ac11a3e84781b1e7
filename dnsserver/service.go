package dnsserver

import (
	"math"
	"strings"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// answerService gives the addresses, or the SRV records, of the healthy
// instances of a service.
func (q *query) answerService(n name) {
	service, tag := n.service()
	ask := &health.ServiceQuery{Service: service}
	if tag != "" {
		ask.Tags = []string{tag}
	}
	entries, _, err := q.server.config.Lookup.Service(q.ctx, q.settings.read, ask)
	if err != nil {
		q.fail(err)
		return
	}
	isSRV := q.qtype == dns.TypeSRV
	// Clients weigh SRV records themselves.
	order := q.healthy(entries, !isSRV)
	if len(order.rest) == 0 {
		q.noName()
		return
	}
	ttl := q.settings.serviceTTL(service)
	if isSRV {
		q.addServiceRecords(&order, ttl)
	} else {
		q.addInstanceAddresses(&order, ttl)
	}
	q.noData()
}

// instancePlace is where an instance is reached, and whether that is the place
// of its node. An instance that stands at the very name that is asked for is
// reached at its node.
func (q *query) instancePlace(e *health.Entry) (p place, atNode bool) {
	own := e.Service.Address
	if own == "" || !strings.EqualFold(own, strings.TrimSuffix(q.name, ".")) && !strings.EqualFold(own, q.name) {
		p = servicePlace(e.Service, q.qtype)
		if own != "" || !p.none() {
			return p, false
		}
	}
	return nodePlace(e.Node, q.qtype), true
}

// addInstanceAddresses adds each address once. A host name is given only if no
// instance has an address, and then only one: a name has one alias (RFC 1034
// §3.6.2).
func (q *query) addInstanceAddresses(order *order, ttl uint32) {
	most := q.room + 1
	if limit := q.settings.ARecordLimit; limit > 0 {
		most = min(most, limit)
	}
	seen := q.addressSet()
	host := ""
	for e := order.next(); e != nil && len(q.reply.Answer) < most; e = order.next() {
		p, _ := q.instancePlace(e)
		switch {
		case !p.ip.IsValid():
			if host == "" {
				host = p.host
			}
		case q.qtype != dns.TypeA && q.qtype != dns.TypeAAAA && q.qtype != dns.TypeANY:
			return // there are addresses, and something else was asked for
		case seen.add(p.ip):
			q.addAnswer(q.addressRecord(q.name, p.ip, ttl))
		}
	}
	if len(q.reply.Answer) == 0 && host != "" {
		q.addAnswer(aliasRecord(q.name, host, ttl))
		q.reply.Answer = append(q.reply.Answer, q.chaseService(host, ttl)...)
	}
}

// addServiceRecords adds the SRV records of the instances (RFC 2782), each with
// the addresses of its target and the metadata of its node.
func (q *query) addServiceRecords(order *order, ttl uint32) {
	seen := q.serviceSet()
	for e, weight := order.nextWeighted(); e != nil && len(q.reply.Answer) <= q.room; e, weight = order.nextWeighted() {
		if !seen.add(keyOf(e.Service)) {
			continue
		}
		p, atNode := q.instancePlace(e)
		target, ok := q.serviceTarget(e.Node, p, atNode)
		if !ok {
			continue
		}
		q.addAnswer(q.serviceRecord(q.name, uint16Of(weight), uint16Of(e.Service.Port), target, ttl))
		if p.ip.IsValid() {
			q.addExtra(q.addressRecord(target, p.ip, ttl))
		} else {
			q.reply.Extra = append(q.reply.Extra, q.chaseService(target, ttl)...)
		}
		if q.settings.EnableAdditionalNodeMetaTXT && len(e.Node.Meta) > 0 {
			if owner, ok := q.nodeTarget(e.Node.Name); ok {
				q.addMetadata(&q.reply.Extra, owner, e.Node, ttl)
			}
		}
		q.endGlue()
	}
}

// serviceTarget is the name that an SRV record points to: that of the node if the
// instance is reached there, else one that spells the address.
func (q *query) serviceTarget(node *catalog.Node, p place, atNode bool) (string, bool) {
	if p.host != "" {
		return p.host, true
	}
	if !p.ip.IsValid() {
		return "", false
	}
	if atNode {
		if target, ok := q.nodeTarget(node.Name); ok {
			return target, true
		}
	}
	target := addressLabel(p.ip) + q.addresses
	return target, q.zone.targets && len(target) < maxNameText
}

// nodeTarget is the full name of a node, in its stored letter case, if a message
// can carry it.
func (q *query) nodeTarget(node string) (string, bool) {
	if q.zone.targets && plainLabel(node) && len(node)+len(q.nodes) < maxNameText {
		return node + q.nodes, true
	}
	target := escape(node, true) + q.nodes
	return target, validName(target)
}

// addMetadata adds each pair of a node's metadata.
func (q *query) addMetadata(to *[]dns.RR, owner string, n *catalog.Node, ttl uint32) {
	for key, value := range n.Meta {
		*to = append(*to, metadataRecord(owner, key, value, ttl))
	}
}

// uint16Of keeps a number within 16 bits.
func uint16Of(n int) uint16 { return uint16(max(0, min(n, math.MaxUint16))) }

// serviceKey is what tells SRV records apart.
type serviceKey struct {
	node, address string
	port          int
}

func keyOf(s *catalog.Service) serviceKey { return serviceKey{s.Node, s.Address, s.Port} }
