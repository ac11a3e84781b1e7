package config

import (
	"strings"
)

// shape is the set of keys that an object may have, by their lower-case names.
type shape struct {
	fields map[string]*field
}

// field is a key at its place, with the shape of the objects under it.
type field struct {
	key   *Key
	shape *shape
}

// index is the table of keys as a tree, and by path.
type index struct {
	root  *shape
	paths map[string]*field
}

// table is what the table of keys says. It never changes.
var table = newIndex(keys)

func newIndex(rows []Key) *index {
	x := &index{root: newShape(), paths: make(map[string]*field, len(rows))}
	for i := range rows {
		f := &field{key: &rows[i]}
		if rows[i].Type == Object || rows[i].Type == Objects || rows[i].Type == ObjectMap {
			f.shape = newShape()
		}
		x.paths[rows[i].Path] = f
	}
	for path, f := range x.paths {
		if f.key.Of != "" {
			f.shape = x.paths[f.key.Of].shape
		}
		parent, name := x.root, path
		if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
			parent, name = x.paths[path[:dot]].shape, path[dot+1:]
		}
		parent.fields[name] = f
	}
	return x
}

func newShape() *shape { return &shape{fields: map[string]*field{}} }

// nearest returns the path of the known key that was most probably meant by
// name, of those in s first, or nothing.
func (x *index) nearest(s *shape, name string) string {
	name = squash(name)
	best, distance := "", len(name)/3+1
	consider := func(path, candidate string, handicap int) {
		d := editDistance(name, squash(candidate)) + handicap
		if d < distance || d == distance && best != "" && path < best {
			best, distance = path, d
		}
	}
	for candidate, f := range s.fields {
		if f.key.Support != Removed && !f.key.Alias {
			consider(f.key.Path, candidate, 0)
		}
	}
	if best != "" {
		return best
	}
	for path, f := range x.paths {
		if f.key.Support != Removed && !f.key.Alias {
			consider(path, path[strings.LastIndexByte(path, '.')+1:], 1)
		}
	}
	return best
}

// squash removes what people write differently.
func squash(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(name))
}

// editDistance is the number of bytes to insert, delete, change or swap with
// their neighbour to make b of a. Texts that are much longer than keys are far
// from everything.
func editDistance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
