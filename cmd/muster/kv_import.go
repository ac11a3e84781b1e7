package main

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/consul/api"
)

func kvImportCommand() *command {
	return &command{
		name:      "import",
		summary:   "Write the keys of an export",
		arguments: "DATA",
		fewest:    1,
		most:      1,
		details: `DATA is @FILE for what is in a file, - for standard input, or the JSON itself.
Keys are written one after the other, over what is there; the first that fails
ends the command, and those before it stay written.`,
		examples: []example{
			{"A file", "muster kv import @service.json"},
			{"Below another key", "muster kv import -prefix=copy/ @service.json"},
		},
		new: func() runner { return &kvImportRunner{} },
	}
}

type kvImportRunner struct {
	connection connection
	prefix     string
}

func (r *kvImportRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.prefix, "prefix", "", "Put this `key` and a slash before every key.")
}

func (r *kvImportRunner) run(streams streams, args []string) error {
	if r.prefix != "" && !strings.HasSuffix(r.prefix, "/") {
		r.prefix += "/"
	}
	data, name, err := openData(args[0], streams.in)
	if err != nil {
		return err
	}
	defer data.Close()
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	imported := 0
	err = eachEntry(data, func(pair *api.KVPair) error {
		if err := r.write(client.KV(), pair); err != nil {
			return err
		}
		fmt.Fprintf(streams.out, "Imported: %s\n", pair.Key)
		imported++
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot import entry %d of %s: %w", imported+1, name, err)
	}
	return nil
}

// write puts one entry below the prefix.
func (r *kvImportRunner) write(keys *api.KV, pair *api.KVPair) error {
	pair.Key = r.prefix + pair.Key
	switch {
	case pair.Key == "":
		return fmt.Errorf("the key must not be empty")
	case strings.HasPrefix(pair.Key, "/"):
		return fmt.Errorf("the key %q must not begin with a slash", pair.Key)
	}
	if _, err := keys.Put(pair, nil); err != nil {
		return fmt.Errorf("cannot write the key %q: %w", pair.Key, err)
	}
	return nil
}

// eachEntry reads an export piece by piece and calls do with each entry.
func eachEntry(data io.Reader, do func(*api.KVPair) error) error {
	decoder := json.NewDecoder(data)
	if err := expectDelim(decoder, '['); err != nil {
		return fmt.Errorf("the data is not a JSON array: %w", err)
	}
	for decoder.More() {
		var entry kvEntry
		if err := decoder.Decode(&entry); err != nil {
			return fmt.Errorf("it is not a key with flags and value: %w", cutShort(err))
		}
		value, err := base64.StdEncoding.DecodeString(entry.Value)
		if err != nil {
			return fmt.Errorf("the value of the key %q is not base64: %w", entry.Key, err)
		}
		if err := do(&api.KVPair{Key: entry.Key, Flags: entry.Flags, Value: value}); err != nil {
			return err
		}
	}
	if err := expectDelim(decoder, ']'); err != nil {
		return fmt.Errorf("the JSON array does not end: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON array")
	}
	return nil
}
