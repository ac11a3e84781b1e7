package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/muster-sd/muster/agent/state"
)

func snapshotCommand() *command {
	return &command{
		name:    "snapshot",
		summary: "Save the whole state of a cluster to a file, and go back to it",
		examples: []example{
			{"Before something risky", "muster snapshot save before.snap"},
			{"Every hour, kept for two days", "muster snapshot agent -interval=1h -retain=48 -local-path=/var/backups/muster"},
			{"What is in a file", "muster snapshot inspect before.snap"},
		},
		children: []*command{snapshotAgentCommand(), decodeCommand(), inspectCommand(), restoreCommand(), saveCommand()},
	}
}

func saveCommand() *command {
	return &command{
		name:      "save",
		summary:   "Save the whole state of the cluster to a file",
		arguments: "<file>",
		fewest:    1,
		most:      1,
		details: `The file holds everything that the servers share, secrets among it: only the
user who saved it may read it. It is read back and checked before it gets its
name, so a file of that name is whole, and one that was there before is kept
until then. With -stale any server's state is saved, even without a leader.`,
		examples: []example{
			{"Everything", "muster snapshot save backup.snap"},
			{"With version and datacenter in the name", "muster snapshot save -append-filename=version,dc backup.snap"},
			{"Without a leader, what one server still has", "muster snapshot save -stale -http-addr=10.0.0.2:8500 last.snap"},
		},
		new: func() runner { return &saveRunner{} },
	}
}

type saveRunner struct {
	connection connection
	appended   string
}

func (r *saveRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
	flags.StringVar(&r.appended, "append-filename", "", "What to add to the name of the file, before its ending: `parts` of version,dc.")
}

func (r *saveRunner) run(streams streams, args []string) error {
	parts, err := r.parts()
	if err != nil {
		return err
	}
	ctx, stop := untilInterrupted()
	defer stop()
	folder, base := filepath.Split(args[0])
	if base == "" {
		return fmt.Errorf("cannot save to %q: it names no file", args[0])
	}
	saved, err := r.connection.saveArchive(ctx, folder, func(meta state.ArchiveMeta) string { return appendParts(base, parts, meta) })
	if err != nil {
		return fmt.Errorf("cannot save a snapshot: %w", err)
	}
	if saved.warning != "" {
		fmt.Fprintf(streams.err, "Warning: %s\n", saved.warning)
	}
	fmt.Fprintf(streams.out, "Saved and verified snapshot to index %d\n", saved.meta.Index)
	return nil
}

// parts are what the name of the file is to have in addition, by their order.
func (r *saveRunner) parts() ([]string, error) {
	if r.appended == "" {
		return nil, nil
	}
	parts := strings.Split(r.appended, ",")
	for _, part := range parts {
		if part != "version" && part != "dc" {
			return nil, fmt.Errorf("the value of -append-filename must list version and dc, not %q", part)
		}
	}
	return parts, nil
}

// appendParts adds to a name, before its ending, what an archive says.
func appendParts(name string, parts []string, meta state.ArchiveMeta) string {
	ending := filepath.Ext(name)
	name = strings.TrimSuffix(name, ending)
	for _, part := range parts {
		value := meta.Datacenter
		if part == "version" {
			value = meta.Muster
		}
		// What comes from a file must not lead out of the folder.
		name += "-" + strings.ReplaceAll(value, string(filepath.Separator), "_")
	}
	return name + ending
}

func restoreCommand() *command {
	return &command{
		name:      "restore",
		summary:   "Replace the whole state of the cluster by that of a file",
		arguments: "<file>",
		fewest:    1,
		most:      1,
		details: `Everything that was changed since the file was saved is undone, on all servers:
keys, registrations and the rest. Agents then register again what they have.
The servers check the whole file before they replace anything, and refuse a
damaged one, or one that Consul saved: "kv export" and "kv import" move keys from
there. Who takes part in Raft stays as it is. To be able to go back, save the
present state first.`,
		examples: []example{
			{"See what it holds, keep the present state, go back", "muster snapshot inspect old.snap && muster snapshot save now.snap && muster snapshot restore old.snap"},
		},
		new: func() runner { return &restoreRunner{} },
	}
}

type restoreRunner struct{ connection connection }

func (r *restoreRunner) define(flags *flag.FlagSet) {
	r.connection.define(flags)
	r.connection.defineServer(flags)
}

func (r *restoreRunner) run(streams streams, args []string) error {
	file, err := openArchive(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	config, err := r.connection.config()
	if err != nil {
		return err
	}
	config.HttpClient.Timeout = 0 // it may well take longer than any other request
	client, err := api.NewClient(config)
	if err != nil {
		return fmt.Errorf("cannot use the address %q: %w", r.connection.serverAddress(), err)
	}
	ctx, stop := untilInterrupted()
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	foreign := foreignTo(ctx, client, file)
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the snapshot %s: %w", args[0], err)
	}
	if err := client.Snapshot().Restore((&api.WriteOptions{}).WithContext(ctx), file); err != nil {
		var refused api.StatusError
		if nobodyThere(err) || errors.As(err, &refused) && !strings.Contains(refused.Body, textUncertain) {
			return fmt.Errorf("cannot restore %s, and nothing was changed: %w", args[0], err)
		}
		return fmt.Errorf("cannot tell whether %s was restored: %w", args[0], err)
	}
	if foreign != "" {
		fmt.Fprintf(streams.err, "Warning: %s\n", foreign)
	}
	fmt.Fprintln(streams.out, "Restored snapshot")
	return nil
}

// textUncertain stands in the answer of an agent that does not know what came of a
// change.
const textUncertain = "may still take effect"

// clusterTag is the tag by which a member says which cluster it belongs to.
const clusterTag = "cluster"

// foreignTo says in words where an archive was taken, if that is another cluster
// than the agent's. What cannot be found out is not said: the servers judge the
// archive, not this.
func foreignTo(ctx context.Context, client *api.Client, archive io.Reader) string {
	meta, err := state.PeekArchive(archive)
	if err != nil || meta.Cluster == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, selfTimeout)
	defer cancel()
	var self struct {
		Member struct{ Tags map[string]string }
	}
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return ""
	}
	own := self.Member.Tags[clusterTag]
	if own == "" || own == meta.Cluster {
		return ""
	}
	return fmt.Sprintf("this snapshot was taken at %s in another cluster, %s in datacenter %s; the one that it was restored into is %s",
		meta.At.Format(time.RFC3339), printable(meta.Cluster), printable(meta.Datacenter), printable(own))
}

// openArchive opens a file that can be an archive, by its kind and size.
func openArchive(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the snapshot: %w", err)
	}
	about, err := file.Stat()
	switch {
	case err == nil && about.IsDir():
		err = errors.New("it is a folder")
	case err == nil && about.Size() > maxArchive:
		err = fmt.Errorf("its %d bytes are more than the limit of %d", about.Size(), int64(maxArchive))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot read the snapshot %s: %w", path, err)
	}
	return file, nil
}
