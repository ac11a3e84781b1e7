package agent

import (
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// memo keeps answers that cost a join for the next who asks the same, until what
// they were read from changes. Its zero value is empty and ready.
type memo struct {
	mu   sync.RWMutex
	kept map[string]kept
}

// kept is an answer and what it stands on: while both numbers are those of the
// newest view, so is the answer.
type kept struct {
	index, line uint64
	value       any
}

// answer is View.Answer, from memory if that is still true.
func (m *memo) answer(v *state.View, q any, w *mvcc.Watch) (state.Answer, error) {
	key, ok := memoKey(q)
	if !ok || len(key) > maxMemoKey {
		return v.Answer(q, w)
	}
	index, ok := v.IndexOf(q, w)
	if !ok {
		return v.Answer(q, w)
	}
	if a, ok := m.of(key, index, v.Line()); ok {
		return a, nil
	}
	a, err := v.Answer(q, nil)
	if err == nil {
		m.keep(key, kept{index: a.Index, line: v.Line(), value: a.Value})
	}
	return a, err
}

// recall is View.Answer if that is in memory, and true.
func (m *memo) recall(v *state.View, q any) (state.Answer, bool) {
	key, ok := memoKey(q)
	if !ok || len(key) > maxMemoKey {
		return state.Answer{}, false
	}
	index, ok := v.IndexOf(q, nil)
	if !ok {
		return state.Answer{}, false
	}
	return m.of(key, index, v.Line())
}

// of returns what is kept under a key for an index and a line of history.
func (m *memo) of(key string, index, line uint64) (state.Answer, bool) {
	m.mu.RLock()
	k, ok := m.kept[key]
	m.mu.RUnlock()
	return state.Answer{Value: k.value, Index: index}, ok && k.index == index && k.line == line
}

// keep remembers an answer, in place of any other if the memory is full. A
// reader who was overtaken may put an older answer back: it is then not used.
func (m *memo) keep(key string, k kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = make(map[string]kept)
	}
	if _, ok := m.kept[key]; !ok && len(m.kept) >= maxMemo {
		for other := range m.kept {
			delete(m.kept, other)
			break
		}
	}
	m.kept[key] = k
}

// memoKey names a query that is worth keeping, in a form in which equal queries
// are equal.
func memoKey(q any) (string, bool) {
	switch q := q.(type) {
	case *health.ServiceQuery:
		return queryKey("health", q.Service, q.Tags, q.NodeMeta), true
	case *catalog.Instances:
		return queryKey("instances", q.Service, q.Tags, q.NodeMeta), q.Service != ""
	case *health.ServiceChecks:
		return queryKey("checks", q.Service, nil, q.NodeMeta), true
	case *catalog.Nodes:
		return queryKey("nodes", "", nil, q.Meta), true
	}
	return "", false
}

// queryKey joins the parts of a query, each behind its length, so that no two
// queries have one key.
func queryKey(kind, name string, tags []string, meta map[string]string) string {
	if len(tags) == 0 && len(meta) == 0 {
		return kind + "=" + name
	}
	b := []byte(kind + "?")
	b = appendPart(b, name)
	b = strconv.AppendInt(b, int64(len(tags)), 10)
	for _, tag := range tags {
		b = appendPart(b, tag)
	}
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		b = appendPart(appendPart(b, key), meta[key])
	}
	return string(b)
}

func appendPart(b []byte, s string) []byte {
	b = strconv.AppendInt(append(b, ','), int64(len(s)), 10)
	return append(append(b, ':'), s...)
}
