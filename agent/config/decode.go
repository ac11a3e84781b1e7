package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// decoder turns a tree into settings, without bending anything.
type decoder struct {
	errs *problems
}

// decode returns what a tree says, and adds what is wrong with it to errs.
func decode(root *node, errs *problems) File {
	d := &decoder{errs: errs}
	out := File{}
	d.object(root, table.root, "", out)
	// One service or check is one more of the list.
	for one, many := range map[string]string{"service": "services", "check": "checks"} {
		if s, ok := out[one]; ok {
			delete(out, one)
			out.add(table.paths[many].key, setting{pos: s.pos, written: one, value: s.value})
		}
	}
	return out
}

// object reads the keys of an object into out. shown is the object's path for
// people, with the numbers of list elements.
func (d *decoder) object(n *node, s *shape, shown string, out File) {
	first := map[string]Pos{}
	for _, m := range n.members {
		name := strings.ToLower(m.key)
		path := join(shown, shorten(m.key))
		f, known := s.fields[name]
		if !known || f.key.Support == Removed {
			d.unknown(n, m, path, s, f)
			continue
		}
		if pos, twice := first[name]; twice && f.key.Type != Objects {
			d.twice(m, path, f, pos)
			continue
		}
		if _, twice := first[name]; !twice {
			first[name] = m.pos
		}
		d.value(m.value, f, path, out)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknown adds an error about a member of n that is no key.
func (d *decoder) unknown(n *node, m member, path string, s *shape, f *field) {
	hint := ""
	switch {
	case d.errs.full():
		// Nobody will see it, and looking for the nearest key takes long.
	case f != nil:
		hint = fmt.Sprintf(" (it was removed; use %q)", f.key.New)
	case n.pos == m.pos && path != shorten(m.key) && m.value.kind == objectNode:
		// A label stands where the object would begin.
		block := strings.TrimSuffix(path, "."+shorten(m.key))
		hint = fmt.Sprintf(" (blocks have no labels: write %s { … }, with the name in it)", block)
	case strings.Contains(m.key, ".") && table.paths[strings.ToLower(m.key)] != nil:
		// A path is how messages name a key, and not how it is written.
		object, name, _ := strings.Cut(strings.ToLower(m.key), ".")
		hint = fmt.Sprintf(" (write %s { %s = … }%s)", object, strings.ReplaceAll(name, ".", " { "), strings.Repeat(" }", strings.Count(name, ".")))
	default:
		near := table.nearest(s, m.key)
		if of := table.paths["service."+strings.ToLower(m.key)]; s == table.root && of != nil && (near == "" || strings.HasPrefix(near, "check.")) {
			near = of.key.Path // a service without the object around it
		}
		if near != "" {
			if strings.HasPrefix(near, "check.") && strings.HasPrefix(path, "service") {
				near = "service." + near
			}
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
	}
	d.errs.add(m.pos, "invalid config key %s%s", path, hint)
}

func (d *decoder) twice(m member, path string, f *field, first Pos) {
	hint := ""
	if f.key.Path == "service" || strings.HasSuffix(f.key.Path, "check") {
		hint = fmt.Sprintf("; for several use %ss", path)
	}
	d.errs.add(m.pos, "%s is given twice, first in line %d%s", path, first.Line, hint)
}

// value reads one value and puts it into out. Null is as if the key were not
// there.
func (d *decoder) value(n *node, f *field, path string, out File) {
	if n.kind == nullNode {
		return
	}
	key := f.key
	if key.Type == Object && key.Of == "" {
		if d.wants(n, path, objectNode) {
			d.object(n, f.shape, path, out)
		}
		return
	}
	v, ok := d.read(n, f, path)
	if !ok {
		return
	}
	if fault := key.fault(v); fault != "" {
		d.errs.add(n.pos, "%s %s", path, fault)
		return
	}
	s := setting{pos: n.pos, written: path, value: v}
	s.elements, s.entries = n.places()
	if key.Alias {
		key = table.paths[key.New].key
		if old, twice := out[key.Path]; twice {
			d.errs.add(n.pos, "%s is another name of %s, which is given in line %d", path, old.written, old.pos.Line)
			return
		}
	}
	out.add(key, s)
}

// read returns the value of a node as the type of its key wants it.
func (d *decoder) read(n *node, f *field, path string) (any, bool) {
	switch f.key.Type {
	case String:
		return n.text, d.wants(n, path, stringNode)
	case Bool:
		return n.yes, d.wants(n, path, boolNode)
	case Int:
		return d.integer(n, path)
	case Float:
		return d.float(n, path)
	case Duration:
		return d.duration(n, path)
	case Strings:
		return d.strings(n, path)
	case StringMap:
		return readMap(d, n, path, func(e *node, path string) (string, bool) {
			return e.text, d.wants(e, path, stringNode)
		})
	case StringsMap:
		return readMap(d, n, path, d.strings)
	case DurationMap:
		return readMap(d, n, path, d.duration)
	case ObjectMap:
		return readMap(d, n, path, func(e *node, path string) (record, bool) {
			return d.record(e, f.shape, path)
		})
	case Object:
		r, ok := d.record(n, f.shape, path)
		return []record{r}, ok
	case Objects:
		return d.records(n, f.shape, path)
	default:
		return n, true
	}
}

// wants reports whether a value is of the kind, and complains if not.
func (d *decoder) wants(n *node, path string, k kind) bool {
	if n.kind == k {
		return true
	}
	what := n.kind.String()
	if k == objectNode && n.kind == listNode && (path == "service" || path == "check") {
		what += fmt.Sprintf("; for several use %ss", path)
	}
	if n.kind == stringNode || n.kind == numberNode {
		what += fmt.Sprintf(" (%s)", strconv.Quote(shorten(n.text)))
	}
	d.errs.add(n.pos, "%s must be %v, not %s", path, k, what)
	return false
}

func (d *decoder) integer(n *node, path string) (int, bool) {
	if !d.wants(n, path, numberNode) {
		return 0, false
	}
	if i, err := strconv.Atoi(n.text); err == nil {
		return i, true
	}
	// 1e3 and 1.0 are whole numbers too.
	const exact = 1 << 53
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		d.errs.add(n.pos, "%s must be a whole number, not %s", path, shorten(n.text))
		return 0, false
	}
	return int(f), true
}

func (d *decoder) float(n *node, path string) (float64, bool) {
	if !d.wants(n, path, numberNode) {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		d.errs.add(n.pos, "%s is out of range: %s", path, shorten(n.text))
	}
	return f, err == nil
}

func (d *decoder) duration(n *node, path string) (time.Duration, bool) {
	if n.kind != stringNode {
		d.errs.add(n.pos, "%s must be a duration in quotes as in \"90s\", not %v", path, n.kind)
		return 0, false
	}
	v, err := time.ParseDuration(n.text)
	if err != nil {
		d.errs.add(n.pos, "%s must be a duration as in \"90s\" or \"1h30m\", not %s", path, strconv.Quote(shorten(n.text)))
		return 0, false
	}
	if v < 0 {
		d.errs.add(n.pos, "%s must not be negative, but is %s", path, n.text)
		return 0, false
	}
	return v, true
}

func (d *decoder) strings(n *node, path string) ([]string, bool) {
	if !d.wants(n, path, listNode) {
		return nil, false
	}
	list := make([]string, 0, len(n.list))
	ok := true
	for i, e := range n.list {
		ok = d.wants(e, fmt.Sprintf("%s[%d]", path, i), stringNode) && ok
		list = append(list, e.text)
	}
	return list, ok
}

func (d *decoder) records(n *node, s *shape, path string) ([]record, bool) {
	if n.kind == objectNode {
		r, ok := d.record(n, s, path)
		return []record{r}, ok
	}
	if !d.wants(n, path, listNode) {
		return nil, false
	}
	list := make([]record, 0, len(n.list))
	ok := true
	for i, e := range n.list {
		r, fine := d.record(e, s, fmt.Sprintf("%s[%d]", path, i))
		ok = ok && fine
		list = append(list, r)
	}
	return list, ok
}

func (d *decoder) record(n *node, s *shape, path string) (record, bool) {
	if !d.wants(n, path, objectNode) {
		return record{}, false
	}
	r := record{pos: n.pos, values: File{}}
	d.object(n, s, path, r.values)
	return r, true
}

// readMap reads an object whose keys are names.
func readMap[V any](d *decoder, n *node, path string, read func(*node, string) (V, bool)) (map[string]V, bool) {
	if !d.wants(n, path, objectNode) {
		return nil, false
	}
	out := make(map[string]V, len(n.members))
	first := map[string]Pos{}
	ok := true
	for _, m := range n.members {
		shown := join(path, shorten(m.key))
		if pos, twice := first[m.key]; twice {
			d.errs.add(m.pos, "%s is given twice, first in line %d", shown, pos.Line)
			ok = false
			continue
		}
		first[m.key] = m.pos
		v, fine := read(m.value, shown)
		ok = ok && fine
		out[m.key] = v
	}
	return out, ok
}
