package dnsserver

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

func TestShareOfFirstPositions(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1, 1}, {1, 2, 3, 4}, {0, 1, 0, 9}, {0, 0}, {65535, 1}, {7}} {
		random := rand.New(rand.NewPCG(3, 4))
		const rounds = 20000
		firsts := make([]int, len(weights))
		entries := make([]health.Entry, len(weights))
		total := 0
		for _, w := range weights {
			total += w
		}
		for range rounds {
			var c []candidate
			for i, w := range weights {
				c = append(c, candidate{entry: &entries[i], weight: w})
			}
			o := shuffleByWeight(c, random)
			first, n := o.next(), 1
			for e := o.next(); e != nil; e = o.next() {
				n++
			}
			if n != len(weights) {
				t.Fatalf("weights %v: %d handed out", weights, n)
			}
			for i := range entries {
				if first == &entries[i] {
					firsts[i]++
				}
			}
		}
		for i, w := range weights {
			want := 1 / float64(len(weights))
			if total > 0 {
				want = float64(w) / float64(total)
			}
			got := float64(firsts[i]) / rounds
			// Four standard deviations, and never for those of weight zero.
			if margin := 4 * math.Sqrt(want*(1-want)/rounds); math.Abs(got-want) > margin {
				t.Errorf("weights %v: number %d stands first in a share of %.4f, want %.4f", weights, i, got, want)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	const p, w, c, x = health.Passing, health.Warning, health.Critical, health.Status("odd")
	for _, test := range []struct {
		states      []health.Status
		weights     catalog.Weights
		weight      int
		given       bool
		onlyPassing bool // is it given with only_passing
	}{
		{nil, catalog.Weights{}, 1, true, true},
		{nil, catalog.Weights{Passing: 10, Warning: 3}, 10, true, true},
		{[]health.Status{p, p}, catalog.Weights{Passing: 10, Warning: 3}, 10, true, true},
		{[]health.Status{p, w}, catalog.Weights{Passing: 10, Warning: 3}, 3, true, false},
		{[]health.Status{w}, catalog.Weights{Passing: 10}, 0, true, false},
		{[]health.Status{x, w}, catalog.Weights{Passing: 10, Warning: 3}, 1, true, false},
		{[]health.Status{w, p, c}, catalog.Weights{Passing: 10, Warning: 3}, 0, false, false},
	} {
		e := instance(&catalog.Node{Name: "n"}, catalog.Service{Name: "s", Weights: test.weights}, test.states...)
		if weight, ok := Judge(&e, false); weight != test.weight || ok != test.given {
			t.Errorf("%v, weights %v: got %d, %v, want %d, %v", test.states, test.weights, weight, ok, test.weight, test.given)
		}
		if _, ok := Judge(&e, true); ok != test.onlyPassing {
			t.Errorf("%v with only_passing: got %v, want %v", test.states, ok, test.onlyPassing)
		}
	}
}

func TestWeightsOrderAddresses(t *testing.T) {
	var entries []health.Entry
	for i, w := range []int{0, 1, 9} {
		node := &catalog.Node{Name: string(rune('a' + i)), Address: "10.0.0." + string(rune('0'+i))}
		entries = append(entries, instance(node, catalog.Service{Name: "web", Weights: catalog.Weights{Passing: 1, Warning: w}}, health.Warning))
	}
	s := newServer(t, lookupIn(entries))
	firsts := map[string]int{}
	const rounds = 2000
	for range rounds {
		reply := s.Answer(context.Background(), question("web.service.consul", "A"), UDP)
		if len(reply.Answer) != len(entries) {
			t.Fatalf("got %d answers", len(reply.Answer))
		}
		firsts[strings.TrimPrefix(reply.Answer[0].(*dns.A).A.String(), "10.0.0.")]++
	}
	if firsts["0"] != 0 || firsts["1"] < rounds/20 || firsts["1"] > rounds/5 {
		t.Errorf("first of %d replies: %v, want none, about a tenth, and the rest", rounds, firsts)
	}
}
