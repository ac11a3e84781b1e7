package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// This file holds what entries.go needs of msgpack
// (github.com/msgpack/msgpack, spec.md).

const (
	packNil   = 0xc0
	packFalse = 0xc2
	packTrue  = 0xc3
)

// packer writes msgpack.
type packer struct {
	b    []byte
	keys []string // of a map, while it is written
}

// fields is a struct that is being written: where its head stands and how many
// fields it has so far.
type fields struct{ at, n int }

// begin begins a struct of up to 65,535 fields.
func (p *packer) begin() fields {
	p.b = append(p.b, 0xde, 0, 0)
	return fields{at: len(p.b) - 2}
}

func (p *packer) end(m fields) { binary.BigEndian.PutUint16(p.b[m.at:], uint16(m.n)) }

func (p *packer) key(m *fields, name string) {
	m.n++
	p.b = append(p.b, 0xa0|byte(len(name))) // names are shorter than 32 bytes
	p.b = append(p.b, name...)
}

func (p *packer) text(m *fields, name, v string) {
	if v != "" {
		p.key(m, name)
		p.rawText(v)
	}
}

func (p *packer) texts(m *fields, name string, v []string) {
	if v != nil {
		p.key(m, name)
		p.rawTexts(v)
	}
}

func (p *packer) textMap(m *fields, name string, v map[string]string) {
	if v == nil {
		return
	}
	p.key(m, name)
	p.mapHead(len(v))
	for _, k := range sortedKeys(p, v) {
		p.rawText(k)
		p.rawText(v[k])
	}
}

// sortedKeys are the keys of m, until the next call.
func sortedKeys[V any](p *packer, m map[string]V) []string {
	p.keys = p.keys[:0]
	for k := range m {
		p.keys = append(p.keys, k)
	}
	slices.Sort(p.keys)
	return p.keys
}

func (p *packer) number(m *fields, name string, v uint64) {
	if v != 0 {
		p.key(m, name)
		p.unsigned(v)
	}
}

func (p *packer) integer(m *fields, name string, v int64) {
	switch {
	case v > 0:
		p.key(m, name)
		p.unsigned(uint64(v))
	case v < 0:
		p.key(m, name)
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xd3), uint64(v))
	}
}

func (p *packer) flag(m *fields, name string, v bool) {
	if v {
		p.key(m, name)
		p.b = append(p.b, packTrue)
	}
}

func (p *packer) unsigned(v uint64) {
	switch {
	case v < 0x80:
		p.b = append(p.b, byte(v))
	case v <= math.MaxUint16:
		p.b = append(p.b, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xce), uint32(v))
	default:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xcf), v)
	}
}

func (p *packer) rawText(v string) {
	switch n := len(v); {
	case n < 32:
		p.b = append(p.b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		p.b = append(p.b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		p.b = append(p.b, 0xda, byte(n>>8), byte(n))
	default:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xdb), uint32(n))
	}
	p.b = append(p.b, v...)
}

func (p *packer) rawTexts(v []string) {
	if v == nil {
		p.b = append(p.b, packNil)
		return
	}
	p.arrayHead(len(v))
	for _, text := range v {
		p.rawText(text)
	}
}

func (p *packer) bytes(v []byte) {
	p.b = binary.BigEndian.AppendUint32(append(p.b, 0xc6), uint32(len(v)))
	p.b = append(p.b, v...)
}

func (p *packer) arrayHead(n int) {
	if n < 16 {
		p.b = append(p.b, 0x90|byte(n))
		return
	}
	p.b = binary.BigEndian.AppendUint32(append(p.b, 0xdd), uint32(n))
}

func (p *packer) mapHead(n int) {
	if n < 16 {
		p.b = append(p.b, 0x80|byte(n))
		return
	}
	p.b = binary.BigEndian.AppendUint32(append(p.b, 0xdf), uint32(n))
}

// unpacker reads msgpack. After its first error it reads nothing any more: what
// it returns is zero, and loops look at err.
type unpacker struct {
	s   string
	i   int
	err error

	left int // entries still to come, which says how many rows to make at once

	nodes     slab[catalog.Node]
	services  slab[catalog.Service]
	checkRows slab[health.Check]

	// last is what was read last, by the bytes that it was read from.
	last struct {
		tags                    once[[]string]
		nodeMeta, nodeAddresses once[map[string]string]
		serviceMeta             once[map[string]string]
		serviceAddresses        once[map[string]catalog.ServiceAddress]
		header                  once[map[string][]string]
		locality                once[*catalog.Locality]
	}
}

// slab makes rows, several at once.
type slab[T any] struct{ free []T }

func (s *slab[T]) next(left int) *T {
	if len(s.free) == 0 {
		s.free = make([]T, min(max(left, 1), maxSlab))
	}
	r := &s.free[0]
	s.free = s.free[1:]
	return r
}

// once is a value and the bytes that it was read from.
type once[T any] struct {
	raw   string
	value T
}

// shared reads a value, or takes the last one if it stands in the same bytes.
func shared[T any](u *unpacker, last *once[T], read func(*unpacker) T) T {
	// The last one's bytes are a whole value: if they stand here, so does it.
	if raw := last.raw; raw != "" && len(u.s)-u.i >= len(raw) && u.s[u.i:u.i+len(raw)] == raw {
		u.i += len(raw)
		return last.value
	}
	start := u.i
	v := read(u)
	if u.err == nil && u.i > start+1 { // nothing is saved by sharing what is empty
		*last = once[T]{u.s[start:u.i], v}
	}
	return v
}

var (
	errCutOff = errors.New("the bytes end within a value")
	errBehind = errors.New("something stands behind the last entry")
	errDeep   = fmt.Errorf("values are nested deeper than the limit of %d", maxDepth)
)

func (u *unpacker) fail(err error) {
	if u.err == nil {
		u.err = err
	}
}

// whole returns the first error, or one if something is left.
func (u *unpacker) whole() error {
	if u.err == nil && u.i < len(u.s) {
		u.err = errBehind
	}
	return u.err
}

// take returns the next n bytes.
func (u *unpacker) take(n int) string {
	if u.err != nil || n < 0 || n > len(u.s)-u.i {
		u.fail(errCutOff)
		return ""
	}
	u.i += n
	return u.s[u.i-n : u.i]
}

// head returns the byte that says what comes next.
func (u *unpacker) head() byte {
	if u.err != nil || u.i >= len(u.s) {
		u.fail(errCutOff)
		return packNil
	}
	u.i++
	return u.s[u.i-1]
}

// big reads a number of n bytes.
func (u *unpacker) big(n int) uint64 {
	var v uint64
	for _, c := range []byte(u.take(n)) {
		v = v<<8 | uint64(c)
	}
	return v
}

// length reads a length of n bytes. No length can be longer than what is left.
func (u *unpacker) length(n int) int {
	v := u.big(n)
	if v > uint64(len(u.s)-u.i) {
		u.fail(errCutOff)
		return 0
	}
	return int(v)
}

func (u *unpacker) wrong(c byte, want string) {
	u.fail(fmt.Errorf("byte 0x%02x at %d begins no %s", c, u.i-1, want))
}

// null passes over a nil, if one comes next.
func (u *unpacker) null() bool {
	if u.err == nil && u.i < len(u.s) && u.s[u.i] == packNil {
		u.i++
		return true
	}
	return false
}

// reference reads a small number, if one comes next.
func (u *unpacker) reference() (uint64, bool) {
	if u.err != nil || u.i >= len(u.s) {
		return 0, false
	}
	if c := u.s[u.i]; c < 0x80 || c >= 0xcc && c <= 0xcf {
		return u.unsigned(), true
	}
	return 0, false
}

// mapHead returns how many pairs a map has; a nil has none.
func (u *unpacker) mapHead() int {
	switch c := u.head(); {
	case c&0xf0 == 0x80:
		return int(c & 0x0f)
	case c == 0xde:
		return u.length(2)
	case c == 0xdf:
		return u.length(4)
	case c != packNil:
		u.wrong(c, "map")
	}
	return 0
}

// arrayHead returns how long a list is and whether there is one.
func (u *unpacker) arrayHead() (int, bool) {
	switch c := u.head(); {
	case c&0xf0 == 0x90:
		return int(c & 0x0f), true
	case c == 0xdc:
		return u.length(2), true
	case c == 0xdd:
		return u.length(4), true
	case c != packNil:
		u.wrong(c, "list")
	}
	return 0, false
}

// text reads a text, or bytes as one.
func (u *unpacker) text() string {
	switch c := u.head(); {
	case c&0xe0 == 0xa0:
		return u.take(int(c & 0x1f))
	case c == 0xd9, c == 0xc4:
		return u.take(u.length(1))
	case c == 0xda, c == 0xc5:
		return u.take(u.length(2))
	case c == 0xdb, c == 0xc6:
		return u.take(u.length(4))
	case c != packNil:
		u.wrong(c, "text")
	}
	return ""
}

func (u *unpacker) bytes() []byte {
	if u.null() {
		return nil
	}
	return []byte(u.text())
}

func (u *unpacker) texts() []string {
	n, there := u.arrayHead()
	if !there {
		return nil
	}
	out := make([]string, 0, min(n, maxFirstRows))
	for ; n > 0 && u.err == nil; n-- {
		out = append(out, u.text())
	}
	return out
}

func (u *unpacker) textMap() map[string]string {
	if u.null() {
		return nil
	}
	n := u.mapHead()
	out := make(map[string]string, min(n, maxFirstPairs))
	for ; n > 0 && u.err == nil; n-- {
		key := u.text()
		out[key] = u.text()
	}
	return out
}

func (u *unpacker) flag() bool {
	switch c := u.head(); c {
	case packTrue:
		return true
	case packFalse, packNil:
	default:
		u.wrong(c, "boolean")
	}
	return false
}

func (u *unpacker) unsigned() uint64 { return uint64(u.integer()) }

// integer reads a number of any width. Those above the largest int64 come out as
// the uint64 of the same bits.
func (u *unpacker) integer() int64 {
	switch c := u.head(); {
	case c < 0x80:
		return int64(c)
	case c >= 0xe0:
		return int64(int8(c))
	case c >= 0xcc && c <= 0xcf:
		return int64(u.big(1 << (c - 0xcc)))
	case c == 0xd0:
		return int64(int8(u.big(1)))
	case c == 0xd1:
		return int64(int16(u.big(2)))
	case c == 0xd2:
		return int64(int32(u.big(4)))
	case c == 0xd3:
		return int64(u.big(8))
	case c != packNil:
		u.wrong(c, "number")
	}
	return 0
}

// skip passes over a value.
func (u *unpacker) skip(depth int) {
	if depth > maxDepth {
		u.fail(errDeep)
		return
	}
	c := u.head()
	values := 0
	switch {
	case c < 0x80, c >= 0xe0, c == packNil, c == packFalse, c == packTrue:
	case c&0xf0 == 0x80:
		values = 2 * int(c&0x0f)
	case c&0xf0 == 0x90:
		values = int(c & 0x0f)
	case c&0xe0 == 0xa0:
		u.take(int(c & 0x1f))
	case c >= 0xc4 && c <= 0xc6:
		u.take(u.length(1 << (c - 0xc4)))
	case c >= 0xc7 && c <= 0xc9:
		u.take(u.length(1<<(c-0xc7)) + 1)
	case c == 0xca:
		u.take(4)
	case c == 0xcb:
		u.take(8)
	case c >= 0xcc && c <= 0xcf:
		u.take(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3:
		u.take(1 << (c - 0xd0))
	case c >= 0xd4 && c <= 0xd8:
		u.take(1<<(c-0xd4) + 1)
	case c >= 0xd9 && c <= 0xdb:
		u.take(u.length(1 << (c - 0xd9)))
	case c == 0xdc, c == 0xdd:
		values = u.length(2 << (c - 0xdc))
	case c == 0xde, c == 0xdf:
		values = 2 * u.length(2<<(c-0xde))
	default:
		u.wrong(c, "value")
	}
	for ; values > 0 && u.err == nil; values-- {
		u.skip(depth + 1)
	}
}
