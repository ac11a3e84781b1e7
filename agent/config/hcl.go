package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/hcl/scanner"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	"github.com/hashicorp/hcl/hcl/token"
)

var tooDeep = fmt.Sprintf("more than %d objects and lists stand in each other", MaxDepth)

// hclParser makes a tree of the tokens of HCL version 1. The parser of that
// module is not used, because it drops what it cannot read without a word: a key
// at the end of the file whose value is missing, or one before a closing brace,
// or a list that ends with a brace; and it recurses as deep as the text says.
//
//	body  = { item [ "," ] }
//	item  = key "=" value | key { key } object
//	key   = IDENT | STRING
//	value = NUMBER | FLOAT | BOOL | STRING | HEREDOC | list | object
//	list  = "[" [ value { "," value } [ "," ] ] "]"
//	object = "{" body "}"
type hclParser struct {
	file    string
	source  []byte
	scanner *scanner.Scanner
	tok     token.Token
	// err is the first error of the scanner, which goes on after errors.
	err error
	// open are the braces and brackets that are not closed yet.
	open []Pos
}

func parseHCL(file string, text []byte) (*node, error) {
	p := &hclParser{file: file, source: text, scanner: scanner.New(text)}
	p.scanner.Error = func(pos token.Pos, text string) {
		if p.err == nil {
			p.err = positionError{p.at(pos), "HCL: " + explained(text, p.source[min(pos.Offset, len(p.source)):])}
		}
	}
	p.next()
	root := &node{kind: objectNode, pos: Pos{File: file, Line: 1, Column: 1}}
	if err := p.body(root, token.EOF, 0); err != nil {
		return nil, err
	}
	return root, nil
}

func (p *hclParser) at(pos token.Pos) Pos {
	return Pos{File: p.file, Line: pos.Line, Column: max(pos.Column, 1)}
}

// next reads the next token that is not a comment.
func (p *hclParser) next() {
	for {
		p.tok = p.scanner.Scan()
		if p.tok.Type != token.COMMENT || p.err != nil {
			return
		}
	}
}

// unexpected is the error about the token at hand. What the scanner did not
// understand goes first.
func (p *hclParser) unexpected(wanted string) error {
	if p.err != nil {
		return p.err
	}
	what := p.tok.Text
	if p.tok.Type == token.EOF {
		what = "the end of the file"
	} else {
		what = strconv.Quote(shorten(what))
	}
	return positionError{p.at(p.tok.Pos), "HCL: expected " + wanted + ", not " + what + p.hint()}
}

// hint says what is probably wrong with the token at hand.
func (p *hclParser) hint() string {
	switch n := len(p.open); {
	case p.tok.Type == token.EOF && n > 0:
		return fmt.Sprintf(" (what begins in line %d, column %d is not closed)", p.open[n-1].Line, p.open[n-1].Column)
	case p.tok.Type == token.RBRACE && n == 0, p.tok.Type == token.RBRACK && n == 0:
		return " (nothing is open that it could close)"
	}
	return ""
}

// explained makes a text of the scanner about what stands at rest say more.
func explained(text string, rest []byte) string {
	c, size := utf8.DecodeRune(rest)
	if text != "illegal char" || size == 0 {
		return text
	}
	switch c {
	case '\'':
		return "illegal character ' (a text stands in double quotes)"
	case ':':
		return "illegal character : (a key and its value are parted by =)"
	case ';':
		return "illegal character ; (items are parted by commas or line ends)"
	}
	return fmt.Sprintf("illegal character %q", c)
}

// shorten cuts a text that is quoted in an error.
func shorten(text string) string {
	const most = 40
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}

// body reads items up to the token that ends them, which it leaves.
func (p *hclParser) body(into *node, end token.Type, depth int) error {
	for p.tok.Type != end || p.err != nil {
		if err := p.item(into, depth); err != nil {
			return err
		}
		if p.tok.Type == token.COMMA {
			p.next()
		}
	}
	return nil
}

func (p *hclParser) item(into *node, depth int) error {
	var keys []member
	for p.err == nil && (p.tok.Type == token.IDENT || p.tok.Type == token.STRING) {
		m := member{key: p.tok.Text, pos: p.at(p.tok.Pos)}
		if p.tok.Type == token.STRING {
			text, err := p.unquote()
			if err != nil {
				return err
			}
			m.key = text
		}
		if keys = append(keys, m); depth+len(keys) > MaxDepth {
			return positionError{m.pos, tooDeep}
		}
		p.next()
	}
	switch {
	case len(keys) == 0 || p.err != nil:
		return p.unexpected("a key")
	case p.tok.Type == token.ASSIGN && len(keys) > 1:
		return p.unexpected("{ after several keys")
	case p.tok.Type == token.ASSIGN:
		p.next()
	case p.tok.Type != token.LBRACE:
		return p.unexpected("= or { after the key " + strconv.Quote(shorten(keys[len(keys)-1].key)))
	}
	value, err := p.value(depth + len(keys))
	if err != nil {
		return err
	}
	// A block with labels is an object in an object.
	for i := len(keys) - 1; i > 0; i-- {
		keys[i].value = value
		value = &node{kind: objectNode, pos: keys[i].pos, members: []member{keys[i]}}
	}
	keys[0].value = value
	into.members = append(into.members, keys[0])
	return nil
}

// value reads a value and the token after it.
func (p *hclParser) value(depth int) (*node, error) {
	n := &node{pos: p.at(p.tok.Pos), text: p.tok.Text}
	if depth > MaxDepth {
		return nil, positionError{n.pos, tooDeep}
	}
	var err error
	switch p.tok.Type {
	case token.BOOL:
		n.kind, n.yes = boolNode, p.tok.Text == "true"
	case token.NUMBER, token.FLOAT:
		n.kind = numberNode
		n.text, err = p.number()
	case token.STRING:
		n.kind = stringNode
		n.text, err = p.unquote()
	case token.HEREDOC:
		n.kind = stringNode
		n.text = p.heredoc()
	case token.LBRACK:
		n.kind = listNode
		p.open = append(p.open, n.pos)
		err = p.list(n, depth)
	case token.LBRACE:
		n.kind = objectNode
		p.open = append(p.open, n.pos)
		p.next()
		if err = p.body(n, token.RBRACE, depth); err == nil && p.tok.Type != token.RBRACE {
			err = p.unexpected("}")
		}
	case token.IDENT:
		err = p.unexpected("a value")
		if fault, ok := err.(positionError); ok && p.err == nil {
			fault.text += " (a text stands in double quotes)"
			err = fault
		}
	default:
		err = p.unexpected("a value")
	}
	if p.err != nil {
		return nil, p.err
	}
	if err != nil {
		return nil, err
	}
	if n.kind == listNode || n.kind == objectNode {
		p.open = p.open[:len(p.open)-1]
	}
	p.next()
	return n, p.err
}

// list reads elements up to the closing bracket, which it leaves.
func (p *hclParser) list(n *node, depth int) error {
	p.next()
	for p.tok.Type != token.RBRACK {
		e, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.list = append(n.list, e)
		if p.tok.Type != token.COMMA && p.tok.Type != token.RBRACK {
			return p.unexpected("a comma or ] after an element of the list")
		}
		if p.tok.Type == token.COMMA {
			p.next()
		}
	}
	return nil
}

// number returns the number at hand as JSON has it: HCL has octal and
// hexadecimal ones too.
func (p *hclParser) number() (string, error) {
	text := p.tok.Text
	if p.tok.Type == token.NUMBER {
		i, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return "", p.unexpected("a number of at most 64 bits")
		}
		return strconv.FormatInt(i, 10), nil
	}
	// The scanner takes "1." and ".5" too, which are no numbers in JSON.
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", p.unexpected("a number")
	}
	return strconv.FormatFloat(f, 'g', -1, 64), nil
}

func (p *hclParser) unquote() (string, error) {
	if p.err != nil {
		return "", p.err
	}
	text, err := hclstrconv.Unquote(p.tok.Text)
	if err != nil || !utf8.ValidString(text) {
		return "", p.unexpected("a text in quotes with valid escapes")
	}
	return text, nil
}

// heredoc returns the lines of the heredoc at hand. With <<- they lose the
// white space that stands before the closing word, if all of them have it.
func (p *hclParser) heredoc() string {
	first, rest, _ := strings.Cut(p.tok.Text, "\n")
	rest = strings.TrimSuffix(rest, "\n")
	end := strings.LastIndexByte(rest, '\n') + 1
	body, last := rest[:end], rest[end:]
	if !strings.HasPrefix(first, "<<-") {
		return body
	}
	indent := last[:len(last)-len(strings.TrimLeft(last, " \t"))]
	lines := strings.SplitAfter(body, "\n")
	for i, line := range lines {
		if line != "" && !strings.HasPrefix(line, indent) {
			return body
		}
		lines[i] = strings.TrimPrefix(line, indent)
	}
	return strings.Join(lines, "")
}
