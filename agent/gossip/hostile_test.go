package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// heap returns the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func dialTCP(t *testing.T, at netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// cutWithin waits until the other side closes a connection.
func cutWithin(t *testing.T, conn net.Conn, limit time.Duration) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection is still open after %s", limit)
	}
}

func TestGarbageOnThePort(t *testing.T) {
	nodes := cluster(t, 3, 1, paced(1)) // the garbage keeps pings out for a while
	target := nodes[0].Addr()
	udp, err := net.Dial("udp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	before := heap()
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 20000 {
		b := make([]byte, 1+random.IntN(1500))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		if i%2 == 0 {
			b[0] = byte(random.IntN(16)) // a kind that memberlist knows
		}
		if i%1000 == 0 {
			b = bytes.Repeat(b, 20)[:min(20*len(b), 60000)]
		}
		_, _ = udp.Write(b)
	}
	for range 100 {
		conn := dialTCP(t, target)
		b := make([]byte, 1+random.IntN(4000))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		_, _ = conn.Write(b)
		_ = conn.Close()
	}
	for _, n := range nodes {
		n.never(time.Second/2, "a member fails", func() bool { return strings.Contains(n.describe(), "failed") })
		n.waitAll(patience, Alive, nodes...)
	}
	if after := heap(); after > before+32<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if got := len(nodes[0].log.String()); got > 1<<20 {
		t.Errorf("the log has %d bytes", got)
	}
}

// header is what begins an exchange of state.
func header(nodes, state uint64) []byte {
	b := []byte{wirePushPull, 0x83, 0xa5}
	b = append(b, "Nodes"...)
	b = binary.BigEndian.AppendUint64(append(b, 0xcf), nodes)
	b = append(append(b, 0xac), "UserStateLen"...)
	b = binary.BigEndian.AppendUint64(append(b, 0xcf), state)
	return append(append(b, 0xa4), "Join\xc3"...)
}

func TestOversizeStreamsAreCut(t *testing.T) {
	n := open(t, 0, func(cfg *Config) { cfg.Timing.StreamTimeout = 2 * time.Minute })
	before := heap()
	for _, b := range [][]byte{
		header(1<<20, 0), header(maxMembers+1, 0), header(1, maxStream+1), header(1<<63, 1), header(0, 1<<63),
		{wireCompress, 0x82}, {wireUser, 0x81}, {wireEncrypt, 0xff, 0xff, 0xff, 0xff}, {244, 3, 'a', 'b', 'c'},
		append([]byte{wirePushPull, 0x83, 0xb8}, bytes.Repeat([]byte{'x'}, 200)...), {wirePushPull, 0xdf},
	} {
		conn := dialTCP(t, n.Addr())
		_, _ = conn.Write(b)
		cutWithin(t, conn, patience)
	}
	n = open(t, 2, func(cfg *Config) { cfg.Timing.StreamTimeout = 2 * time.Second })
	// Promises that are never kept are bounded together.
	for range 40 {
		conn := dialTCP(t, n.Addr())
		_, _ = conn.Write(header(maxMembers, 0))
	}
	n.wait(patience, "the budget is used up", func() bool {
		n.transport.budget.mu.Lock()
		defer n.transport.budget.mu.Unlock()
		return n.transport.budget.bytes > maxStreamBytes-maxMembers*streamNodeBytes
	})
	if after := heap(); after > before+maxStreamBytes+32<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	// A stream that goes on for ever is cut.
	conn := dialTCP(t, n.Addr())
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write(header(10, 100))
	for sent, chunk := 0, bytes.Repeat([]byte{0xda, 0xff, 0xff}, 10000); ; sent += len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			break
		}
		if sent > 4*maxStream {
			t.Fatal("a stream brought far more than it may")
		}
	}
	other := open(t, 1)
	n.wait(patience, "others can join again", func() bool {
		got, _ := other.Join(t.Context(), []string{n.Addr().String()})
		return got == 1
	})
}

func TestSlowStreamsDoNotKeepOthersOut(t *testing.T) {
	n := open(t, 0)
	var conns []net.Conn
	for i := range maxStreams + 50 {
		conn := dialTCP(t, n.Addr())
		if i%2 == 0 {
			_, _ = conn.Write([]byte{wirePushPull}) // and no more
		}
		conns = append(conns, conn)
	}
	other := open(t, 1)
	other.join(n) // at once, at the cost of the oldest
	n.waitAll(patience, Alive, other)
	for _, conn := range conns {
		cutWithin(t, conn, headerLimit+patience)
	}
	n.transport.budget.mu.Lock()
	defer n.transport.budget.mu.Unlock()
	if n.transport.budget.bytes < 0 || n.transport.budget.bytes > 1<<20 {
		t.Errorf("%d bytes are still counted", n.transport.budget.bytes)
	}
}

func TestCompressedPacketsAreDropped(t *testing.T) {
	var s packetScreen
	now := time.Unix(100, 0)
	for name, b := range map[string][]byte{
		"compressed":     {wireCompress, 1, 2},
		"in a compound":  {wireCompound, 2, 0, 2, 0, 2, wirePing, 0, wireCompress, 0},
		"behind a CRC":   {wireCRC, 0, 0, 0, 0, wireCompress},
		"nested":         {wireCompound, 1, 0, 2, wireCompound, 0},
		"push/pull":      {wirePushPull, 0},
		"error":          {wireError, 0},
		"label":          {244, 1, 'x', 0},
		"short CRC":      {wireCRC, 0},
		"short compound": {wireCompound, 200, 0},
		"empty part":     {wireCompound, 1, 0, 0},
		"long part":      {wireCompound, 1, 0xff, 0xff, 0},
	} {
		if s.refuses(b, now) == "" {
			t.Errorf("%s passes", name)
		}
	}
	for kind := range []byte{wirePing, wireIndirect, wireAck, wireSuspect, wireAlive, wireDead} {
		if reason := s.refuses([]byte{wireCompound, 2, 0, 1, 0, 1, byte(kind), wireUser}, now); reason != "" {
			t.Errorf("kind %d is refused: %s", kind, reason)
		}
	}
	for range maxIndirect {
		_ = s.refuses([]byte{wireIndirect, 0}, now)
	}
	if s.refuses([]byte{wireIndirect, 0}, now) == "" {
		t.Error("probes for others have no limit")
	}
	if reason := s.refuses([]byte{wireIndirect, 0}, now.Add(time.Second)); reason != "" {
		t.Errorf("a second later it is still refused: %s", reason)
	}
}

func TestPortsAreFreeAfterClose(t *testing.T) {
	n := open(t, 0)
	at := n.Addr()
	n.end()
	_ = n.Close()
	if _, err := n.Join(t.Context(), []string{at.String()}); !errors.Is(err, ErrClosed) {
		t.Errorf("a join after the end gives %v", err)
	}
	for _, err := range []error{n.SetTags(nil), n.Leave(t.Context()), n.Broadcast(1, nil), n.ForceLeave(t.Context(), "x", false)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after the end it gives %v", err)
		}
	}
	n.Probe(nodeID(1))
	conn, err := net.Dial("tcp", at.String())
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port gives %v", err)
	}
	if conn != nil {
		_ = conn.Close()
	}
}

func FuzzPacketScreen(f *testing.F) {
	f.Add([]byte{wireCompound, 1, 0, 1, wirePing})
	f.Add([]byte{wireCRC, 0, 0, 0, 0, wireCompound, 1, 0, 1, wireCompress})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		var s packetScreen
		if s.refuses(b, time.Time{}) == "" && b[0] == wireCompress {
			t.Error("a compressed packet passes")
		}
	})
}

func FuzzStreamHeader(f *testing.F) {
	f.Add(header(3, 400))
	f.Add([]byte{wireEncrypt, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var seen []byte
		n, err := readHeader(&headerReader{conn: bytes.NewReader(b), seen: &seen})
		if err == nil && (n < 0 || n > maxMembers*streamNodeBytes+maxStream) {
			t.Errorf("it promises %d bytes", n)
		}
		if !bytes.HasPrefix(b, seen) || len(seen) > maxStreamHeader {
			t.Errorf("it read %x of %x", seen, b)
		}
	})
}
