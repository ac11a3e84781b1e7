package api

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/go-chi/chi/v5"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// messageFinished is the line of every answered request, at level DEBUG. People
// search logs for it.
const messageFinished = "Request finished"

// Handler serves the HTTP interface. [New] makes one.
type Handler struct {
	Deps
	mux      *chi.Mux
	routes   map[string]*route
	contexts sync.Pool // *chi.Context
	zips     sync.Pool // *gzip.Writer
	encoded  bodies
	asked    asked
	// draining ends when the agent wants waiting readers answered.
	draining context.Context
	drain    context.CancelFunc
	debug    atomic.Bool // /debug/pprof is served
}

// New returns the interface over d. It fails if d lacks a part.
func New(d Deps) (*Handler, error) {
	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"Keys", d.Keys == nil}, {"Catalog", d.Catalog == nil}, {"Health", d.Health == nil}, {"Txn", d.Txn == nil}, {"Status", d.Status == nil},
		{"Local", d.Local == nil}, {"Agent", d.Agent == nil}, {"Telemetry", d.Telemetry == nil}, {"Logger", d.Logger == nil},
	} {
		if part.missing {
			return nil, errors.New("cannot serve HTTP: api.Deps." + part.name + " is missing")
		}
	}
	if d.Config.MaxValueSize == 0 {
		d.Config.MaxValueSize = kv.DefaultMaxValueSize
	}
	if d.Config.MaxTxnSize == 0 {
		d.Config.MaxTxnSize = defaultMaxTxn
	}
	if d.Config.DefaultQueryTime == 0 {
		d.Config.DefaultQueryTime = defaultQueryTime
	}
	if d.Config.MaxQueryTime == 0 {
		d.Config.MaxQueryTime = maxQueryTime
	}
	h := &Handler{Deps: d, mux: chi.NewMux(), routes: map[string]*route{}}
	h.contexts.New = func() any { return chi.NewRouteContext() }
	h.zips.New = newZip
	h.asked = asked{seed: maphash.MakeSeed(), last: map[uint64]time.Time{}}
	h.debug.Store(d.Config.Debug)
	h.draining, h.drain = context.WithCancel(context.Background())
	for _, rt := range routes() {
		h.add(rt)
	}
	return h, nil
}

// add enters a line of the table. The tree of paths knows nothing of methods:
// their refusals are worded here.
func (h *Handler) add(rt route) {
	rt.methods = make(map[string]handler, len(rt.verbs))
	names := make([]string, len(rt.verbs))
	for i, v := range rt.verbs {
		names[i], rt.methods[v.method] = v.method, v.serve
	}
	rt.allow = strings.Join(names, ",")
	rt.measured = strings.ReplaceAll(rt.pattern, "*", "_")
	h.routes[rt.pattern] = &rt
	h.mux.Get(rt.pattern, http.NotFound)
}

// Drain makes every waiting reader answer with what there is now, and every
// later one answer at once. It is called when the agent stops.
func (h *Handler) Drain() { h.drain() }

// SetDebug says whether /debug/pprof is served from now on.
func (h *Handler) SetDebug(on bool) { h.debug.Store(on) }

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Logger.Enabled(r.Context(), slog.LevelDebug) {
		began := time.Now()
		defer func() {
			h.Logger.Debug(messageFinished, "method", r.Method, "url", hideToken(r.URL), "from", r.RemoteAddr,
				"latency", time.Since(began))
		}()
	}
	for name, value := range h.Config.ResponseHeaders {
		w.Header().Set(name, value)
	}
	if !h.Config.AllowUnprintable && strings.ContainsFunc(r.URL.Path, unprintable) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	escaped := r.URL.EscapedPath()
	if cleaned := cleanPath(escaped); cleaned != escaped {
		redirect(w, r, cleaned)
		return
	}
	for _, prefix := range h.Config.BlockEndpoints {
		if strings.HasPrefix(r.URL.Path, prefix) {
			writeText(w, http.StatusForbidden, textBlocked)
			return
		}
	}
	h.dispatch(w, r, escaped)
}

// dispatch finds the line of the table for a path and lets it answer.
func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, escaped string) {
	rt, rest := h.match(escaped)
	switch {
	case rt != nil:
		h.serve(w, r, rt, rest)
	case escaped == "/":
		writeText(w, http.StatusOK, "Muster serves its HTTP interface below /v1/. It has no web interface in this version.\n")
	case h.debug.Load() && strings.HasPrefix(escaped, "/debug/pprof/"):
		profile(w, r)
	case strings.HasPrefix(escaped, "/v1/"):
		if with, _ := h.match(escaped + "/"); with != nil {
			redirect(w, r, escaped+"/")
			return
		}
		writeText(w, http.StatusNotFound, textUnknownEndpoint)
	default:
		writeText(w, http.StatusNotFound, textUnknownPath)
	}
}

// match returns the line of the table for a path, and what the path's variable
// stands for, still escaped: the tree would hand it out in two ways.
func (h *Handler) match(escaped string) (*route, string) {
	ctx := h.contexts.Get().(*chi.Context)
	defer h.contexts.Put(ctx)
	ctx.Reset()
	rt := h.routes[h.mux.Find(ctx, http.MethodGet, escaped)]
	if rt == nil {
		return nil, ""
	}
	return rt, strings.TrimPrefix(escaped, strings.TrimSuffix(rt.pattern, "*"))
}

// serve answers a request for a known path.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, rt *route, rest string) {
	began := time.Now()
	defer func() { h.Telemetry.Request(r.Method, rt.measured, time.Since(began)) }()
	header := w.Header()
	header["Vary"] = valueVary
	header["X-Consul-Default-Acl-Policy"] = valueAllow
	c := &call{h: h, w: w, r: r, route: rt}
	serve, ok := rt.methods[r.Method]
	switch {
	case !c.mayWrite():
		writeText(w, http.StatusForbidden, textRestricted)
	case r.Method == http.MethodOptions:
		c.options()
	case !ok:
		c.refuseMethod()
	default:
		value, err := c.run(serve, rest)
		h.write(c, value, err)
	}
}

// run reads what all endpoints have in common and calls the handler.
func (c *call) run(serve handler, rest string) (any, error) {
	var err error
	if c.rest, err = url.PathUnescape(rest); err != nil {
		return nil, badRequest("Cannot read the path: %v", err)
	}
	if err := c.parseQuery(); err != nil {
		return nil, err
	}
	if err := c.refuseTenancy(); err != nil {
		return nil, err
	}
	if c.r.Method != http.MethodGet {
		c.r = c.r.WithContext(mvcc.WithOrigin(c.r.Context(), mvcc.Origin{
			Node:     c.h.Config.NodeName,
			Address:  c.r.RemoteAddr,
			Endpoint: c.r.Method + " " + strings.TrimSuffix(c.route.pattern, "*"),
		}))
	}
	from, err := c.readCopied()
	if err != nil {
		return nil, err
	}
	value, err := serve(c)
	if err == nil && from != nil {
		c.setCopied(from)
	}
	return value, err
}

// mayWrite reports whether a request that may change something comes from where
// that is allowed. Who may use a Unix socket is for its mode to say.
func (c *call) mayWrite() bool {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	if len(c.h.Config.AllowWriteFrom) == 0 {
		return true
	}
	if local, ok := c.r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return true
	}
	from, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return false
	}
	address := from.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(c.h.Config.AllowWriteFrom, func(p netip.Prefix) bool { return p.Contains(address) })
}

// options tells which methods the path has.
func (c *call) options() {
	header := c.w.Header()
	header.Set("Allow", "OPTIONS,"+c.route.allow)
	if c.route.inner {
		c.h.write(c, struct{}{}, nil)
		return
	}
	c.h.write(c, empty{}, nil)
}

// refuseMethod refuses a method that the path does not have.
func (c *call) refuseMethod() {
	allow := "OPTIONS," + c.route.allow
	if c.route.inner {
		allow = c.route.allow
	}
	c.w.Header().Set("Allow", allow)
	writeText(c.w, http.StatusMethodNotAllowed, "method "+c.r.Method+" not allowed")
}

// redirect sends the client to another path with the same method and query. It
// is temporary: what a path means may change with the next version.
func redirect(w http.ResponseWriter, r *http.Request, escaped string) {
	if r.URL.RawQuery != "" {
		escaped += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", escaped)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// cleanPath returns the path without empty and dotted parts, and with its slash
// at the end if it had one.
func cleanPath(escaped string) string {
	if escaped == "" || escaped[0] != '/' {
		escaped = "/" + escaped
	}
	if !strings.Contains(escaped, "//") && !strings.Contains(escaped, "/.") {
		return escaped
	}
	cleaned := path.Clean(escaped)
	if strings.HasSuffix(escaped, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

// hideToken returns the address of a request as it may stand in a log.
func hideToken(u *url.URL) string {
	if !strings.Contains(u.RawQuery, "oken") && !strings.Contains(u.RawQuery, "%") {
		return u.RequestURI()
	}
	parts := strings.Split(u.RawQuery, "&")
	for i, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil && strings.EqualFold(plain, "token") {
			parts[i] = "token=<hidden>"
		}
	}
	return u.EscapedPath() + "?" + strings.Join(parts, "&")
}

// profile serves the runtime's profiles, which only an agent does that was told
// to.
func profile(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}
