package agent

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/muster-sd/muster/kv/mvcc"
)

// shared are the questions to servers that an agent puts for all of its clients at
// once who ask the same: many read the addresses of one service, or one key. An
// answer may be as old as the question to the server, which is put after all who
// get it have asked. Its zero value is ready.
type shared struct {
	mu     sync.Mutex
	rounds map[string]*rounds[fetched]
}

// fetched is the answer to a query of the state. Its value is shared: nobody may
// change it.
type fetched struct {
	value any
	meta  mvcc.Meta
}

// question puts a query to servers.
type question = func(ctx context.Context) (fetched, error)

// of returns the rounds of a question, which ask makes if there are none yet, or nil
// if it is to be put alone: it is too long, or all that can be shared at once are
// being put.
func (s *shared) of(o mvcc.ReadOptions, query []byte, ask func() question) *rounds[fetched] {
	if o.Index > 0 || len(query) > maxMemoKey {
		return nil
	}
	var room [128]byte
	key := binary.AppendUvarint(append(room[:0], byte(o.Mode)), uint64(max(o.MaxStale, 0)))
	key = append(key, query...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rounds[string(key)]; r != nil {
		return r
	}
	if s.rounds == nil {
		s.rounds = make(map[string]*rounds[fetched])
	}
	if len(s.rounds) >= maxShared && !s.drop() {
		return nil
	}
	r := &rounds[fetched]{ask: ask()}
	s.rounds[string(key)] = r
	return r
}

// drop forgets some question that nobody puts now, and reports whether there was
// one among the few that it looks at. s.mu is held.
func (s *shared) drop() bool {
	looked := 0
	for key, r := range s.rounds {
		if !r.busy() {
			delete(s.rounds, key)
			return true
		}
		if looked++; looked >= sharedLooks {
			break
		}
	}
	return false
}
