package dnsserver

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

// packer writes messages in wire format. It does what the library does for the
// records that replies are made of, without a map of all names for each message:
// a name is looked for where replies repeat one.
type packer struct {
	out []byte
	// start is where the message begins in out.
	start    int
	compress bool
	// names are those written so far. A reply lists targets and then, in the same
	// order, records about them; so the next name is looked for behind hit first.
	names []packedName
	hit   int
	// tails are the ends of names, of which replies have few.
	tails []packedName
}

// packedName is a name that stands in the message, and where.
type packedName struct {
	text string
	at   int
}

const (
	// maxPointer is the first place that a pointer cannot reach (RFC 1035 §4.1.4).
	maxPointer = 1 << 14
	pointer    = 0xC000
	// maxTails is how many ends of names are remembered.
	maxTails = 16
)

// appendMessage appends the bytes of a message to dst. It reports false, for
// dst as it was, if the message is not one that a reply is usually made of: the
// library has to pack it then.
func (p *packer) appendMessage(dst []byte, m *dns.Msg) ([]byte, bool) {
	p.out, p.start, p.compress, p.hit = dst, len(dst), m.Compress, 0
	p.names, p.tails = p.names[:0], p.tails[:0]
	ok := p.message(m)
	out := p.out
	p.out = nil
	if !ok {
		return dst, false
	}
	return out, true
}

func (p *packer) message(m *dns.Msg) bool {
	if m.Rcode > 0xF || len(m.Question) != 1 || m.RecursionAvailable || m.Zero || m.AuthenticatedData || m.CheckingDisabled {
		return false
	}
	p.header(m)
	question := m.Question[0]
	if !p.name(question.Name, false) {
		return false
	}
	p.uint16(question.Qtype)
	p.uint16(question.Qclass)
	return p.section(m.Answer) && p.section(m.Ns) && p.section(m.Extra) && len(p.out)-p.start <= dns.MaxMsgSize
}

func (p *packer) header(m *dns.Msg) {
	bits := uint16(m.Opcode)<<opcodeShift | uint16(m.Rcode)
	if m.Response {
		bits |= responseBit
	}
	if m.Authoritative {
		bits |= authoritativeBit
	}
	if m.Truncated {
		bits |= truncatedBit
	}
	if m.RecursionDesired {
		bits |= recursionBit
	}
	p.uint16(m.Id)
	p.uint16(bits)
	p.uint16(1)
	p.uint16(uint16(len(m.Answer)))
	p.uint16(uint16(len(m.Ns)))
	p.uint16(uint16(len(m.Extra)))
}

func (p *packer) section(records []dns.RR) bool {
	for _, rr := range records {
		if !p.record(rr) {
			return false
		}
	}
	return true
}

func (p *packer) record(rr dns.RR) bool {
	h := rr.Header()
	if !p.name(h.Name, true) {
		return false
	}
	p.uint16(h.Rrtype)
	p.uint16(h.Class)
	p.uint32(h.Ttl)
	p.uint16(0)
	begin := len(p.out)
	if !p.data(rr) || len(p.out)-begin > 0xFFFF {
		return false
	}
	binary.BigEndian.PutUint16(p.out[begin-2:], uint16(len(p.out)-begin))
	return true
}

// data writes what follows a record's header. Only names in records of RFC 1035
// may be compressed (RFC 3597 §4).
func (p *packer) data(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A:
		p.out = append(p.out, rr.A...)
		return len(rr.A) == 4
	case *dns.AAAA:
		p.out = append(p.out, rr.AAAA...)
		return len(rr.AAAA) == 16
	case *dns.SRV:
		p.uint16(rr.Priority)
		p.uint16(rr.Weight)
		p.uint16(rr.Port)
		return p.name(rr.Target, false)
	case *dns.TXT:
		return p.strings(rr.Txt)
	case *dns.CNAME:
		return p.name(rr.Target, true)
	case *dns.NS:
		return p.name(rr.Ns, true)
	case *dns.PTR:
		return p.name(rr.Ptr, true)
	case *dns.SOA:
		if !p.name(rr.Ns, true) || !p.name(rr.Mbox, true) {
			return false
		}
		p.uint32(rr.Serial)
		p.uint32(rr.Refresh)
		p.uint32(rr.Retry)
		p.uint32(rr.Expire)
		p.uint32(rr.Minttl)
		return true
	case *dns.OPT:
		return len(rr.Option) == 0
	default:
		return false
	}
}

// strings writes the strings of a TXT record.
func (p *packer) strings(texts []string) bool {
	for _, s := range texts {
		if len(s) > maxTXTString || strings.IndexByte(s, '\\') >= 0 {
			return false
		}
		p.out = append(p.out, byte(len(s)))
		p.out = append(p.out, s...)
	}
	return len(texts) > 0
}

// name writes a name, or a pointer to where it stands if that is allowed, and
// remembers it.
func (p *packer) name(s string, compress bool) bool {
	if s == "." {
		p.out = append(p.out, 0)
		return true
	}
	if len(s) >= maxNameText || strings.IndexByte(s, '\\') >= 0 {
		return false
	}
	compress = compress && p.compress
	if compress {
		if at, ok := p.find(s); ok {
			p.uint16(pointer | uint16(at))
			return true
		}
	}
	p.remember(&p.names, s)
	for rest := s; rest != ""; {
		dot := strings.IndexByte(rest, '.')
		if dot < 1 || dot > 63 {
			return false
		}
		p.out = append(p.out, byte(dot))
		p.out = append(p.out, rest[:dot]...)
		rest = rest[dot+1:]
		if rest == "" || !p.compress {
			continue
		}
		at, known := p.tail(rest)
		switch {
		case known && compress:
			p.uint16(pointer | uint16(at))
			return true
		case !known && len(p.tails) < maxTails:
			p.remember(&p.tails, rest)
		}
	}
	p.out = append(p.out, 0)
	return true
}

// remember notes that a name begins here.
func (p *packer) remember(names *[]packedName, s string) {
	if at := len(p.out) - p.start; p.compress && at < maxPointer {
		*names = append(*names, packedName{s, at})
	}
}

// find looks for a name, at the likely places first.
func (p *packer) find(s string) (int, bool) {
	if len(p.names) > 0 && p.names[0].text == s {
		return p.names[0].at, true
	}
	for i := p.hit; i < len(p.names) && i < p.hit+2; i++ {
		if p.names[i].text == s {
			p.hit = i
			return p.names[i].at, true
		}
	}
	if at, ok := p.tail(s); ok {
		return at, true
	}
	for i := range p.names {
		if p.names[i].text == s {
			p.hit = i
			return p.names[i].at, true
		}
	}
	return 0, false
}

func (p *packer) tail(s string) (int, bool) {
	for i := range p.tails {
		if p.tails[i].text == s {
			return p.tails[i].at, true
		}
	}
	return 0, false
}

func (p *packer) uint16(v uint16) { p.out = binary.BigEndian.AppendUint16(p.out, v) }
func (p *packer) uint32(v uint32) { p.out = binary.BigEndian.AppendUint32(p.out, v) }
