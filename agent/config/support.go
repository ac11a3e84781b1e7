package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// renamed moves settings of old names to the new ones. The new one counts if
// both are there; lists are put together.
func (r *resolver) renamed() {
	for _, path := range r.paths() {
		key := table.paths[path].key
		if key.New == "" {
			continue
		}
		old := r.in[path]
		delete(r.in, path)
		if key.Support == Refused && !old.inert(key) {
			r.errs.add(old.pos, "%s", refusal(key, old))
			continue
		}
		old.old = old.written
		target := table.paths[key.New].key
		if r.given(key.New) && target.Type != Strings {
			r.warn(old.pos, "%s is an old name of %s and is ignored, because that is set too", old.written, key.New)
			continue
		}
		if target.Support == Works || target.Support == Ignored || old.inert(target) {
			r.warn(old.pos, "%s is an old name: use %s", old.written, key.New)
		}
		old = r.translated(path, old)
		if s, ok := r.in[key.New]; ok && target.Type == Strings {
			old = merged(Strings, s, old)
		}
		r.in[key.New] = old
	}
}

// oldTLSVersions are what versions of TLS were once called.
var oldTLSVersions = map[string]string{"tls10": "TLSv1_0", "tls11": "TLSv1_1", "tls12": "TLSv1_2", "tls13": "TLSv1_3"}

// translated returns the setting of an old name with what its value is called
// now, and sets what else the old name asked for.
func (r *resolver) translated(path string, old setting) setting {
	switch text, _ := old.value.(string); path {
	case "tls_min_version":
		if name, ok := oldTLSVersions[text]; ok {
			r.warn(old.pos, "%s = %q is an old spelling of %q", old.written, text, name)
			old.value = name
		}
	case "acl_replication_token":
		const also = "acl.enable_token_replication"
		if _, ok := r.in[also]; !ok && text != "" {
			r.in[also] = setting{pos: Pos{File: builtIn}, written: also, value: true}
		}
	}
	return old
}

// supported warns of settings without an effect and refuses those that the
// agent must not start without.
func (r *resolver) supported() {
	for _, path := range r.paths() {
		key, s := table.paths[path].key, r.in[path]
		if s.inert(key) || !r.given(path) {
			continue
		}
		switch key.Support {
		case Refused:
			r.errs.add(s.pos, "%s", refusal(key, s))
		case Later:
			r.warn(s.pos, "%s has no effect: %s", s.name(key), cmp.Or(key.Note, "it is not supported yet"))
		case Mesh:
			r.warn(s.pos, "%s has no effect: %s", s.name(key), cmp.Or(key.Note, "the service mesh is not supported"))
		case Enterprise:
			r.warn(s.pos, "%s has no effect: it belongs to Consul Enterprise", s.name(key))
		}
	}
}

// refusal is the error about a setting that the agent must not start with.
func refusal(key *Key, s setting) string {
	value := ""
	switch v := s.value.(type) {
	case bool:
		value = fmt.Sprintf(" = %v", v)
	case string:
		if key.OneOf != nil {
			value = fmt.Sprintf(" = %q", v)
		}
	}
	return fmt.Sprintf("%s%s is refused: %s", s.name(key), value, key.Note)
}

// name is what to call a setting: the key, and the old name if it was used.
func (s setting) name(key *Key) string {
	if s.old != "" {
		return fmt.Sprintf("%s (an old name of %s)", s.old, key.Path)
	}
	return key.Path
}

// paths returns the paths of all settings in order.
func (r *resolver) paths() []string { return slices.Sorted(maps.Keys(r.in)) }
