package state

import (
	"fmt"
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

// BenchmarkApplyRegister measures a change of one of 1,000 instances with one
// check each.
func BenchmarkApplyRegister(b *testing.B) {
	m := NewMachine()
	logs := make([]*raft.Log, 1000)
	for i := range logs {
		logs[i] = entry(b, uint64(i+1), registration(i, 80))
		m.Apply(logs[i])
	}
	changed := make([]*raft.Log, 1000)
	for i := range changed {
		changed[i] = entry(b, uint64(i+1), registration(i, 81))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		set := logs
		if (i/1000)%2 == 0 {
			set = changed
		}
		l := *set[i%1000]
		l.Index = uint64(2000 + i)
		m.Apply(&l)
	}
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
