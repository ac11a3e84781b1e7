package agenttest

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
)

const (
	// lowPort and highPort are around the ports that [Ports] gives. A kernel gives
	// none of them to a connection, or to who asks for any, unless it is told to:
	// an agent that is down finds its own free when it comes back.
	lowPort, highPort = 12000, 32000
	// portBlock is how many of them a process has to itself. It is more than what
	// the tests that run at the same time need together.
	portBlock = 1000
)

// block is the part of the ports that this process gives. Its first one is held
// for as long as the process lives, and keeps other processes out.
var block struct {
	mu    sync.Mutex
	held  net.Listener
	first int
	next  int // how many were given or passed over
}

// Ports returns different ports that are free on 127.0.0.1, for TCP and UDP alike.
// Neither the kernel nor another process that asks here gives them to anybody, and
// this process gives them again only after all others of its block.
func Ports(t testing.TB, count int) []int {
	t.Helper()
	block.mu.Lock()
	defer block.mu.Unlock()
	if block.held == nil {
		for first := lowPort; first < highPort && block.held == nil; first += portBlock {
			if held, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first)); err == nil {
				block.held, block.first = held, first
			}
		}
		if block.held == nil {
			t.Fatalf("other processes have all ports from %d to %d", lowPort, highPort-1)
		}
	}
	var given []int
	for range portBlock - 1 {
		if len(given) == count {
			return given
		}
		port := block.first + 1 + block.next%(portBlock-1)
		block.next++
		if free(port) {
			given = append(given, port)
		}
	}
	t.Fatalf("of the ports from %d to %d, only %d are free, want %d", block.first+1, block.first+portBlock-1, len(given), count)
	return nil
}

// free reports whether nobody has a port.
func free(port int) bool {
	at := fmt.Sprintf("127.0.0.1:%d", port)
	stream, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	packets, err := net.ListenPacket("udp", at)
	if err == nil {
		err = packets.Close()
	}
	return stream.Close() == nil && err == nil
}
