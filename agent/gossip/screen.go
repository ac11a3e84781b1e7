package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Kinds of memberlist's messages, as far as they are looked at before
// memberlist does. They are part of its wire.
const (
	wirePing     = 0
	wireIndirect = 1
	wireAck      = 2
	wireSuspect  = 3
	wireAlive    = 4
	wireDead     = 5
	wirePushPull = 6
	wireCompound = 7
	wireUser     = 8
	wireCompress = 9
	wireEncrypt  = 10
	wireNack     = 11
	wireCRC      = 12
	wireError    = 13
)

// packetScreen drops packets of kinds that no member sends: above all
// compressed ones, which memberlist would let grow to 40 MB each and keep.
type packetScreen struct {
	second   int64
	indirect int
}

// refuses says why a packet is dropped, or nothing. It is used by one goroutine.
func (s *packetScreen) refuses(b []byte, at time.Time) string {
	if b[0] == wireCRC {
		if len(b) < 6 {
			return "it is too short"
		}
		b = b[5:]
	}
	if b[0] != wireCompound {
		return s.refusesPart(b, at)
	}
	if len(b) < 2 || len(b) < 2+2*int(b[1]) {
		return "it is too short"
	}
	lengths, parts := b[2:2+2*int(b[1])], b[2+2*int(b[1]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n == 0 || n > len(parts) {
			return "its parts have not the lengths that it names"
		}
		if reason := s.refusesPart(parts[:n], at); reason != "" {
			return reason
		}
		parts = parts[n:]
	}
	return ""
}

func (s *packetScreen) refusesPart(b []byte, at time.Time) string {
	switch b[0] {
	case wirePing, wireAck, wireSuspect, wireAlive, wireDead, wireUser, wireNack:
		return ""
	case wireIndirect:
		if second := at.Unix(); second != s.second {
			s.second, s.indirect = second, 0
		}
		if s.indirect++; s.indirect > maxIndirect {
			return fmt.Sprintf("more than %d probes for others were asked for within a second", maxIndirect)
		}
		return ""
	case wireCompress:
		return "it is compressed, as no member's are"
	default:
		return fmt.Sprintf("no message has the kind %d", b[0])
	}
}

// streamBudget bounds what all streams together take.
type streamBudget struct {
	mu     sync.Mutex
	bytes  int
	open   map[*streamConn]struct{}
	closed bool
	count  uint64
}

// enter counts an accepted stream, at the cost of the oldest if there are too
// many.
func (b *streamBudget) enter(c *streamConn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if len(b.open) >= maxStreams {
		b.cut()
	}
	c.order = b.count
	b.count++
	b.open[c] = struct{}{}
	return true
}

// cutOldest cuts the stream that has been open for longest.
func (b *streamBudget) cutOldest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut()
}

// cut does so with the mutex held.
func (b *streamBudget) cut() {
	var oldest *streamConn
	for c := range b.open {
		if oldest == nil || c.order < oldest.order {
			oldest = c
		}
	}
	if oldest != nil {
		delete(b.open, oldest)
		_ = oldest.Conn.Close()
	}
}

func (b *streamBudget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+n > maxStreamBytes {
		return false
	}
	b.bytes += n
	return true
}

func (b *streamBudget) leave(c *streamConn, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= n
	delete(b.open, c)
}

func (b *streamBudget) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for c := range b.open {
		_ = c.Conn.Close()
	}
}

// streamConn reads no more than a stream may bring, and looks at what it
// announces before memberlist makes room for it.
type streamConn struct {
	net.Conn
	budget *streamBudget
	order  uint64 // among accepted streams, written under the budget's mutex
	looked bool
	header []byte // read by look, and not yet by memberlist
	read   int

	mu    sync.Mutex
	taken int
	over  bool
	after func()
}

// look reads what the stream announces. Read then gives it again.
func (c *streamConn) look() error {
	c.looked = true
	announced, err := readHeader(&headerReader{conn: c.Conn, seen: &c.header})
	if err != nil {
		return err
	}
	return c.charge(announced)
}

// charge takes n bytes of the budget.
func (c *streamConn) charge(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return net.ErrClosed
	}
	if !c.budget.take(n) {
		return fmt.Errorf("all gossip connections together would take more than %d bytes", maxStreamBytes)
	}
	c.taken += n
	return nil
}

// Read reads what memberlist is to see.
func (c *streamConn) Read(b []byte) (int, error) {
	if !c.looked {
		if err := c.look(); err != nil {
			return 0, err
		}
	}
	if len(c.header) > 0 {
		n := copy(b, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	if c.read > maxStream {
		return 0, fmt.Errorf("a gossip connection brought more than %d bytes", maxStream)
	}
	n, err := c.Conn.Read(b)
	c.read += n
	if cost := c.charge(n); cost != nil && err == nil {
		err = cost
	}
	return n, err
}

// onClose has f called once the stream is closed, unless it is, and then calls
// it at once and returns false.
func (c *streamConn) onClose(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		f()
		return false
	}
	c.after = f
	return true
}

// Close closes the stream and gives back what it took.
func (c *streamConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		c.budget.leave(c, c.taken)
		if c.after != nil {
			c.after()
		}
	}
	return c.Conn.Close()
}

// headerReader reads single bytes, and remembers them.
type headerReader struct {
	conn io.Reader
	seen *[]byte
}

// errSilent says that a stream ended before its first byte.
var errSilent = errors.New("it closed before it said anything")

// ReadByte reads one byte.
func (r *headerReader) ReadByte() (byte, error) {
	if len(*r.seen) >= maxStreamHeader {
		return 0, fmt.Errorf("its header has more than %d bytes", maxStreamHeader)
	}
	var b [1]byte
	if _, err := io.ReadFull(r.conn, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errSilent
		}
		return 0, err
	}
	*r.seen = append(*r.seen, b[0])
	return b[0], nil
}

// readHeader reads the first bytes of a stream, and returns how many bytes of
// memory are promised to be needed for it.
func readHeader(r io.ByteReader) (int, error) {
	kind, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	switch kind {
	case wirePing, wireAck, wireError:
		return 0, nil
	case wireEncrypt:
		n, err := readBig(r, 4)
		if err == nil && n > maxStream {
			err = fmt.Errorf("it announces %d encrypted bytes, at most %d are possible", n, maxStream)
		}
		return 0, err
	case wirePushPull:
		return readPushPull(r)
	default:
		return 0, fmt.Errorf("no member sends a stream of kind %d: the other side may not be a gossip port (by default 8301; a server's own port is 8300)", kind)
	}
}

// readPushPull reads the msgpack map in which a member says how much state it
// is about to send.
func readPushPull(r io.ByteReader) (int, error) {
	malformed := errors.New("the header of its state is malformed")
	head, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if head&0xf0 != 0x80 || head&0x0f > 3 {
		return 0, malformed
	}
	var nodes, state uint64
	for range head & 0x0f {
		length, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if length&0xe0 != 0xa0 {
			return 0, malformed
		}
		key := make([]byte, length&0x1f)
		for i := range key {
			if key[i], err = r.ReadByte(); err != nil {
				return 0, err
			}
		}
		value, ok, err := readScalar(r)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, malformed
		}
		switch string(key) {
		case "Nodes":
			nodes = value
		case "UserStateLen":
			state = value
		}
	}
	if nodes > maxMembers {
		return 0, fmt.Errorf("it announces %d members, at most %d are possible", nodes, maxMembers)
	}
	if state > maxStream {
		return 0, fmt.Errorf("it announces %d bytes of state, at most %d are possible", state, maxStream)
	}
	return int(nodes)*streamNodeBytes + int(state), nil
}

// readScalar reads a msgpack number that is not negative, or a boolean.
func readScalar(r io.ByteReader) (value uint64, ok bool, err error) {
	head, err := r.ReadByte()
	if err != nil {
		return 0, false, err
	}
	width := 0
	switch {
	case head < 0x80:
		return uint64(head), true, nil
	case head == 0xc2, head == 0xc3:
		return uint64(head & 1), true, nil
	case head >= 0xcc && head <= 0xcf:
		width = 1 << (head - 0xcc)
	case head >= 0xd0 && head <= 0xd3:
		width = 1 << (head - 0xd0)
	default:
		return 0, false, nil
	}
	value, err = readBig(r, width)
	if err == nil && head >= 0xd0 && value>>(8*width-1) == 1 {
		return 0, false, nil
	}
	return value, true, err
}

func readBig(r io.ByteReader, width int) (uint64, error) {
	var value uint64
	for range width {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		value = value<<8 | uint64(b)
	}
	return value, nil
}
