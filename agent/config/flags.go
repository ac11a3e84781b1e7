package config

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Flags are the command-line flags of an agent.
type Flags struct {
	dev    bool
	files  []string
	named  []string // the flag that named each
	hcl    []string
	format string
	values File
}

// RegisterFlags adds the flags of an agent to fs: one for each key of the table
// that has one, and those that name further sources. What they say is known
// after fs has parsed the command line.
func RegisterFlags(fs *flag.FlagSet) *Flags {
	f := &Flags{values: File{}}
	fs.BoolVar(&f.dev, "dev", false, "be a server for development: in memory, on the loopback address, leading itself")
	addFile := func(name string) func(string) error {
		return func(path string) error {
			f.files, f.named = append(f.files, path), append(f.named, "-"+name)
			return nil
		}
	}
	fs.Func("config-file", "`file` to read settings from; may be repeated", addFile("config-file"))
	fs.Func("config-dir", "`folder` of .hcl and .json files to read settings from; may be repeated", addFile("config-dir"))
	fs.Func("hcl", "settings as an HCL `fragment`; may be repeated", func(text string) error {
		f.hcl = append(f.hcl, text)
		return nil
	})
	fs.StringVar(&f.format, "config-format", "", "`format` of all files, hcl or json, whatever their names")
	for i := range keys {
		if k := &keys[i]; k.Flag != "" {
			for _, name := range spellings(k.Flag) {
				fs.Var(&flagValue{key: k, name: name, into: f.values}, name, k.usage())
			}
		}
	}
	return f
}

// usage is what the help says of a flag: also that it does nothing, where that
// is so.
func (k *Key) usage() string {
	target := k
	if k.New != "" {
		target = table.paths[k.New].key
	}
	switch target.Support {
	case Later, Refused:
		if !strings.Contains(k.Usage, "not supported") {
			return k.Usage + "; not supported yet"
		}
	}
	return k.Usage
}

// spellings returns the name of a flag, and the one with dashes if it has
// underscores.
func spellings(name string) []string {
	if dashed := strings.ReplaceAll(name, "_", "-"); dashed != name {
		return []string{name, dashed}
	}
	return []string{name}
}

// Sources returns what the command line said.
func (f *Flags) Sources() Sources {
	return Sources{Dev: f.dev, Flags: f.values, Files: f.files, origins: f.named, HCL: f.hcl, Format: f.format}
}

// flagValue is a flag that sets a key.
type flagValue struct {
	key  *Key
	name string
	into File
}

// String is what the flag package shows as the default: nothing.
func (v *flagValue) String() string { return "" }

// IsBoolFlag tells the flag package that the value may be left out.
func (v *flagValue) IsBoolFlag() bool { return v.key != nil && v.key.Type == Bool }

// Set takes a value from the command line.
func (v *flagValue) Set(text string) error {
	value, err := v.parse(text)
	if err != nil {
		return err
	}
	if fault := v.key.fault(value); fault != "" {
		return fmt.Errorf("it %s", fault)
	}
	place := Pos{File: "flag -" + v.name}
	s := setting{pos: place, written: v.key.Path, value: value}
	switch value := value.(type) {
	case []string:
		s.elements = []Pos{place}
	case map[string]string:
		s.entries = map[string]Pos{}
		for name := range value {
			s.entries[name] = place
		}
	}
	v.into.add(v.key, s)
	return nil
}

func (v *flagValue) parse(text string) (any, error) {
	switch v.key.Type {
	case Bool:
		yes, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("it must be true or false")
		}
		return yes, nil
	case Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("it must be a whole number")
		}
		return i, nil
	case Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("it must be a duration as in 90s or 1h30m")
		}
		return d, nil
	case Strings:
		return []string{text}, nil
	case StringMap:
		key, value, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("it must be a pair as in key:value")
		}
		return map[string]string{key: value}, nil
	default:
		return text, nil
	}
}
