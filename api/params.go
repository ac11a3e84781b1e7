package api

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// call is one request on its way through its handler.
type call struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	route *route
	// query is nil if the request has none.
	query url.Values
	// rest is what the path's variable stands for.
	rest string
	// index and length are values of headers, which live as long as the call.
	index, length [1]string
}

// flags are the queries of one parameter without a value that are asked most.
// Nobody writes to them.
var flags = map[string]url.Values{
	"cached":  {"cached": {""}},
	"keys":    {"keys": {""}},
	"passing": {"passing": {""}},
	"pretty":  {"pretty": {""}},
	"raw":     {"raw": {""}},
	"recurse": {"recurse": {""}},
	"stale":   {"stale": {""}},
}

// parseQuery reads the query string. Clients know one that cannot be read as a
// 500.
func (c *call) parseQuery() error {
	raw := c.r.URL.RawQuery
	if raw == "" {
		return nil
	}
	if query, ok := flags[raw]; ok {
		c.query = query
		return nil
	}
	var err error
	if c.query, err = url.ParseQuery(raw); err != nil {
		return refuse(http.StatusInternalServerError, "Cannot read the query string: %v", err)
	}
	return nil
}

// has reports whether a parameter is present, with a value or without.
func (c *call) has(name string) bool {
	_, ok := c.query[name]
	return ok
}

// value is the first value of a parameter, or nothing.
func (c *call) value(name string) string { return c.query.Get(name) }

// datacenter is where the request is to be carried out; empty is here.
func (c *call) datacenter() string {
	if dc := c.value("datacenter"); dc != "" {
		return dc
	}
	return c.value("dc")
}

// token is the secret that came with the request, or nothing.
func (c *call) token() string {
	if t := c.value("token"); t != "" {
		return t
	}
	if t := c.r.Header.Get("X-Consul-Token"); t != "" {
		return t
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(c.r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return first
}

// refuseTenancy refuses namespaces and partitions, which Muster has not: to
// ignore them would mix what the client keeps apart.
func (c *call) refuseTenancy() error {
	for _, t := range []struct{ parameter, header, text string }{
		{"ns", "X-Consul-Namespace", textNoNamespaces},
		{"partition", "X-Consul-Partition", textNoPartitions},
	} {
		if t.parameter == "ns" && c.route.partitions {
			continue
		}
		if c.value(t.parameter) != "" {
			return badRequest("Invalid query parameter: %q - %s", t.parameter, t.text)
		}
		if c.r.Header.Get(t.header) != "" {
			return badRequest("Invalid header: %q - %s", t.header, t.text)
		}
	}
	return nil
}

// readOptions reads how the answer is wanted: from where, how fresh, and
// whether it may be waited for.
func (c *call) readOptions() (mvcc.ReadOptions, error) {
	o := mvcc.ReadOptions{}
	if c.query == nil {
		c.discover(&o)
		return o, nil
	}
	o.Datacenter = c.datacenter()
	if err := c.readMode(&o); err != nil {
		return o, err
	}
	if text := c.value("index"); text != "" {
		index, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return o, badRequest(textInvalidIndex)
		}
		o.Index = index
	}
	wait, err := c.wait()
	if err != nil {
		return o, err
	}
	if o.Index > 0 {
		o.Wait = wait
	}
	return o, nil
}

// readMode reads how fresh the answer has to be.
func (c *call) readMode(o *mvcc.ReadOptions) error {
	stale, consistent := c.has("stale"), c.has("consistent")
	if text := c.value("max_stale"); text != "" {
		bound, err := time.ParseDuration(text)
		if err != nil {
			return badRequest("Invalid max_stale value %q", text)
		}
		o.MaxStale, stale = bound, true
	}
	switch {
	case stale && consistent:
		return badRequest(textStaleConsistent)
	case consistent && c.has("cached"):
		return badRequest(textCacheConsistent)
	case stale:
		o.Mode = mvcc.Stale
	case consistent:
		o.Mode = mvcc.Consistent
	case !c.has("leader"):
		c.discover(o)
	}
	return nil
}

// discover makes a read of catalog or health that did not say how fresh it is to
// be as fresh as the agent's configuration says.
func (c *call) discover(o *mvcc.ReadOptions) {
	bound := c.h.Config.DiscoveryMaxStale
	if bound > 0 && (strings.HasPrefix(c.route.pattern, "/v1/catalog/") || strings.HasPrefix(c.route.pattern, "/v1/health/")) {
		o.Mode, o.MaxStale = mvcc.Stale, bound
	}
}

// wait is how long the answer may be held back, with jitter.
func (c *call) wait() (time.Duration, error) {
	wait := c.h.Config.DefaultQueryTime
	if text := c.value("wait"); text != "" {
		given, err := time.ParseDuration(text)
		if err != nil {
			return 0, badRequest(textInvalidWait)
		}
		if given > 0 {
			wait = given
		}
	}
	wait = min(wait, c.h.Config.MaxQueryTime)
	return wait + rand.N(wait/jitterShare+1), nil
}

// nodeMeta reads the pairs that nodes must have in their metadata.
func (c *call) nodeMeta() map[string]string {
	pairs := c.query["node-meta"]
	if len(pairs) == 0 {
		return nil
	}
	meta := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, ":")
		meta[key] = value
	}
	return meta
}

// ask puts a question to the agent. If the answer is waited for when the agent
// is told to stop, the question is put again without waiting.
func ask[Q, R any](c *call, o mvcc.ReadOptions, q Q, read func(context.Context, mvcc.ReadOptions, Q) (R, mvcc.Meta, error)) (R, mvcc.Meta, error) {
	client := c.r.Context()
	if o.Index == 0 {
		return read(client, o, q)
	}
	now := o
	now.Index, now.Wait = 0, 0
	if c.h.draining.Err() != nil {
		return read(client, now, q)
	}
	ctx, cancel := context.WithCancel(client)
	defer cancel()
	defer context.AfterFunc(c.h.draining, cancel)()
	answer, meta, err := read(ctx, o, q)
	if err != nil && c.h.draining.Err() != nil && client.Err() == nil {
		return read(client, now, q)
	}
	return answer, meta, err
}

// hold waits as long as the options say for a change that cannot come, so that
// clients who watch what Muster does not have do not ask in a loop.
func (c *call) hold(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.r.Context().Done():
	case <-c.h.draining.Done():
	}
}
