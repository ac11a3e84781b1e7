package main

import (
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

func kvGetCommand() *command {
	return &command{
		name:      "get",
		summary:   "Print the value of a key, or what stands in a tree of keys",
		arguments: "[KEY]",
		most:      1,
		details:   "KEY may be left out with -recurse and -keys, for the whole store.",
		examples: []example{
			{"A value", "muster kv get service/limit"},
			{"A value with its indexes, flags and lock", "muster kv get -detailed service/limit"},
			{"Every key and value below", "muster kv get -recurse service/"},
			{"The names of the next level", "muster kv get -keys service/"},
		},
		new: func() runner { return &kvGetRunner{} },
	}
}

type kvGetRunner struct {
	connection connection
	base64     bool
	detailed   bool
	keys       bool
	recurse    bool
	separator  string
}

func (r *kvGetRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.BoolVar(&r.base64, "base64", false, "Print values in base64.")
	flags.BoolVar(&r.detailed, "detailed", false, "Print indexes, flags and lock as well.")
	flags.BoolVar(&r.keys, "keys", false, "Print names only, down to the next separator; with -recurse all of them.")
	flags.BoolVar(&r.recurse, "recurse", false, "Print every key that begins with KEY.")
	flags.StringVar(&r.separator, "separator", "/", "The `text` that ends a level, for -keys.")
}

func (r *kvGetRunner) run(streams streams, args []string) error {
	key := ""
	if len(args) > 0 {
		key = strings.TrimPrefix(args[0], "/")
	}
	if key == "" && !r.keys && !r.recurse {
		return fmt.Errorf("the key is missing; to read every key there is, add -recurse or -keys")
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	switch {
	case r.keys:
		return r.printNames(streams.out, client.KV(), key)
	case r.recurse:
		return r.printTree(streams.out, client.KV(), key)
	default:
		return r.printOne(streams.out, client.KV(), key)
	}
}

func (r *kvGetRunner) printNames(w io.Writer, keys *api.KV, prefix string) error {
	separator := r.separator
	if r.recurse {
		separator = ""
	}
	names, _, err := keys.Keys(prefix, separator, r.connection.query())
	if err != nil {
		return fmt.Errorf("cannot list the keys under %q: %w", prefix, err)
	}
	for _, name := range names {
		fmt.Fprintln(w, name)
	}
	return nil
}

func (r *kvGetRunner) printTree(w io.Writer, keys *api.KV, prefix string) error {
	pairs, _, err := keys.List(prefix, r.connection.query())
	if err != nil {
		return fmt.Errorf("cannot read the keys under %q: %w", prefix, err)
	}
	for i, pair := range pairs {
		if !r.detailed {
			fmt.Fprintf(w, "%s:%s\n", pair.Key, r.value(pair))
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		r.printDetails(w, pair)
	}
	return nil
}

func (r *kvGetRunner) printOne(w io.Writer, keys *api.KV, key string) error {
	pair, _, err := keys.Get(key, r.connection.query())
	switch {
	case err != nil:
		return fmt.Errorf("cannot read the key %q: %w", key, err)
	case pair == nil:
		return fmt.Errorf("there is no key %s", key)
	case r.detailed:
		r.printDetails(w, pair)
	default:
		fmt.Fprintln(w, r.value(pair))
	}
	return nil
}

// printDetails prints all there is to an entry. The value stands last, because
// it may have several lines.
func (r *kvGetRunner) printDetails(w io.Writer, pair *api.KVPair) {
	session := pair.Session
	if session == "" {
		session = "-"
	}
	rows := [][]string{
		{"CreateIndex", strconv.FormatUint(pair.CreateIndex, 10)},
		{"Flags", strconv.FormatUint(pair.Flags, 10)},
		{"Key", pair.Key},
		{"LockIndex", strconv.FormatUint(pair.LockIndex, 10)},
		{"ModifyIndex", strconv.FormatUint(pair.ModifyIndex, 10)},
		{"Session", session},
		{"Value", r.value(pair)},
	}
	width := len("CreateIndex") + wideGap
	for _, row := range rows {
		fmt.Fprintf(w, "%-*s%s\n", width, row[0], row[1])
	}
}

func (r *kvGetRunner) value(pair *api.KVPair) string {
	if r.base64 {
		return base64.StdEncoding.EncodeToString(pair.Value)
	}
	return string(pair.Value)
}

// decodeBase64 reads a value that was given in base64.
func decodeBase64(text []byte) ([]byte, error) {
	value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("the data is not base64: %w", err)
	}
	return value, nil
}
