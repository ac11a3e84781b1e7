package rpc

import (
	"encoding/binary"
	"fmt"
)

// Short calls share a connection of their own, the exchange, beside the one of the
// library: to begin and end a stream costs several times what a short call does,
// and the way of a message through the library as much again. Each is an item
// with a number of its own, and its answer comes in items with the same number;
// items that are ready at once go in one frame.
//
// An item is [number][kind or flags 1][length][bytes], with the numbers as
// uvarints. The bytes are a message as in wire.go.

// Kinds of items that ask. They cross the wire: never reuse, never renumber.
const (
	itemApply byte = 1
	itemQuery byte = 2
	itemGone  byte = 3 // nobody waits for the answer any more
)

// Bits of items that answer.
const (
	itemEnded   byte = 1 << 0 // nothing follows to this number
	itemClosing byte = 1 << 1 // no item after this number was looked at, and none will be
)

// itemRoom is enough for what stands before the bytes of an item.
const itemRoom = 2*binary.MaxVarintLen64 + 1

// appendItem adds what stands before some bytes of an item.
func appendItem(b []byte, id uint64, kind byte, length int) []byte {
	b = binary.AppendUvarint(b, id)
	b = append(b, kind)
	return binary.AppendUvarint(b, uint64(length))
}

// eachItem takes a frame apart. The bytes belong to the frame.
func eachItem(data []byte, do func(id uint64, kind byte, data []byte) error) error {
	r := reader{rest: data}
	for len(r.rest) > 0 {
		id, kind, n := r.uvarint(), r.byte(), r.uvarint()
		if r.err == nil && n > uint64(len(r.rest)) {
			r.fail(fmt.Sprintf("an item of %d bytes is announced, %d follow", n, len(r.rest)))
		}
		if r.err != nil {
			return r.err
		}
		item := r.rest[:n:n]
		r.rest = r.rest[n:]
		if err := do(id, kind, item); err != nil {
			return err
		}
	}
	return r.err
}
