package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unixScheme begins the path of a unix socket.
const unixScheme = "unix://"

// off is the port of what does not listen.
const off = -1

func (r *resolver) ports() {
	p := &r.out.Ports
	p.DNS = r.number("ports.dns")
	p.HTTP = r.number("ports.http")
	p.Server = r.number("ports.server")
	p.SerfLAN = r.number("ports.serf_lan")
	p.SerfWAN = r.number("ports.serf_wan")
	for _, path := range []string{"ports.server", "ports.serf_lan"} {
		if port := r.number(path); port <= 0 {
			r.fail(path, " must be from 1 to %d, but is %d: it cannot be off", MaxPort, port)
		}
	}
	// What is not there does not listen, whatever was asked for.
	p.HTTPS, p.GRPC, p.GRPCTLS = off, off, off
	for _, path := range []string{"ports.grpc", "ports.grpc_tls"} {
		if r.number(path) > 0 {
			r.note(path, " = %d has no effect: the service mesh is not supported, and nothing listens there", r.number(path))
		}
	}
	r.https()
	for _, what := range []string{"sidecar", "proxy", "expose"} {
		low, high := "ports."+what+"_min_port", "ports."+what+"_max_port"
		if r.given(low) && r.given(high) && r.number(low) > r.number(high) {
			r.fail(high, " = %d is less than %s = %d", r.number(high), low, r.number(low))
		}
	}
}

// https refuses an HTTPS port with a certificate. Without one there would be no
// HTTPS anyway.
func (r *resolver) https() {
	port := r.number("ports.https")
	if port <= 0 {
		return
	}
	for _, path := range []string{"tls.https.cert_file", "tls.defaults.cert_file"} {
		if r.text(path) != "" {
			r.fail("ports.https", " = %d with the certificate of %s is refused: HTTPS is not supported yet, and the agent would only answer in the clear", port, path)
			return
		}
	}
	r.note("ports.https", " = %d has no effect: there is no certificate, and nothing listens there", port)
}

func (r *resolver) addresses() {
	c := r.out
	c.BindAddr = r.address("bind_addr")
	if !c.BindAddr.IsValid() && r.text("bind_addr") == "" {
		r.fail("bind_addr", " must not be empty")
	}
	c.AdvertiseIPv4 = r.family("advertise_addr_ipv4", netip.Addr.Is4)
	c.AdvertiseIPv6 = r.family("advertise_addr_ipv6", netip.Addr.Is6)
	c.AdvertiseWANIPv4 = r.family("advertise_addr_wan_ipv4", netip.Addr.Is4)
	c.AdvertiseWANIPv6 = r.family("advertise_addr_wan_ipv6", netip.Addr.Is6)

	c.AdvertiseAddr = r.advertised("advertise_addr")
	if !c.AdvertiseAddr.IsValid() && c.BindAddr.IsValid() && r.text("advertise_addr") == "" {
		c.AdvertiseAddr = r.defaultAdvertise()
	}
	c.AdvertiseAddrWAN = r.advertised("advertise_addr_wan")
	if !c.AdvertiseAddrWAN.IsValid() {
		c.AdvertiseAddrWAN = c.AdvertiseAddr
	}
	fill(c.AdvertiseAddr, &c.AdvertiseIPv4, &c.AdvertiseIPv6)
	fill(c.AdvertiseAddrWAN, &c.AdvertiseWANIPv4, &c.AdvertiseWANIPv6)
}

// fill sets the address of main's family if it is not set.
func fill(main netip.Addr, v4, v6 *netip.Addr) {
	switch {
	case main.Is4() && !v4.IsValid():
		*v4 = main
	case main.Is6() && !v6.IsValid():
		*v6 = main
	}
}

// expanded returns the words of a setting of addresses, with its template filled
// in.
func (r *resolver) expanded(path string) []string {
	return r.filled(r.in[path].pos, path, r.text(path))
}

// filled returns the words of a text, with its template filled in.
func (r *resolver) filled(pos Pos, path, text string) []string {
	if strings.Contains(text, "{{") {
		filled, err := r.host.expand(text)
		if err != nil {
			r.errs.add(pos, "%s: cannot fill in the template %q: %v", path, shorten(text), err)
			return nil
		}
		if strings.TrimSpace(filled) == "" {
			r.errs.add(pos, "%s: the template %q gives no address", path, shorten(text))
		}
		text = filled
	}
	return strings.Fields(text)
}

// address returns the one IP address of a setting, or an invalid one if the
// setting is empty or wrong.
func (r *resolver) address(path string) netip.Addr {
	words := r.expanded(path)
	switch len(words) {
	case 0:
		return netip.Addr{}
	case 1:
		return r.ip(path, words[0])
	}
	r.fail(path, " must be one address, but there are %d: %s", len(words), strings.Join(words, ", "))
	return netip.Addr{}
}

func (r *resolver) ip(path, word string) netip.Addr {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(word, "["), "]"))
	if err != nil {
		r.fail(path, " must be an IP address, but is %q", shorten(word))
		return netip.Addr{}
	}
	return ip.Unmap()
}

// advertised returns the address of a setting that others are told.
func (r *resolver) advertised(path string) netip.Addr {
	ip := r.address(path)
	if ip.IsValid() && ip.IsUnspecified() {
		r.fail(path, " = %s cannot be reached by others", ip)
		return netip.Addr{}
	}
	return ip
}

func (r *resolver) family(path string, belongs func(netip.Addr) bool) netip.Addr {
	ip := r.advertised(path)
	if ip.IsValid() && !belongs(ip) {
		r.fail(path, " = %s is of the other family", ip)
		return netip.Addr{}
	}
	return ip
}

// defaultAdvertise returns the address that others are told if nobody said
// which: the one that is listened on, or else the only one that fits.
func (r *resolver) defaultAdvertise() netip.Addr {
	bind, explicit := r.out.BindAddr, r.out.AdvertiseIPv4
	fits, what := privateIPv4, "private IPv4"
	if bind.Is6() {
		fits, what, explicit = publicIPv6, "public IPv6", r.out.AdvertiseIPv6
	}
	switch {
	case !bind.IsUnspecified():
		return bind
	case explicit.IsValid():
		return explicit
	}
	all, err := r.host.addresses()
	if err != nil {
		r.fail("advertise_addr", " is not set, and the addresses of this host cannot be found: %v", err)
		return netip.Addr{}
	}
	var found []netip.Addr
	for _, ip := range all {
		if fits(ip) && !slices.Contains(found, ip) {
			found = append(found, ip)
		}
	}
	switch len(found) {
	case 1:
		return found[0]
	case 0:
		if r.out.DataDir == "" && !r.out.Dev && !r.given("bind_addr") {
			break // who has set nothing is told the first thing to set
		}
		r.fail("advertise_addr", " must be set: with bind_addr = %q others are told the %s address of this host, but it has none (its addresses: %s)", bind, what, names(all))
	default:
		if r.out.DataDir == "" && !r.out.Dev && !r.given("bind_addr") {
			break
		}
		r.fail("advertise_addr", " must be set: with bind_addr = %q others are told the %s address of this host, but it has %d: %s", bind, what, len(found), names(found))
	}
	return netip.Addr{}
}

// privateIPv4 reports whether an address is of a private network (RFC 1918) or
// shared by a carrier (RFC 6598).
func privateIPv4(ip netip.Addr) bool {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
	return ip.Is4() && (ip.IsPrivate() || shared.Contains(ip))
}

// publicIPv6 reports whether an address is neither unique local (RFC 4193) nor
// of a single link.
func publicIPv6(ip netip.Addr) bool {
	return ip.Is6() && ip.IsGlobalUnicast() && !ip.IsPrivate()
}

func names(ips []netip.Addr) string {
	if len(ips) == 0 {
		return "none"
	}
	var text []string
	for _, ip := range ips {
		text = append(text, ip.String())
	}
	return strings.Join(text, ", ")
}

// listener is where something listens.
type listener struct {
	what string
	path string // the key of its port
	at   netip.AddrPort
}

// listeners finds the addresses of HTTP and DNS, and refuses two listeners at
// one place.
func (r *resolver) listeners() {
	c := r.out
	for _, word := range r.expanded("client_addr") {
		if ip := r.ip("client_addr", word); ip.IsValid() {
			c.ClientAddrs = append(c.ClientAddrs, ip.String())
		}
	}
	if r.text("client_addr") == "" {
		r.note("client_addr", " is empty: HTTP and DNS listen nowhere, unless addresses say where")
	}
	dns, _ := r.client("DNS", "dns", c.Ports.DNS, false)
	http, sockets := r.client("HTTP", "http", c.Ports.HTTP, true)
	c.DNSAddrs = places(dns)
	c.HTTPAddrs = append(places(http), sockets...)
	if len(sockets) > 0 {
		r.owners()
	}

	all := slices.Concat(dns, http)
	for _, l := range []struct {
		what, path string
		ip         netip.Addr
		port       int
	}{
		{"server RPC", "ports.server", c.BindAddr, c.Ports.Server},
		{"LAN gossip", "ports.serf_lan", c.SerfLANAddr, c.Ports.SerfLAN},
		{"WAN gossip", "ports.serf_wan", r.wan, c.Ports.SerfWAN},
	} {
		if l.ip.IsValid() && l.port > 0 {
			all = append(all, listener{l.what, l.path, netip.AddrPortFrom(l.ip, uint16(l.port))})
		}
	}
	r.clashes(all)
}

// owners checks who unix sockets are to belong to.
func (r *resolver) owners() {
	if name := r.out.UnixSocketUser; name != "" && !r.host.hasUser(name) {
		r.fail("unix_sockets.user", " = %q: there is no such user on this machine", shorten(name))
	}
	if name := r.out.UnixSocketGroup; name != "" && !r.host.hasGroup(name) {
		r.fail("unix_sockets.group", " = %q: there is no such group on this machine", shorten(name))
	}
}

// client returns where a protocol for clients listens: IP addresses and, if it
// may, unix sockets.
func (r *resolver) client(what, name string, port int, unix bool) (at []listener, sockets []string) {
	path := "addresses." + name
	words := r.out.ClientAddrs
	if r.text(path) != "" {
		words = r.expanded(path)
	}
	if port <= 0 {
		return nil, nil
	}
	for _, word := range words {
		if socket, ok := strings.CutPrefix(word, unixScheme); ok && unix {
			if !filepath.IsAbs(socket) {
				r.fail(path, " must have the whole path of a socket as in \"unix:///run/muster.sock\", but is %q", shorten(word))
			}
			if len(socket) > MaxSocketPath {
				r.fail(path, ": the path of a socket has %d bytes, %d are possible: %q", len(socket), MaxSocketPath, shorten(socket))
			}
			sockets = append(sockets, word)
			continue
		}
		l := listener{what, "ports." + name, netip.AddrPortFrom(r.ip(path, word), uint16(port))}
		if l.at.IsValid() && !slices.Contains(at, l) {
			at = append(at, l)
		}
	}
	return at, sockets
}

func places(all []listener) []string {
	var text []string
	for _, l := range all {
		text = append(text, net.JoinHostPort(l.at.Addr().String(), strconv.Itoa(int(l.at.Port()))))
	}
	return text
}

func (r *resolver) clashes(all []listener) {
	for i, b := range all {
		for _, a := range all[:i] {
			if a.at.Port() != b.at.Port() || !overlap(a.at.Addr(), b.at.Addr()) {
				continue
			}
			// The blame is on what was asked for, not on a default.
			if !r.given(b.path) && r.given(a.path) {
				a, b = b, a
			}
			r.fail(b.path, ": %s", fmt.Sprintf("%s at %s clashes with %s at %s", b.what, b.at, a.what, a.at))
		}
	}
}

// overlap reports whether listening on both addresses is listening twice on
// one: they are equal, or one stands for all of its family, or for all.
func overlap(a, b netip.Addr) bool {
	all := func(x, y netip.Addr) bool { return x.IsUnspecified() && (x.Is6() || y.Is4()) }
	return a == b || all(a, b) || all(b, a)
}
