package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// kvEntry is a key as it stands in an export.
type kvEntry struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value string `json:"value"` // base64
}

func kvExportCommand() *command {
	return &command{
		name:      "export",
		summary:   "Print a tree of keys as JSON, for import",
		arguments: "[PREFIX]",
		most:      1,
		details: `Without PREFIX, every key there is. Locks and indexes are not part of an export.
Entries are printed while they arrive: if the command fails half way, so does
reading what it printed.`,
		examples: []example{
			{"A tree", "muster kv export service/ > service.json"},
			{"From one cluster into another", "muster kv export | muster kv import -http-addr=192.0.2.1:8500 -"},
		},
		new: func() runner { return &kvExportRunner{} },
	}
}

type kvExportRunner struct{ connection connection }

func (r *kvExportRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
}

func (r *kvExportRunner) run(streams streams, args []string) error {
	prefix := ""
	if len(args) > 0 {
		prefix = strings.TrimPrefix(args[0], "/")
	}
	out := bufio.NewWriter(streams.out)
	err := r.export(out, prefix)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return fmt.Errorf("cannot export the keys under %q: %w", prefix, err)
	}
	return nil
}

func (r *kvExportRunner) export(w io.Writer, prefix string) error {
	pairs, err := r.connection.open(context.Background(), "/v1/kv/"+escapePath(prefix), url.Values{"recurse": {""}}, streamSilence)
	var status api.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusNotFound && status.Body == "":
		_, err := fmt.Fprintln(w, "[]") // there is no such key
		return err
	case err != nil:
		return err
	}
	defer pairs.Close()
	return exportPairs(w, pairs)
}

// escapePath escapes what would not stand for itself in the path of a URL.
func escapePath(key string) string { return (&url.URL{Path: key}).EscapedPath() }

// exportPairs turns the agent's list of keys into an export, one at a time.
func exportPairs(w io.Writer, pairs io.Reader) error {
	decoder := json.NewDecoder(pairs)
	if err := expectDelim(decoder, '['); err != nil {
		return err
	}
	before := "[\n\t"
	for decoder.More() {
		var pair api.KVPair
		if err := decoder.Decode(&pair); err != nil {
			return cutShort(err)
		}
		entry := kvEntry{Key: pair.Key, Flags: pair.Flags, Value: base64.StdEncoding.EncodeToString(pair.Value)}
		text, err := json.MarshalIndent(entry, "\t", "\t")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s%s", before, text); err != nil {
			return err
		}
		before = ",\n\t"
	}
	if err := expectDelim(decoder, ']'); err != nil {
		return err
	}
	end := "\n]\n"
	if strings.HasPrefix(before, "[") {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// expectDelim reads one bracket.
func expectDelim(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	switch {
	case err != nil:
		return cutShort(err)
	case token != want:
		return fmt.Errorf("expected %s, got %v", want, token)
	}
	return nil
}

// cutShort names the end of a text that is not complete.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
