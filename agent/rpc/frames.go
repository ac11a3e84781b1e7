package rpc

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// frames carries messages over a connection, each behind its length in four bytes,
// most significant first. An empty frame asks a server whether it is there, and is
// its answer; a server also sends one when it has taken the connection. One
// goroutine may receive while another sends.
type frames struct {
	conn net.Conn
	in   *bufio.Reader
	// longest is how many bytes a frame may have that comes in.
	longest int
	// silence is how long nothing may come in, and whole how long a frame may take
	// from its head to its end.
	silence, whole time.Duration

	heard   atomic.Uint64 // how often something came in
	taken   int           // of the buffer, by the frame that was received last
	readBy  time.Time     // the deadlines that are set
	writeBy time.Time
}

// frameHead is how many bytes stand before those of a frame.
const frameHead = 4

func newFrames(conn net.Conn, buffer, longest int, silence time.Duration) *frames {
	f := &frames{conn: conn, longest: longest, silence: silence, whole: RequestTimeout}
	f.in = bufio.NewReaderSize(hearing{f}, buffer)
	return f
}

// hearing reads from the connection of some frames and counts that.
type hearing struct{ f *frames }

func (h hearing) Read(b []byte) (int, error) {
	n, err := h.f.conn.Read(b)
	h.f.heard.Add(1)
	return n, err
}

// receive returns the next frame. If it is not the taker's own, it may be used
// until the next call.
func (f *frames) receive() (data []byte, own bool, err error) {
	if _, err := f.in.Discard(f.taken); err != nil {
		return nil, false, err
	}
	f.taken = 0
	// To set a deadline costs a part of what a frame does: it is set anew when a
	// quarter of the last one is over.
	if now := time.Now(); f.readBy.Sub(now) < f.silence*3/4 {
		f.readBy = now.Add(f.silence)
		if err := f.conn.SetReadDeadline(f.readBy); err != nil {
			return nil, false, err
		}
	}
	head, err := f.in.Peek(frameHead)
	if err != nil {
		return nil, false, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n > f.longest {
		return nil, false, fmt.Errorf("%w: a frame of %d bytes is announced, the limit is %d", errMalformed, n, f.longest)
	}
	all := frameHead + n
	if f.in.Buffered() < all {
		f.readBy = time.Time{}
		if err := f.conn.SetReadDeadline(time.Now().Add(f.whole)); err != nil {
			return nil, false, err
		}
	}
	if all <= f.in.Size() {
		if data, err = f.in.Peek(all); err != nil {
			return nil, false, err
		}
		f.taken = all
		return data[frameHead:], false, nil
	}
	if _, err := f.in.Discard(frameHead); err != nil {
		return nil, false, err
	}
	data = make([]byte, n)
	_, err = io.ReadFull(f.in, data)
	return data, true, err
}

// outgoing are buffers for what is written at once.
var outgoing = sync.Pool{New: func() any { return new([]byte) }}

// send sends one frame of some pieces. Short ones are put together.
func (f *frames) send(pieces ...[]byte) error {
	if now := time.Now(); f.writeBy.Sub(now) < FrameWriteTimeout/2 {
		f.writeBy = now.Add(FrameWriteTimeout)
		if err := f.conn.SetWriteDeadline(f.writeBy); err != nil {
			return err
		}
	}
	n := 0
	for _, piece := range pieces {
		n += len(piece)
	}
	buffer := outgoing.Get().(*[]byte)
	defer outgoing.Put(buffer)
	out := binary.BigEndian.AppendUint32((*buffer)[:0], uint32(n))
	for _, piece := range pieces {
		if len(out)+len(piece) <= WriteBufferBytes {
			out = append(out, piece...)
			continue
		}
		if _, err := f.conn.Write(out); err != nil {
			return err
		}
		out = out[:0]
		if len(piece) <= WriteBufferBytes {
			out = append(out, piece...)
		} else if _, err := f.conn.Write(piece); err != nil {
			return err
		}
	}
	*buffer = out
	if len(out) == 0 {
		return nil
	}
	_, err := f.conn.Write(out)
	return err
}
