package api

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/muster-sd/muster/kv/mvcc"
)

// shared is the value of a handler whose body depends on nothing but the request
// and on what its meta stands for. It is encoded once for all who ask the same.
type shared struct {
	meta mvcc.Meta
	// build makes what is to be encoded, if nobody has yet.
	build func() any
}

// bodies keeps encoded answers by their request. Its zero value is empty and
// ready.
type bodies struct {
	made  atomic.Uint64 // how many were encoded
	mu    sync.Mutex
	kept  map[string]*body
	bytes int
}

// body is an encoded answer and what it stands on.
type body struct {
	index, line uint64
	size        int // what bodies.bytes counts for it; guarded by bodies.mu

	encode sync.Once
	plain  []byte
	err    error
	zip    sync.Once
	zipped []byte
}

// of returns the body of a request as of an index, to be encoded by the first
// who needs it. A reader who was overtaken gets one of his own, which is not
// kept.
func (b *bodies) of(key string, index, line uint64) *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == nil {
		b.kept = make(map[string]*body)
	}
	old, ok := b.kept[key]
	switch {
	case ok && old.index == index && old.line == line:
		return old
	case ok && old.line == line && old.index > index:
		return &body{index: index, line: line}
	case ok:
		b.bytes -= old.size
	}
	fresh := &body{index: index, line: line}
	b.kept[key] = fresh
	return fresh
}

// grown counts a body that was just encoded, and drops others, or the body
// itself if it is too large to keep, until all fit.
func (b *bodies) grown(key string, new *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[key] != new {
		return
	}
	new.size = len(new.plain)
	b.bytes += new.size
	if new.size > maxKeptBody {
		b.drop(key)
	}
	for other := range b.kept {
		if b.bytes <= maxKeptBodies && len(b.kept) <= maxKeptAnswers {
			return
		}
		if other != key {
			b.drop(other)
		}
	}
}

func (b *bodies) drop(key string) {
	b.bytes -= b.kept[key].size
	delete(b.kept, key)
}

// Encoded is how many answers have been encoded that are shared by all who ask
// the same: far fewer than are sent, if many wait for one thing.
func (h *Handler) Encoded() uint64 { return h.encoded.made.Load() }

// unshaping are the parameters that decide when and from where an answer comes,
// but not what it says.
var unshaping = []string{"index", "wait", "stale", "consistent", "leader", "max_stale", "cached", "token"}

// key names what is asked for, in a form in which requests for one body are
// equal.
func (c *call) key() string {
	name := c.route.pattern + "\x00" + c.rest
	if len(c.query) == 0 {
		return name
	}
	shaping := maps.Clone(c.query)
	for _, parameter := range unshaping {
		delete(shaping, parameter)
	}
	return name + "\x00" + shaping.Encode()
}

// writeShared answers with a body that is encoded once for all.
func (h *Handler) writeShared(c *call, v shared) {
	key := c.key()
	b := h.encoded.of(key, v.meta.Index, v.meta.Line)
	b.encode.Do(func() {
		h.encoded.made.Add(1)
		b.plain, b.err = h.encode(c, v.build())
		h.encoded.grown(key, b)
	})
	if b.err != nil {
		writeText(c.w, http.StatusInternalServerError, b.err.Error())
		return
	}
	c.w.Header()["Content-Type"] = valueJSON
	if !zips(c, b.plain) {
		send(c, http.StatusOK, b.plain)
		return
	}
	b.zip.Do(func() { b.zipped = h.zip(b.plain) })
	c.w.Header().Set("Content-Encoding", "gzip")
	send(c, http.StatusOK, b.zipped)
}
