package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// errShort says that bytes end before what they announce.
var errShort = errors.New("it ends too early")

// reader takes values off the front of bytes. After the first error it gives
// zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) < 1 {
		r.fail(errShort)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) fixed64() uint64 {
	if len(r.b) < 8 {
		r.fail(errShort)
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns a part of the reader's own bytes.
func (r *reader) bytes(limit int) []byte {
	n := r.uvarint()
	if r.err != nil {
		return nil
	}
	if n > uint64(limit) {
		r.fail(fmt.Errorf("a part of it has %d bytes, at most %d are possible", n, limit))
		return nil
	}
	if uint64(len(r.b)) < n {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string(limit int) string {
	v := string(r.bytes(limit))
	if !utf8.ValidString(v) {
		r.fail(fmt.Errorf("%q is not UTF-8", v))
		return ""
	}
	return v
}

// name reads a name, which is not empty.
func (r *reader) name() string {
	v := r.string(maxName)
	if v == "" {
		r.fail(errors.New("a name is empty"))
	}
	return v
}

// time reads a value of the pool's clock.
func (r *reader) time() uint64 {
	v := r.uvarint()
	if v >= maxTime {
		r.fail(fmt.Errorf("the time %d is beyond all clocks", v))
		return 0
	}
	return v
}

// duration reads a length of time in milliseconds.
func (r *reader) duration() time.Duration {
	v := r.uvarint()
	if v > uint64(1<<62/time.Millisecond) {
		r.fail(fmt.Errorf("%d ms is no age", v))
		return 0
	}
	return time.Duration(v) * time.Millisecond
}

// end returns the first error, which may be that something is left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes follow its end", len(r.b))
	}
	return r.err
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendBytes(b, s []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendDuration(b []byte, d time.Duration) []byte {
	return binary.AppendUvarint(b, uint64(max(d, 0)/time.Millisecond))
}
