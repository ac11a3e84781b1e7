package state

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// entry returns the log entry of a command at an index.
func entry(tb testing.TB, index uint64, cmd any) *raft.Log {
	tb.Helper()
	b, err := Encode(cmd, 1_700_000_000_000+int64(index), mvcc.Origin{Node: "n1", Address: "127.0.0.1:4711", Endpoint: "PUT /v1/kv/"})
	if err != nil {
		tb.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: b}
}

// BenchmarkApplySet measures a put into 100,000 keys of 128 bytes, from the
// bytes of the log to the new view.
func BenchmarkApplySet(b *testing.B) {
	m := NewMachine()
	value := make([]byte, 128)
	logs := make([]*raft.Log, 100_000)
	for i := range logs {
		logs[i] = entry(b, uint64(i+1), &kv.Set{Key: fmt.Sprintf("app/%d/key", i), Value: value})
		m.Apply(logs[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l := *logs[(i*7919)%len(logs)]
		l.Index = uint64(200_000 + i)
		l.Data = append([]byte(nil), l.Data...)
		l.Data[len(l.Data)-1-i%100] = byte(i)
		m.Apply(&l)
	}
}

// BenchmarkApplyRegister measures a registration of a node, an instance and a
// check among 1,000 instances, from the bytes of the log to the new view: of one
// that is new, of one that changes, and of one that is there just so. In batches
// of 64, as the log brings them under load.
func BenchmarkApplyRegister(b *testing.B) {
	const n = 1000
	logs := func(from, port int) []*raft.Log {
		out := make([]*raft.Log, n)
		for i := range out {
			out[i] = entry(b, uint64(i+1), registration(from+i, port))
		}
		return out
	}
	there, changed := logs(0, 80), logs(0, 81)
	gone := make([]*raft.Log, n)
	for i := range gone {
		r := registration(i, 80)
		gone[i] = entry(b, uint64(i+1), &catalog.Deregister{Node: r.Node.Name, ServiceID: r.Service.ID})
	}
	run := func(b *testing.B, batch int, sets ...[]*raft.Log) {
		m := NewMachine()
		for _, l := range there {
			m.Apply(l)
		}
		index := uint64(2 * n)
		logs := make([]*raft.Log, batch)
		done := 0
		b.ReportAllocs()
		for b.Loop() {
			for i := range logs {
				l := *sets[done/n%len(sets)][done%n]
				index++
				done++
				l.Index = index
				logs[i] = &l
			}
			m.ApplyBatch(logs)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/entry")
	}
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("changed/%d", batch), func(b *testing.B) { run(b, batch, changed, there) })
		b.Run(fmt.Sprintf("equal/%d", batch), func(b *testing.B) { run(b, batch, there) })
		b.Run(fmt.Sprintf("gone-and-new/%d", batch), func(b *testing.B) { run(b, batch, gone, there) })
	}
}

// BenchmarkAdopt measures what taking over a state of 100,000 keys costs beside
// reading it, in which the log stands still.
func BenchmarkAdopt(b *testing.B) {
	leader := NewMachine()
	for i := range 100_000 {
		leader.Apply(entry(b, uint64(i+1), &kv.Set{Key: fmt.Sprintf("app/%d/key", i), Value: make([]byte, 128)}))
	}
	var offer bytes.Buffer
	if err := leader.Offer(&offer); err != nil {
		b.Fatal(err)
	}
	b.Run("offer", func(b *testing.B) {
		for b.Loop() {
			if err := leader.Offer(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("adopt", func(b *testing.B) {
		m := NewMachine()
		for b.Loop() {
			if err := m.Adopt(bytes.NewReader(offer.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkArchive measures what saving a state of 100,000 keys for people and
// verifying it costs.
func BenchmarkArchive(b *testing.B) {
	m := NewMachine()
	for i := range 100_000 {
		m.Apply(entry(b, uint64(i+1), &kv.Set{Key: fmt.Sprintf("app/%d/key", i), Value: make([]byte, 128)}))
	}
	var whole bytes.Buffer
	if _, err := WriteArchive(&whole, m.View(), ArchiveMeta{}); err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if _, err := WriteArchive(io.Discard, m.View(), ArchiveMeta{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := VerifyArchive(bytes.NewReader(whole.Bytes()), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func registration(i, port int) *health.Register {
	node := fmt.Sprintf("node-%d", i/10)
	id := fmt.Sprintf("web-%d", i)
	return &health.Register{
		Registration: catalog.Registration{
			Node:    catalog.Node{Name: node, Address: "10.0.0.1"},
			Service: &catalog.Service{ID: id, Name: fmt.Sprintf("web%d", i%100), Port: port, Tags: []string{"a", "b"}, Weights: catalog.Weights{Passing: 1, Warning: 1}},
		},
		Checks: []health.Check{{Node: node, ID: "c-" + id, ServiceID: id, Name: "up", Status: health.Passing}},
	}
}

// pool returns the entries of a service of n instances on n/2 nodes, as agents
// register them: with a check of each node and one of each instance.
func pool(tb testing.TB, n int) []health.Entry {
	tb.Helper()
	m := NewMachine()
	for i := range n {
		node, id := fmt.Sprintf("node-%04d", i/2), fmt.Sprintf("web-%d", i)
		m.Apply(entry(tb, uint64(i+1), &health.Register{
			Registration: catalog.Registration{
				Node: catalog.Node{
					Name: node, ID: fmt.Sprintf("7b1c9f5e-0000-4000-8000-%012d", i/2), Address: fmt.Sprintf("10.0.%d.%d", i/512, i/2%256),
					TaggedAddresses: map[string]string{"lan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "wan": "10.0.0.1", "wan_ipv4": "10.0.0.1"},
					Meta:            map[string]string{"rack": fmt.Sprint(i % 8), "muster-version": "0.2.0"},
				},
				Service: &catalog.Service{
					ID: id, Name: "web", Port: 8000 + i%1000, Address: "", Tags: []string{"v2", "primary", "http"},
					Meta: map[string]string{"version": "2.1.7"}, Weights: catalog.Weights{Passing: 1, Warning: 1},
				},
			},
			Checks: []health.Check{
				{ID: health.SerfHealth, Name: health.SerfHealthName, Status: health.Passing, Output: health.SerfAlive},
				{ID: "service:" + id, ServiceID: id, Name: "Service 'web' check", Status: health.Passing, Type: "http", Interval: "10s", Timeout: "1s",
					Output: "HTTP GET http://127.0.0.1:8000/health: 200 OK Output: ok"},
			},
		}))
	}
	a, err := m.View().Answer(&health.ServiceQuery{Service: "web"}, nil)
	if err != nil || len(a.Value.([]health.Entry)) != n {
		tb.Fatal(err)
	}
	return a.Value.([]health.Entry)
}

// BenchmarkEntries measures how the entries of a service cross the wire, beside
// what the library makes of the same entries.
func BenchmarkEntries(b *testing.B) {
	q := &health.ServiceQuery{Service: "web"}
	for _, n := range []int{3, 50, 500} {
		entries := pool(b, n)
		ours, err := EncodeAnswer(entries)
		if err != nil {
			b.Fatal(err)
		}
		bare, err := encodeBody(nil, entries)
		if err != nil {
			b.Fatal(err)
		}
		// What the library makes of bytes that leave out as much as ours.
		same, err := EncodeAnswer(apart(entries))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("encode/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := EncodeAnswer(entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(ours)), "bytes")
		})
		b.Run(fmt.Sprintf("encode-bare/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encodeBody(nil, entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(bare)), "bytes")
		})
		b.Run(fmt.Sprintf("decode/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeAnswer(q, ours); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decode-same/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeAnswer(q, same); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, body := range map[string][]byte{"decode-same-bare": same[2:], "decode-bare": bare} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var v []health.Entry
					if err := decodeBody(body, &v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkServiceHealth measures the join of a service's instances with their
// nodes and checks.
func BenchmarkServiceHealth(b *testing.B) {
	for _, n := range []int{3, 50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := NewMachine()
			for i := range n {
				r := registration(i, 80)
				r.Service.Name = "web"
				m.Apply(entry(b, uint64(i+1), r))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.View().Answer(&health.ServiceQuery{Service: "web"}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
