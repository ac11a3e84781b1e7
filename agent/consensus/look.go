package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"
)

// look is a pass over the entries of a log, as they lie in its file, from an
// index on. It finds those that Raft would panic about when it starts, or when
// they are committed. Before that index entries may be missing: a snapshot holds
// what they did. Commands are checked by all processors, since nothing is served
// until the last one was read.
type look struct {
	from uint64
	// check says why a command cannot be applied. If it is nil, none is checked.
	check func(data []byte) error

	// any, before and last are about the keys that were seen: whether there was
	// one, the last one, and the last one from from on, or zero.
	any          bool
	before, last uint64
	// configurations and others are the entries, from from on, that are
	// configurations, and that are no commands.
	configurations, others []uint64

	commands *commands // those to check next, or nil
	queue    chan *commands
	free     chan *commands
	workers  sync.WaitGroup

	mu    sync.Mutex
	err   error // about the first command that cannot be applied
	index uint64
}

// commands are some commands to check.
type commands struct {
	indexes []uint64
	ends    []int // of each in data
	data    []byte
}

// newLook begins a pass. It ends with finish.
func newLook(from uint64, check func(data []byte) error) *look {
	l := &look{from: from, check: check}
	if check == nil {
		return l
	}
	workers := runtime.GOMAXPROCS(0)
	l.queue, l.free = make(chan *commands, workers), make(chan *commands, 2*workers+1)
	for range cap(l.free) {
		l.free <- new(commands)
	}
	for range workers {
		l.workers.Go(l.work)
	}
	return l
}

// entry looks at an entry. The bytes are not used after it returned.
func (l *look) entry(key, value []byte) error {
	index := binary.BigEndian.Uint64(key)
	if l.any && index <= l.before {
		return fmt.Errorf("entry %d comes after entry %d", index, l.before)
	}
	older := l.any
	l.any, l.before = true, index
	if index < l.from {
		return nil
	}
	// A log without older entries may begin too late, of which the caller knows
	// more to say.
	needed := index
	switch {
	case l.last != 0:
		needed = l.last + 1
	case older:
		needed = l.from
	}
	if index != needed {
		return fmt.Errorf("entry %d cannot be read: %w", needed, raft.ErrLogNotFound)
	}
	l.last = index
	var entry raft.Log
	if err := parseEntry(value, &entry); err != nil {
		return fmt.Errorf("entry %d cannot be read: %w", index, err)
	}
	if entry.Index != index {
		return fmt.Errorf("entry %d says that it is entry %d", index, entry.Index)
	}
	switch {
	case entry.Type == raft.LogConfiguration:
		l.configurations = append(l.configurations, index)
		l.others = append(l.others, index)
	case entry.Type != raft.LogCommand:
		l.others = append(l.others, index)
	case l.check != nil:
		l.add(index, entry.Data)
	}
	return nil
}

// add has a command checked, soon.
func (l *look) add(index uint64, data []byte) {
	if l.commands == nil {
		l.commands = <-l.free
	}
	c := l.commands
	c.data = append(c.data, data...)
	c.ends, c.indexes = append(c.ends, len(c.data)), append(c.indexes, index)
	if len(c.data) >= lookBytes || len(c.ends) >= lookEntries {
		l.queue <- c
		l.commands = nil
	}
}

// work checks commands until there are no more.
func (l *look) work() {
	for c := range l.queue {
		begin := 0
		for i, end := range c.ends {
			if err := l.check(c.data[begin:end:end]); err != nil {
				l.fail(c.indexes[i], err)
				break
			}
			begin = end
		}
		if cap(c.data) > 2*lookBytes {
			c.data = nil
		}
		c.data, c.ends, c.indexes = c.data[:0], c.ends[:0], c.indexes[:0]
		l.free <- c
	}
}

func (l *look) fail(index uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || index < l.index {
		l.index, l.err = index, fmt.Errorf("entry %d cannot be applied: %w", index, err)
	}
}

// finish waits until all was checked, and returns what is wrong with the first
// entry that cannot be used. The pass ended with an error, or nil.
func (l *look) finish(err error) error {
	if l.check != nil {
		if l.commands != nil {
			l.queue <- l.commands
			l.commands = nil
		}
		close(l.queue)
		l.workers.Wait()
	}
	// Commands come before what ended the pass.
	if l.err != nil {
		return l.err
	}
	return err
}

// errNotLooked says that the log has other entries than were looked at.
var errNotLooked = errors.New("the file was changed while it was opened")

// entries returns how many entries follow the snapshot, and the last of them. A
// pass that is nil has seen none.
func (l *look) entries() (count, last uint64) {
	if l == nil || l.last == 0 {
		return 0, 0
	}
	return l.last - l.from + 1, l.last
}

// search is what Raft's search for configurations may pass over.
func (l *look) search() *search { return &search{next: l.from, last: l.last, others: l.others} }
