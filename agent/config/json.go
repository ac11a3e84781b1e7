package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// jsonNumber is a number as it is written.
type jsonNumber = json.Number

// jsonParser makes a tree of JSON tokens, whose syntax encoding/json checks
// (RFC 8259). Unlike its decoder it keeps positions, null, and keys that occur
// twice.
type jsonParser struct {
	file    string
	text    []byte
	decoder *json.Decoder
	// Where the last token was found: counting goes on from there.
	offset int
	pos    Pos
}

func parseJSON(file string, text []byte) (*node, error) {
	p := &jsonParser{file: file, text: text, decoder: json.NewDecoder(bytes.NewReader(text)), pos: Pos{File: file, Line: 1, Column: 1}}
	p.decoder.UseNumber()
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if root.kind != objectNode {
		return nil, positionError{root.pos, "a configuration file must hold an object, not " + root.kind.String()}
	}
	at := p.ahead()
	if _, err := p.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, positionError{at, "there is text after the end of the object"}
	}
	return root, nil
}

// ahead returns where the next token begins.
func (p *jsonParser) ahead() Pos {
	at := int(p.decoder.InputOffset())
	for at < len(p.text) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	skipped := p.text[p.offset:at]
	if lines := bytes.Count(skipped, []byte("\n")); lines > 0 {
		p.pos.Line += lines
		p.pos.Column = 1
		skipped = skipped[bytes.LastIndexByte(skipped, '\n')+1:]
	}
	p.pos.Column += utf8.RuneCount(skipped)
	p.offset = at
	return p.pos
}

// token returns the next token and where it begins.
func (p *jsonParser) token() (json.Token, Pos, error) {
	at := p.ahead()
	start := p.offset
	token, err := p.decoder.Token()
	var syntax *json.SyntaxError
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, at, positionError{position(p.file, p.text, len(p.text)), "the file ends in the middle of a value"}
	case errors.As(err, &syntax):
		return nil, at, positionError{at, "JSON: " + syntax.Error() + jsonHint(syntax.Error())}
	default:
		return nil, at, positionError{at, "JSON: " + err.Error()}
	}
	// encoding/json replaces a half of a surrogate pair, which is no character.
	if s, ok := token.(string); ok && strings.ContainsRune(s, utf8.RuneError) {
		raw := string(p.text[start:p.decoder.InputOffset()])
		if !strings.ContainsRune(raw, utf8.RuneError) && !strings.Contains(strings.ToLower(raw), `\ufffd`) {
			return nil, at, positionError{at, "the text has half of a surrogate pair, which is no character"}
		}
	}
	return token, at, nil
}

// jsonHint says what is probably wrong, given what encoding/json says.
func jsonHint(text string) string {
	char, where, _ := strings.Cut(strings.TrimPrefix(text, "invalid character "), "' ")
	switch char = strings.TrimSuffix(strings.TrimPrefix(char, "'"), "'"); {
	case char == "/" || char == "#":
		return " (JSON has no comments)"
	case (char == "}" || char == "]") && strings.HasPrefix(where, "looking for beginning"):
		return " (there is a comma too many before it)"
	case char == "}" || char == "]":
	case strings.HasPrefix(where, "after object key:value pair"), strings.HasPrefix(where, "after array element"):
		return " (is a comma missing before it?)"
	case char == `\'`, char == `\`:
		return " (a text stands in double quotes)"
	}
	return ""
}

func (p *jsonParser) value(depth int) (*node, error) {
	token, at, err := p.token()
	if err != nil {
		return nil, err
	}
	if depth > MaxDepth {
		return nil, positionError{at, tooDeep}
	}
	switch t := token.(type) {
	case nil:
		return &node{kind: nullNode, pos: at}, nil
	case bool:
		return &node{kind: boolNode, pos: at, yes: t}, nil
	case string:
		return &node{kind: stringNode, pos: at, text: t}, nil
	case json.Number:
		return &node{kind: numberNode, pos: at, text: t.String()}, nil
	case json.Delim:
		if t == '[' {
			return p.array(at, depth)
		}
		if t == '{' {
			return p.object(at, depth)
		}
	}
	return nil, positionError{at, fmt.Sprintf("JSON: unexpected %v", token)}
}

func (p *jsonParser) array(at Pos, depth int) (*node, error) {
	n := &node{kind: listNode, pos: at}
	for p.decoder.More() {
		e, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, e)
	}
	_, _, err := p.token()
	return n, err
}

func (p *jsonParser) object(at Pos, depth int) (*node, error) {
	n := &node{kind: objectNode, pos: at}
	for p.decoder.More() {
		token, keyAt, err := p.token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, positionError{keyAt, fmt.Sprintf("JSON: a key must be a text, not %v", token)}
		}
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.members = append(n.members, member{key: key, pos: keyAt, value: value})
	}
	_, _, err := p.token()
	return n, err
}
