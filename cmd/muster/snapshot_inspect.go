package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// damagedHint is what to do about an archive that is not whole.
const damagedHint = "Servers refuse to restore from it: take an earlier one, " +
	"or save anew from a server that still runs (muster snapshot save -stale)"

// readArchive reads a whole archive and checks it.
func readArchive(path string) (state.ArchiveMeta, *state.View, error) {
	file, err := openArchive(path)
	if err != nil {
		return state.ArchiveMeta{}, nil, err
	}
	defer file.Close()
	meta, view, err := state.VerifyArchive(file, nil)
	if err != nil {
		what := "cannot be used: " + err.Error()
		var fault *state.ArchiveFault
		if errors.As(err, &fault) {
			what = fault.What
		}
		return meta, nil, fmt.Errorf("the snapshot %s %s. %s", path, what, damagedHint)
	}
	return meta, view, nil
}

func inspectCommand() *command {
	return &command{
		name:      "inspect",
		summary:   "Check a snapshot and print what is in it",
		arguments: "<file>",
		fewest:    1,
		most:      1,
		details: `Needs no agent. All sums are checked: a file that is printed is whole and can
be restored. Index is how far the state had come; of two snapshots of one
cluster the one with the higher index is the newer.`,
		examples: []example{
			{"How much of what", "muster snapshot inspect backup.snap"},
			{"Which keys take the space", "muster snapshot inspect -kvdetails -kvdepth=1 backup.snap"},
		},
		new: func() runner { return &inspectRunner{} },
	}
}

type inspectRunner struct {
	format  string
	options state.InspectOptions
}

func (r *inspectRunner) define(flags *flag.FlagSet) {
	flags.StringVar(&r.format, "format", formatPretty, "The `form` of the output: pretty or json.")
	flags.BoolVar(&r.options.Keys, "kvdetails", false, "Also count keys by what their names begin with.")
	flags.IntVar(&r.options.Depth, "kvdepth", 2, "How `many` parts of a name, between slashes, count for -kvdetails.")
	flags.StringVar(&r.options.Filter, "kvfilter", "", "Only keys with this `prefix`, for -kvdetails.")
}

func (r *inspectRunner) run(streams streams, args []string) error {
	if err := checkFormat(r.format); err != nil {
		return err
	}
	switch {
	case r.options.Depth < 1:
		return fmt.Errorf("the value of -kvdepth must be at least 1, not %d", r.options.Depth)
	case r.options.Filter != "" && !r.options.Keys:
		return fmt.Errorf("-kvfilter needs -kvdetails")
	}
	meta, view, err := readArchive(args[0])
	if err != nil {
		return err
	}
	found := view.Inspect(r.options)
	if r.format == formatJSON {
		return printJSON(streams.out, inspected(meta, found))
	}
	out := bufio.NewWriter(streams.out)
	printInspection(out, meta, found, r.options.Keys)
	return out.Flush()
}

func printInspection(w io.Writer, meta state.ArchiveMeta, found state.Inspection, keys bool) {
	printTable(w, [][]string{
		{" ID", meta.ID},
		{" Size", strconv.FormatInt(meta.Size, 10)},
		{" Index", strconv.FormatUint(meta.Index, 10)},
		{" Term", strconv.FormatUint(meta.Term, 10)},
		{" Version", strconv.Itoa(meta.Version)},
	}, wideGap)
	printAmounts(w, "Type", found.Types)
	if keys {
		printAmounts(w, "Key Name", found.Keys)
	}
	fmt.Fprintf(w, "\n Taken at %s in datacenter %q by Muster %s, of cluster %s.\n",
		meta.At.UTC().Format(time.RFC3339), meta.Datacenter, meta.Muster, meta.Cluster)
	if servers := meta.Configuration.Servers; len(servers) > 0 {
		ids := make([]string, len(servers))
		for i, s := range servers {
			ids[i] = s.ID
		}
		fmt.Fprintf(w, " Its servers were then: %s.\n", strings.Join(ids, ", "))
	}
	fmt.Fprintln(w, " All sums are right: it can be restored.")
}

// printAmounts prints how much there is of what, and the sum of it.
func printAmounts(w io.Writer, heading string, amounts []state.Amount) {
	rows := [][]string{{" " + heading, "Count", "Size"}, {" ----", "----", "----"}}
	total := int64(0)
	for _, a := range amounts {
		rows = append(rows, []string{" " + printable(a.Name), strconv.Itoa(a.Count), byteSize(a.Size)})
		total += a.Size
	}
	rows = append(rows, []string{" ----", "----", "----"}, []string{" Total", "", byteSize(total)})
	fmt.Fprintln(w)
	printTable(w, rows, wideGap)
}

// printable is a name as it can stand in a line on a terminal: keys may have
// anything in their names.
func printable(name string) string {
	quoted := strconv.Quote(name)
	if quoted[1:len(quoted)-1] == name {
		return name
	}
	return quoted
}

// byteSize writes a number of bytes for people.
func byteSize(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + "B"
	}
	value, units := float64(n)/(1<<10), []string{"KB", "MB", "GB"}
	for value >= 1<<10 && len(units) > 1 {
		value, units = value/(1<<10), units[1:]
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + units[0]
}

// inspectionJSON is what programs read of an archive.
type inspectionJSON struct {
	Meta struct {
		ID      string
		Size    int64
		Index   uint64
		Term    uint64
		Version int
	}
	Stats       []amountJSON
	StatsKV     []amountJSON
	TotalSize   int64
	TotalSizeKV int64
	// Muster is what Muster's archives say in addition.
	Muster state.ArchiveMeta
}

type amountJSON struct {
	Name  string
	Sum   int64
	Count int
}

func inspected(meta state.ArchiveMeta, found state.Inspection) *inspectionJSON {
	out := &inspectionJSON{Muster: meta}
	out.Meta.ID, out.Meta.Size, out.Meta.Index, out.Meta.Term, out.Meta.Version = meta.ID, meta.Size, meta.Index, meta.Term, meta.Version
	out.Stats, out.TotalSize = amountsJSON(found.Types)
	out.StatsKV, out.TotalSizeKV = amountsJSON(found.Keys)
	return out
}

func amountsJSON(amounts []state.Amount) (list []amountJSON, total int64) {
	list = []amountJSON{}
	for _, a := range amounts {
		list = append(list, amountJSON{Name: a.Name, Sum: a.Size, Count: a.Count})
		total += a.Size
	}
	return list, total
}

func decodeCommand() *command {
	return &command{
		name:      "decode",
		summary:   "Print everything that is in a snapshot, one JSON object a line",
		arguments: "<file>",
		fewest:    1,
		most:      1,
		details: `Needs no agent. Each line is {"Type":...,"Data":...}. What is secret in the file
is not hidden.`,
		examples: []example{
			{"The names of all keys", `muster snapshot decode backup.snap | jq -r 'select(.Type == "KV").Data.Key'`},
		},
		new: func() runner { return decodeRunner{} },
	}
}

type decodeRunner struct{}

func (decodeRunner) define(*flag.FlagSet) {}

func (decodeRunner) run(streams streams, args []string) error {
	_, view, err := readArchive(args[0])
	if err != nil {
		return err
	}
	out := bufio.NewWriter(streams.out)
	if err := view.WriteJSON(out); err != nil {
		return fmt.Errorf("cannot print the snapshot %s: %w", args[0], err)
	}
	return out.Flush()
}
