package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"

	"github.com/muster-sd/muster/kv/mvcc"
)

// A filter is read by the grammar of go-bexpr and then compiled for one shape
// of answer, so that a wrong name or operator is refused even where there is
// nothing to filter. The library's own evaluator knows neither that nor that a
// list of checks matches if any of them does.

// test is a compiled filter, or a part of one.
type test func(reflect.Value) bool

// readFiltered reads how the answer is wanted and which of its elements.
func readFiltered[T any](c *call) (mvcc.ReadOptions, func(*T) bool, error) {
	o, err := c.readOptions()
	if err != nil {
		return o, nil, err
	}
	keep, err := readFilter[T](c)
	return o, keep, err
}

// readFilter returns what decides whether an element is in the answer.
func readFilter[T any](c *call) (func(*T) bool, error) {
	expression, err := c.parseFilter()
	if err != nil {
		return nil, err
	}
	keep, err := compileFilter[T](expression)
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "%s%v", textFilterFailed, err)
	}
	return keep, nil
}

// parseFilter reads the filter's expression; nil is none.
func (c *call) parseFilter() (grammar.Expression, error) {
	text := c.value("filter")
	if text == "" {
		return nil, nil
	}
	if len(text) > maxFilter {
		return nil, badRequest("filter is too long: %d bytes, max size: %d bytes", len(text), maxFilter)
	}
	if depth := parentheses(text); depth > maxFilterDepth {
		return nil, badRequest("filter is nested too deeply: %d parentheses inside each other, max: %d", depth, maxFilterDepth)
	}
	parsed, err := grammar.Parse("", []byte(protectSlashes(text)), grammar.MaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "%s%v", textFilterFailed, err)
	}
	return parsed.(grammar.Expression), nil
}

// parentheses is how many parentheses at most stand inside each other, outside
// of quoted text.
func parentheses(text string) int {
	depth, deepest := 0, 0
	quote := rune(0)
	for _, c := range text {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case c == '(':
			depth++
			deepest = max(deepest, depth)
		case c == ')':
			depth--
		}
	}
	return deepest
}

// protectSlashes writes quoted text that begins with a slash between backquotes:
// the grammar would take it for a JSON pointer (RFC 6901), which filters do not
// have, and lose the slash. Offsets stay as they are.
func protectSlashes(text string) string {
	out := []byte(text)
	for i := 0; i < len(out); i++ {
		quote := out[i]
		if quote != '"' && quote != '`' {
			continue
		}
		end := strings.IndexByte(text[i+1:], quote)
		if end < 0 {
			break
		}
		inner := text[i+1 : i+1+end]
		if quote == '"' && strings.HasPrefix(inner, "/") && !strings.ContainsAny(inner, "`\\") {
			out[i], out[i+1+end] = '`', '`'
		}
		i += end + 1
	}
	return string(out)
}

// compileFilter makes an expression ready for elements of one shape.
func compileFilter[T any](expression grammar.Expression) (func(*T) bool, error) {
	if expression == nil {
		return func(*T) bool { return true }, nil
	}
	matches, err := compile(reflect.TypeFor[T](), expression)
	if err != nil {
		return nil, err
	}
	return func(element *T) bool { return matches(reflect.ValueOf(element).Elem()) }, nil
}

func compile(shape reflect.Type, expression grammar.Expression) (test, error) {
	switch e := expression.(type) {
	case *grammar.UnaryExpression:
		operand, err := compile(shape, e.Operand)
		return func(v reflect.Value) bool { return !operand(v) }, err
	case *grammar.BinaryExpression:
		left, err := compile(shape, e.Left)
		if err != nil {
			return nil, err
		}
		right, err := compile(shape, e.Right)
		if e.Operator == grammar.BinaryOpAnd {
			return func(v reflect.Value) bool { return left(v) && right(v) }, err
		}
		return func(v reflect.Value) bool { return left(v) || right(v) }, err
	case *grammar.MatchExpression:
		m, err := newMatch(e)
		if err != nil {
			return nil, err
		}
		return m.walk(shape, e.Selector.Path)
	}
	return nil, fmt.Errorf("any and all are not part of the filter language")
}

// match is one comparison of a filter.
type match struct {
	selector string
	// operator is the positive form of what is asked, and negate whether its
	// opposite was.
	operator grammar.MatchOperator
	negate   bool
	value    string
	pattern  *regexp.Regexp
}

func newMatch(e *grammar.MatchExpression) (*match, error) {
	m := &match{selector: e.Selector.String(), operator: e.Operator}
	if e.Value != nil {
		m.value = e.Value.Raw
	}
	switch e.Operator {
	case grammar.MatchNotEqual:
		m.operator, m.negate = grammar.MatchEqual, true
	case grammar.MatchNotIn, grammar.MatchNotContains:
		m.operator, m.negate = grammar.MatchIn, true
	case grammar.MatchContains:
		m.operator = grammar.MatchIn
	case grammar.MatchIsNotEmpty:
		m.operator, m.negate = grammar.MatchIsEmpty, true
	case grammar.MatchNotMatches:
		m.operator, m.negate = grammar.MatchMatches, true
	case grammar.MatchIsNil, grammar.MatchIsNotNil:
		return nil, fmt.Errorf("is nil is not part of the filter language")
	}
	if m.operator == grammar.MatchMatches {
		pattern, err := regexp.Compile(m.value)
		if err != nil {
			return nil, fmt.Errorf("Failed to compile regular expression %q: %v", m.value, err)
		}
		m.pattern = pattern
	}
	return m, nil
}

// walk follows the selector into the shape and ends in a comparison.
func (m *match) walk(shape reflect.Type, path []string) (test, error) {
	switch {
	case shape.Kind() == reflect.Pointer:
		inner, err := m.walk(shape.Elem(), path)
		zero := reflect.Zero(shape.Elem())
		return func(v reflect.Value) bool {
			if v.IsNil() {
				return inner(zero)
			}
			return inner(v.Elem())
		}, err
	case len(path) == 0:
		return m.compare(shape)
	case shape == reflect.TypeFor[proxy]():
		return m.walkProxy(path)
	case shape.Kind() == reflect.Struct:
		field, ok := shape.FieldByName(path[0])
		if !ok || field.Tag.Get("filter") == "-" || field.Anonymous || !field.IsExported() {
			return nil, m.invalidSelector()
		}
		inner, err := m.walk(field.Type, path[1:])
		return func(v reflect.Value) bool { return inner(v.FieldByIndex(field.Index)) }, err
	case shape.Kind() == reflect.Map:
		inner, err := m.walk(shape.Elem(), path[1:])
		key := reflect.ValueOf(path[0])
		return func(v reflect.Value) bool {
			if element := v.MapIndex(key); element.IsValid() {
				return inner(element)
			}
			return m.missing()
		}, err
	case shape.Kind() == reflect.Slice && shape.Elem().Kind() == reflect.Pointer:
		inner, err := m.walk(shape.Elem(), path)
		return func(v reflect.Value) bool {
			for i := range v.Len() {
				if inner(v.Index(i)) {
					return true
				}
			}
			return false
		}, err
	}
	return nil, m.invalidSelector()
}

// proxyShape is what filters can name of the mesh's part of an instance.
type proxyShape struct {
	DestinationServiceName string
	DestinationServiceID   string
	LocalServiceAddress    string
	LocalServicePort       int
	LocalServiceSocketPath string
	Mode                   string
	MeshGateway            struct{ Mode string }
}

// walkProxy follows a selector into what is kept as text.
func (m *match) walkProxy(path []string) (test, error) {
	inner, err := m.walk(reflect.TypeFor[proxyShape](), path)
	return func(v reflect.Value) bool {
		var p proxyShape
		// What cannot be read as such a shape counts as not set.
		_ = json.Unmarshal(v.Bytes(), &p)
		return inner(reflect.ValueOf(p))
	}, err
}

// missing is what a comparison with a key that is not in a map yields. That
// "matches" holds there is how clients know it.
func (m *match) missing() bool {
	switch m.operator {
	case grammar.MatchMatches:
		return true
	case grammar.MatchIsEmpty:
		return !m.negate
	}
	return m.negate
}

// compare ends a walk at a value of some type.
func (m *match) compare(shape reflect.Type) (test, error) {
	var matches test
	var err error
	switch kind := shape.Kind(); {
	case kind == reflect.String:
		matches = m.compareText()
	case kind == reflect.Int || kind == reflect.Uint8 || kind == reflect.Uint16:
		matches, err = m.compareNumber()
	case kind == reflect.Bool:
		matches, err = m.compareBool()
	case kind == reflect.Map:
		matches = m.compareKeys()
	case kind == reflect.Slice && shape.Elem().Kind() == reflect.String:
		matches = m.compareList()
	case kind == reflect.Slice && shape.Elem().Kind() == reflect.Pointer && m.operator == grammar.MatchIsEmpty:
		matches = isEmpty
	}
	switch {
	case err != nil:
		return nil, err
	case matches == nil:
		return nil, m.invalidOperator()
	case m.negate:
		return func(v reflect.Value) bool { return !matches(v) }, nil
	}
	return matches, nil
}

func (m *match) compareText() test {
	switch m.operator {
	case grammar.MatchEqual:
		return func(v reflect.Value) bool { return v.String() == m.value }
	case grammar.MatchIn:
		return func(v reflect.Value) bool { return strings.Contains(v.String(), m.value) }
	case grammar.MatchMatches:
		return func(v reflect.Value) bool { return m.pattern.MatchString(v.String()) }
	}
	return nil
}

func (m *match) compareNumber() (test, error) {
	if m.operator != grammar.MatchEqual {
		return nil, nil
	}
	want, err := strconv.ParseInt(m.value, 0, 64)
	if err != nil {
		return nil, m.invalidValue(err)
	}
	return func(v reflect.Value) bool {
		if v.CanUint() {
			return want >= 0 && v.Uint() == uint64(want)
		}
		return v.Int() == want
	}, nil
}

func (m *match) compareBool() (test, error) {
	if m.operator != grammar.MatchEqual {
		return nil, nil
	}
	want, err := strconv.ParseBool(m.value)
	if err != nil {
		return nil, m.invalidValue(err)
	}
	return func(v reflect.Value) bool { return v.Bool() == want }, nil
}

func (m *match) compareKeys() test {
	switch m.operator {
	case grammar.MatchIn:
		key := reflect.ValueOf(m.value)
		return func(v reflect.Value) bool { return v.MapIndex(key).IsValid() }
	case grammar.MatchIsEmpty:
		return isEmpty
	}
	return nil
}

func (m *match) compareList() test {
	var one func(string) bool
	switch m.operator {
	case grammar.MatchIn:
		one = func(s string) bool { return s == m.value }
	case grammar.MatchMatches:
		one = m.pattern.MatchString
	case grammar.MatchIsEmpty:
		return isEmpty
	default:
		return nil
	}
	return func(v reflect.Value) bool {
		for i := range v.Len() {
			if one(v.Index(i).String()) {
				return true
			}
		}
		return false
	}
}

func isEmpty(v reflect.Value) bool { return v.Len() == 0 }

func (m *match) invalidSelector() error {
	return fmt.Errorf("Selector %q is not valid", m.selector)
}

func (m *match) invalidValue(err error) error {
	return fmt.Errorf("Failed to coerce value %q for selector %q: %v", m.value, m.selector, err)
}

// invalidOperator names the operator as it was asked, with the one name that
// "in" and "contains" share.
func (m *match) invalidOperator() error {
	name := m.operator.String()
	if m.negate {
		switch m.operator {
		case grammar.MatchIsEmpty:
			name = "Is Not Empty"
		default:
			name = "Not " + name
		}
	}
	return fmt.Errorf("Invalid match operator %q for selector %q", name, m.selector)
}
