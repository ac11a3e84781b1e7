package dnsserver

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// header is the header of a record of class IN.
func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// records is the memory of the records of one message, which is used again for
// the next. A slice that grows leaves its old rows, to which the message points,
// where they are.
type records struct {
	v4  []recordV4
	v6  []recordV6
	srv []dns.SRV
}

type recordV4 struct {
	rr dns.A
	ip [4]byte
}

type recordV6 struct {
	rr dns.AAAA
	ip [16]byte
}

func (r *records) reset() {
	r.v4, r.v6, r.srv = r.v4[:0], r.v6[:0], r.srv[:0]
}

// addressRecord is an A or AAAA record.
func (r *records) addressRecord(owner string, ip netip.Addr, ttl uint32) dns.RR {
	if ip.Is4() {
		r.v4 = append(r.v4, recordV4{ip: ip.As4()})
		last := &r.v4[len(r.v4)-1]
		last.rr = dns.A{Hdr: header(owner, dns.TypeA, ttl), A: last.ip[:]}
		return &last.rr
	}
	r.v6 = append(r.v6, recordV6{ip: ip.As16()})
	last := &r.v6[len(r.v6)-1]
	last.rr = dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: last.ip[:]}
	return &last.rr
}

// serviceRecord is an SRV record.
func (r *records) serviceRecord(owner string, weight, port uint16, target string, ttl uint32) dns.RR {
	r.srv = append(r.srv, dns.SRV{
		Hdr: header(owner, dns.TypeSRV, ttl), Priority: 1, Weight: weight, Port: port, Target: target,
	})
	return &r.srv[len(r.srv)-1]
}

func aliasRecord(owner, target string, ttl uint32) dns.RR {
	return &dns.CNAME{Hdr: header(owner, dns.TypeCNAME, ttl), Target: target}
}

// metadataRecord is a pair of a node's metadata as a TXT record. Long texts are
// parted into several strings, which readers put together again.
func metadataRecord(owner, key, value string, ttl uint32) dns.RR {
	text := metadataText(key, value)
	var parts []string
	for len(text) > maxTXTString {
		parts = append(parts, escapeText(text[:maxTXTString]))
		text = text[maxTXTString:]
	}
	return &dns.TXT{Hdr: header(owner, dns.TypeTXT, ttl), Txt: append(parts, escapeText(text))}
}

// metadataText writes a pair in the form of RFC 1464: a backquote comes before
// what would otherwise be read wrongly. Keys that begin with "rfc1035-" are not
// written at all.
func metadataText(key, value string) string {
	const bare = "rfc1035-"
	if len(key) >= len(bare) && strings.EqualFold(key[:len(bare)], bare) {
		return value
	}
	if strings.ContainsAny(key, "`= ") {
		key = escapeKey(key)
	}
	if strings.IndexByte(value, '`') >= 0 {
		value = strings.ReplaceAll(value, "`", "``")
	}
	return key + "=" + value
}

// escapeKey quotes backquotes and equals signs, and spaces at either end.
func escapeKey(key string) string {
	first := len(key) - len(strings.TrimLeft(key, " "))
	last := len(strings.TrimRight(key, " "))
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c == '`' || c == '=' || c == ' ' && (i < first || i >= last) {
			b.WriteByte('`')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// escapeText doubles backslashes, which the library takes for escapes.
func escapeText(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return strings.ReplaceAll(s, `\`, `\\`)
}
