package agenttest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what an operation of a history does with its key.
type Kind int

// The kinds of operations. An empty value stands for a key that is not there.
const (
	Get       Kind = iota
	Put            // makes the value Value
	CAS            // makes it Value if it is Was
	Delete         // removes it
	DeleteCAS      // removes it if it is Was; what is not there counts as removed
)

// The modes of reads.
const (
	Default    = ""
	Consistent = "consistent"
	Stale      = "stale"
)

// Outcome is what a client knows of an operation.
type Outcome int

// The outcomes.
const (
	// Done: it was answered.
	Done Outcome = iota
	// Refused: it was answered that nothing was done.
	Refused
	// Unknown: it may have been done, or may be done still.
	Unknown
)

// Op is an operation of one client on one key. Each value is written once at
// most in a history.
type Op struct {
	Client int
	Agent  string // the name of the agent that was asked
	Server bool   // whether that is a server
	Kind   Kind
	Key    string
	Value  string // what is written
	Was    string // what a CAS and a DeleteCAS expect
	Mode   string // of a Get
	// Call and Return are when it was asked and answered, since the history began.
	Call, Return time.Duration
	Outcome      Outcome
	OK           bool   // what a CAS and a DeleteCAS were answered
	Got          string // what a Get found
	Modified     uint64 // the ModifyIndex of that, zero if there is none
	Index        uint64 // the X-Consul-Index of the answer
}

// String describes an operation for people.
func (o *Op) String() string {
	var what string
	switch o.Kind {
	case Get:
		what = fmt.Sprintf("get %s = %q at %d of %d", strings.TrimSpace(o.Mode), o.Got, o.Modified, o.Index)
	case Put:
		what = fmt.Sprintf("put %q", o.Value)
	case CAS:
		what = fmt.Sprintf("cas %q to %q: %v", o.Was, o.Value, o.OK)
	case Delete:
		what = "delete"
	case DeleteCAS:
		what = fmt.Sprintf("delete-cas %q: %v", o.Was, o.OK)
	}
	if o.Outcome == Unknown {
		what += " (outcome unknown)"
	}
	return fmt.Sprintf("%9.4f-%9.4f client %d at %s: %s", o.Call.Seconds(), o.Return.Seconds(), o.Client, o.Agent, what)
}

// History is what several clients did at the same time, and what came of it.
type History struct {
	began time.Time

	mu  sync.Mutex
	ops []*Op
}

// NewHistory returns an empty history that begins now.
func NewHistory() *History { return &History{began: time.Now()} }

// Now is the time since the history began.
func (h *History) Now() time.Duration { return time.Since(h.began) }

// Add adds an operation that has ended.
func (h *History) Add(o Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, &o)
}

// Len is how many operations were added.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Summary counts the operations by what is known of them.
func (h *History) Summary() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var outcomes [3]int
	modes := map[string]int{}
	writes := 0
	for _, o := range h.ops {
		outcomes[o.Outcome]++
		switch {
		case o.Kind != Get:
			writes++
		case o.Outcome == Done:
			modes[o.Mode]++
		}
	}
	return fmt.Sprintf("%d operations: %d writes, reads answered: %d consistent, %d default, %d stale; %d refused, %d of unknown outcome",
		len(h.ops), writes, modes[Consistent], modes[Default], modes[Stale], outcomes[Refused], outcomes[Unknown])
}

// checkLimit is how long the search for an order of one key's operations may
// take. Without an order by then the history counts as wrong.
const checkLimit = 60 * time.Second

// maxFaults is how many faults of one kind are told apart.
const maxFaults = 5

// faults are what a check found.
type faults struct {
	errs   []error
	counts map[string]int
}

// add notes a fault of a kind, with its text unless there were many.
func (f *faults) add(kind, format string, args ...any) {
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[kind]++
	if f.counts[kind] <= maxFaults {
		f.errs = append(f.errs, fmt.Errorf(kind+": "+format, args...))
	}
}

// err joins all that was found.
func (f *faults) err() error {
	for kind, n := range f.counts {
		if n > maxFaults {
			f.errs = append(f.errs, fmt.Errorf("%s: %d times in all", kind, n))
		}
	}
	return errors.Join(f.errs...)
}

// Check returns nil if the history can be that of a cluster that keeps its
// promises:
//
//   - what is read was written, not refused, and has the same index for all who
//     read it;
//   - nothing that a client reads at one server goes backwards, stale or not;
//   - writes, consistent reads and default reads of each key are linearizable:
//     each took effect at one moment between its call and its return. A write of
//     unknown outcome took effect at some moment after its call, or never.
//
// Default reads have no exemption: the lease of a leader is shorter than the time
// for which followers have promised it to elect no other, so they are linearizable
// for as long as the clocks of the servers' machines run at about the same rate.
// If they alone are at fault, the error says so.
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var f faults
	keys := map[string][]*Op{}
	for _, o := range h.ops {
		keys[o.Key] = append(keys[o.Key], o)
	}
	for key, ops := range keys {
		checkValues(&f, key, ops)
	}
	checkForwards(&f, h.ops)
	for key, ops := range keys {
		checkOrder(&f, key, ops)
	}
	return f.err()
}

// checkValues finds values that were never written, that were refused, or that
// were written twice.
func checkValues(f *faults, key string, ops []*Op) {
	written := map[string]*Op{}
	for _, o := range ops {
		if o.Kind == Put || o.Kind == CAS {
			if written[o.Value] != nil {
				f.add("the test is wrong", "%s: %q is written twice", key, o.Value)
			}
			written[o.Value] = o
		}
	}
	at := map[string]uint64{}
	for _, o := range ops {
		if o.Kind != Get || o.Outcome != Done || o.Got == "" {
			continue
		}
		switch by := written[o.Got]; {
		case by == nil:
			f.add("read but never written", "%s: %s", key, o)
		case by.Outcome == Refused || by.Kind == CAS && by.Outcome == Done && !by.OK:
			f.add("read although it was refused", "%s: %s, written by %s", key, o, by)
		}
		if o.Modified == 0 {
			continue
		}
		if before, ok := at[o.Got]; ok && before != o.Modified {
			f.add("written at two indexes", "%s: %d and %s", key, before, o)
		}
		at[o.Got] = o.Modified
	}
}

// checkForwards finds reads of one client at one server that are older than one
// before them.
func checkForwards(f *faults, ops []*Op) {
	type line struct {
		client int
		agent  string
		key    string
	}
	newest := map[line]*Op{}
	for _, o := range ops { // those of one client are in order
		if o.Kind != Get || o.Outcome != Done || !o.Server {
			continue
		}
		l := line{o.Client, o.Agent, o.Key}
		if before := newest[l]; before != nil {
			seen, now := max(before.Modified, before.Index), max(o.Modified, o.Index)
			if now < seen || before.Modified > 0 && o.Modified > 0 && o.Modified < before.Modified {
				f.add("a read went backwards", "%s: %s\n after %s", o.Key, o, before)
			}
		}
		newest[l] = o
	}
}

// checkOrder searches for an order of one key's operations.
func checkOrder(f *faults, key string, ops []*Op) {
	switch result, events := inOrder(ops, true); result {
	case porcupine.Ok:
	case porcupine.Unknown:
		f.add("no order was found in time", "%s: within %s for %d operations", key, checkLimit, events)
	default:
		kind := "not linearizable"
		if without, _ := inOrder(ops, false); without == porcupine.Ok {
			kind = "default reads are not linearizable, and all else is"
		}
		f.add(kind, "%s:\n%s", key, describe(ops))
	}
}

// describe lists operations of a key, the last ones if there are many.
func describe(ops []*Op) string {
	const most = 400
	var b strings.Builder
	for _, o := range ops[max(0, len(ops)-most):] {
		if o.Outcome == Refused || o.Kind == Get && (o.Mode == Stale || o.Outcome != Done) {
			continue
		}
		fmt.Fprintf(&b, "  %s\n", o)
	}
	return b.String()
}

// inOrder reports whether the operations of one key can have happened one after
// the other, stale reads aside.
func inOrder(ops []*Op, defaults bool) (porcupine.CheckResult, int) {
	// What was read was written before the read returned: that bounds writes of
	// unknown outcome.
	seen := map[string]time.Duration{}
	see := func(value string, at time.Duration) {
		if first, ok := seen[value]; !ok || at < first {
			seen[value] = at
		}
	}
	for _, o := range ops {
		switch {
		case o.Outcome != Done:
		case o.Kind == Get:
			see(o.Got, o.Return)
		case o.OK:
			see(o.Was, o.Return)
		}
	}
	var history []porcupine.Operation
	for _, o := range ops {
		until := int64(o.Return)
		switch {
		case o.Outcome == Refused, o.Kind == Get && o.Outcome != Done,
			o.Kind == Get && o.Mode == Stale, o.Kind == Get && o.Mode == Default && !defaults:
			continue
		case o.Outcome == Unknown:
			until = math.MaxInt64
			if at, ok := seen[o.Value]; ok && o.Value != "" {
				until = int64(at)
			}
		}
		history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Call), Return: until})
	}
	return porcupine.CheckOperationsTimeout(oneKey, history, checkLimit), len(history)
}

// oneKey is what a key does: its state is its value.
var oneKey = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		now, o := state.(string), input.(*Op)
		switch o.Kind {
		case Get:
			return o.Got == now, now
		case Put:
			return true, o.Value
		case Delete:
			return true, ""
		}
		matches, next := now == o.Was, o.Value
		if o.Kind == DeleteCAS {
			matches, next = matches || now == "", ""
		}
		if !matches {
			next = now
		}
		return o.Outcome == Unknown || matches == o.OK, next
	},
}
