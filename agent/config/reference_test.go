package config

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the tests find into the documents")

// referenceFile is the list of keys for people.
const referenceFile = "KEYS.md"

// TestReference finds the list of keys as the table has it.
func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	lines := strings.Split(string(got), "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(lines) || lines[i] != line {
			t.Fatalf("%s:%d is not what the table says; go test -run Reference -update writes it anew\nwant %s", referenceFile, i+1, line)
		}
	}
	t.Fatalf("%s is longer than the table", referenceFile)
}

func reference(t *testing.T) string {
	t.Helper()
	errs := &problems{}
	values, dev := fragment(builtIn, defaults, errs), fragment(builtIn, devDefaults, errs)
	if err := errs.err(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# Keys of the configuration

From the table in ` + "`keys*.go`" + `; ` + "`go test ./agent/config -run Reference -update`" + ` writes this file.
A default in brackets is that of ` + "`-dev`" + `. Changes of keys with *reload* take effect without a restart.
Keys of a service stand in ` + "`service`, and in each of `services`" + `; those of a check in ` + "`check` and `checks`" + `, in a service or outside.

| key | type | default | flag | |
|---|---|---|---|---|
`)
	for _, k := range keys {
		if k.Support == Removed {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Path, k.typeText(), k.defaultText(values, dev), k.flagText(), k.effectText())
	}
	b.WriteString("\n## Keys that are gone\n\n| key | what took its place |\n|---|---|\n")
	for _, k := range keys {
		if k.Support == Removed {
			fmt.Fprintf(&b, "| `%s` | `%s` |\n", k.Path, k.New)
		}
	}
	return b.String()
}

func (k *Key) typeText() string {
	text := map[Type]string{String: "text", Bool: "true or false", Int: "whole number", Float: "number", Duration: "duration", Strings: "list of texts",
		StringMap: "texts by name", StringsMap: "lists of texts by name", DurationMap: "durations by name", Object: "object", Objects: "list of objects",
		ObjectMap: "objects by name", Any: "any"}[k.Type]
	if k.Range != nil {
		text += ", " + k.Range.String()
	}
	if k.OneOf != nil {
		text += ": " + strings.Join(k.OneOf, ", ")
	}
	return text
}

func (k *Key) defaultText(values, dev File) string {
	show := func(f File) string {
		switch v := f[k.Path].value.(type) {
		case nil:
			return ""
		case time.Duration:
			return "`" + v.String() + "`"
		default:
			return fmt.Sprintf("`%v`", v)
		}
	}
	text := show(values)
	if special := show(dev); special != "" {
		text = strings.TrimSpace(text + " (" + special + ")")
	}
	return text
}

func (k *Key) flagText() string {
	if k.Flag == "" {
		return ""
	}
	return "`-" + k.Flag + "`"
}

func (k *Key) effectText() string {
	var parts []string
	if k.Usage != "" && k.New == "" {
		parts = append(parts, strings.ReplaceAll(k.Usage, "; not supported", ""))
	}
	switch k.Support {
	case Ignored:
		parts = append(parts, "ignored")
	case Later:
		parts = append(parts, "no effect: "+cmp.Or(k.Note, "not supported yet"))
	case Mesh:
		parts = append(parts, "no effect: "+cmp.Or(k.Note, "the service mesh is not supported"))
	case Enterprise:
		parts = append(parts, "no effect: Consul Enterprise")
	case Refused:
		parts = append(parts, "refused: "+k.Note)
	default:
		if k.Reloadable {
			parts = append(parts, "*reload*")
		}
	}
	if k.New != "" {
		parts = append(parts, "old name of `"+k.New+"`")
	}
	if k.Of != "" {
		parts = append(parts, "the keys of `"+k.Of+"`")
	}
	return strings.Join(parts, "; ")
}

// Every value of the defaults is one that its key may have, so that writing the
// defaults down changes nothing.
func TestDefaultsAreValid(t *testing.T) {
	errs := &problems{}
	values := merge(fragment(builtIn, defaults, errs), fragment(builtIn, devDefaults, errs))
	if err := errs.err(); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if key := table.paths[path].key; key.Support != Works {
			t.Errorf("%s has a default, but no effect", path)
		}
	}
	plain, err := resolved(testHost(), server)
	if err != nil {
		t.Fatal(err)
	}
	written, err := resolved(testHost(), defaults, server)
	if err != nil {
		t.Fatal(err)
	}
	if report := Compare(plain, plain, written); len(report.Applied)+len(report.Restart) > 0 {
		t.Errorf("%+v", report)
	}
}
