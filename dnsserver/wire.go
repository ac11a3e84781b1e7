package dnsserver

import (
	"context"
	"encoding/binary"
	"runtime/debug"

	"github.com/miekg/dns"
)

// Bits and fields of the second pair of bytes of a header (RFC 1035 §4.1.1).
const (
	responseBit      = 1 << 15
	opcodeShift      = 11
	opcodeMask       = 0xF
	authoritativeBit = 1 << 10
	truncatedBit     = 1 << 9
	recursionBit     = 1 << 8
)

// scratch is what serving one query needs and the next may use again.
type scratch struct {
	request, reply dns.Msg
	memory         memory
	// query and out hold the bytes of both.
	query, out []byte
}

// respond appends the reply to the bytes of a query to dst. It appends nothing
// if the query deserves no reply: it is a reply itself, or no message at all.
// The result may stand elsewhere than dst. One query that cannot be dealt with
// must not end the agent.
func (s *Server) respond(ctx context.Context, query []byte, dst []byte, transport Transport, sc *scratch) (out []byte) {
	if len(query) < headerSize {
		return dst
	}
	defer func() {
		if p := recover(); p != nil {
			s.config.Logger.Error("Panic in a DNS query", "panic", p, "stack", string(debug.Stack()))
			out = appendHeader(dst, query, dns.RcodeServerFailure)
		}
	}()
	bits := binary.BigEndian.Uint16(query[2:])
	if bits&responseBit != 0 {
		return dst
	}
	if rcode := acceptHeader(query); rcode != dns.RcodeSuccess {
		return appendHeader(dst, query, rcode)
	}
	if err := sc.request.Unpack(query); err != nil || len(sc.request.Question) != 1 {
		return appendHeader(dst, query, dns.RcodeFormatError)
	}
	sc.memory.reset()
	s.answer(ctx, &sc.request, &sc.reply, transport, &sc.memory)
	out, err := appendMessage(dst, &sc.reply, &sc.memory.packer)
	if err != nil {
		s.config.Logger.Error("Cannot send a DNS reply", "name", sc.request.Question[0].Name, "error", err)
		return appendHeader(dst, query, dns.RcodeServerFailure)
	}
	return out
}

// acceptHeader judges a query by its header, before more work goes into it.
// Queries and notifications are taken, with one question and about as few
// records as extensions of the protocol have use for.
func acceptHeader(query []byte) (rcode int) {
	opcode := int(query[2]>>3) & opcodeMask
	if opcode != dns.OpcodeQuery && opcode != dns.OpcodeNotify {
		return dns.RcodeNotImplemented
	}
	questions := binary.BigEndian.Uint16(query[4:])
	answers := binary.BigEndian.Uint16(query[6:])
	authority := binary.BigEndian.Uint16(query[8:])
	additional := binary.BigEndian.Uint16(query[10:])
	if questions != 1 || answers > 1 || authority > 1 || additional > 2 {
		return dns.RcodeFormatError
	}
	return dns.RcodeSuccess
}

// appendHeader appends a reply that is nothing but a header.
func appendHeader(dst, query []byte, rcode int) []byte {
	const keep = opcodeMask<<opcodeShift | recursionBit
	bits := binary.BigEndian.Uint16(query[2:])&keep | responseBit | uint16(rcode)
	dst = append(dst, query[0], query[1])
	dst = binary.BigEndian.AppendUint16(dst, bits)
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
}

// appendMessage appends the bytes of a message to dst.
func appendMessage(dst []byte, m *dns.Msg, p *packer) ([]byte, error) {
	if out, ok := p.appendMessage(dst, m); ok {
		return out, nil
	}
	packed, err := m.Pack()
	return append(dst, packed...), err
}
