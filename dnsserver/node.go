package dnsserver

import (
	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
)

// answerNode gives the address and the metadata of a node, be it healthy or not.
func (q *query) answerNode(n name) {
	node, _, err := q.server.config.Lookup.Node(q.ctx, q.settings.read, &catalog.NodeQuery{Name: unescape(n.labels)})
	switch {
	case err != nil:
		q.fail(err)
		return
	case node == nil:
		q.noName()
		return
	}
	ttl := q.settings.nodeTTL
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA:
		q.addNodeAddress(node, ttl)
		if q.settings.EnableAdditionalNodeMetaTXT {
			q.addMetadata(&q.reply.Extra, q.name, node, ttl)
		}
	case dns.TypeANY:
		q.addNodeAddress(node, ttl)
		q.addMetadata(&q.reply.Answer, q.name, node, ttl)
	case dns.TypeTXT:
		q.addMetadata(&q.reply.Answer, q.name, node, ttl)
	}
}

func (q *query) addNodeAddress(node *catalog.Node, ttl uint32) {
	p := nodePlace(node, q.qtype)
	if p.ip.IsValid() {
		q.addAnswer(q.addressRecord(q.name, p.ip, ttl))
		return
	}
	if p.host != "" {
		q.addAnswer(aliasRecord(q.name, p.host, ttl))
		q.reply.Answer = append(q.reply.Answer, q.chase(p.host)...)
	}
}
