package config

import (
	"fmt"
	"maps"
	"slices"
)

// Load reads all sources and returns what they say together. Errors name the
// place of each fault, one a line; warnings are in the result.
func Load(s Sources) (*Config, error) {
	return load(s, thisHost())
}

// Validate checks files and folders of settings as a start with them would, and
// returns the warnings. Format is as in [Sources].
func Validate(paths []string, format string) (warnings []string, err error) {
	c, err := Load(Sources{Files: paths, Format: format})
	if err != nil {
		return nil, err
	}
	return c.Warnings, nil
}

func load(s Sources, h host) (*Config, error) {
	if s.Format != "" && s.Format != formatHCL && s.Format != formatJSON {
		return nil, fmt.Errorf("-config-format must be hcl or json, not %q", s.Format)
	}
	errs := &problems{}
	files := &reader{format: s.Format, errs: errs}
	files.read(s.Files, s.origins)

	all := fragment(builtIn, defaults, errs)
	if s.Dev {
		all = merge(all, fragment(builtIn, devDefaults, errs))
	}
	lists, others := s.Flags.split()
	all = merge(all, lists)
	var names []string
	for _, in := range files.inputs {
		names = append(names, in.path)
		all = merge(all, source(in, errs))
	}
	all = merge(all, others)
	for i, text := range s.HCL {
		all = merge(all, fragment(fmt.Sprintf("-hcl fragment %d", i+1), text, errs))
	}
	if err := errs.err(); err != nil {
		return nil, err
	}

	r := &resolver{in: all, host: h, errs: errs, out: &Config{Dev: s.Dev, Files: names, Warnings: files.warnings}}
	r.resolve()
	if err := errs.err(); err != nil {
		return nil, err
	}
	return r.out, nil
}

// source returns the settings of a file.
func source(in input, errs *problems) File {
	root, err := parse(in.path, in.format, in.text)
	if err != nil {
		errs.append(err)
		return nil
	}
	return decode(root, errs)
}

// fragment returns the settings of a text in HCL.
func fragment(name, text string, errs *problems) File {
	return source(input{name, formatHCL, []byte(text)}, errs)
}

// split parts the settings whose lists come first from those that go before all
// files.
func (f File) split() (lists, others File) {
	lists, others = File{}, maps.Clone(f)
	for path, s := range f {
		if table.paths[path].key.Type == Strings {
			// Every load begins with these lists, so none may grow into them.
			s.value, s.elements = slices.Clip(s.value.([]string)), slices.Clip(s.elements)
			lists[path] = s
			delete(others, path)
		}
	}
	return lists, others
}
