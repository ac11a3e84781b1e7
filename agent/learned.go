package agent

import (
	"sync"

	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
)

// learned keeps answers of servers that are large for how often they change. A
// server that is told what an agent has answers that it is still so, and neither
// side encodes it, sends it or reads it again.
type learned struct {
	mu    sync.Mutex
	kept  map[string]*learnedAnswer
	bytes int
}

// learnedAnswer is one answer. Its value is shared: nobody may change it.
type learnedAnswer struct {
	server string
	stamp  rpc.Stamp
	value  any
	size   int // of the answer as it was sent
}

// learns reports whether the answer to a query is worth keeping, and its index says
// which one it is.
func learns(q any) bool {
	switch q := q.(type) {
	case *kv.Get, *health.ServiceQuery, *health.ServiceChecks, *catalog.Nodes:
		return true
	case *catalog.Instances:
		return q.Service != ""
	}
	return false
}

// of returns the answer of a server to a query, or nil.
func (l *learned) of(server string, query []byte) *learnedAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.kept[string(query)]; a != nil && a.server == server {
		return a
	}
	return nil
}

// keep remembers an answer, in place of others if the memory is full.
func (l *learned) keep(query []byte, a *learnedAnswer) {
	if a.size+len(query) > maxLearnedAnswer {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = map[string]*learnedAnswer{}
	}
	l.drop(string(query))
	for other := range l.kept {
		if l.bytes+a.size+len(query) <= maxLearnedBytes && len(l.kept) < maxLearned {
			break
		}
		l.drop(other)
	}
	l.kept[string(query)] = a
	l.bytes += a.size + len(query)
}

func (l *learned) drop(query string) {
	if old := l.kept[query]; old != nil {
		l.bytes -= old.size + len(query)
		delete(l.kept, query)
	}
}
