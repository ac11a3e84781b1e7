package state

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// queryKinds are all kinds of queries there are.
func queryKinds() []byte {
	var out []byte
	for k := range 256 {
		if newQuery(byte(k)) != nil {
			out = append(out, byte(k))
		}
	}
	return out
}

// casesOf counts the types in the type switch of a method.
func casesOf(t *testing.T, path, method string) int {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Name.Name != method {
			continue
		}
		ast.Inspect(fn, func(node ast.Node) bool {
			if s, ok := node.(*ast.TypeSwitchStmt); ok {
				for _, c := range s.Body.List {
					n += len(c.(*ast.CaseClause).List)
				}
			}
			return true
		})
	}
	return n
}

func TestEveryQueryHasACaseInBothDirections(t *testing.T) {
	for _, kind := range queryKinds() {
		q := newQuery(kind)
		got, answer, ok := queryKind(q)
		if !ok || got != kind {
			t.Errorf("kind %d makes a %T, whose kind is %d", kind, q, got)
		}
		a, err := newView().Answer(q, nil)
		if err != nil {
			t.Errorf("%T has no answer: %v", q, err)
		}
		if got, ok := answerKind(a.Value); !ok || got != answer {
			t.Errorf("%T is answered with a %T of kind %d, want kind %d", q, a.Value, got, answer)
		}
	}
	// What can be asked or done on one server can be sent to another.
	if got, want := len(queryKinds()), casesOf(t, "answer.go", "Answer"); got != want {
		t.Errorf("%d kinds of queries cross the wire, %d are answered", got, want)
	}
	if got, want := len(kinds()), casesOf(t, "txn.go", "apply"); got != want {
		t.Errorf("%d kinds of commands stand in the log, %d are applied", got, want)
	}
}

// hollow sets every field of the struct that v points to, so that lists and maps
// are there and have nothing in them.
func hollow(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hollow(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			hollow(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	}
}

// variants are values of the type of v: filled, zero, and with empty lists, each
// also as the element of a list.
func variants(tb testing.TB, typ reflect.Type) []any {
	tb.Helper()
	var out []any
	add := func(v reflect.Value) { out = append(out, v.Interface()) }
	add(reflect.Zero(typ))
	full := reflect.New(typ).Elem()
	n := 0
	fillValue(tb, full, "", &n)
	add(full)
	empty := reflect.New(typ).Elem()
	hollow(empty)
	add(empty)
	switch typ.Kind() {
	case reflect.Pointer:
		add(reflect.New(typ.Elem()))
	case reflect.Slice:
		list := reflect.MakeSlice(typ, 0, 4)
		for range 3 {
			row := reflect.New(typ.Elem()).Elem()
			fillValue(tb, row, "", &n)
			list = reflect.Append(list, row)
		}
		row := reflect.New(typ.Elem()).Elem()
		hollow(row)
		list = reflect.Append(list, row)
		if typ.Elem().Kind() == reflect.Struct {
			list = reflect.Append(list, reflect.Zero(typ.Elem()))
		}
		add(list)
	}
	return out
}

func TestQueryRoundTrip(t *testing.T) {
	for _, kind := range queryKinds() {
		for _, q := range variants(t, reflect.TypeOf(newQuery(kind)))[1:] { // a query is never nil
			b, err := EncodeQuery(q)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeQuery(b)
			if err != nil || !reflect.DeepEqual(got, q) {
				t.Errorf("kind %d: got %+v (%v), want %+v", kind, got, err, q)
			}
		}
	}
}

func mustAnswer(t *testing.T, q, value any) {
	t.Helper()
	b, err := EncodeAnswer(value)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeAnswer(q, b)
	if err != nil {
		t.Fatalf("%T: %v", q, err)
	}
	if !reflect.DeepEqual(got, value) {
		t.Errorf("%T: got %T\n%s\nwant %T\n%s", q, got, printed(got), value, printed(value))
	}
}

func printed(v any) string {
	s := fmt.Sprintf("%#v", v)
	if entries, ok := v.([]health.Entry); ok {
		s = ""
		for _, e := range entries {
			s += fmt.Sprintf("node %+v\nservice %+v\n", e.Node, e.Service)
			for _, c := range e.Checks {
				s += fmt.Sprintf("check %+v\n", c)
			}
		}
	}
	return s
}

func TestAnswerRoundTrip(t *testing.T) {
	for _, kind := range queryKinds() {
		q := newQuery(kind)
		a, err := newView().Answer(q, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range variants(t, reflect.TypeOf(a.Value)) {
			mustAnswer(t, q, value)
		}
	}
}

func TestAnswersOfAViewRoundTrip(t *testing.T) {
	m := NewMachine()
	for i, l := range randomLog(t, 11, 400) {
		l.Index = uint64(i + 1)
		m.Apply(l)
	}
	for i := range 60 {
		reg := registration(i, 80+i%3)
		reg.Service.Name = "web"
		reg.Service.Meta = map[string]string{"version": fmt.Sprint(i % 4)}
		reg.Checks = append(reg.Checks, health.Check{ID: health.SerfHealth, Name: health.SerfHealthName, Status: health.Passing})
		m.Apply(entry(t, uint64(1000+i), reg))
	}
	m.Apply(entry(t, 2000, &SetAutopilot{Config: DefaultAutopilot()}))
	v := m.View()
	queries := []any{&Autopilot{}, &Usage{}, &kv.List{}, &kv.Keys{Separator: "/"}, &catalog.Nodes{}, &catalog.Instances{}, &catalog.Services{},
		&health.StateChecks{State: "any"}, &health.ServiceQuery{Service: "web"}, &health.ServiceQuery{Service: "nobody"}, &health.ServiceChecks{Service: "web"}}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 6 {
		node, name := fmt.Sprintf("n%d", i), fmt.Sprintf("web%d", i)
		queries = append(queries, &kv.Get{Key: fmt.Sprintf("k/0/%d", i)}, &catalog.NodeQuery{Name: node}, &catalog.NodeServices{Node: node},
			&catalog.AddressQuery{Address: fmt.Sprintf("10.0.0.%d", i)}, &health.ServiceQuery{Service: name}, &health.NodeChecks{Node: node},
			&health.Transaction{Ops: []health.TxnOp{{KV: &kv.TxnOp{Verb: kv.VerbGetTree, Key: "k"}}, {Node: &catalog.NodeOp{Verb: catalog.VerbGet, Node: catalog.Node{Name: node}}}}})
	}
	for range 50 {
		if q := randomTransaction(r); q.ReadOnly() {
			queries = append(queries, q)
		}
	}
	for _, q := range queries {
		b, err := EncodeQuery(q)
		if err != nil {
			t.Fatal(err)
		}
		asked, err := DecodeQuery(b)
		if err != nil {
			t.Fatal(err)
		}
		a, err := v.Answer(asked, nil)
		if err != nil {
			t.Fatalf("%T: %v", q, err)
		}
		mustAnswer(t, q, a.Value)
	}
}

// apart returns equal entries that share nothing.
func apart(entries []health.Entry) []health.Entry {
	out := make([]health.Entry, len(entries))
	for i, e := range entries {
		n, s := *e.Node, *e.Service
		out[i] = health.Entry{Node: &n, Service: &s}
		for _, c := range e.Checks {
			own := *c
			out[i].Checks = append(out[i].Checks, &own)
		}
	}
	return out
}

func TestEntriesAreMsgpackThatTheLibraryReads(t *testing.T) {
	var entries []health.Entry
	for _, v := range variants(t, reflect.TypeOf(entries)) {
		entries = append(entries, v.([]health.Entry)...)
	}
	entries = append(entries, apart(pool(t, 20))...)
	bare, err := encodeBody(nil, entries)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readEntries(bare); err != nil || !reflect.DeepEqual(got, entries) {
		t.Errorf("what the library wrote is read as\n%s (%v), want\n%s", printed(got), err, printed(entries))
	}
	var got []health.Entry
	if err := decodeBody(appendEntries(nil, entries), &got); err != nil || !reflect.DeepEqual(got, entries) {
		t.Errorf("the library reads\n%s (%v), want\n%s", printed(got), err, printed(entries))
	}
	if ours := appendEntries(nil, entries); len(ours) >= len(bare) {
		t.Errorf("%d bytes, the library writes %d", len(ours), len(bare))
	}
}

// TestEntriesWithOneFieldChanged tries every field alone, so that none is
// forgotten or taken for another.
func TestEntriesWithOneFieldChanged(t *testing.T) {
	for _, base := range []health.Entry{
		{Node: &catalog.Node{}, Service: &catalog.Service{}, Checks: []*health.Check{{}}},
		variants(t, reflect.TypeOf([]health.Entry{}))[1].([]health.Entry)[0],
	} {
		seen := 0
		try := func(path string) {
			seen++
			// Twice, so that the second could take what is the first one's.
			mustAnswer(t, &health.ServiceQuery{}, []health.Entry{base, {Node: base.Node, Service: base.Service, Checks: base.Checks}})
			mustAnswer(t, &health.ServiceQuery{}, apart([]health.Entry{base, base}))
		}
		eachField(t, base.Node, try)
		eachField(t, base.Service, try)
		for _, c := range base.Checks {
			eachField(t, c, try)
		}
		if seen < 60 {
			t.Errorf("%d fields were tried", seen)
		}
	}
}

func TestNumbersOfEntriesAtTheirEdges(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535, 65536, math.MaxInt32, math.MaxInt64, -1, -32, -33, -129, math.MinInt64} {
		mustAnswer(t, &health.ServiceQuery{}, []health.Entry{{
			Node:    &catalog.Node{ModifyIndex: uint64(n)},
			Service: &catalog.Service{Port: n},
			Checks:  []*health.Check{{Definition: health.Definition{Timeout: time.Duration(n)}}},
		}})
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000} {
		tags := make([]string, n)
		meta := map[string]string{}
		for i := range tags {
			tags[i] = fmt.Sprint(i)
			meta[tags[i]] = "x"
		}
		mustAnswer(t, &health.ServiceQuery{}, []health.Entry{{Service: &catalog.Service{
			Tags: tags, Meta: meta, Address: strings.Repeat("a", n), Proxy: make([]byte, n),
		}}})
	}
}

func TestDecodedEntriesShareWhatIsEqual(t *testing.T) {
	entries := pool(t, 20)
	b, err := EncodeAnswer(entries)
	if err != nil {
		t.Fatal(err)
	}
	v, err := DecodeAnswer(&health.ServiceQuery{}, b)
	if err != nil {
		t.Fatal(err)
	}
	got := v.([]health.Entry)
	for i := 1; i < len(got); i++ {
		sameNode := entries[i].Node == entries[i-1].Node
		if (got[i].Node == got[i-1].Node) != sameNode || (got[i].Checks[0] == got[i-1].Checks[0]) != sameNode {
			t.Errorf("entry %d shares its node %v, and its node's check %v, with the one before; want %v", i,
				got[i].Node == got[i-1].Node, got[i].Checks[0] == got[i-1].Checks[0], sameNode)
		}
		if &got[i].Service.Tags[0] != &got[0].Service.Tags[0] || &got[i].Checks[1].ServiceTags[0] != &got[0].Service.Tags[0] {
			t.Errorf("entry %d has tags of its own", i)
		}
		if got[i].Checks[1] == got[i-1].Checks[1] || got[i].Service == got[i-1].Service {
			t.Errorf("entry %d is not its own", i)
		}
	}
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	body := appendEntries(nil, pool(t, 3))
	for i := range body {
		if _, err := readEntries(body[:i]); err == nil {
			t.Errorf("entries cut off after %d of %d bytes were read", i, len(body))
		}
	}
	for _, c := range []struct {
		body []byte
		want string
	}{
		{append(body, 0), "something stands behind the last entry"},
		{[]byte{0x91, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0}, "of the entry before, which has none"},
		{[]byte{0x91, 0x81, 0xa6, 'C', 'h', 'e', 'c', 'k', 's', 0x91, 7}, "of the entry before, which has none"},
		{[]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, "the bytes end within a value"},
		{[]byte{0x91, 0xa1, 'x'}, "byte 0xa1 at 1 begins no map"},
		{append([]byte{0x91, 0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 100)...), "nested deeper than the limit of 32"},
	} {
		if _, err := readEntries(c.body); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%x: got %v, want an error with %q", c.body, err, c.want)
		}
	}
	// A later program may write fields and entries that this one does not know.
	later := []byte{0x91, 0x82, 0xa1, 'x', 0x92, 0xc7, 2, 5, 1, 2, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xa4, 'N', 'o', 'd', 'e', 0x82, 0xa1, 'y', 0xd4, 1, 1, 0xa2, 'I', 'D', 0xa1, 'i'}
	if got, err := readEntries(later); err != nil || got[0].Node.ID != "i" {
		t.Errorf("fields of a later program: %+v, %v", got, err)
	}
}

// TestGoldenExchange holds what servers and agents of different versions send
// each other, and the configuration of autopilot as it stands in its row.
func TestGoldenExchange(t *testing.T) {
	var out bytes.Buffer
	line := func(what string, kind byte, b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %d %x\n", what, kind, b)
	}
	type sent struct {
		q, value any
	}
	var all []sent
	for _, kind := range queryKinds() {
		q := newQuery(kind)
		a, err := newView().Answer(q, nil)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, q)
		value := variants(t, reflect.TypeOf(a.Value))[1]
		b, err := EncodeQuery(q)
		line("query", kind, b, err)
		answer, _ := answerKind(value)
		b, err = EncodeAnswer(value)
		line("answer", answer, b, err)
		all = append(all, sent{q, value})
	}
	var full Result
	fill(t, &full)
	b, err := EncodeResult(full)
	line("result", 0, b, err)
	m := NewMachine()
	m.Apply(&raft.Log{Index: 5, Data: mustEncode(t, filled(t, kindAutopilot).(*SetAutopilot).unconditional())})
	f, ok := m.View().facts.Get(factAutopilot, nil)
	if !ok {
		t.Fatal("no row of autopilot")
	}
	line("autopilot", tableFacts, newRowEncoder().append(nil, f), nil)

	path := filepath.Join("testdata", "exchange-2.golden")
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(out.String(), "\n"), strings.Split(string(golden), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, golden %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("written as\n%s, was\n%s", got[i], want[i])
		}
	}
	for i, s := range all {
		var kind byte
		var text [2]string
		for j, what := range []string{"query", "answer"} {
			if _, err := fmt.Sscanf(want[2*i+j], what+" %d %s", &kind, &text[j]); err != nil {
				t.Fatal(err)
			}
		}
		b, err := hex.DecodeString(text[0])
		if err != nil {
			t.Fatal(err)
		}
		if q, err := DecodeQuery(b); err != nil || !reflect.DeepEqual(q, s.q) {
			t.Errorf("%T is read as %+v, %v", s.q, q, err)
		}
		if b, err = hex.DecodeString(text[1]); err != nil {
			t.Fatal(err)
		}
		if value, err := DecodeAnswer(s.q, b); err != nil || !reflect.DeepEqual(value, s.value) {
			t.Errorf("the answer to %T is read as %+v, %v", s.q, value, err)
		}
	}
}

// unconditional is c without its condition.
func (c *SetAutopilot) unconditional() *SetAutopilot {
	c.CAS = false
	return c
}

func TestResultRoundTrip(t *testing.T) {
	var full Result
	fill(t, &full)
	for _, r := range []Result{{}, {OK: true}, {Err: &mvcc.Error{Code: mvcc.Invalid, Text: "no"}}, {Txn: &health.Outcome{Results: []health.TxnResult{}}}, full} {
		b, err := EncodeResult(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeResult(b)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v (%v), want %+v", got, err, r)
		}
	}
}

func TestBytesThatAreNoQueryAndNoAnswer(t *testing.T) {
	get, err := EncodeQuery(&kv.Get{Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := EncodeAnswer([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, none := DecodeQuery(nil)
	_, kind := DecodeQuery([]byte{99, 1})
	_, form := DecodeQuery([]byte{queryGet, 2})
	_, cut := DecodeQuery(get[:len(get)-2])
	_, noAnswer := DecodeAnswer(&kv.Keys{}, answer[:1])
	_, otherAnswer := DecodeAnswer(&kv.Get{}, answer)
	_, otherForm := DecodeAnswer(&kv.Keys{}, append([]byte{answer[0], 2}, answer[2:]...))
	_, cutAnswer := DecodeAnswer(&kv.Keys{}, answer[:len(answer)-1])
	_, noQuery := DecodeAnswer(struct{}{}, answer)
	_, emptyResult := DecodeResult(nil)
	_, formResult := DecodeResult([]byte{2})
	_, cutResult := DecodeResult([]byte{1, 0x83})
	_, wrongQuery := EncodeQuery(&kv.Set{})
	_, wrongAnswer := EncodeAnswer(3)
	for _, c := range []struct {
		err  error
		want string
	}{
		{none, "a query of 0 bytes is shorter than its header of 2"},
		{kind, "a query of kind 99 needs a newer Muster: this one knows protocol version 2"},
		{form, "a query in form 2 needs a newer Muster"},
		{cut, "cannot decode the body of a query of kind 16"},
		{noAnswer, "an answer of 1 bytes is shorter"},
		{otherAnswer, "an answer of kind 18 came to a query of type *kv.Get, whose answers are of kind 16"},
		{otherForm, "an answer in form 2 needs a newer Muster"},
		{cutAnswer, "cannot decode the body of an answer of kind 18"},
		{noQuery, "no answer is known to a query of type struct {}"},
		{emptyResult, "a result of 0 bytes"},
		{formResult, "a result in form 2 needs a newer Muster"},
		{cutResult, "cannot decode a result"},
		{wrongQuery, "cannot encode a query of type *kv.Set"},
		{wrongAnswer, "cannot encode an answer of type int"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", c.err, c.want)
		}
	}
}

func TestStampSetsTheTimeAlone(t *testing.T) {
	b := mustEncode(t, &kv.Set{Key: "a"})
	was := append([]byte{}, b...)
	Stamp(b, 77)
	e, cmd, err := Decode(b)
	if err != nil || e.At != 77 || e.Origin != testOrigin || cmd.(*kv.Set).Key != "a" {
		t.Errorf("%+v %+v %v", e, cmd, err)
	}
	Stamp(b, -5)
	if e, _, err := Decode(b); err != nil || e.At != 0 {
		t.Errorf("a time before 1970: %+v, %v", e, err)
	}
	Stamp(b, 1_700_000_000_123)
	if !bytes.Equal(b, was) {
		t.Error("more than the time was changed")
	}
	Stamp(b[:headerLength-1], 5)
	if !bytes.Equal(b, was) {
		t.Error("what is too short for an entry was changed")
	}
	Stamp(nil, 5)
}

func FuzzDecodeQuery(f *testing.F) {
	for _, kind := range queryKinds() {
		q := newQuery(kind)
		fill(f, q)
		b, err := EncodeQuery(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	m := NewMachine()
	for i, l := range randomLog(f, 11, 200) {
		l.Index = uint64(i + 1)
		m.Apply(l)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := DecodeQuery(b)
		if err != nil {
			return
		}
		a, err := m.View().Answer(q, nil)
		if err != nil {
			if mvcc.CodeOf(err) != mvcc.Internal {
				t.Error(err)
			}
			return
		}
		mustAnswer(t, q, a.Value)
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	for _, kind := range queryKinds() {
		a, err := newView().Answer(newQuery(kind), nil)
		if err != nil {
			f.Fatal(err)
		}
		for _, value := range variants(f, reflect.TypeOf(a.Value)) {
			b, err := EncodeAnswer(value)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(kind, b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		q := newQuery(kind)
		if q == nil {
			return
		}
		value, err := DecodeAnswer(q, b)
		if err != nil {
			return
		}
		mustAnswer(t, q, value)
	})
}

func FuzzDecodeResult(f *testing.F) {
	var full Result
	fill(f, &full)
	b, err := EncodeResult(full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResult(b)
		if err != nil {
			return
		}
		if _, err := EncodeResult(r); err != nil {
			t.Error(err)
		}
	})
}
