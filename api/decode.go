package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// body is the request's body, up to a limit in bytes and for a limited time.
// Once it was received the time begins anew: it then bounds what may follow, and
// is longer than any write takes.
func (c *call) body(limit int64) (body io.Reader, received func()) {
	connection := http.NewResponseController(c.w)
	// What is no connection, as in tests, has no deadline either.
	begin := func() { _ = connection.SetReadDeadline(time.Now().Add(bodyTime)) }
	begin()
	return http.MaxBytesReader(c.w, c.r.Body, limit), begin
}

// tooSlow is the refusal of a body that did not come in time; nil if err says
// something else.
func tooSlow(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return refuse(http.StatusRequestTimeout, "The request body was not received within %s", bodyTime)
}

// decode reads a JSON body into v: without regard to the case of names, without
// names it does not know, and without looking at what follows the value.
func (c *call) decode(v any) error {
	body, received := c.body(maxBody)
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		received()
		return nil
	case errors.As(err, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "Request body too large, max size: %d bytes", maxBody)
	}
	if slow := tooSlow(err); slow != nil {
		return slow
	}
	return badRequest("%s%v", textDecodeFailed, err)
}

// hintTenancy gives the refusal of a field that only namespaces and partitions
// need the words that say so.
func hintTenancy(err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	for field, text := range map[string]string{"Namespace": textNoNamespaces, "Partition": textNoPartitions} {
		if strings.Contains(r.text, `unknown field "`+field+`"`) {
			return badRequest("Invalid request body: %q - %s", field, text)
		}
	}
	return err
}

// duration is a time span in a body: text with a unit, or whole nanoseconds.
type duration time.Duration

// UnmarshalJSON reads either form. Nothing at all leaves it as it is.
func (d *duration) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		return nil
	case len(b) > 0 && b[0] == '"':
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		span, err := time.ParseDuration(text)
		*d = duration(span)
		return err
	}
	var ns int64
	err := json.Unmarshal(b, &ns)
	*d = duration(ns)
	return err
}

// durationText is how a span that is set is written in answers; none is empty.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// proxy is the mesh's part of an instance, which is kept and given back: a JSON
// object in compact form with sorted names, or nothing.
type proxy []byte

// noProxy is how an instance without a mesh is shown in the catalog.
const noProxy = `{"Mode":"","MeshGateway":{},"Expose":{}}`

// UnmarshalJSON keeps an object that says more than the defaults.
func (p *proxy) UnmarshalJSON(b []byte) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	full := map[string]json.RawMessage{"Mode": []byte(`""`), "MeshGateway": []byte(`{}`), "Expose": []byte(`{}`)}
	says := false
	for name, value := range given {
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil {
			return err
		}
		if text := compact.String(); text != "null" && text != string(full[name]) {
			full[name], says = compact.Bytes(), true
		}
	}
	*p = nil
	if !says {
		return nil
	}
	kept, err := json.Marshal(full)
	*p = kept
	return err
}

// MarshalJSON gives the object back, or what stands for none.
func (p proxy) MarshalJSON() ([]byte, error) {
	if len(p) == 0 {
		return []byte(noProxy), nil
	}
	return p, nil
}

// readValue reads the value of a key up to the limit, which also holds for
// bodies that come in chunks of no declared length.
func (c *call) readValue(limit int64) ([]byte, error) {
	if c.r.ContentLength > limit {
		return nil, tooLarge("Request body(%d bytes) too large, max size: %d bytes. See limits.kv_max_value_size.",
			c.r.ContentLength, limit)
	}
	body, received := c.body(limit)
	var value []byte
	var err error
	if n := c.r.ContentLength; n >= 0 {
		value = make([]byte, n)
		_, err = io.ReadFull(body, value)
	} else {
		value, err = io.ReadAll(body)
	}
	var over *http.MaxBytesError
	switch {
	case err == nil:
		received()
		return value, nil
	case errors.As(err, &over):
		return nil, tooLarge("Request body(more than %d bytes) too large, max size: %d bytes. See limits.kv_max_value_size.",
			limit, limit)
	}
	if slow := tooSlow(err); slow != nil {
		return nil, slow
	}
	return nil, badRequest("Cannot read the request body: %v", err)
}

func tooLarge(format string, args ...any) error {
	return refuse(http.StatusRequestEntityTooLarge, format, args...)
}

// UnmarshalJSON reads a definition without minding fields it does not know.
func (b *definitionBody) UnmarshalJSON(text []byte) error {
	type lax definitionBody // without this method
	return json.Unmarshal(text, (*lax)(b))
}
