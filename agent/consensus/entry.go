package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// The stored form of an entry is the msgpack of go-msgpack in its old form,
// where texts and bytes are one kind: a map from the names of the fields, in
// their order, to their values. A time is 4, 8 or 12 bytes, as in the msgpack
// specification's extension -1, without its head.
const (
	entryFields = 0x80 | 6 // a map of six

	// entryOverhead is about how many bytes an entry has beside Data and
	// Extensions.
	entryOverhead = 80
)

var errCutOff = errors.New("it is cut off")

// parseEntry reads the stored form of an entry into e, whose bytes are those of
// b.
func parseEntry(b []byte, e *raft.Log) error {
	*e = raft.Log{}
	if len(b) == 0 || b[0] != entryFields {
		return errors.New("it is no Raft entry")
	}
	b = b[1:]
	var seen byte
	for range entryFields & 0x0f {
		name, rest, err := readRaw(b)
		if err != nil {
			return err
		}
		var field byte
		var number uint64
		switch string(name) {
		case "AppendedAt":
			field = 1
			e.AppendedAt, b, err = readTime(rest)
		case "Data":
			field = 2
			e.Data, b, err = readRaw(rest)
		case "Extensions":
			field = 4
			e.Extensions, b, err = readRaw(rest)
		case "Index":
			field = 8
			e.Index, b, err = readNumber(rest)
		case "Term":
			field = 16
			e.Term, b, err = readNumber(rest)
		case "Type":
			field = 32
			number, b, err = readNumber(rest)
			if number > math.MaxUint8 {
				return fmt.Errorf("its type %d is out of range", number)
			}
			e.Type = raft.LogType(number)
		default:
			return fmt.Errorf("it has an unknown field %q", name)
		}
		if err != nil {
			return fmt.Errorf("its field %s: %w", name, err)
		}
		if seen&field != 0 {
			return fmt.Errorf("it has its field %s twice", name)
		}
		seen |= field
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes follow it", len(b))
	}
	return nil
}

// readRaw reads bytes, which are nil if they were.
func readRaw(b []byte) (raw, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errCutOff
	}
	kind := b[0]
	b = b[1:]
	var n uint64
	switch {
	case kind == 0xc0:
		return nil, b, nil
	case kind&0xe0 == 0xa0:
		n = uint64(kind & 0x1f)
	case kind == 0xda && len(b) >= 2:
		n, b = uint64(binary.BigEndian.Uint16(b)), b[2:]
	case kind == 0xdb && len(b) >= 4:
		n, b = uint64(binary.BigEndian.Uint32(b)), b[4:]
	case kind == 0xda || kind == 0xdb:
		return nil, nil, errCutOff
	default:
		return nil, nil, fmt.Errorf("it is of kind %#x, which is not bytes", kind)
	}
	if uint64(len(b)) < n {
		return nil, nil, errCutOff
	}
	return b[:n:n], b[n:], nil
}

func readNumber(b []byte) (n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errCutOff
	}
	kind := b[0]
	b = b[1:]
	if kind <= math.MaxInt8 {
		return uint64(kind), b, nil
	}
	if kind < 0xcc || kind > 0xcf {
		return 0, nil, fmt.Errorf("it is of kind %#x, which is no number", kind)
	}
	width := 1 << (kind - 0xcc)
	if len(b) < width {
		return 0, nil, errCutOff
	}
	for _, digit := range b[:width] {
		n = n<<8 | uint64(digit)
	}
	return n, b[width:], nil
}

func readTime(b []byte) (t time.Time, rest []byte, err error) {
	raw, rest, err := readRaw(b)
	if err != nil || raw == nil {
		return time.Time{}, rest, err
	}
	var seconds int64
	var nanoseconds uint64
	switch len(raw) {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(raw))
	case 8:
		both := binary.BigEndian.Uint64(raw)
		seconds, nanoseconds = int64(both&(1<<34-1)), both>>34
	case 12:
		seconds, nanoseconds = int64(binary.BigEndian.Uint64(raw[4:])), uint64(binary.BigEndian.Uint32(raw))
	default:
		return time.Time{}, nil, fmt.Errorf("it has %d bytes, which is no time", len(raw))
	}
	if nanoseconds >= uint64(time.Second) {
		return time.Time{}, nil, fmt.Errorf("it has %d nanoseconds", nanoseconds)
	}
	return time.Unix(seconds, int64(nanoseconds)).UTC(), rest, nil
}
