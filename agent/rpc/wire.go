package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/muster-sd/muster/kv/mvcc"
)

// The form of the messages that calls are made of. The numbers cross the wire:
// never reuse, never renumber.
const (
	// wireForm begins the first message of a request, and each of a reply.
	wireForm byte = 1

	// Bits of a request.
	requestForwarded byte = 1 << 0
	requestCut       byte = 1 << 1 // the body goes on in further messages
	requestHave      byte = 1 << 2 // of a query: the stamp of an answer comes after the options

	// Kinds of messages in a reply.
	replyResult byte = 1 // of Apply
	replyAnswer byte = 2 // of Query
	replyPart   byte = 3 // the body of the answer before it goes on
	replyError  byte = 4 // nothing follows

	// Bits of an answer.
	answerKnownLeader byte = 1 << 0
	answerMore        byte = 1 << 1
	answerCut         byte = 1 << 2
	answerSame        byte = 1 << 3 // the asker has it

	// Kinds of errors.
	errorCoded    byte = 1 // an mvcc.Error
	errorCanceled byte = 2 // context.Canceled
	errorDeadline byte = 3 // context.DeadlineExceeded
	errorRefused  byte = 4 // the handler did not see the call
)

// inlineBytes is how much of a body is copied behind its head. A longer one is
// handed over as it is.
const inlineBytes = 1024

// codec passes the messages of this package through: on the way out a
// mem.BufferSlice, on the way in a *message.
type codec struct{}

// message is one that came in. Its bytes are the library's until it is freed.
type message struct{ data mem.BufferSlice }

// wholeHeadBytes is more than the head of any message. If a message is in
// pieces, the first of which is shorter, they are put together first.
const wholeHeadBytes = 2048

// first returns the first piece, which has all of the head, and how many bytes
// are in the others.
func (m *message) first() (data []byte, beyond int) {
	if len(m.data) == 0 {
		return nil, 0
	}
	return m.data[0].ReadOnlyData(), m.data[1:].Len()
}

// appendBeyond adds the other pieces to b.
func (m *message) appendBeyond(b []byte) []byte {
	for _, piece := range m.data[min(1, len(m.data)):] {
		b = append(b, piece.ReadOnlyData()...)
	}
	return b
}

func (m *message) free() { m.data.Free() }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if out, ok := v.(mem.BufferSlice); ok {
		return out, nil
	}
	return nil, fmt.Errorf("cannot send a %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*message)
	if !ok {
		return fmt.Errorf("cannot receive a %T", v)
	}
	if len(data) > 1 && data[0].Len() < wholeHeadBytes {
		in.data = mem.BufferSlice{data.MaterializeToBuffer(mem.DefaultBufferPool())}
		return nil
	}
	data.Ref()
	in.data = data
	return nil
}

func (codec) Name() string { return "muster" }

// request is what both kinds of requests have in their first message.
type request struct {
	from, token, datacenter string
	forwarded               bool
	options                 mvcc.ReadOptions // of a query
	have                    Stamp            // of a query
}

func (r *request) toApply(command []byte) *ApplyRequest {
	return &ApplyRequest{From: r.from, Datacenter: r.datacenter, Token: r.token, Forwarded: r.forwarded, Command: command}
}

func (r *request) toQuery(query []byte) *QueryRequest {
	return &QueryRequest{From: r.from, Token: r.token, Forwarded: r.forwarded, Options: r.options, Have: r.have, Query: query}
}

// appendRequest adds the head of a request to b. A body that is cut has its
// whole length before its first part.
func (r *request) append(b []byte, query bool, body, room int) (out []byte, first int) {
	start := len(b)
	b = append(b, wireForm, 0)
	if r.forwarded {
		b[start+1] |= requestForwarded
	}
	b = appendText(b, r.from)
	b = appendText(b, r.token)
	b = appendText(b, r.datacenter)
	if query {
		b = append(b, byte(r.options.Mode))
		b = appendDuration(b, r.options.MaxStale)
		b = binary.AppendUvarint(b, r.options.Index)
		b = appendDuration(b, r.options.Wait)
		if r.have != (Stamp{}) {
			b[start+1] |= requestHave
			b = binary.AppendUvarint(b, r.have.Index)
			b = binary.AppendUvarint(b, r.have.Line)
		}
	}
	return appendLength(b, start+1, requestCut, body, room)
}

// appendLength says in the flags at a place of b whether a body is cut, and
// then how long it is. first is how much of it goes into this message of room
// bytes.
func appendLength(b []byte, flags int, cut byte, body, room int) (out []byte, first int) {
	if len(b)+body <= room {
		return b, body
	}
	b[flags] |= cut
	b = binary.AppendUvarint(b, uint64(body))
	return b, max(room-len(b), 0)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendDuration writes a duration; one below zero means none.
func appendDuration(b []byte, d time.Duration) []byte {
	return binary.AppendUvarint(b, uint64(max(d, 0)))
}

// errMalformed is the root of what goes wrong in reading a message.
var errMalformed = errors.New("malformed message")

// reader takes a message apart. Its first error stays, and later reads give
// zeros.
type reader struct {
	rest   []byte
	beyond int // bytes of the message that are not in rest
	err    error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	r.rest = nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail("it is too short")
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("a number is cut off or too long")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) duration() time.Duration {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail("a duration is too long")
		return 0
	}
	return time.Duration(v)
}

func (r *reader) flags(known byte) byte {
	b := r.byte()
	if b&^known != 0 {
		r.fail(fmt.Sprintf("the flags %#x are not known", b&^known))
	}
	return b
}

// text reads a string of at most limit bytes. If it is the same as known, it
// is known.
func (r *reader) text(name string, limit int, known string) string {
	n := r.uvarint()
	if n > uint64(limit) {
		r.fail(fmt.Sprintf("the %s has %d bytes, the limit is %d", name, n, limit))
		return ""
	}
	if n > uint64(len(r.rest)) {
		r.fail("it is too short for the " + name)
		return ""
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	if string(b) == known {
		return known
	}
	return string(b)
}

// length reads how long a body is whose first part is in the message.
func (r *reader) length(cut bool, limit int) int {
	here := len(r.rest) + r.beyond
	if !cut && here > limit {
		r.fail(fmt.Sprintf("a body has %d bytes, the limit is %d", here, limit))
	}
	if !cut {
		return here
	}
	n := r.uvarint()
	if n > uint64(limit) {
		r.fail(fmt.Sprintf("a body of %d bytes is announced, the limit is %d", n, limit))
		return 0
	}
	if uint64(here) >= n && r.err == nil {
		r.fail("a body is called cut and is not")
	}
	return int(n)
}

// decodeRequest reads the first message of a request, which goes on for beyond
// bytes after data. part is what data holds of the body, and belongs to the
// message; total is how long the body is.
func decodeRequest(data []byte, beyond int, query bool, knownFrom string) (q request, part []byte, total int, err error) {
	r := reader{rest: data, beyond: beyond}
	if form := r.byte(); r.err == nil && form != wireForm {
		r.fail(fmt.Sprintf("form %d is not known, this agent knows %d", form, wireForm))
	}
	known := requestForwarded | requestCut
	if query {
		known |= requestHave
	}
	flags := r.flags(known)
	q.forwarded = flags&requestForwarded != 0
	q.from = r.text("sender's node ID", MaxIDBytes, knownFrom)
	q.token = r.text("token", MaxTokenBytes, "")
	q.datacenter = r.text("datacenter", MaxDatacenterBytes, "")
	if query {
		q.options.Mode = mvcc.Mode(r.byte())
		q.options.MaxStale = r.duration()
		q.options.Index = r.uvarint()
		q.options.Wait = r.duration()
		q.options.Datacenter = q.datacenter
		if flags&requestHave != 0 {
			q.have = Stamp{Index: r.uvarint(), Line: r.uvarint()}
		}
	}
	total = r.length(flags&requestCut != 0, MaxRequestBytes)
	return q, r.rest, total, r.err
}

// fits says why a request cannot be sent, or nothing.
func (r *request) fits(body int) error {
	for _, c := range []struct {
		name        string
		size, limit int
	}{
		{"sender's node ID", len(r.from), MaxIDBytes},
		{"token", len(r.token), MaxTokenBytes},
		{"datacenter", len(r.datacenter), MaxDatacenterBytes},
		{"request", body, MaxRequestBytes},
	} {
		if c.size > c.limit {
			return &mvcc.Error{Code: mvcc.TooLarge, Text: fmt.Sprintf("the %s has %d bytes, the limit is %d", c.name, c.size, c.limit)}
		}
	}
	return nil
}

// joined makes a message of a head and a part of a body.
func joined(head, part []byte) mem.BufferSlice {
	switch {
	case len(part) == 0:
		return mem.BufferSlice{mem.SliceBuffer(head)}
	case len(part) <= cap(head)-len(head) || len(part) <= inlineBytes:
		return mem.BufferSlice{mem.SliceBuffer(append(head, part...))}
	}
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(part)}
}

// headRoom is enough for the head of any reply, and of a request but for its
// texts.
const headRoom = 96

// newHead returns room for a head, and for the body behind it if that is short.
func newHead(head, body int) []byte {
	if body <= inlineBytes {
		head += body
	}
	return make([]byte, 0, head)
}

// encodeResult makes the one message that answers Apply.
func encodeResult(result []byte) mem.BufferSlice {
	return joined(append(newHead(2, len(result)), wireForm, replyResult), result)
}

// answer is the head of one reply to a query.
type answer struct {
	meta mvcc.Meta
	more bool
	same bool
}

// append adds the head to b, as request.append does.
func (a *answer) append(b []byte, body, room int) (out []byte, first int) {
	flags := byte(0)
	if a.meta.KnownLeader {
		flags |= answerKnownLeader
	}
	if a.more {
		flags |= answerMore
	}
	if a.same {
		flags |= answerSame
	}
	start := len(b)
	b = append(b, wireForm, replyAnswer, flags, byte(a.meta.Mode))
	b = binary.AppendUvarint(b, a.meta.Index)
	b = binary.AppendUvarint(b, a.meta.Line)
	b = appendDuration(b, a.meta.LastContact)
	return appendLength(b, start+2, answerCut, body, room)
}

// encodeError makes the message that ends a reply with an error.
func encodeError(kind byte, code mvcc.Code, text string) mem.BufferSlice {
	return mem.BufferSlice{mem.SliceBuffer(errorMessage(kind, code, text))}
}

// errorMessage is encodeError for an item.
func errorMessage(kind byte, code mvcc.Code, text string) []byte {
	text = text[:min(len(text), MaxErrorBytes)]
	b := make([]byte, 0, 4+len(text))
	b = append(b, wireForm, replyError, kind, byte(code))
	return append(b, text...)
}

// reply is one message of a reply, taken apart. Its part belongs to the
// message.
type reply struct {
	kind byte
	answer
	part  []byte
	total int   // of the body that begins here
	err   error // of kind replyError
}

// decodeReply reads one message of a reply, which goes on for beyond bytes
// after data.
func decodeReply(data []byte, beyond int) (p reply, err error) {
	r := reader{rest: data, beyond: beyond}
	if form := r.byte(); r.err == nil && form != wireForm {
		r.fail(fmt.Sprintf("form %d is not known, this agent knows %d", form, wireForm))
	}
	p.kind = r.byte()
	switch p.kind {
	case replyResult:
		p.total = r.length(false, MaxBodyBytes)
	case replyAnswer:
		flags := r.flags(answerKnownLeader | answerMore | answerCut | answerSame)
		p.meta.KnownLeader = flags&answerKnownLeader != 0
		p.more, p.same = flags&answerMore != 0, flags&answerSame != 0
		p.meta.Mode = mvcc.Mode(r.byte())
		p.meta.Index = r.uvarint()
		p.meta.Line = r.uvarint()
		p.meta.LastContact = r.duration()
		p.total = r.length(flags&answerCut != 0, MaxBodyBytes)
	case replyPart:
		if len(r.rest) == 0 {
			r.fail("a part is empty")
		}
	case replyError:
		kind, code := r.byte(), mvcc.Code(r.byte())
		text := r.rest[:min(len(r.rest), MaxErrorBytes)]
		r.rest = nil
		if r.err == nil {
			p.err = decodeError(kind, code, string(text))
		}
	default:
		r.fail(fmt.Sprintf("the kind %d is not known", p.kind))
	}
	p.part = r.rest
	return p, r.err
}

// decodeError makes an error of its parts. A kind of error that is not known
// is an internal one with its text.
func decodeError(kind byte, code mvcc.Code, text string) error {
	switch kind {
	case errorCanceled:
		return context.Canceled
	case errorDeadline:
		return context.DeadlineExceeded
	case errorRefused:
		return &unsent{&mvcc.Error{Code: code, Text: text}}
	case errorCoded:
		return &mvcc.Error{Code: code, Text: text}
	}
	return &mvcc.Error{Code: mvcc.Internal, Text: text}
}

// body puts a body together from its parts.
type body struct {
	data  []byte
	total int
}

// begin takes the first part, which begins in the first piece of a message and
// has all others. It copies, and allocates no more at once than what is there
// and a bounded share of what is announced.
func (b *body) begin(in *message, part []byte, total int) {
	_, beyond := in.first()
	b.total = total
	b.data = append(make([]byte, 0, min(total, max(len(part)+beyond, 1<<20))), part...)
	b.data = in.appendBeyond(b.data)
}

// add takes the next part, as begin does.
func (b *body) add(in *message, part []byte) error {
	_, beyond := in.first()
	if n := len(part) + beyond; n == 0 || n > b.total-len(b.data) {
		return fmt.Errorf("%w: a part of %d bytes for the last %d of a body", errMalformed, n, b.total-len(b.data))
	}
	b.data = in.appendBeyond(append(b.data, part...))
	return nil
}

func (b *body) whole() bool { return len(b.data) == b.total }
