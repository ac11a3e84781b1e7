package agenttest

import (
	"net"
	"strconv"
	"testing"
)

// TestPorts asks for more ports than there are at once, some of which are taken.
func TestPorts(t *testing.T) {
	before := Ports(t, 1)[0]
	// The next but one is taken for UDP alone, as a query's socket would.
	taken, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(before+2))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	seen := map[int]bool{before: true}
	for range 100 {
		for _, port := range Ports(t, 5) {
			if port == before+2 {
				t.Errorf("port %d is taken", port)
			}
			if seen[port] || port <= block.first || port >= block.first+portBlock {
				t.Errorf("port %d was given before, or is none of the block of %d", port, block.first)
			}
			seen[port] = true
		}
	}
	for range portBlock { // and round again
		Ports(t, 5)
	}
}
