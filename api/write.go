package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Values of headers that many answers share. Nobody writes to them.
var (
	valueVary  = []string{"Accept-Encoding"}
	valueAllow = []string{"allow"}
	valueJSON  = []string{"application/json"}
	valueQuery = []string{"blocking-query"}
	valueTrue  = []string{"true"}
	valueFalse = []string{"false"}
	valueHit   = []string{"HIT"}
	valueMiss  = []string{"MISS"}
	valueZero  = []string{"0"}

	valueLeader     = []string{mvcc.Default.String()}
	valueStale      = []string{mvcc.Stale.String()}
	valueConsistent = []string{mvcc.Consistent.String()}

	valueText    = []string{"text/plain"}
	valueOctets  = []string{"application/octet-stream"}
	valueArchive = []string{"application/x-gzip"}
	valueUTF8    = []string{"text/plain; charset=utf-8"}
	valueGzip    = []string{"gzip"}
	valueNoSniff = []string{"nosniff"}
	valueSandbox = []string{"sandbox"}
)

// Values of handlers that are not simply JSON with status 200.
type (
	// empty is success without a body.
	empty struct{}
	// octets is success without a body where bytes were sent.
	octets struct{}
	// absent is a 404 without a body: the thing asked for is not there.
	absent struct{}
	// judged is JSON whose status tells something too.
	judged struct {
		status int
		value  any
	}
	// plain is a body of bytes as they are.
	plain struct {
		status int
		body   []byte
	}
)

// setMeta tells what the answer stands on. Endpoints of catalog and health also
// tell how fresh it really is.
func (c *call) setMeta(m mvcc.Meta, effective bool) {
	header := c.w.Header()
	c.index[0] = strconv.FormatUint(max(m.Index, 1), 10)
	header["X-Consul-Index"] = c.index[:]
	c.setContact(m)
	header["X-Consul-Query-Backend"] = valueQuery
	if effective {
		header["X-Consul-Effective-Consistency"] = valueOf(m.Mode)
	}
}

// valueOf is the value of a header that says how fresh an answer is.
func valueOf(m mvcc.Mode) []string {
	switch m {
	case mvcc.Stale:
		return valueStale
	case mvcc.Consistent:
		return valueConsistent
	default:
		return valueLeader
	}
}

// setContact tells how near the answering server is to the leader.
func (c *call) setContact(m mvcc.Meta) {
	header := c.w.Header()
	header["X-Consul-Knownleader"] = valueFalse
	if m.KnownLeader {
		header["X-Consul-Knownleader"] = valueTrue
	}
	header["X-Consul-Lastcontact"] = valueZero
	if behind := m.LastContact.Milliseconds(); behind != 0 {
		header["X-Consul-Lastcontact"] = []string{strconv.FormatInt(behind, 10)}
	}
}

// write answers with a handler's value or error. Every answer below /v1/ but
// the refusals of paths goes through it.
func (h *Handler) write(c *call, value any, err error) {
	if err != nil {
		status, text := statusOf(err)
		writeText(c.w, status, text)
		return
	}
	switch v := value.(type) {
	case streamed:
	case empty:
		c.w.Header()["Content-Type"] = valueJSON
		c.w.Header()["Content-Length"] = valueZero
		c.w.WriteHeader(http.StatusOK)
	case octets:
		c.w.Header()["Content-Type"] = valueOctets
		c.w.Header()["Content-Length"] = valueZero
		c.w.WriteHeader(http.StatusOK)
	case absent:
		c.w.Header()["Content-Length"] = valueZero
		c.w.WriteHeader(http.StatusNotFound)
	case plain:
		c.w.Header()["Content-Type"] = valueText
		h.writeBody(c, v.status, v.body)
	case judged:
		h.writeJSON(c, v.status, v.value)
	case shared:
		h.writeShared(c, v)
	default:
		h.writeJSON(c, http.StatusOK, value)
	}
}

// writeJSON answers with a value as JSON: compact, or indented with a line end
// if the request or the configuration wants it pretty.
func (h *Handler) writeJSON(c *call, status int, value any) {
	body, err := h.encode(c, value)
	if err != nil {
		writeText(c.w, http.StatusInternalServerError, err.Error())
		return
	}
	c.w.Header()["Content-Type"] = valueJSON
	h.writeBody(c, status, body)
}

// encode makes JSON of a value.
func (h *Handler) encode(c *call, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the answer: %w", err)
	}
	if h.Config.Pretty || c.has("pretty") {
		var pretty bytes.Buffer
		if json.Indent(&pretty, body, "", "    ") == nil {
			pretty.WriteByte('\n')
			body = pretty.Bytes()
		}
	}
	return body, nil
}

// writeBody answers with bytes, compressed if the client takes that and it is
// worth the while.
func (h *Handler) writeBody(c *call, status int, body []byte) {
	if zips(c, body) {
		c.w.Header()["Content-Encoding"] = valueGzip
		body = h.zip(body)
	}
	c.send(status, body)
}

// zips reports whether a body is to be compressed for this client.
func zips(c *call, body []byte) bool {
	return len(body) >= minGzip && acceptsGzip(c.r.Header)
}

// send writes a status and a body as it is.
func (c *call) send(status int, body []byte) {
	c.length[0] = strconv.Itoa(len(body))
	c.w.Header()["Content-Length"] = c.length[:]
	c.w.WriteHeader(status)
	// A client that is gone cannot be told.
	_, _ = c.w.Write(body)
}

// writeText answers with an error's text.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header()["Content-Type"] = valueUTF8
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// newZip makes a compressor for the pool.
func newZip() any { return gzip.NewWriter(nil) }

// zip compresses body (RFC 1952).
func (h *Handler) zip(body []byte) []byte {
	z := h.zips.Get().(*gzip.Writer)
	defer h.zips.Put(z)
	var out bytes.Buffer
	z.Reset(&out)
	// Writing to memory cannot fail.
	_, _ = z.Write(body)
	_ = z.Close()
	return out.Bytes()
}

// acceptsGzip reports whether a client takes gzip: named with a weight above
// zero (RFC 9110, section 12.5.3).
func acceptsGzip(header http.Header) bool {
	for _, line := range header["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, parameter, _ := strings.Cut(strings.TrimSpace(part), ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, given := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !given || err == nil && q > 0
		}
	}
	return false
}
