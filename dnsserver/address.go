package dnsserver

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
)

// addressLabel spells an address as 8 or 32 hexadecimal digits.
func addressLabel(ip netip.Addr) string {
	var digits [32]byte
	if ip.Is4() {
		four := ip.As4()
		return string(hex.AppendEncode(digits[:0], four[:]))
	}
	sixteen := ip.As16()
	return string(hex.AppendEncode(digits[:0], sixteen[:]))
}

// parseAddressLabel reads what addressLabel writes, or returns the zero Addr.
func parseAddressLabel(s string) netip.Addr {
	var b [16]byte
	if len(s) != 8 && len(s) != 32 {
		return netip.Addr{}
	}
	n, err := hex.Decode(b[:], []byte(s))
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(b[:n])
	return ip
}

// answerAddress gives the address that the name spells. It asks nobody.
func (q *query) answerAddress(n name) {
	ip := parseAddressLabel(n.labels)
	if !ip.IsValid() {
		q.noName()
		return
	}
	record := q.addressRecord(q.local+"."+q.suffix, ip, q.settings.nodeTTL)
	if q.qtype == dns.TypeANY || q.qtype == record.Header().Rrtype {
		q.addAnswer(record)
	} else {
		q.addExtra(record)
	}
}

// answerReverse gives the name of the node or the service that has the address
// which the name spells backwards (RFC 1035 §3.5, RFC 3596 §2.5). If it cannot be
// looked up there is no such name.
func (q *query) answerReverse() {
	if q.qtype == dns.TypeSOA {
		defer func() {
			if q.reply.Rcode == dns.RcodeSuccess {
				q.addSOA()
			}
		}()
	}
	ip := parseReverse(q.name)
	if !ip.IsValid() {
		q.noName()
		return
	}
	owner, _, err := q.server.config.Lookup.Address(q.ctx, q.settings.read, &catalog.AddressQuery{Address: ip.String()})
	if err != nil {
		q.server.noteFailure(q.name, err)
	}
	target := ""
	if err == nil && owner != nil {
		target = q.server.ownerName(owner)
	}
	if !validName(target) {
		q.noName()
		return
	}
	q.addAnswer(&dns.PTR{Hdr: header(q.name, dns.TypePTR, 0), Ptr: target})
}

// ownerName is the full name of who has an address, in the first domain.
func (s *Server) ownerName(owner *catalog.AddressOwner) string {
	switch {
	case owner.Service != nil && owner.Service.Name != "":
		return escape(owner.Service.Name, false) + ".service." + s.config.Datacenter + "." + s.config.Domain
	case owner.Node != nil:
		return escape(owner.Node.Name, true) + ".node." + s.config.Datacenter + "." + s.config.Domain
	default:
		return ""
	}
}

// parseReverse reads a name under in-addr.arpa or ip6.arpa, or returns the zero
// Addr.
func parseReverse(s string) netip.Addr {
	if at, ok := cutDomain(s, "in-addr.arpa."); ok && at > 0 {
		return parseReverseV4(s[:at-1])
	}
	if at, ok := cutDomain(s, "ip6.arpa."); ok && at > 0 {
		return parseReverseV6(s[:at-1])
	}
	return netip.Addr{}
}

func parseReverseV4(s string) netip.Addr {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

func parseReverseV6(s string) netip.Addr {
	const digits = 32
	if len(s) != 2*digits-1 {
		return netip.Addr{}
	}
	var text [digits]byte
	for i := range text {
		at := 2 * (digits - 1 - i)
		if at+1 < len(s) && s[at+1] != '.' {
			return netip.Addr{}
		}
		text[i] = s[at]
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], text[:]); err != nil {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b)
}
