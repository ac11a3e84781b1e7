package dnsserver

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// benchLookup has one service of n healthy instances, on nodes of their own.
func benchLookup(n int) Lookup {
	var entries []health.Entry
	for i := range n {
		node := &catalog.Node{Name: "node-" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Address: net.IPv4(10, 1, byte(i>>8), byte(i)).String()}
		entries = append(entries, instance(node, catalog.Service{Name: "web", Port: 8000 + i, Weights: catalog.Weights{Passing: 1, Warning: 1}}, health.Passing, health.Passing))
	}
	return fakeLookup{service: func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, error) {
		return entries, nil
	}}
}

type benchCase struct {
	name, qtype string
	instances   int
	edns        uint16
}

var benchCases = []benchCase{{"A-3", "A", 3, 0}, {"SRV-3", "SRV", 3, 0}, {"A-50", "A", 50, 4096}, {"SRV-50", "SRV", 50, 4096}}

func (c benchCase) request(b *testing.B) (*dns.Msg, []byte) {
	request := question("web.service.consul", c.qtype)
	if c.edns > 0 {
		request.SetEdns0(c.edns, false)
	}
	packed, err := request.Pack()
	if err != nil {
		b.Fatal(err)
	}
	return request, packed
}

// BenchmarkRespond measures the way from the bytes of a query to those of its
// reply. Its ceiling reads the same query and packs a reply that stands ready.
func BenchmarkRespond(b *testing.B) {
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			s := newServer(b, benchLookup(c.instances), func(c *Config) { c.Random = nil })
			request, packed := c.request(b)
			fixed := s.Answer(context.Background(), request, UDP)
			ceiling := func() {
				m := new(dns.Msg)
				if err := m.Unpack(packed); err != nil {
					b.Fatal(err)
				}
				fixed.Id = m.Id
				if _, err := fixed.Pack(); err != nil {
					b.Fatal(err)
				}
			}
			sc := new(scratch)
			var out []byte
			respond := func() {
				ctx := newQueryContext(context.Background(), lookupTimeout)
				out = s.respond(ctx, packed, out[:0], UDP, sc)
				ctx.end()
			}
			compare(b, respond, ceiling)
		})
	}
}

// BenchmarkAnswer measures Answer and Pack beside packing alone.
func BenchmarkAnswer(b *testing.B) {
	for _, c := range benchCases[:2] {
		b.Run(c.name, func(b *testing.B) {
			s := newServer(b, benchLookup(c.instances), func(c *Config) { c.Random = nil })
			request, _ := c.request(b)
			fixed := s.Answer(context.Background(), request, UDP)
			compare(b, func() {
				if _, err := s.Answer(context.Background(), request, UDP).Pack(); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if _, err := fixed.Pack(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// compare reports how fast what is measured is as a share of its ceiling.
func compare(b *testing.B, measured, ceiling func()) {
	b.ReportAllocs()
	for b.Loop() {
		measured()
	}
	own := b.Elapsed() / time.Duration(b.N)
	b.StopTimer()
	begin := time.Now()
	for range b.N {
		ceiling()
	}
	top := time.Since(begin) / time.Duration(b.N)
	b.ReportMetric(float64(top.Nanoseconds()), "ceiling-ns/op")
	b.ReportMetric(float64(top)/float64(own), "share-of-ceiling")
}

// BenchmarkUDP measures queries over real sockets beside a bare server of the
// library, which returns a fixed message of the same records.
func BenchmarkUDP(b *testing.B) {
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			lookup := benchLookup(c.instances)
			request, packed := c.request(b)
			fixed := newServer(b, lookup).Answer(context.Background(), request, UDP)
			own := run(b, lookup, "127.0.0.1:0").udp
			bare := bareServer(b, fixed)
			const rounds = 5
			var mine, ceiling []float64
			for range rounds {
				mine = append(mine, flood(b, own, packed, 300*time.Millisecond))
				ceiling = append(ceiling, flood(b, bare, packed, 300*time.Millisecond))
			}
			for b.Loop() {
			}
			b.ReportMetric(0, "ns/op") // what counts is queries a second
			slices.Sort(mine)
			slices.Sort(ceiling)
			b.ReportMetric(mine[rounds/2], "queries/s")
			b.ReportMetric(ceiling[rounds/2], "ceiling-queries/s")
			b.ReportMetric(mine[rounds/2]/ceiling[rounds/2], "share-of-ceiling")
		})
	}
}

func bareServer(b *testing.B, fixed *dns.Msg) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{
		PacketConn:        conn,
		NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			reply := *fixed
			reply.Id = r.Id
			w.WriteMsg(&reply)
		}),
	}
	go server.ActivateAndServe()
	<-started
	b.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String()
}

// flood keeps 64 queries outstanding from 8 sockets for a time and returns the
// replies a second.
func flood(b *testing.B, address string, query []byte, d time.Duration) float64 {
	const sockets, outstanding = 8, 8
	counts := make(chan int, sockets)
	deadline := time.Now().Add(d)
	for range sockets {
		conn, err := net.Dial("udp", address)
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(deadline)
			reply := make([]byte, 65535)
			for range outstanding {
				conn.Write(query)
			}
			n := 0
			for {
				if _, err := conn.Read(reply); err != nil {
					counts <- n
					return
				}
				n++
				conn.Write(query)
			}
		}()
	}
	total := 0
	for range sockets {
		total += <-counts
	}
	return float64(total) / d.Seconds()
}
