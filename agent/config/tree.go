package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Pos is where something stands. Lines and columns begin at 1, columns count
// characters.
type Pos struct {
	// File is the path of a file, or the name of an option.
	File string
	// Line is zero if File is an option without lines.
	Line, Column int
}

// String returns the position as in "a.hcl:3:5".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// kind is what a node of the tree is.
type kind int

const (
	nullNode kind = iota
	boolNode
	numberNode
	stringNode
	listNode
	objectNode
)

// String names the kind with its article, for errors.
func (k kind) String() string {
	return [...]string{"null", "true or false", "a number", "a text", "a list", "an object"}[k]
}

// node is a value in a file, whichever format it is in.
type node struct {
	kind kind
	pos  Pos
	// text is the text, or the number in decimal notation.
	text    string
	yes     bool
	list    []*node
	members []member
}

// member is a key of an object with its value. A key may occur several times.
type member struct {
	key   string
	pos   Pos
	value *node
}

// plain returns the value as encoding/json has it, for values that are passed
// on unread. Of members of the same key the last one counts.
func (n *node) plain() any {
	switch n.kind {
	case boolNode:
		return n.yes
	case numberNode:
		return jsonNumber(n.text)
	case stringNode:
		return n.text
	case listNode:
		list := make([]any, len(n.list))
		for i, e := range n.list {
			list[i] = e.plain()
		}
		return list
	case objectNode:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.key] = m.value.plain()
		}
		return object
	}
	return nil
}

// places returns where the elements of a list of texts, or the entries of an
// object, stand.
func (n *node) places() (elements []Pos, entries map[string]Pos) {
	for _, e := range n.list {
		elements = append(elements, e.pos)
	}
	if len(n.members) > 0 {
		entries = make(map[string]Pos, len(n.members))
		for _, m := range n.members {
			entries[m.key] = m.pos
		}
	}
	return elements, entries
}

// inert reports whether the value asks for nothing: it is empty, or all that is
// in it is.
func (n *node) inert() bool {
	switch n.kind {
	case boolNode:
		return !n.yes
	case numberNode:
		return strings.Trim(n.text, "0.") == ""
	case stringNode:
		return n.text == ""
	case listNode:
		for _, e := range n.list {
			if !e.inert() {
				return false
			}
		}
	case objectNode:
		for _, m := range n.members {
			if !m.value.inert() {
				return false
			}
		}
	}
	return true
}

// The formats of files.
const (
	formatHCL  = "hcl"
	formatJSON = "json"
)

// parse turns the text of a file into an object. A text in HCL that begins with
// a brace is JSON, as HCL version 1 has it.
func parse(file, format string, text []byte) (*node, error) {
	if len(text) > MaxFileSize {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that a configuration file may have", file, len(text), MaxFileSize)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if at := invalidUTF8(text); at >= 0 {
		return nil, positionError{position(file, text, at), "the text is not UTF-8"}
	}
	trimmed := bytes.TrimSpace(text)
	switch {
	case len(trimmed) == 0:
		return &node{kind: objectNode, pos: Pos{File: file, Line: 1, Column: 1}}, nil
	case format == formatJSON || trimmed[0] == '{':
		return parseJSON(file, text)
	default:
		return parseHCL(file, text)
	}
}

// invalidUTF8 returns where the first invalid byte is, or -1.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

// position returns where the byte at an offset stands.
func position(file string, text []byte, offset int) Pos {
	before := text[:min(max(offset, 0), len(text))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return Pos{File: file, Line: line, Column: column}
}

// positionError is an error at a place in a file.
type positionError struct {
	pos  Pos
	text string
}

// Error returns the place and what is wrong there.
func (e positionError) Error() string { return e.pos.String() + ": " + e.text }
