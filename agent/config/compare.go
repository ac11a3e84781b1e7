package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/health/check"
)

// Report is what a reload finds: the keys whose values it takes over, and those
// that take effect only after a restart, each in order. Keys without any effect
// are in neither.
type Report struct {
	Applied, Restart []Change
}

// Change is a key whose value changed.
type Change struct {
	Key string
	// Text says from what to what, without showing what is secret.
	Text string
}

// String returns the key and what became of it.
func (c Change) String() string { return c.Key + ": " + c.Text }

// Compare returns what changes when an agent that was started with one
// configuration, and runs as another one says, reads the next one.
func Compare(started, running, next *Config) Report {
	var report Report
	for _, path := range changed(running.settings, next.settings) {
		if key := table.paths[path].key; key.Reloadable && key.Type != Objects {
			report.Applied = append(report.Applied, change(key, running.settings, next.settings))
		}
	}
	if text := compareLists(running.Checks, next.Checks, func(d *check.Definition) string { return d.ID }); text != "" {
		report.Applied = append(report.Applied, Change{"checks", text})
	}
	if text := compareLists(running.Services, next.Services, func(reg *check.Registration) string { return reg.Service.ID }); text != "" {
		report.Applied = append(report.Applied, Change{"services", text})
	}
	slices.SortFunc(report.Applied, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	for _, path := range changed(started.settings, next.settings) {
		if key := table.paths[path].key; !key.Reloadable {
			report.Restart = append(report.Restart, change(key, started.settings, next.settings))
		}
	}
	return report
}

// NeedsRestart returns the paths of the keys that differ between two
// configurations and take effect only after a restart, in order. Keys without
// any effect are not among them.
func NeedsRestart(old, new *Config) []string {
	var paths []string
	for _, c := range Compare(old, old, new).Restart {
		paths = append(paths, c.Key)
	}
	return paths
}

// changed returns the paths of the keys with an effect that differ, in order.
func changed(old, new File) []string {
	all := over(old, new)
	maps.DeleteFunc(all, func(path string, _ setting) bool {
		key := table.paths[path].key
		return key.Support != Works || same(old[path], new[path]) || !key.Derived && nothing(key, old, new)
	})
	return slices.Sorted(maps.Keys(all))
}

// nothing reports whether one of two sources leaves a key out and the other one
// has its zero value.
func nothing(key *Key, old, new File) bool {
	a, inOld := old[key.Path]
	b, inNew := new[key.Path]
	return (!inOld || a.inert(key)) && (!inNew || b.inert(key))
}

func change(key *Key, old, new File) Change {
	if key.Secret {
		return Change{key.Path, "it is another one"}
	}
	return Change{key.Path, fmt.Sprintf("from %s to %s", old[key.Path].show(), new[key.Path].show())}
}

// show returns the value for people, cut if it is long.
func (s setting) show() string {
	switch v := s.value.(type) {
	case nil:
		return "unset"
	case string:
		return fmt.Sprintf("%q", shorten(v))
	case []string:
		return shorten(fmt.Sprintf("%q", v))
	}
	return shorten(strings.TrimPrefix(fmt.Sprint(s.value), "map"))
}

// compareLists says which definitions came, changed and went, by their IDs, or
// nothing.
func compareLists[D any](old, new []D, id func(*D) string) string {
	before := map[string]*D{}
	for i := range old {
		before[id(&old[i])] = &old[i]
	}
	var added, altered, removed []string
	for i := range new {
		name := id(&new[i])
		was := before[name]
		delete(before, name)
		switch {
		case was == nil:
			added = append(added, name)
		case !reflect.DeepEqual(*was, new[i]):
			altered = append(altered, name)
		}
	}
	removed = slices.Collect(maps.Keys(before))
	var parts []string
	for _, part := range []struct {
		what string
		ids  []string
	}{{"added", added}, {"changed", altered}, {"removed", removed}} {
		if len(part.ids) > 0 {
			slices.Sort(part.ids)
			parts = append(parts, fmt.Sprintf("%d %s (%s)", len(part.ids), part.what, firstNames(part.ids)))
		}
	}
	return strings.Join(parts, ", ")
}

// firstNames lists some names.
func firstNames(all []string) string {
	var shown []string
	for _, name := range all[:min(len(all), MaxShown)] {
		shown = append(shown, shorten(name))
	}
	text := strings.Join(shown, ", ")
	if more := len(all) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// same reports whether two settings have the same value, wherever they stand.
func same(a, b setting) bool {
	switch v := a.value.(type) {
	case []string:
		w, ok := b.value.([]string)
		return ok && slices.Equal(v, w)
	case map[string]string:
		w, ok := b.value.(map[string]string)
		return ok && maps.Equal(v, w)
	case map[string]time.Duration:
		w, ok := b.value.(map[string]time.Duration)
		return ok && maps.Equal(v, w)
	case *node:
		w, ok := b.value.(*node)
		return ok && fmt.Sprint(v.plain()) == fmt.Sprint(w.plain())
	case []record:
		// What these records say is compared once it is resolved.
		return true
	}
	return a.value == b.value
}
