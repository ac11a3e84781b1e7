package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// running is a server on real sockets.
type running struct {
	udp, tcp string
	stop     func() error
}

// run starts a server on sockets that the kernel chooses. listen is the address
// of the UDP socket.
func run(t testing.TB, lookup Lookup, listen string) running {
	t.Helper()
	packets, err := net.ListenPacket("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, lookup, func(c *Config) {
		c.PacketConns = []net.PacketConn{packets}
		c.Listeners = []net.Listener{listener}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return running{packets.LocalAddr().String(), listener.Addr().String(), stop}
}

func TestSockets(t *testing.T) {
	want := []string{
		"web.service.consul. 0 IN A 10.1.1.1", "web.service.consul. 0 IN A 10.2.2.2", "web.service.consul. 0 IN A 10.9.9.9",
	}
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(listen, func(t *testing.T) {
			r := run(t, vectorLookup(), listen)
			_, port, err := net.SplitHostPort(r.udp)
			if err != nil {
				t.Fatal(err)
			}
			for network, address := range map[string]string{"udp": "127.0.0.1:" + port, "tcp": r.tcp} {
				client := &dns.Client{Net: network, Timeout: 30 * time.Second}
				for range 20 {
					reply, _, err := client.Exchange(question("web.service.consul", "A"), address)
					if err != nil {
						t.Fatalf("%s: %v", network, err)
					}
					if got := lines(reply.Answer); !slices.Equal(got, want) {
						t.Fatalf("%s: got %q, want %q", network, got, want)
					}
				}
			}
		})
	}
}

// A reply leaves from the address that its query came to, and not from the one
// that the kernel would choose.
func TestReplyLeavesFromTheAddressAsked(t *testing.T) {
	r := run(t, vectorLookup(), "0.0.0.0:0")
	_, port, err := net.SplitHostPort(r.udp)
	if err != nil {
		t.Fatal(err)
	}
	// A connected socket takes packets from its peer only.
	client := &dns.Client{Timeout: 30 * time.Second}
	if _, _, err := client.Exchange(question("web.service.consul", "A"), "127.0.0.9:"+port); err != nil {
		t.Fatal(err)
	}
}

func TestTCPConnectionCarriesManyQueries(t *testing.T) {
	r := run(t, vectorLookup(), "127.0.0.1:0")
	conn, err := net.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// All queries are sent before the first reply is read.
	const queries = 50
	var all []byte
	for i := range queries {
		m := question("web.service.consul", "SRV")
		m.Id = uint16(i)
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(packed))), packed...)
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for i := range queries {
		raw, err := readFramed(conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(raw); err != nil || m.Id != uint16(i) || len(m.Answer) != 3 {
			t.Fatalf("reply %d: %v, %v", i, m, err)
		}
	}
}

func TestRunEndsWithQueriesUnderWayAnswered(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	lookup := fakeLookup{service: func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	}}
	r := run(t, lookup, "127.0.0.1:0")
	replies := make(chan error, 2)
	for network, address := range map[string]string{"udp": r.udp, "tcp": r.tcp} {
		go func() {
			client := &dns.Client{Net: network, Timeout: 20 * time.Second}
			reply, _, err := client.Exchange(question("web.service.consul", "A"), address)
			if err == nil && reply.Rcode != dns.RcodeNameError {
				err = errors.New(reply.String())
			}
			replies <- err
		}()
	}
	<-entered
	<-entered
	// Idle connections do not hold up the end.
	idle, err := net.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()

	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	select {
	case err := <-ended:
		t.Fatalf("Run ended with queries under way: %v", err)
	default:
	}
	close(leave)
	for range 2 {
		if err := <-replies; err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		var reset *net.OpError
		if !errors.As(err, &reset) {
			t.Errorf("the idle connection: got %v, want its end", err)
		}
	}
}

func TestRunReportsASocketThatFails(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, vectorLookup(), func(c *Config) {
		c.PacketConns = []net.PacketConn{packets}
		c.Listeners = []net.Listener{listener}
	})
	packets.Close()
	if err := s.Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want that the socket is closed", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the other socket: got %v, want that it is closed", err)
	}
}

// More queries may wait for their lookups than goroutines stand idle.
func TestSlowLookupsDoNotHoldUpOthers(t *testing.T) {
	const slow = maxUDPQueries - 1
	entered, leave := make(chan struct{}, slow), make(chan struct{})
	fast := vectorLookup()
	lookup := fakeLookup{service: func(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, error) {
		if q.Service == "slow" {
			entered <- struct{}{}
			<-leave
		}
		entries, _, err := fast.Service(ctx, o, q)
		return entries, err
	}}
	r := run(t, lookup, "127.0.0.1:0")
	conn, err := net.Dial("udp", r.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packed, err := question("slow.service.consul", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range slow {
		if _, err := conn.Write(packed); err != nil {
			t.Fatal(err)
		}
		<-entered
	}
	client := &dns.Client{Timeout: 30 * time.Second}
	if _, _, err := client.Exchange(question("web.service.consul", "A"), r.udp); err != nil {
		t.Error(err)
	}

	// At the limit a query waits, and is answered when another one is done.
	if _, err := conn.Write(packed); err != nil {
		t.Fatal(err)
	}
	<-entered
	answered := make(chan error, 1)
	go func() {
		_, _, err := client.Exchange(question("web.service.consul", "A"), r.udp)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a query above the limit came back while others wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestTCPConnectionsAboveTheLimitWait(t *testing.T) {
	r := run(t, vectorLookup(), "127.0.0.1:0")
	packed, err := question("web.service.consul", "A").Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	conns := make([]net.Conn, maxTCPConnections+1)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", r.tcp); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		if _, err := conns[i].Write(framed); err != nil {
			t.Fatal(err)
		}
		if i < maxTCPConnections {
			if _, err := readFramed(conns[i], nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := conns[maxTCPConnections]
	last.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := readFramed(last, nil); err == nil {
		t.Error("a connection above the limit was served")
	}
	conns[0].Close()
	last.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := readFramed(last, nil); err != nil {
		t.Errorf("the connection is not served when another one has gone: %v", err)
	}
}
