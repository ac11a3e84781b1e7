package dnsserver

import (
	"strings"

	"github.com/miekg/dns"
)

// kind is what a name inside a zone stands for.
type kind uint8

const (
	unknownName kind = iota
	serviceName
	nodeName
	addressName
	queryName   // a prepared query
	meshName    // an instance of the service mesh
	virtualName // an address that the service mesh allots
)

// name is what the left part of a name, without the domain, says. All of it is
// in lower case.
type name struct {
	kind kind
	// labels are what stands left of the keyword, joined by dots and still
	// escaped as in zone files.
	labels string
	// locality is what stands right of the keyword.
	locality string
}

// parseName reads the part of a name left of the domain, in lower case. With
// services, a label that begins with an underscore and has no keyword on its
// right begins the name of a service (RFC 2782).
func parseName(local string, services bool) name {
	for end := len(local); end > 0; {
		start := lastLabel(local[:end])
		label := local[start:end]
		locality := ""
		if end < len(local) {
			locality = local[end+1:]
		}
		if k := keyword(label); k != unknownName {
			if start < 2 {
				return name{} // a keyword, and nothing that it is about
			}
			return name{k, local[:start-1], locality}
		}
		if services && strings.HasPrefix(label, "_") {
			return name{serviceName, local[:end], locality}
		}
		end = start - 1
	}
	return name{}
}

func keyword(label string) kind {
	switch label {
	case "service":
		return serviceName
	case "node":
		return nodeName
	case "addr":
		return addressName
	case "query":
		return queryName
	case "connect", "ingress":
		return meshName
	case "virtual":
		return virtualName
	default:
		return unknownName
	}
}

// service splits the labels of a service lookup into the service's name and the
// tag that its instances must have, if any. In the form of RFC 2782, which is
// _service._tag, the tag "tcp" stands for any.
func (n name) service() (service, tag string) {
	at := lastLabel(n.labels)
	service = n.labels[at:]
	if at > 0 {
		tag = n.labels[:at-1]
	}
	if strings.HasPrefix(service, "_") && strings.HasPrefix(tag, "_") && lastLabel(tag) == 0 {
		service, tag = tag[1:], service[1:]
		if tag == "tcp" {
			tag = ""
		}
	}
	return unescape(service), unescape(tag)
}

// inDatacenter reports whether the locality means the datacenter dc: it is
// empty, "dc1" or "dc1.dc".
func (n name) inDatacenter(dc string) bool {
	datacenter, form, two := strings.Cut(n.locality, ".")
	return n.locality == "" || datacenter == dc && (!two || form == "dc")
}

// lastLabel is where the last label of s begins. A dot after a backslash
// belongs to its label.
func lastLabel(s string) int {
	for end := len(s); ; {
		dot := strings.LastIndexByte(s[:end], '.')
		if dot < 0 || !escaped(s, dot) {
			return dot + 1
		}
		end = dot
	}
}

// escaped reports whether the byte at i has an odd number of backslashes before
// it.
func escaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// unescape turns the form of names in zone files, \. and \032, into plain
// bytes.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			b.WriteByte((s[i]-'0')*100 + (s[i+1]-'0')*10 + s[i+2] - '0')
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// escape puts backslashes before the bytes of s that mean something in a name.
// Dots stay as they are if dots is set: they then part labels.
func escape(s string, dots bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return needsEscape(r, dots) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case !needsEscape(rune(c), dots):
			b.WriteByte(c)
		case '!' <= c && c <= '~':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		}
	}
	return b.String()
}

func needsEscape(r rune, dots bool) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	case r == '.':
		return !dots
	default:
		return true
	}
}

// safeLabel reports whether s is one label of letters, digits and hyphens.
func safeLabel(s string) bool {
	return plainLabel(s) && strings.IndexByte(s, '_') < 0
}

// plainLabel reports whether s is one label that stands for itself in a name.
func plainLabel(s string) bool {
	for i := 0; i < len(s); i++ {
		if needsEscape(rune(s[i]), false) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 63
}

// validName reports whether a message can carry s.
func validName(s string) bool {
	_, ok := dns.IsDomainName(s)
	return ok && dns.IsFqdn(s)
}
