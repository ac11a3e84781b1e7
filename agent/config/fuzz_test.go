package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// seeds adds the samples and some texts of a format to the corpus.
func seeds(f *testing.F, extension string, texts ...string) {
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*"+extension))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range texts {
		f.Add([]byte(text))
	}
}

// digest takes a text through all that follows from its being parsed.
func digest(t *testing.T, format string, text []byte) *node {
	t.Helper()
	root, err := parse("f", format, text)
	if err != nil {
		return nil
	}
	if _, err := json.Marshal(root.plain()); err != nil {
		t.Errorf("the tree of %q is no JSON: %v", text, err)
	}
	errs := &problems{}
	file := decode(root, errs)
	if errs.err() != nil {
		return root
	}
	for _, key := range []string{"services", "checks"} {
		records, _ := file[key].value.([]record)
		for _, r := range records {
			if key == "services" {
				_, _ = r.registration()
			} else {
				_, _ = r.check()
			}
		}
	}
	return root
}

func FuzzHCL(f *testing.F) {
	seeds(f, ".hcl", defaults, devDefaults, "a =", "x { b = } }", "a = 1e} ", "a = <<-E\n x\n E\n", `a = "${"b"}"`, `a = .5e`, "a=0x")
	f.Fuzz(func(t *testing.T, text []byte) { digest(t, formatHCL, text) })
}

func FuzzJSON(f *testing.F) {
	seeds(f, ".json", `{"a": [1, 2.5e3, null, true, {"b": "\ud83d\ude00"}]}`, `{"a": "\ud800"}`, `{"services": [{"name": "a"}]}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		// What is accepted is what encoding/json accepts.
		if root := digest(t, formatJSON, text); root != nil && len(text) > 0 && text[0] == '{' && !json.Valid(text) {
			t.Errorf("%q is no JSON", text)
		}
	})
}
