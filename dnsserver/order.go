package dnsserver

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/muster-sd/muster/health"
)

// candidate is an instance that may be given out.
type candidate struct {
	entry  *health.Entry
	weight int
	// key orders weighted candidates.
	key float64
}

// order hands out candidates in random order, and spends no work on those that
// are not asked for.
type order struct {
	rest   []candidate
	random *rand.Rand
	// sorted says that the candidates stand in their order already.
	sorted bool
}

// shuffle orders candidates evenly at random.
func shuffle(c []candidate, random *rand.Rand) order {
	return order{rest: c, random: random}
}

// shuffleByWeight orders candidates so that each stands first in proportion to
// its weight, and likewise among those that follow. Those of weight zero come
// last, in even order.
func shuffleByWeight(c []candidate, random *rand.Rand) order {
	if !slices.ContainsFunc(c, func(x candidate) bool { return x.weight != c[0].weight }) {
		return shuffle(c, random)
	}
	for i := range c {
		// The least of exponential waiting times with these rates is each one's with
		// the probability that is wanted (Efraimidis and Spirakis, 2006). No waiting
		// time that is divided by a weight comes near the ones of weight zero.
		const never = 1e300
		c[i].key = random.ExpFloat64()
		if c[i].weight > 0 {
			c[i].key /= float64(c[i].weight)
		} else {
			c[i].key = never * (1 + c[i].key)
		}
	}
	slices.SortFunc(c, func(a, b candidate) int { return cmp.Compare(a.key, b.key) })
	return order{rest: c, sorted: true}
}

// next is the next instance, or nil after the last.
func (o *order) next() *health.Entry {
	e, _ := o.nextWeighted()
	return e
}

// nextWeighted is the next instance with its weight.
func (o *order) nextWeighted() (*health.Entry, int) {
	if len(o.rest) == 0 {
		return nil, 0
	}
	if !o.sorted {
		i := o.random.IntN(len(o.rest))
		o.rest[0], o.rest[i] = o.rest[i], o.rest[0]
	}
	first := o.rest[0]
	o.rest = o.rest[1:]
	return first.entry, first.weight
}

// Judge says whether an instance is healthy enough to be given out, and with
// what weight. Those of weight zero come after all others.
func Judge(e *health.Entry, onlyPassing bool) (weight int, ok bool) {
	warning, strange := false, false
	for _, c := range e.Checks {
		switch c.Status {
		case health.Passing:
		case health.Critical:
			return 0, false
		case health.Warning:
			warning = true
		default:
			strange = true
		}
	}
	if onlyPassing && (warning || strange) {
		return 0, false
	}
	weights := e.Service.Weights
	switch {
	case strange, weights.Passing == 0 && weights.Warning == 0:
		return 1, true
	case warning:
		return weights.Warning, true
	default:
		return weights.Passing, true
	}
}
