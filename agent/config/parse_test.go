package config

import (
	"encoding/json"
	"strings"
	"testing"
)

// shown is a tree as JSON, with a list for keys that occur twice.
func shown(n *node) string {
	text, err := json.Marshal(n.plain())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestHCL(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"nothing", "", `{}`},
		{"only a comment", "# nothing\n/* at all */ // here", `{}`},
		{"values", "a = 1\nb = true\nc = \"x\"\nd = [1, 2,]\ne = 1.5\nf = -3\ng = []", `{"a":1,"b":true,"c":"x","d":[1,2],"e":1.5,"f":-3,"g":[]}`},
		{"on one line, with and without commas", `a = 1, b = 2 c = 3`, `{"a":1,"b":2,"c":3}`},
		{"octal and hexadecimal", "a = 010\nb = 0x1F", `{"a":8,"b":31}`},
		{"numbers without digits on one side", "a = .5\nb = 1.\nc = .0", `{"a":0.5,"b":1,"c":0}`},
		{"block and assigned object", "a { b = 1 }\nc = { d = 2 }", `{"a":{"b":1},"c":{"d":2}}`},
		{"block with labels", `a "b" "c" { d = 1 }`, `{"a":{"b":{"c":{"d":1}}}}`},
		{"quoted key", `"a b" = 1`, `{"a b":1}`},
		{"key with dash", `User-Agent = ["x"]`, `{"User-Agent":["x"]}`},
		{"escapes", `a = "x\n\"\u00e9\""`, `{"a":"x\n\"é\""}`},
		{"heredoc", "a = <<EOF\none\n  two\nEOF\n", `{"a":"one\n  two\n"}`},
		{"heredoc with an indented end", "a = <<EOF\none\n   EOF\nb = 1\n", `{"a":"one\n","b":1}`},
		{"indented heredoc", "a = <<-EOF\n    one\n      two\n    EOF\n", `{"a":"one\n  two\n"}`},
		{"empty heredoc", "a = <<EOF\nEOF\n", `{"a":""}`},
		{"lists of objects", "a = [{ b = 1 }, { b = 2 }]", `{"a":[{"b":1},{"b":2}]}`},
		{"lines of Windows, and a byte order mark", "\ufeffa = 1\r\nb = 2\r\n", `{"a":1,"b":2}`},
		{"JSON", ` {"a": [1, null]}`, `{"a":[1,null]}`},
		{"template of an address", `a = "{{ GetInterfaceIP \"eth0\" }}"`, `{"a":"{{ GetInterfaceIP \"eth0\" }}"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, err := parse("f.hcl", formatHCL, []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := shown(root); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Among these are all texts that the parser of HCL version 1 accepts while
// dropping a part of them.
func TestBadHCL(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"value missing at the end of the file", "a = 1\nb =", `f.hcl:2:4: HCL: expected a value, not the end of the file`},
		{"value missing before a brace", "x { b = } }", `f.hcl:1:9: HCL: expected a value, not "}"`},
		{"list that ends with a brace", "x { b = [1, } }", `f.hcl:1:13: HCL: expected a value, not "}"`},
		{"missing comma after a list", `a = [["x"] ["y"]]`, `f.hcl:1:12: HCL: expected a comma or ] after an element of the list, not "["`},
		{"missing comma in a list", `a = ["x" "y"]`, `f.hcl:1:10: HCL: expected a comma or ] after an element of the list, not "\"y\""`},
		{"two commas in a list", `a = ["x",, "y"]`, `f.hcl:1:10: HCL: expected a value, not ","`},
		{"two commas after an item", `a = 1,, b = 2`, `f.hcl:1:7: HCL: expected a key, not ","`},
		{"brace left open", "a {\n  b = 1\n", `f.hcl:3:1: HCL: expected a key, not the end of the file`},
		{"brace left open in a list", "a = [{\n b = 1\n", `f.hcl:3:1: HCL: expected a key, not the end of the file (what begins in line 1, column 6 is not closed)`},
		{"single quotes", "a = 'x'", `f.hcl:1:5: HCL: illegal character ' (a text stands in double quotes)`},
		{"colon", `a: "x"`, `f.hcl:1:2: HCL: illegal character : (a key and its value are parted by =)`},
		{"semicolon", `a = 1;`, `f.hcl:1:6: HCL: illegal character ; (items are parted by commas or line ends)`},
		{"another character", `a = €`, `f.hcl:1:5: HCL: illegal character '€'`},
		{"word where a text belongs", `a = dc1`, `f.hcl:1:5: HCL: expected a value, not "dc1" (a text stands in double quotes)`},
		{"brace too many", "a { b = 1 }\n}", `f.hcl:2:1: HCL: expected a key, not "}"`},
		{"key without a value", "a\n", `f.hcl:2:1: HCL: expected = or { after the key "a", not the end of the file`},
		{"two keys and an equals sign", `a b = 1`, `f.hcl:1:5: HCL: expected { after several keys, not "="`},
		{"word as a value", `a = yes`, `f.hcl:1:5: HCL: expected a value, not "yes"`},
		{"number with a unit", "a = 10s\nb = 1", `f.hcl:2:3: HCL: expected { after several keys, not "="`},
		{"exponent without digits", `x { a = 1e} }`, `f.hcl:1:9: HCL: expected a number, not "1e}"`},
		{"number of more than 64 bits", `a = 99999999999999999999`, `f.hcl:1:5: HCL: expected a number of at most 64 bits, not "99999999999999999999"`},
		{"text left open", "a = \"x\nb = 1", `f.hcl:1:7: HCL: literal not terminated`},
		{"heredoc left open", "a = <<EOF\nx\n", `HCL: heredoc not terminated`},
		{"comment left open", "a = 1 /* x", `HCL: comment not terminated`},
		{"zero byte", "a = 1\x00", `HCL: unexpected null character`},
		{"not UTF-8", "a = 1\nb = \"\xff\"", `f.hcl:2:6: the text is not UTF-8`},
		{"escape that is not UTF-8", `a = "\xff"`, `f.hcl:1:5: HCL: expected a text in quotes with valid escapes`},
		{"nested too deep", "a = " + strings.Repeat("[", MaxDepth+1), `more than 64 objects and lists stand in each other`},
		{"labels too deep", strings.Repeat("a ", MaxDepth+2) + "{}", `more than 64 objects and lists stand in each other`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, err := parse("f.hcl", formatHCL, []byte(test.text))
			if err == nil {
				t.Fatalf("got %s, want the error %s", shown(root), test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"empty file", "", `{}`},
		{"white space", " \n", `{}`},
		{"values", `{"a": 1, "b": [true, null, "x"], "c": {"d": 1.5}}`, `{"a":1,"b":[true,null,"x"],"c":{"d":1.5}}`},
		{"surrogate pair", `{"a": "\ud83d\ude00"}`, `{"a":"😀"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, err := parse("f.json", formatJSON, []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := shown(root); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestBadJSON(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"missing comma between keys", "{\"a\": 1\n \"b\": 2}", `f.json:2:2: JSON: invalid character '"' after object key:value pair (is a comma missing before it?)`},
		{"missing comma in a list", `{"a": [1 2]}`, `f.json:1:10: JSON: invalid character '2' after array element (is a comma missing before it?)`},
		{"comma at the end", `{"a": 1,}`, `f.json:1:9: JSON: invalid character '}'`},
		{"comma at the end of a list", `{"a": [1,]}`, `f.json:1:10: JSON: invalid character ']' looking for beginning of value (there is a comma too many before it)`},
		{"comment", "{\n// x\n}", `f.json:2:1: JSON: invalid character '/' (JSON has no comments)`},
		{"single quotes", `{"a": 'x'}`, `f.json:1:7: JSON: invalid character '\'' looking for beginning of value (a text stands in double quotes)`},
		{"text after the end", "{}\n{\"a\": 1}", `f.json:2:1: there is text after the end of the object`},
		{"end missing", `{"a": {`, `f.json:1:8: the file ends in the middle of a value`},
		{"end missing after a key", `{"a":`, `the file ends in the middle of a value`},
		{"text left open", `{"a": "x`, `the file ends in the middle of a value`},
		{"list at the top", `[1]`, `f.json:1:1: a configuration file must hold an object, not a list`},
		{"word", `{"a": yes}`, `f.json:1:7: JSON: invalid character 'y'`},
		{"list that ends with a brace", `{"a": [1}`, `f.json:1:9: JSON: invalid character '}'`},
		{"half a surrogate pair", `{"a": "\ud800"}`, `f.json:1:7: the text has half of a surrogate pair`},
		{"not UTF-8", "{\"a\": \"\xff\"}", `f.json:1:8: the text is not UTF-8`},
		{"nested too deep", `{"a": ` + strings.Repeat("[", MaxDepth+1), `more than 64 objects and lists stand in each other`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root, err := parse("f.json", formatJSON, []byte(test.text))
			if err == nil {
				t.Fatalf("got %s, want the error %s", shown(root), test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestFileTooLarge(t *testing.T) {
	_, err := parse("f.hcl", formatHCL, make([]byte, MaxFileSize+1))
	if err == nil || !strings.Contains(err.Error(), "4194305 bytes are more than the 4194304") {
		t.Errorf("got %v", err)
	}
}
