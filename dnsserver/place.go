package dnsserver

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
)

// place is where a node or an instance is reached: at an address, by the name of
// a host, or not at all.
type place struct {
	ip   netip.Addr
	host string // fully qualified
}

func (p place) none() bool { return !p.ip.IsValid() && p.host == "" }

// Tags of addresses that are for one family.
const (
	tagIPv4 = "lan_ipv4"
	tagIPv6 = "lan_ipv6"
)

// nodePlace is where a node is reached by those who ask for a type of record.
func nodePlace(n *catalog.Node, qtype uint16) place {
	if len(n.TaggedAddresses) == 0 {
		return choosePlace(n.Address, "", "", qtype)
	}
	return choosePlace(n.Address, n.TaggedAddresses[tagIPv4], n.TaggedAddresses[tagIPv6], qtype)
}

// servicePlace is where an instance says that it is reached; its node's place
// holds if it says nothing.
func servicePlace(s *catalog.Service, qtype uint16) place {
	if len(s.TaggedAddresses) == 0 {
		if s.Address == "" {
			return place{}
		}
		return choosePlace(s.Address, "", "", qtype)
	}
	return choosePlace(s.Address, s.TaggedAddresses[tagIPv4].Address, s.TaggedAddresses[tagIPv6].Address, qtype)
}

// choosePlace picks from a plain address and the tagged ones of both families.
// Who asks for one family gets no other, and who asks for any gets the tagged
// address of IPv6 before that of IPv4, and both before the plain one. A tagged
// address of the wrong family does not count.
func choosePlace(plain, v4, v6 string, qtype uint16) place {
	if qtype != dns.TypeA && v6 != "" {
		if ip := parseIP(v6); ip.Is6() {
			return place{ip: ip}
		}
	}
	if qtype != dns.TypeAAAA && v4 != "" {
		if ip := parseIP(v4); ip.Is4() {
			return place{ip: ip}
		}
	}
	if plain == "" {
		return place{}
	}
	ip := parseIP(plain)
	switch {
	case !ip.IsValid():
		return hostPlace(plain)
	case qtype == dns.TypeA && !ip.Is4(), qtype == dns.TypeAAAA && !ip.Is6():
		return place{}
	default:
		return place{ip: ip}
	}
}

func hostPlace(host string) place {
	host = dns.Fqdn(host)
	if !validName(host) {
		return place{}
	}
	return place{host: host}
}

// parseIP reads an address, or returns the zero Addr. The zone of a link-local
// address means nothing to others and is cut off.
func parseIP(s string) netip.Addr {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap().WithZone("")
}
