package agent

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-metrics"
)

// measure is something that is timed so often that the library, which makes a
// name anew for each value, would cost more than much of what it measures.
type measure struct {
	name string
	// labels are the names of the labels, as many as are not empty.
	labels [2]string
	// open is whether clients can make up values of the first label.
	open bool
}

var (
	measureRequest    = &measure{name: metricsPrefix + ".api.http", labels: [2]string{"method", "path"}, open: true}
	measureQuery      = &measure{name: metricsPrefix + ".dns.query", labels: [2]string{"node", "type"}}
	measureDomain     = &measure{name: metricsPrefix + ".dns.domain_query", labels: [2]string{"node"}}
	measurePointer    = &measure{name: metricsPrefix + ".dns.ptr_query", labels: [2]string{"node"}}
	measureKeys       = &measure{name: metricsPrefix + ".kvs.apply"}
	measureTxn        = &measure{name: metricsPrefix + ".txn.apply"}
	measureRegister   = &measure{name: metricsPrefix + ".catalog.register"}
	measureCheck      = &measure{name: "muster.check.run", labels: [2]string{"kind", "status"}}
	measureDeregister = &measure{name: metricsPrefix + ".catalog.deregister"}
)

// otherValue stands for the values of a label that clients made up, once there
// are too many series or the value is too long.
const otherValue = "other"

// timestampLayout is how the library writes when an interval began.
const timestampLayout = "2006-01-02 15:04:05 -0700 MST"

// seriesKey names a series: what is measured, and the values of its labels.
type seriesKey struct {
	of     *measure
	values [2]string
}

// series is what came together under one name and its labels, in the interval
// that it was last added to and in the one before that.
type series struct {
	hash   string // by which clients see series sorted
	labels map[string]string

	mu        sync.Mutex
	now, last tally
}

// tally is what came together in one interval. Values are in milliseconds.
type tally struct {
	began           int64 // Unix seconds
	count           int
	sum, squares    float64
	lowest, highest float64
}

// samples holds all series. Its methods may be called from any goroutine.
type samples struct {
	// begin makes the library begin the interval, which has to know of each in
	// which something was measured.
	begin func()
	began atomic.Int64 // the newest interval, in Unix seconds

	all atomic.Pointer[map[seriesKey]*series] // never written to
	mu  sync.Mutex                            // for who replaces all
}

func newSamples(begin func()) *samples {
	s := &samples{begin: begin}
	s.all.Store(&map[seriesKey]*series{})
	return s
}

// add counts that something took a time.
func (s *samples) add(of *measure, took time.Duration, values ...string) {
	key := seriesKey{of: of}
	copy(key.values[:], values)
	if len(key.values[0]) > maxLabelValue && of.open {
		key.values[0] = otherValue
	}
	began := time.Now().Truncate(metricsInterval).Unix()
	if old := s.began.Load(); old != began && s.began.CompareAndSwap(old, began) {
		s.begin()
		s.forget(began)
	}
	it, ok := (*s.all.Load())[key]
	if !ok {
		it = s.open(key)
	}
	// The library counts in single precision: so does what is shown beside it.
	it.add(began, float64(float32(took.Seconds()*1000)))
}

// open returns the series of a key, and makes it if there is none. Beyond
// [maxSeries], values that clients made up count as one.
func (s *samples) open(key seriesKey) *series {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := *s.all.Load()
	if len(all) >= maxSeries && all[key] == nil && key.of.open {
		key.values[0] = otherValue
	}
	if it, ok := all[key]; ok {
		return it
	}
	// What a client sent is part of its whole request, which is not to be kept.
	key.values[0] = strings.Clone(key.values[0])
	it := newSeries(key)
	next := maps.Clone(all)
	next[key] = it
	s.all.Store(&next)
	return it
}

// forget drops the series that nothing was added to for as long as the library
// keeps its own.
func (s *samples) forget(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(*s.all.Load())
	maps.DeleteFunc(next, func(_ seriesKey, it *series) bool {
		it.mu.Lock()
		defer it.mu.Unlock()
		return now-it.now.began > int64(metricsRetention/time.Second)
	})
	s.all.Store(&next)
}

// merge adds the samples of an interval to what the library measured in it.
func (s *samples) merge(into *metrics.MetricsSummary) {
	interval, err := time.Parse(timestampLayout, into.Timestamp)
	if err != nil {
		return
	}
	began := interval.Unix()
	for key, it := range *s.all.Load() {
		if t := it.of(began); t.count > 0 {
			into.Samples = append(into.Samples, t.shown(key.of.name, it))
		}
	}
	slices.SortFunc(into.Samples, func(a, b metrics.SampledValue) int { return strings.Compare(a.Hash, b.Hash) })
}

func newSeries(key seriesKey) *series {
	it := &series{hash: key.of.name, labels: map[string]string{}}
	for i, name := range key.of.labels {
		if name == "" {
			break
		}
		it.labels[name] = key.values[i]
		it.hash += ";" + name + "=" + strings.ReplaceAll(key.values[i], " ", "_")
	}
	return it
}

// add counts a value in an interval.
func (it *series) add(began int64, value float64) {
	it.mu.Lock()
	defer it.mu.Unlock()
	t := &it.now
	switch began {
	case it.now.began:
	case it.last.began: // overtaken by who began the next interval
		t = &it.last
	default:
		it.last, it.now = it.now, tally{began: began, lowest: math.Inf(1), highest: math.Inf(-1)}
	}
	t.count++
	t.sum += value
	t.squares += value * value
	t.lowest, t.highest = min(t.lowest, value), max(t.highest, value)
}

// of returns what came together in an interval.
func (it *series) of(began int64) tally {
	it.mu.Lock()
	defer it.mu.Unlock()
	for _, t := range [...]tally{it.now, it.last} {
		if t.began == began {
			return t
		}
	}
	return tally{}
}

// shown is the tally as the library would show it.
func (t tally) shown(name string, it *series) metrics.SampledValue {
	all := &metrics.AggregateSample{Count: t.count, Sum: t.sum, SumSq: t.squares, Min: t.lowest, Max: t.highest,
		Rate: t.sum / metricsInterval.Seconds()}
	return metrics.SampledValue{Name: name, Hash: it.hash, AggregateSample: all, Mean: all.Mean(), Stddev: all.Stddev(),
		DisplayLabels: it.labels}
}
