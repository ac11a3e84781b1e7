package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

func kvCommand() *command {
	return &command{
		name:     "kv",
		summary:  "Read and write keys and values",
		children: []*command{kvDeleteCommand(), kvExportCommand(), kvGetCommand(), kvImportCommand(), kvPutCommand()},
		examples: []example{
			{"Write a value", "muster kv put service/limit 100"},
			{"Read it back", "muster kv get service/limit"},
			{"All keys of a tree", "muster kv get -keys service/"},
			{"Remove the tree", "muster kv delete -recurse service/"},
		},
	}
}

func kvPutCommand() *command {
	return &command{
		name:      "put",
		summary:   "Write a value",
		arguments: "KEY [DATA]",
		fewest:    1,
		most:      2,
		details: `DATA is the value itself, @FILE for what is in a file, or - for standard input.
Without DATA the value is empty.`,
		examples: []example{
			{"A value", "muster kv put service/limit 100"},
			{"A file", "muster kv put service/logo @logo.png"},
			{"Only if nobody made the key before", "muster kv put -cas service/limit 100"},
			{"Only if nobody changed it since index 123", "muster kv put -cas -modify-index=123 service/limit 200"},
		},
		new: func() runner { return &kvPutRunner{} },
	}
}

type kvPutRunner struct {
	connection  connection
	cas         bool
	modifyIndex uint64
	flags       uint64
	base64      bool
	session     string
	acquire     bool
	release     bool
}

func (r *kvPutRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.BoolVar(&r.cas, "cas", false, "Write only if the key was not changed since -modify-index, or, without that, only if there is none.")
	flags.Uint64Var(&r.modifyIndex, "modify-index", 0, "The modify `index` that the key must have, for -cas.")
	flags.Uint64Var(&r.flags, "flags", 0, "A `number` to keep with the value; its meaning is yours.")
	flags.BoolVar(&r.base64, "base64", false, "DATA is in base64; write what it stands for.")
	flags.StringVar(&r.session, "session", "", "The `ID` of the session that -acquire and -release are for.")
	flags.BoolVar(&r.acquire, "acquire", false, "Lock the key for -session; without the key, make it. Agents of this version refuse it.")
	flags.BoolVar(&r.release, "release", false, "Give up the lock that -session has on the key. Agents of this version refuse it.")
}

func (r *kvPutRunner) run(streams streams, args []string) error {
	key := args[0]
	if err := r.check(key); err != nil {
		return err
	}
	pair := &api.KVPair{Key: key, Flags: r.flags, Session: r.session, ModifyIndex: r.modifyIndex}
	if len(args) == 2 {
		value, err := readData(args[1], streams.in)
		if err != nil {
			return err
		}
		if r.base64 {
			if value, err = decodeBase64(value); err != nil {
				return err
			}
		}
		pair.Value = value
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	return r.write(streams, client.KV(), pair)
}

func (r *kvPutRunner) check(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("the key must not be empty")
	case strings.HasPrefix(key, "/"):
		return fmt.Errorf("the key %q must not begin with a slash", key)
	case r.acquire && r.release:
		return fmt.Errorf("only one of -acquire and -release can be given")
	case r.cas && (r.acquire || r.release):
		return fmt.Errorf("-cas goes with neither -acquire nor -release")
	case r.acquire && r.session == "":
		return fmt.Errorf("-acquire needs a -session to lock the key for")
	case r.release && r.session == "":
		return fmt.Errorf("-release needs the -session that has the lock")
	case r.modifyIndex != 0 && !r.cas:
		return fmt.Errorf("-modify-index=%d needs -cas", r.modifyIndex)
	}
	return nil
}

func (r *kvPutRunner) write(streams streams, keys *api.KV, pair *api.KVPair) error {
	written := true
	var err error
	success, refused := "Data written to", "it was changed, made or removed since"
	switch {
	case r.cas:
		written, _, err = keys.CAS(pair, nil)
		refused = fmt.Sprintf("its modify index is not %d", pair.ModifyIndex)
		if pair.ModifyIndex == 0 {
			refused = "it exists already"
		}
	case r.acquire:
		written, _, err = keys.Acquire(pair, nil)
		success, refused = "Lock acquired on", "another session has the lock, or its delay has not passed"
	case r.release:
		written, _, err = keys.Release(pair, nil)
		success, refused = "Lock released on", fmt.Sprintf("the session %s does not have the lock", pair.Session)
	default:
		_, err = keys.Put(pair, nil)
	}
	if err != nil {
		return fmt.Errorf("cannot write the key %q: %w", pair.Key, err)
	}
	if !written {
		return fmt.Errorf("did not write to %s: %s", pair.Key, refused)
	}
	fmt.Fprintf(streams.out, "Success! %s: %s\n", success, pair.Key)
	return nil
}

func kvDeleteCommand() *command {
	return &command{
		name:      "delete",
		summary:   "Remove a key or a tree of keys",
		arguments: "KEY",
		fewest:    1,
		most:      1,
		details:   "To remove a key that is not there is a success.",
		examples: []example{
			{"One key", "muster kv delete service/limit"},
			{"All keys that begin so", "muster kv delete -recurse service/"},
			{"Only if nobody changed it since index 123", "muster kv delete -cas -modify-index=123 service/limit"},
		},
		new: func() runner { return &kvDeleteRunner{} },
	}
}

type kvDeleteRunner struct {
	connection  connection
	cas         bool
	modifyIndex uint64
	recurse     bool
}

func (r *kvDeleteRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.BoolVar(&r.cas, "cas", false, "Remove only if the key was not changed since -modify-index.")
	flags.Uint64Var(&r.modifyIndex, "modify-index", 0, "The modify `index` that the key must have, for -cas; above zero.")
	flags.BoolVar(&r.recurse, "recurse", false, "Remove every key that begins with KEY.")
}

func (r *kvDeleteRunner) run(streams streams, args []string) error {
	key := strings.TrimPrefix(args[0], "/")
	switch {
	case key == "" && !r.recurse:
		return fmt.Errorf("the key must not be empty; to remove every key there is, add -recurse")
	case r.cas && r.recurse:
		return fmt.Errorf("only one of -cas and -recurse can be given")
	case r.cas && r.modifyIndex == 0:
		return fmt.Errorf("-cas needs a -modify-index above zero")
	case r.modifyIndex != 0 && !r.cas:
		return fmt.Errorf("-modify-index=%d needs -cas", r.modifyIndex)
	}
	client, err := r.connection.client()
	if err != nil {
		return err
	}
	return r.remove(streams, client.KV(), key)
}

func (r *kvDeleteRunner) remove(streams streams, keys *api.KV, key string) error {
	var err error
	removed, success := true, "Deleted key"
	switch {
	case r.recurse:
		_, err = keys.DeleteTree(key, nil)
		success = "Deleted keys with prefix"
	case r.cas:
		removed, _, err = keys.DeleteCAS(&api.KVPair{Key: key, ModifyIndex: r.modifyIndex}, nil)
	default:
		_, err = keys.Delete(key, nil)
	}
	if err != nil {
		return fmt.Errorf("cannot delete the key %q: %w", key, err)
	}
	if !removed {
		return fmt.Errorf("did not delete %s: its modify index is not %d", key, r.modifyIndex)
	}
	fmt.Fprintf(streams.out, "Success! %s: %s\n", success, key)
	return nil
}
