package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Sources is where settings come from. Later ones go before earlier ones: the
// defaults, those of development, lists of flags, files, other flags, fragments.
// Lists of all of them are put one after the other, maps key by key.
type Sources struct {
	// Dev asks for the defaults of development.
	Dev bool
	// Flags are the settings of flags, see [RegisterFlags]; nil is none.
	Flags File
	// Files are paths of files and folders in the order of the command line.
	Files []string
	// origins are the flags that named the files, one for each, if flags did.
	origins []string
	// HCL are fragments of HCL.
	HCL []string
	// Format is "hcl" or "json" if all files have that format whatever their
	// names, else empty.
	Format string
}

// input is a file that was read.
type input struct {
	path, format string
	text         []byte
}

// reader reads the files of a source.
type reader struct {
	format   string
	inputs   []input
	errs     *problems
	warnings []string
}

// read returns all files that the paths name, in order.
func (r *reader) read(paths, origins []string) {
	for i, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil && i < len(origins):
			r.errs.append(fmt.Errorf("flag %s: cannot read configuration: %w", origins[i], err))
		case err != nil:
			r.errs.append(fmt.Errorf("cannot read configuration: %w", err))
		case info.IsDir():
			r.folder(path)
		default:
			r.file(path)
		}
	}
}

// folder reads the files of a folder by name, not those of folders in it.
func (r *reader) folder(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		r.errs.append(fmt.Errorf("cannot read configuration: %w", err))
		return
	}
	for _, entry := range entries {
		file := filepath.Join(path, entry.Name())
		info, err := os.Stat(file)
		switch {
		case err != nil:
			r.errs.append(fmt.Errorf("cannot read configuration: %w", err))
		case info.IsDir():
		case !info.Mode().IsRegular():
			r.warnings = append(r.warnings, fmt.Sprintf("%s is skipped: it is no file", file))
		case r.format == "" && formatOf(file) == "":
			r.warnings = append(r.warnings, fmt.Sprintf("%s is skipped: its name ends neither in .hcl nor in .json, and no -config-format is given", file))
		default:
			r.file(file)
		}
	}
}

func (r *reader) file(path string) {
	format := r.format
	if format == "" {
		format = formatOf(path)
	}
	switch {
	case format == "":
		r.errs.append(fmt.Errorf("%s: the name ends neither in .hcl nor in .json; -config-format says which it is", path))
		return
	case len(r.inputs) == MaxFiles:
		r.errs.append(fmt.Errorf("%s: more than %d configuration files", path, MaxFiles))
		return
	}
	text, err := readFile(path)
	if err != nil {
		r.errs.append(fmt.Errorf("cannot read configuration: %w", err))
		return
	}
	r.inputs = append(r.inputs, input{path, format, text})
}

// readFile returns what a file holds, and one byte more than is allowed if it
// holds too much.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, MaxFileSize+1))
}

func formatOf(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".hcl":
		return formatHCL
	case ".json":
		return formatJSON
	}
	return ""
}
