package dnsserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// fakeLookup is a lookup made of functions. One that is missing finds nothing.
type fakeLookup struct {
	service func(context.Context, mvcc.ReadOptions, *health.ServiceQuery) ([]health.Entry, error)
	node    func(context.Context, mvcc.ReadOptions, *catalog.NodeQuery) (*catalog.Node, error)
	address func(context.Context, mvcc.ReadOptions, *catalog.AddressQuery) (*catalog.AddressOwner, error)
}

var _ Lookup = fakeLookup{}

func (f fakeLookup) Service(ctx context.Context, o mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, mvcc.Meta, error) {
	if f.service == nil {
		return nil, mvcc.Meta{Index: 1}, nil
	}
	entries, err := f.service(ctx, o, q)
	return entries, mvcc.Meta{Index: 1}, err
}

func (f fakeLookup) Node(ctx context.Context, o mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, mvcc.Meta, error) {
	if f.node == nil {
		return nil, mvcc.Meta{Index: 1}, nil
	}
	node, err := f.node(ctx, o, q)
	return node, mvcc.Meta{Index: 1}, err
}

func (f fakeLookup) Address(ctx context.Context, o mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, mvcc.Meta, error) {
	if f.address == nil {
		return nil, mvcc.Meta{Index: 1}, nil
	}
	owner, err := f.address(ctx, o, q)
	return owner, mvcc.Meta{Index: 1}, err
}

// lookupIn finds things in a list of instances and a list of further nodes.
func lookupIn(entries []health.Entry, nodes ...*catalog.Node) fakeLookup {
	for _, e := range entries {
		nodes = append(nodes, e.Node)
	}
	return fakeLookup{
		service: func(_ context.Context, _ mvcc.ReadOptions, q *health.ServiceQuery) ([]health.Entry, error) {
			var found []health.Entry
			for _, e := range entries {
				if strings.EqualFold(e.Service.Name, q.Service) && hasTags(e.Service.Tags, q.Tags) {
					found = append(found, e)
				}
			}
			return found, nil
		},
		node: func(_ context.Context, _ mvcc.ReadOptions, q *catalog.NodeQuery) (*catalog.Node, error) {
			for _, n := range nodes {
				if strings.EqualFold(n.Name, q.Name) {
					return n, nil
				}
			}
			return nil, nil
		},
		address: func(_ context.Context, _ mvcc.ReadOptions, q *catalog.AddressQuery) (*catalog.AddressOwner, error) {
			for _, n := range nodes {
				if n.Address == q.Address {
					return &catalog.AddressOwner{Node: n}, nil
				}
			}
			for _, e := range entries {
				if e.Service.Address == q.Address {
					return &catalog.AddressOwner{Service: e.Service}, nil
				}
			}
			return nil, nil
		},
	}
}

func hasTags(have, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool {
		return !slices.ContainsFunc(have, func(h string) bool { return strings.EqualFold(h, w) })
	})
}

// instance is an instance with the checks of the given states.
func instance(node *catalog.Node, service catalog.Service, states ...health.Status) health.Entry {
	service.Node = node.Name
	if service.ID == "" {
		service.ID = service.Name
	}
	e := health.Entry{Node: node, Service: &service}
	for i, s := range states {
		e.Checks = append(e.Checks, &health.Check{Node: node.Name, ID: fmt.Sprint("c", i), Status: s})
	}
	return e
}

// lockedSource is a fixed source of random numbers.
type lockedSource struct {
	mu  sync.Mutex
	pcg *rand.PCG
}

func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pcg.Uint64()
}

func defaultSettings() Settings {
	return Settings{
		AllowStale:                  true,
		MaxStale:                    87600 * time.Hour,
		UDPAnswerLimit:              3,
		EnableAdditionalNodeMetaTXT: true,
		SOA:                         SOA{Refresh: 3600, Retry: 600, Expire: 86400},
	}
}

// newServer makes a server for consul. in dc1 at a fixed time.
func newServer(t testing.TB, lookup Lookup, change ...func(*Config)) *Server {
	t.Helper()
	c := Config{
		Datacenter: "dc1",
		NodeName:   "m1",
		Domain:     "consul.",
		Settings:   defaultSettings(),
		Lookup:     lookup,
		Now:        func() time.Time { return time.Unix(1700000000, 0) },
		Random:     &lockedSource{pcg: rand.NewPCG(1, 2)},
	}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// question makes a query as a resolver sends it.
func question(name, qtype string) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	return m
}

// lines writes records one a line, in alphabetical order, without the OPT record.
func lines(records []dns.RR) []string {
	out := []string{}
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	slices.Sort(out)
	return out
}
