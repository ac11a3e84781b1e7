package agent

import (
	"math/rand/v2"
	"sync"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/kv/mvcc"
)

// encodedAnswers keeps answers as they are sent to other agents, so that one
// change is encoded once for all who wait for it.
type encodedAnswers struct {
	mu    sync.Mutex
	kept  map[string]encodedAnswer
	bytes int
	run   uint64 // see thisRun
}

// encodedAnswer is true for an index and a line of history.
type encodedAnswer struct {
	index, line uint64
	body        []byte
}

// answer encodes an answer, or takes the bytes of an equal one. The bytes are
// shared: nobody may write to them.
func (e *encodedAnswers) answer(query []byte, q any, meta mvcc.Meta, value any) ([]byte, error) {
	if _, ok := memoKey(q); !ok || len(query) > maxMemoKey {
		return state.EncodeAnswer(value)
	}
	if body, ok := e.of(query, meta); ok {
		return body, nil
	}
	body, err := state.EncodeAnswer(value)
	if err == nil && len(body) <= maxEncodedAnswer {
		e.keep(string(query), encodedAnswer{meta.Index, meta.Line, body})
	}
	return body, err
}

// of returns an answer that was encoded before, if it is still true.
func (e *encodedAnswers) of(query []byte, meta mvcc.Meta) ([]byte, bool) {
	e.mu.Lock()
	k, ok := e.kept[string(query)]
	e.mu.Unlock()
	return k.body, ok && k.index == meta.Index && k.line == meta.Line
}

// thisRun is a number that another run of this agent has not.
func (e *encodedAnswers) thisRun() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.run == 0 {
		e.run = rand.Uint64()
	}
	return e.run
}

// keep remembers an answer, in place of others if the memory is full.
func (e *encodedAnswers) keep(key string, k encodedAnswer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.kept == nil {
		e.kept = map[string]encodedAnswer{}
	}
	e.drop(key)
	for other := range e.kept {
		if e.bytes+len(k.body) <= maxEncodedAnswers && len(e.kept) < maxEncoded {
			break
		}
		e.drop(other)
	}
	e.kept[key] = k
	e.bytes += len(k.body) + len(key)
}

func (e *encodedAnswers) drop(key string) {
	if old, ok := e.kept[key]; ok {
		e.bytes -= len(old.body) + len(key)
		delete(e.kept, key)
	}
}
