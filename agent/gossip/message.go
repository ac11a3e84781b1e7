package gossip

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Kinds of messages of ours, as their first byte. The numbers cross the wire:
// never reuse, never renumber.
const (
	// kindLeave: a life of a member leaves, or is declared to have left.
	kindLeave byte = 1
	// kindAlive: a life of a member contradicts all that was said before.
	kindAlive byte = 2
	// kindEvent is an event of a member's user.
	kindEvent byte = 3
	// kindAsk: a server asks others to look at a member whose connection broke.
	kindAsk byte = 4
	// kindReport: a server found the port of a life of a member closed.
	kindReport byte = 5
	// kindHeard: a member heard a life of a member after all reports so far.
	kindHeard byte = 6
	// kindDoubt: a server that does not hear a life of a member asks who does.
	kindDoubt byte = 7
	// kindSilent: a server heard nothing of a life of a member for too long.
	kindSilent byte = 8
	// kindTaken: a member took over that a life of another has left.
	kindTaken byte = 9
	// kindCluster: a life of a member belongs to the cluster that from names.
	kindCluster byte = 10
)

// Flags of a leave.
const (
	// leaveOwn: it is the member itself that says so.
	leaveOwn byte = 1 << iota
	// leaveFinal: it has left and answers no longer.
	leaveFinal
	// leavePrune: it is not to be listed any more.
	leavePrune
)

// message is any of ours. Which fields count depends on the kind.
type message struct {
	kind byte
	// time is that of the sender's clock, which runs ahead of all it has heard.
	time uint64
	// name and life are whom the message is about, or whose event it is.
	name string
	life uint64
	// from is the member that says so, or what is said.
	from  string
	flags byte
	// id tells events of one time apart.
	id      uint64
	event   byte
	payload []byte
}

// encode returns the bytes of a message.
func (m message) encode() []byte {
	b := append(make([]byte, 0, 64+len(m.payload)), m.kind)
	b = binary.AppendUvarint(b, m.time)
	b = appendString(b, m.name)
	b = binary.BigEndian.AppendUint64(b, m.life)
	switch m.kind {
	case kindLeave:
		b = append(b, m.flags)
	case kindAsk, kindReport, kindHeard, kindDoubt, kindSilent, kindTaken, kindCluster:
		b = appendString(b, m.from)
	case kindEvent:
		b = binary.BigEndian.AppendUint64(b, m.id)
		b = append(b, m.event)
		b = appendBytes(b, m.payload)
	}
	return b
}

// decodeMessage reads what encode wrote. It keeps nothing of b.
func decodeMessage(b []byte) (message, error) {
	r := reader{b: b}
	m := message{kind: r.byte(), time: r.time(), name: r.name(), life: r.fixed64()}
	switch m.kind {
	case kindLeave:
		m.flags = r.byte()
		if m.flags&^(leaveOwn|leaveFinal|leavePrune) != 0 {
			r.fail(fmt.Errorf("a leave has unknown flags %#x", m.flags))
		}
	case kindAlive:
	case kindAsk, kindReport, kindHeard, kindDoubt, kindSilent, kindTaken, kindCluster:
		m.from = r.name()
	case kindEvent:
		m.id = r.fixed64()
		m.event = r.byte()
		m.payload = append([]byte{}, r.bytes(MaxEvent)...)
	default:
		r.fail(fmt.Errorf("no kind of message has the number %d", m.kind))
	}
	if err := r.end(); err != nil {
		return message{}, fmt.Errorf("cannot read a message: %w", err)
	}
	return m, nil
}

// stateForm is the first byte of what members tell each other in an exchange
// besides memberlist's own state:
//
//	[form 1][clock][name][life 8][number][shared]...
const stateForm = 1

// exchange is that state: who sends it, and all that memberlist does not know.
type exchange struct {
	clock  uint64
	name   string
	life   uint64
	shared []shared
}

// shared is what is told of a member that is gone, or of which something was
// said.
type shared struct {
	name    string
	addr    netip.Addr
	port    uint16
	meta    []byte
	status  Status
	age     time.Duration
	leaveAt uint64
	aliveAt uint64
	flags   byte
}

// encode returns the bytes of an exchange.
func (e exchange) encode() []byte {
	b := append(make([]byte, 0, 64+len(e.shared)*128), stateForm)
	b = binary.AppendUvarint(b, e.clock)
	b = appendString(b, e.name)
	b = binary.BigEndian.AppendUint64(b, e.life)
	b = binary.AppendUvarint(b, uint64(len(e.shared)))
	for i := range e.shared {
		s := &e.shared[i]
		b = appendString(b, s.name)
		b = appendBytes(b, s.addr.AsSlice())
		b = binary.BigEndian.AppendUint16(b, s.port)
		b = appendBytes(b, s.meta)
		b = append(b, byte(s.status))
		b = appendDuration(b, s.age)
		b = binary.AppendUvarint(b, s.leaveAt)
		b = binary.AppendUvarint(b, s.aliveAt)
		b = append(b, s.flags)
	}
	return b
}

// decodeExchange reads what encode wrote.
func decodeExchange(b []byte) (exchange, error) {
	r := reader{b: b}
	if form := r.byte(); r.err == nil && form != stateForm {
		return exchange{}, fmt.Errorf("cannot read the state of a member: it has form %d, this agent knows form %d", form, stateForm)
	}
	e := exchange{clock: r.time(), name: r.name(), life: r.fixed64()}
	n := r.uvarint()
	if n > maxShared {
		r.fail(fmt.Errorf("it tells of %d members that are gone, at most %d are possible", n, maxShared))
	}
	for i := uint64(0); i < n && r.err == nil; i++ {
		e.shared = append(e.shared, r.shared())
	}
	if err := r.end(); err != nil {
		return exchange{}, fmt.Errorf("cannot read the state of a member: %w", err)
	}
	return e, nil
}

func (r *reader) shared() shared {
	s := shared{name: r.name()}
	if raw := r.bytes(16); r.err == nil {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			r.fail(fmt.Errorf("an address has %d bytes", len(raw)))
		}
		s.addr = addr.Unmap()
	}
	s.port = uint16(r.byte())<<8 | uint16(r.byte())
	s.meta = append([]byte{}, r.bytes(maxMeta)...)
	s.status = Status(r.byte())
	s.age = r.duration()
	s.leaveAt, s.aliveAt = r.time(), r.time()
	s.flags = r.byte()
	if r.err == nil && (s.status < Alive || s.status > Failed) {
		r.fail(fmt.Errorf("no status has the number %d", s.status))
	}
	return s
}
