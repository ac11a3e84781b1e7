package api

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
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
	kept  map[bodyKey]*body
	bytes int
}

// bodyKey names what is asked for: requests with equal keys have one body.
type bodyKey struct {
	pattern, rest string
	// query is a query string of the parameters that shape the answer. Not all
	// that mean the same are equal.
	query string
}

// clone returns a key that may be kept: parts of a request would keep all of it.
func (k bodyKey) clone() bodyKey {
	return bodyKey{k.pattern, strings.Clone(k.rest), strings.Clone(k.query)}
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
func (b *bodies) of(key bodyKey, index, line uint64) *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == nil {
		b.kept = make(map[bodyKey]*body)
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
	b.kept[key.clone()] = fresh
	return fresh
}

// grown counts a body that was just encoded or compressed, and drops others, or
// the body itself if it is too large to keep, until all fit.
func (b *bodies) grown(key bodyKey, new *body) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[key] != new {
		return
	}
	b.bytes -= new.size
	new.size = len(new.plain) + len(new.zipped)
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

func (b *bodies) drop(key bodyKey) {
	b.bytes -= b.kept[key].size
	delete(b.kept, key)
}

// Encoded is how many answers have been encoded that are shared by all who ask
// the same: far fewer than are sent, if many wait for one thing.
func (h *Handler) Encoded() uint64 { return h.encoded.made.Load() }

// unshaping are the parameters that decide when and from where an answer comes,
// but not what it says.
var unshaping = []string{"index", "wait", "stale", "consistent", "leader", "max_stale", "cached", "token"}

// key names what is asked for.
func (c *call) key() bodyKey {
	key := bodyKey{pattern: c.route.pattern, rest: c.rest}
	count := 0
	for name := range c.query {
		if !slices.Contains(unshaping, name) {
			count++
		}
	}
	switch {
	case count == 0:
	case len(c.query) == 1:
		key.query = c.r.URL.RawQuery
	default:
		key.query = c.shaping(count).Encode()
	}
	return key
}

// shaping are the count parameters that shape the answer.
func (c *call) shaping(count int) url.Values {
	out := make(url.Values, count)
	for name, values := range c.query {
		if !slices.Contains(unshaping, name) {
			out[name] = values
		}
	}
	return out
}

// errNotEncoded is the error of an answer that nobody could encode.
var errNotEncoded = errors.New("cannot encode the answer")

// writeShared answers with a body that is encoded once for all.
func (h *Handler) writeShared(c *call, v shared) {
	key := c.key()
	if len(key.rest)+len(key.query) > maxKeptKey {
		h.writeJSON(c, http.StatusOK, v.build())
		return
	}
	b := h.encoded.of(key, v.meta.Index, v.meta.Line)
	b.encode.Do(func() {
		h.encoded.made.Add(1)
		b.err = errNotEncoded // should build panic, the next reader must not get an empty answer
		b.plain, b.err = h.encode(c, v.build())
		h.encoded.grown(key, b)
	})
	if b.err != nil {
		writeText(c.w, http.StatusInternalServerError, b.err.Error())
		return
	}
	c.w.Header()["Content-Type"] = valueJSON
	if !zips(c, b.plain) {
		c.send(http.StatusOK, b.plain)
		return
	}
	b.zip.Do(func() {
		b.zipped = h.zip(b.plain)
		h.encoded.grown(key, b)
	})
	c.w.Header()["Content-Encoding"] = valueGzip
	c.send(http.StatusOK, b.zipped)
}
