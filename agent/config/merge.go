package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is what one source says: a file, a fragment, the flags or the defaults.
// Keys that it does not mention are not in it.
type File map[string]setting

// setting is the value of a key in a source.
type setting struct {
	pos Pos
	// written is the path as the source has it.
	written string
	// old is the old name that the source used, if it did.
	old string
	// value is a string, bool, int, float64, time.Duration, []string,
	// map[string]string, map[string][]string, map[string]time.Duration,
	// map[string]record, []record or *node, depending on the key's type.
	value any
	// elements are where those of a list stand, and entries where those of a map
	// do, because several sources may have given them.
	elements []Pos
	entries  map[string]Pos
}

// element returns where an element of a list stands.
func (s setting) element(i int) Pos {
	if i < len(s.elements) {
		return s.elements[i]
	}
	return s.pos
}

// entry returns where an entry of a map stands.
func (s setting) entry(name string) Pos {
	if pos, ok := s.entries[name]; ok {
		return pos
	}
	return s.pos
}

// record is an object of a list: a service or a check.
type record struct {
	pos    Pos
	values File
}

// add puts another setting of a key behind or over what is there.
func (f File) add(key *Key, s setting) {
	if old, ok := f[key.Path]; ok {
		s = merged(key.Type, old, s)
	}
	f[key.Path] = s
}

// merge returns what a and then b say.
func merge(a, b File) File {
	out := maps.Clone(a)
	for path, s := range b {
		out.add(table.paths[path].key, s)
	}
	return out
}

// merged puts setting b over a: lists one after the other, maps key by key,
// anything else replaced. Lists grow where they are, or many blocks of one file
// would take the square of their time; so a must not be used any more.
func merged(t Type, a, b setting) setting {
	switch t {
	case Strings:
		b.value = append(a.value.([]string), b.value.([]string)...)
		b.elements = append(a.elements, b.elements...)
	case Objects:
		b.value = append(a.value.([]record), b.value.([]record)...)
	case StringMap:
		b.value = over(a.value.(map[string]string), b.value.(map[string]string))
		b.entries = over(a.entries, b.entries)
	case DurationMap:
		b.value = over(a.value.(map[string]time.Duration), b.value.(map[string]time.Duration))
		b.entries = over(a.entries, b.entries)
	}
	return b
}

func over[V any](a, b map[string]V) map[string]V {
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// inert reports whether a setting asks for nothing, given its key.
func (s setting) inert(key *Key) bool {
	if key.Inert != nil && s.value == key.Inert {
		return true
	}
	switch v := s.value.(type) {
	case string:
		return v == ""
	case bool:
		return !v && key.Inert == nil
	case int:
		return v == 0
	case float64:
		return v == 0
	case time.Duration:
		return v == 0
	case []string:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	case []record:
		return len(v) == 0
	case *node:
		return v.inert()
	}
	return false
}

// fault says what is wrong with a value that has the right type, or nothing.
func (k *Key) fault(value any) string {
	switch v := value.(type) {
	case int:
		if r := k.Range; r != nil && (v < r.Min || v > r.Max) {
			return fmt.Sprintf("must be %v, but is %d", r, v)
		}
	case string:
		if v != "" && k.OneOf != nil && !slices.Contains(k.OneOf, v) {
			return oneOf(k.OneOf, v)
		}
	}
	return ""
}

// oneOf says that a text is none of some, and which one was probably meant.
func oneOf(all []string, text string) string {
	fault := fmt.Sprintf("must be one of %s, but is %q", strings.Join(all, ", "), shorten(text))
	best, distance := "", len(text)/3+1
	for _, candidate := range all {
		if d := editDistance(strings.ToLower(text), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	if best != "" {
		fault += fmt.Sprintf(" (did you mean %q?)", best)
	}
	return fault
}

// String says what a number in the range is.
func (r *Range) String() string {
	switch {
	case r.Min == r.Max:
		return strconv.Itoa(r.Min)
	case r.Max == math.MaxInt:
		return fmt.Sprintf("at least %d", r.Min)
	case r.Min == math.MinInt:
		return fmt.Sprintf("at most %d", r.Max)
	}
	return fmt.Sprintf("from %d to %d", r.Min, r.Max)
}
