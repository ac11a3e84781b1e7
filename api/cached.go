package api

import (
	"hash/maphash"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// copyKind is what ?cached means to an endpoint.
type copyKind uint8

const (
	// copyNone endpoints pass ?cached over.
	copyNone copyKind = iota
	// copyFollowed endpoints answer from a copy that is kept up to date, so how old
	// it may be is no question.
	copyFollowed
	// copySimple endpoints answer from a copy that may be refused for its age.
	copySimple
)

// An agent that is a server answers from its own state, so the copy that ?cached
// asks for is that state itself: it is always there, and never older than the
// answer. What is left to keep is whether somebody asked the same before, which
// clients read in X-Cache.

// asked remembers what has been asked for with ?cached, and when last.
type asked struct {
	seed maphash.Seed
	mu   sync.Mutex
	last map[uint64]time.Time // by the hash of what was asked for
}

// before reports whether the same was asked for, not too long ago.
func (a *asked) before(key uint64, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.last[key]
	return ok && now.Sub(last) < copyUnused
}

// note remembers that key was asked for, in place of something else if too much
// is remembered already.
func (a *asked) note(key uint64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.last[key]; !ok && len(a.last) >= maxAsked {
		for other := range a.last {
			delete(a.last, other)
			break
		}
	}
	a.last[key] = now
}

// copied is how one request is to be answered from a copy.
type copied struct {
	key uint64
	hit bool
}

// readCopied reads whether the answer may come from a copy; nil means that there
// is none to be asked about.
func (c *call) readCopied() (*copied, error) {
	if c.route.copies == copyNone || !c.h.Config.UseCache || !c.has("cached") {
		return nil, nil
	}
	if c.has("consistent") && !c.has("stale") {
		return nil, badRequest(textCacheConsistent)
	}
	control, err := readCacheControl(c.r.Header.Values("Cache-Control"))
	if err != nil {
		return nil, err
	}
	out := &copied{key: c.copyKey()}
	out.hit = c.h.asked.before(out.key, time.Now())
	if c.route.copies == copySimple && control.fresh {
		out.hit = false
	}
	return out, nil
}

// setCopied tells where a successful answer came from.
func (c *call) setCopied(from *copied) {
	c.h.asked.note(from.key, time.Now())
	if !from.hit {
		c.w.Header()["X-Cache"] = valueMiss
		return
	}
	c.w.Header()["X-Cache"] = valueHit
	c.w.Header()["Age"] = valueZero
}

// fetching are the parameters, beside the path, that decide what a copy is of.
// The others decide when it is asked for and how it is shown.
var fetching = []string{"dc", "datacenter", "tag", "node-meta", "filter", "near", "peer"}

// copyKey names what is asked for, for a token. The name cannot be read back.
func (c *call) copyKey() uint64 {
	shaping := url.Values{}
	for _, name := range fetching {
		if values := c.query[name]; len(values) > 0 {
			shaping[name] = values
		}
	}
	return maphash.String(c.h.asked.seed, strings.Join([]string{c.route.pattern, c.rest, shaping.Encode(), c.token()}, "\x00"))
}

// cacheControl is what the header Cache-Control asks for (RFC 9111, section 5.2.1),
// as far as it matters here: an answer that was fetched for this request.
type cacheControl struct{ fresh bool }

// readCacheControl reads the directives of the header and passes over those that
// are of no concern. A copy is never older than no seconds, so only an age of none
// refuses it.
func readCacheControl(lines []string) (cacheControl, error) {
	var out cacheControl
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		switch {
		case name == "must-revalidate":
			out.fresh = true
		case slices.Contains([]string{"max-age", "stale-if-error"}, name):
			seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
			if err != nil {
				return out, badRequest(textCacheControl)
			}
			out.fresh = out.fresh || name == "max-age" && seconds == 0
		}
	}
	return out, nil
}
