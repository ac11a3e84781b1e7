package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/muster-sd/muster/kv"
)

// entry is a key as clients read it.
type entry struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Session     string `json:",omitempty"`
	CreateIndex uint64
	ModifyIndex uint64
}

// newEntry shows e. A value of no bytes is null.
func newEntry(e *kv.Entry) entry {
	out := entry{LockIndex: e.LockIndex, Key: e.Key, Flags: e.Flags, Session: e.Session,
		CreateIndex: e.CreateIndex, ModifyIndex: e.ModifyIndex}
	if len(e.Value) > 0 {
		out.Value = e.Value
	}
	return out
}

// getKey reads one key, all keys with a prefix, or only their names.
func getKey(c *call) (any, error) {
	switch {
	case c.has("keys"):
		return listKeys(c)
	case c.has("recurse"):
		return listEntries(c)
	case c.rest == "":
		return nil, badRequest(textMissingKey)
	}
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	e, meta, err := ask(c, o, &kv.Get{Key: c.rest}, c.h.Keys.Key)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, false)
	switch {
	case e == nil:
		return absent{}, nil
	case c.has("raw"):
		// A value is whatever somebody wrote: no browser may take it for a page.
		c.w.Header()["X-Content-Type-Options"] = valueNoSniff
		c.w.Header()["Content-Security-Policy"] = valueSandbox
		return plain{http.StatusOK, e.Value}, nil
	}
	return &[1]entry{newEntry(e)}, nil
}

func listEntries(c *call) (any, error) {
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	entries, meta, err := ask(c, o, &kv.List{Prefix: c.rest}, c.h.Keys.List)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, false)
	if len(entries) == 0 {
		return absent{}, nil
	}
	out := make([]entry, len(entries))
	for i, e := range entries {
		out[i] = newEntry(e)
	}
	return out, nil
}

func listKeys(c *call) (any, error) {
	o, err := c.readOptions()
	if err != nil {
		return nil, err
	}
	separator := c.value("separator")
	if separator == "" {
		separator = c.value("seperator") // a spelling that clients rely on
	}
	keys, meta, err := ask(c, o, &kv.Keys{Prefix: c.rest, Separator: separator}, c.h.Keys.Keys)
	if err != nil {
		return nil, err
	}
	c.setMeta(meta, false)
	switch {
	case len(keys) > 0:
		return keys, nil
	case c.rest != "":
		return absent{}, nil
	}
	return []string{}, nil
}

// putKey writes a key, if its precondition holds.
func putKey(c *call) (any, error) {
	if c.rest == "" {
		return nil, badRequest(textMissingKey)
	}
	if err := c.oneOf("cas", "acquire", "release"); err != nil {
		return nil, err
	}
	if c.has("acquire") || c.has("release") {
		return nil, notYet("Locking a key with acquire or release")
	}
	flags, _, err := c.number("flags")
	if err != nil {
		return nil, err
	}
	index, cas, err := c.number("cas")
	if err != nil {
		return nil, err
	}
	value, err := c.readValue(c.h.Config.MaxValueSize)
	if err != nil {
		return nil, err
	}
	if cas {
		return c.applyKey(&kv.CAS{Key: c.rest, Value: value, Flags: flags, Index: index})
	}
	return c.applyKey(&kv.Set{Key: c.rest, Value: value, Flags: flags})
}

// deleteKey removes a key or a tree, if its precondition holds.
func deleteKey(c *call) (any, error) {
	if err := c.oneOf("recurse", "cas"); err != nil {
		return nil, err
	}
	if c.has("recurse") {
		return c.applyKey(&kv.DeleteTree{Prefix: c.rest})
	}
	if c.rest == "" {
		return nil, badRequest(textMissingKey)
	}
	index, cas, err := c.number("cas")
	if err != nil {
		return nil, err
	}
	if cas {
		return c.applyKey(&kv.DeleteCAS{Key: c.rest, Index: index})
	}
	return c.applyKey(&kv.Delete{Key: c.rest})
}

// applyKey carries out a command. Keys of other datacenters cannot be written
// from here.
func (c *call) applyKey(cmd any) (any, error) {
	if err := c.ownDatacenter(c.datacenter()); err != nil {
		return nil, err
	}
	return valueOrError(c.h.Keys.ApplyKey(c.r.Context(), cmd))
}

// valueOrError keeps a false beside an error from being taken for an answer.
func valueOrError(done bool, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return done, nil
}

// oneOf refuses requests with more than one of some parameters.
func (c *call) oneOf(names ...string) error {
	found := 0
	for _, name := range names {
		if c.has(name) {
			found++
		}
	}
	if found < 2 {
		return nil
	}
	shown := url.Values{}
	for name, values := range c.query {
		if name != "token" {
			shown[name] = values
		}
	}
	return badRequest("Conflicting flags: %s\n", shown.Encode())
}

// number reads a parameter that is an unsigned decimal, and whether it is
// there. Clients know one that is no number as a 500.
func (c *call) number(name string) (uint64, bool, error) {
	if !c.has(name) {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(c.value(name), 10, 64)
	if err != nil {
		return 0, true, refuse(http.StatusInternalServerError, "%v", err)
	}
	return n, true, nil
}
